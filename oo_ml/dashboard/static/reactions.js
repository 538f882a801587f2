// Names of the reactions.

export const REACTIONS = {
  done: "Done",
  helpful: "Helpful",
  snooze: "Snoozed",
  not_helpful: "Not helpful",
  dismiss: "Dismissed",
  other: "Another reward",
};
