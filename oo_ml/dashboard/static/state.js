// The states of a user: counters, and theta with intervals, of each policy that knows the user; beside it that of all
// users, if the policy is pooled.

import { bars } from "./bars.js";
import { el, name } from "./dom.js";
import { count, decimal, percent, range, reward, time } from "./formats.js";
import { intervals } from "./intervals.js";
import { nothing } from "./panels.js";
import { scale } from "./scales.js";
import { folded, table } from "./tables.js";

/** Return a card for each state, and a choice of the policy if there are several. `states` are those of all policies. */
export function known(states) {
  const found = states.filter((state) => state.last_updated !== null);
  if (found.length === 0) return nothing("There is no state for this user: no decisions yet, or none since a reset.");
  const cards = found.map(card);
  const pair = el("div", { class: "pair" }, cards);
  return found.length === 1 ? pair : [choice(found, cards), pair];
}

function choice(states, cards) {
  const select = el("select", { id: "state-policy", change: () => show() },
    el("option", { value: "" }, "All policies with a state"), states.map(({ policy }) => el("option", { value: policy }, policy)));
  const show = () => cards.forEach((one, index) => { one.hidden = select.value !== "" && select.value !== states[index].policy; });
  return el("p", { class: "field" }, el("label", { for: "state-policy" }, "Policy"), select);
}

function card(state) {
  const weights = state.theta.map(({ label, estimate, low, high, population }) => ({
    label, value: estimate, low, high, users: population && { value: population.estimate, low: population.low, high: population.high },
  }));
  const isShared = state.prior_version !== null;
  return el("article", { "aria-label": state.policy },
    el("h3", {}, name(state.policy), el("span", { class: "quiet" }, `last change ${time(state.last_updated)}`)),
    counters(state),
    ...(isShared ? besideUsers(state, weights) : alone(state.policy, weights)),
    el("div", { class: "beside" }, folded("Table", listed(state.policy, weights, isShared)), csv(state.policy, weights, isShared)));
}

function alone(policy, weights) {
  const reach = scale(0, Math.max(...weights.flatMap(({ value, low, high }) => [value, low, high].map(Math.abs))) || 1).high;
  return [
    el("h4", {}, "Theta: the weight of each feature in the expected reward. Lines are 95% intervals"),
    bars(summary(policy, weights), weights, reach, reward),
  ];
}

function besideUsers({ policy, prior_version: version }, weights) {
  const rows = weights.map(({ label, users, ...raw }) => ({ label, muted: false, raw, weighted: users }));
  return [
    el("h4", {}, "Theta: the weight of each feature in the expected reward"),
    el("p", { class: "legend" },
      el("span", { class: "key raw" }, "This user, with 95% intervals"),
      el("span", { class: "key weighted" }, "All users: their mean, and the range of 95% of them")),
    version === 0 && el("p", { class: "note" }, "No prior is fitted yet: what is shown of all users is an assumption."),
    intervals(summary(policy, weights), rows, reward, ["this user", "all users"]),
  ];
}

function counters(state) {
  const entries = [
    ["Tips shown", count(state.pulls)],
    ["Rewards", count(state.reward_count)],
    ["Sum of rewards", reward(state.cumulative_reward)],
    ["Mean reward", reward(state.reward_count ? state.estimated_mean_reward : null)],
    ["Explored", percent(state.exploration_rate)],
    ...(state.prior_version === null ? [] : [
      ["Own evidence", percent(state.own_evidence)],
      ["Version of the prior", count(state.prior_version)],
    ]),
  ];
  return el("dl", { class: "counters" }, entries.map(([title, value]) => el("div", {}, el("dt", {}, title), el("dd", {}, value))));
}

function summary(policy, weights) {
  const said = weights.map(({ label, value, low, high, users }) =>
    `${label} ${reward(value)} (${range(low, high, reward)})${users ? `, all users ${reward(users.value)}` : ""}`);
  return `Theta of ${policy}: ${said.join(", ")}.`;
}

function listed(policy, weights, isShared) {
  return table(`Theta of ${policy}`, [
    { title: "Feature", cell: ({ label }) => label },
    { title: "Theta", number: true, cell: ({ value }) => decimal(value) },
    { title: "95% interval", number: true, cell: ({ low, high }) => range(low, high, decimal) },
    ...(isShared ? [
      { title: "All users", number: true, cell: ({ users }) => decimal(users.value) },
      { title: "95% of users", number: true, cell: ({ users: { low, high } }) => range(low, high, decimal) },
    ] : []),
  ], weights);
}

// The service has no CSV of theta. Labels can have commas and quotes, because values of categories are free text.
function csv(policy, weights, isShared) {
  const quoted = (text) => `"${text.replaceAll('"', '""')}"`;
  const head = isShared ? "feature,theta,low,high,users,users_low,users_high" : "feature,theta,low,high";
  const rows = weights.map(({ label, value, low, high, users }) =>
    [quoted(label), value, low, high, ...(isShared ? [users.value, users.low, users.high] : [])].join(","));
  const text = [head, ...rows].join("\r\n");
  const href = URL.createObjectURL(new Blob([`${text}\r\n`], { type: "text/csv" }));
  return el("a", { class: "csv", href, download: `theta-${policy}.csv` }, "CSV", el("span", { class: "unseen" }, ` of theta of ${policy}`));
}
