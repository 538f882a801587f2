// The state of a user and policy: counters, and theta as bars.

import { bars } from "./bars.js";
import { el, name } from "./dom.js";
import { count, decimal, percent, reward, time } from "./formats.js";
import { nothing } from "./panels.js";
import { scale } from "./scales.js";
import { folded, table } from "./tables.js";

const MEANINGS = {
  hour_sin: "Hour of the day: the sine of its angle on the clock, highest at 6",
  hour_cos: "Hour of the day: the cosine of its angle on the clock, highest at midnight",
  is_overdue: "1 if the task is overdue",
  task_age: "Days since the task was due, up to 30",
  priority: "Priority of the task, 1 to 4",
  dow_sin: "Day of the week: the sine of its angle in the week",
  dow_cos: "Day of the week: the cosine of its angle in the week",
};

/** Return the states of both policies, with theta on the same scale. */
export function known(linucb, egreedy) {
  const states = [{ policy: "linucb-v1", ...linucb }, egreedy];
  if (states.every((state) => state.last_updated === null)) {
    return nothing("There is no state for this user: no decisions yet, or none since a reset.");
  }
  const largest = Math.max(...states.flatMap((state) => state.theta.map(Math.abs)));
  const reach = scale(0, largest || 1).high;
  return el("div", { class: "pair" }, states.map((state) => card(state, egreedy.feature_labels, reach)));
}

function card(state, labels, reach) {
  const weights = state.theta.map((value, index) => ({ label: labels[index] ?? `feature ${index + 1}`, value }));
  return el("article", { "aria-label": state.policy },
    el("h3", {}, name(state.policy), el("span", { class: "quiet" }, state.last_updated === null ? "nothing yet" : `last change ${time(state.last_updated)}`)),
    counters(state),
    el("h4", {}, "Theta: the weight of each feature in the expected reward"),
    bars(summary(state.policy, weights), weights, reach, reward),
    el("div", { class: "beside" }, folded("Table", listed(state.policy, weights)), csv(state.policy, weights)));
}

function counters(state) {
  const entries = [
    ["Tips shown", count(state.pulls)],
    ["Rewards", count(state.reward_count)],
    ["Sum of rewards", reward(state.cumulative_reward)],
    ["Mean reward", reward(state.reward_count ? state.estimated_mean_reward : null)],
  ];
  if (state.exploration_rate !== undefined) entries.push(["Drawn at random", percent(state.exploration_rate)]);
  return el("dl", { class: "counters" }, entries.map(([title, value]) => el("div", {}, el("dt", {}, title), el("dd", {}, value))));
}

function summary(policy, weights) {
  return `Theta of ${policy}: ${weights.map(({ label, value }) => `${label} ${reward(value)}`).join(", ")}.`;
}

function listed(policy, weights) {
  return table(`Theta of ${policy}`, [
    { title: "Feature", cell: ({ label }) => label },
    { title: "Theta", number: true, cell: ({ value }) => decimal(value) },
    { title: "Meaning", cell: ({ label }) => el("span", { class: "prose" }, MEANINGS[label] ?? "") },
  ], weights);
}

// The service has no CSV of theta. The values are numbers and names of features, so nothing needs quoting.
function csv(policy, weights) {
  const text = ["feature,theta", ...weights.map(({ label, value }) => `${label},${value}`)].join("\r\n");
  const href = URL.createObjectURL(new Blob([`${text}\r\n`], { type: "text/csv" }));
  return el("a", { class: "csv", href, download: `theta-${policy}.csv` }, "CSV", el("span", { class: "unseen" }, ` of theta of ${policy}`));
}
