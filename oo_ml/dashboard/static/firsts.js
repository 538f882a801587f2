// The first decisions of users, by the version of the prior that each decision started from.

import { el, name } from "./dom.js";
import { UNKNOWN, count, plural, range, reward } from "./formats.js";
import { lines } from "./lines.js";
import { ignored, nothing } from "./panels.js";
import { columns } from "./pool.js";
import { folded, table } from "./tables.js";

export const path = "analytics/learning-by-prior";

// A group of versions is drawn from so many rewards on.
const ENOUGH = 30;
const STEPS = [1, 6, 11, 16];

export function parameters({ prompt_version: _, ...query }) {
  return query;
}

export function view({ prompt_version: version }) {
  return version;
}

export function render(items, shown) {
  const notes = ignored(shown, {
    prompt_version: "All prompt versions: a prior knows none, so that filter does not apply here.",
  });
  if (items.length === 0) {
    return [...notes, nothing("On these days no user made one of their first 20 decisions by a pooled policy, such as ", name("pooled-v1"), ".")];
  }
  return [...notes, ...curves(items), folded("Table", listed(items))].filter(Boolean);
}

// Draw the policy with the most rewards: its earliest and its latest versions.
function curves(items) {
  const policies = [...Map.groupBy(items, (row) => row.policy)].sort(([, one], [, other]) => rewarded(other) - rewarded(one));
  const [policy, rows] = policies[0];
  const groups = [...Map.groupBy(rows, (row) => row.first_version).values()].filter((group) => rewarded(group) >= ENOUGH);
  const others = policies.length > 1 && el("p", { class: "note" },
    `Drawn is ${policy}, which has the most rewards of ${policies.length} policies. Filter by a policy to see its curves; the table and the CSV have all.`);
  if (groups.length === 0) {
    return [others, nothing(`There are fewer than ${ENOUGH} rewards for each group of versions: too few for a curve.`)];
  }
  const drawn = groups.length === 1 ? groups : [groups.at(-1), groups[0]];
  const series = drawn.map((group, index) => ({ name: `${policy}, ${versions(group[0])}`, style: ["one", "two"][index], ...points(group) }));
  return [
    others,
    lines(summary(policy, drawn), STEPS.map((step) => step + 2), series, axis(), reward),
    groups.length === 1 && el("p", { class: "note" },
      "There is no other group of versions with enough rewards to compare with. A longer period may have more."),
  ];
}

function rewarded(rows) {
  return rows.reduce((sum, row) => sum + row.rewarded, 0);
}

function points(group) {
  return columns(STEPS.map((step) => {
    const row = group.find((one) => one.first_decision === step);
    return row === undefined
      ? { value: null, low: null, high: null, number: 0 }
      : { value: row.mean_reward, low: row.mean_reward_low, high: row.mean_reward_high, number: row.rewarded };
  }));
}

function axis() {
  return {
    scale: { time: false, range: () => [0, 21] },
    space: 36,
    splits: () => STEPS.map((step) => step + 2),
    ticks: (splits) => splits.map((split) => `${split - 2}${UNKNOWN}${split + 2}`),
    at: (index) => `Decisions ${STEPS[index]}${UNKNOWN}${STEPS[index] + 4}`,
  };
}

function versions({ first_version: from, last_version: to }) {
  if (to === 0) return "before the first fit";
  return from === to ? `version ${count(from)}` : `versions ${count(from)}${UNKNOWN}${count(to)}`;
}

function summary(policy, groups) {
  const said = groups.map((group) => `${versions(group[0])}: ${group.map((row) =>
    `decisions ${row.first_decision} to ${row.last_decision} ${reward(row.mean_reward)}`).join(", ")}`);
  return `Mean reward of users’ first decisions by ${policy}, by the version of the prior. ${said.join(". ")}.`;
}

function listed(items) {
  return table("Mean reward of users’ first decisions by the version of the prior", [
    { title: "Policy", value: (row) => row.policy, cell: (row) => name(row.policy) },
    { title: "Versions", value: (row) => row.first_version, cell: (row) => numbers(row.first_version, row.last_version) },
    { title: "Decisions", value: (row) => row.first_decision, cell: (row) => numbers(row.first_decision, row.last_decision) },
    { title: "With a reward", number: true, value: (row) => row.rewarded, cell: (row) => count(row.rewarded) },
    { title: "Mean reward", number: true, value: (row) => row.mean_reward, cell: (row) => reward(row.mean_reward) },
    { title: "95% interval", number: true, cell: (row) => range(row.mean_reward_low, row.mean_reward_high, reward) },
  ], items);
}

function numbers(from, to) {
  return from === to ? count(from) : `${count(from)}${UNKNOWN}${count(to)}`;
}
