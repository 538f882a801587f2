// The learning curve: the mean reward of users' first, second, ... decisions.

import { el, name } from "./dom.js";
import { UNKNOWN, count, plural, range, reward } from "./formats.js";
import { lines } from "./lines.js";
import { ignored, nothing } from "./panels.js";
import { columns, groups, mean } from "./pool.js";
import { folded, table } from "./tables.js";

export const path = "analytics/learning-curve";

const STYLES = ["one", "two"];
const MOST = 24;
// Longer curves have a logarithmic axis, which leaves room for the first decisions.
const LONG = 150;
const ROUND = [0, 1, 2, 3, 4, 5].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power));

export function parameters({ prompt_version: _, ...query }) {
  return query;
}

export function view({ prompt_version: version }) {
  return version;
}

export function render(items, shown) {
  const notes = ignored(shown, {
    prompt_version: "All prompt versions: a policy learns about a user from all of them, so that filter does not apply here.",
  });
  if (items.every((row) => row.mean_reward === null)) return [...notes, nothing("There are no rewards for the tips of these days.")];
  const known = [...Map.groupBy(items, (row) => row.policy)].filter(([, rows]) => rows.some((row) => row.mean_reward !== null));
  const policies = most(known, STYLES.length);
  const steps = [...new Map(items.map((row) => [row.first_decision, row])).values()]
    .sort((a, b) => a.first_decision - b.first_decision);
  const long = steps.at(-1).last_decision > 8 * steps[0].first_decision && steps.at(-1).last_decision > LONG;
  const drawn = groups(steps, (step) => (long ? Math.log : Number)(step.first_decision), MOST).map(span);
  const series = policies.map(([policy, rows], index) => curve(policy, rows, STYLES[index], drawn));
  return [
    ...notes,
    lines(summary(policies), drawn.map((one) => middle(one, long)), series, axis(drawn, long), reward),
    ...(drawn.length === steps.length ? [] : [el("p", { class: "note" },
      `Drawn as ${plural(drawn.length, "group")} of decisions; the table and the CSV have each decision.`)]),
    ...(policies.length === known.length ? [] : [el("p", { class: "note" },
      `Drawn are the ${STYLES.length} policies with the most decisions of ${known.length}. Filter by a policy to see its curve; the table and the CSV have all.`)]),
    folded("Table", listed(items)),
  ];
}

// The policies with the most decisions, in the order in which they came.
function most(policies, limit) {
  const decided = ([, rows]) => rows.reduce((sum, row) => sum + row.decisions, 0);
  const chosen = new Set([...policies].sort((one, other) => decided(other) - decided(one)).slice(0, limit));
  return policies.filter((one) => chosen.has(one));
}

function span(group) {
  return { first_decision: group[0].first_decision, last_decision: group.at(-1).last_decision };
}

function middle({ first_decision: from, last_decision: to }, long) {
  return long ? Math.sqrt(from * to) : (from + to) / 2;
}

function curve(policy, rows, style, drawn) {
  const points = drawn.map(({ first_decision: from, last_decision: to }) =>
    mean(rows.filter((row) => from <= row.first_decision && row.last_decision <= to)));
  return { name: policy, style, ...columns(points) };
}

function axis(drawn, long) {
  const wide = (low, high) => (low === high ? [low / 2, high * 2] : [low, high]);
  return {
    scale: { time: false, distr: long ? 3 : 1, range: (_, low, high) => wide(low, high) },
    space: 36,
    incrs: ROUND,
    splits: long ? (_, __, low, high) => ROUND.filter((number) => low <= number && number <= high) : undefined,
    ticks: (splits) => splits.map(count),
    at: (index) => `Decision ${numbers(drawn[index])}`,
  };
}

function summary(policies) {
  const said = policies.map(([policy, rows]) => {
    const known = rows.filter((row) => row.mean_reward !== null);
    const half = Math.ceil(known.length / 2);
    const [early, late] = [known.slice(0, half), known.slice(half)].map((part) => reward(mean(part).value));
    return `${policy}: ${early} over the first half, ${late} over the second`;
  });
  return `Mean reward by the number of a user’s decision. ${said.join(". ")}.`;
}

function listed(items) {
  return table("Mean reward by the number of a user’s decision", [
    { title: "Decision", value: (row) => row.first_decision, cell: numbers },
    { title: "Policy", value: (row) => row.policy, cell: (row) => name(row.policy) },
    { title: "Decisions", number: true, value: (row) => row.decisions, cell: (row) => count(row.decisions) },
    { title: "With a reward", number: true, value: (row) => row.rewarded, cell: (row) => count(row.rewarded) },
    { title: "Mean reward", number: true, value: (row) => row.mean_reward, cell: (row) => reward(row.mean_reward) },
    { title: "95% interval", number: true, cell: (row) => range(row.mean_reward_low, row.mean_reward_high, reward) },
  ], items);
}

function numbers({ first_decision: from, last_decision: to }) {
  return from === to ? count(from) : `${count(from)}${UNKNOWN}${count(to)}`;
}
