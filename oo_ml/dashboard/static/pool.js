// Groups of neighbouring points of a curve, if it has too many points to show each.

/**
 * Return about `most` groups of `steps`, in order. The groups have about the same width on the axis; `place` returns the
 * position of a step on it.
 */
export function groups(steps, place, most) {
  if (steps.length <= most) return steps.map((step) => [step]);
  const [low, high] = [place(steps[0]), place(steps.at(-1))];
  const found = Map.groupBy(steps, (step) => Math.floor(((place(step) - low) / (high - low)) * (most - 1)));
  return [...found.values()];
}

/**
 * Return the mean of means { rewarded, mean_reward, mean_reward_low, mean_reward_high }, an interval that is at least as
 * wide as its 95 % interval, and the number of rewards.
 */
export function mean(rows) {
  const known = rows.filter((row) => row.mean_reward !== null);
  const number = sum(known, (row) => row.rewarded);
  if (number === 0) return { value: null, low: null, high: null, number };
  const value = sum(known, (row) => row.rewarded * row.mean_reward) / number;
  // The means are of the same users, so their errors may go together: their mean is the most that the error can be. A
  // mean of too few users has no known error.
  const sure = known.filter((row) => row.mean_reward_low !== null);
  const reach = sum(sure, (row) => row.rewarded * (row.mean_reward_high - row.mean_reward_low)) / 2 / sum(sure, (row) => row.rewarded);
  return sure.length === 0 ? { value, low: null, high: null, number } : { value, low: value - reach, high: value + reach, number };
}

/** Return the series { values, low, high, numbers } of means. */
export function columns(means) {
  const [values, low, high, numbers] = ["value", "low", "high", "number"].map((part) => means.map((one) => one[part]));
  return { values, low, high, numbers };
}

function sum(rows, field) {
  return rows.reduce((total, row) => total + field(row), 0);
}
