// Policies: the mean reward of each, against the estimate for drawing at random among the same candidates.

import { el, name } from "./dom.js";
import { count, plural, range, reward } from "./formats.js";
import { intervals } from "./intervals.js";
import { ignored, nothing } from "./panels.js";
import { table } from "./tables.js";
import { unknown } from "./unknown.js";

export const path = "analytics/policy-values";

export function parameters({ prompt_version: _, ...query }) {
  return query;
}

export function view({ prompt_version: version }) {
  return version;
}

export function render(rows, shown) {
  const notes = ignored(shown, { prompt_version: "All prompt versions: a policy is judged by all its decisions, so that filter does not apply here." });
  if (rows.every((row) => row.mean_reward === null)) return [...notes, nothing("There are no rewards for the tips of these days.")];
  const charted = rows.filter((row) => row.mean_reward !== null).map((row) => ({
    label: row.policy, muted: false, raw: estimate(row, "mean_reward"), weighted: estimate(row, "random_mean_reward"),
  }));
  return [
    ...notes,
    intervals(summary(rows), charted, reward, ["its own", "at random"]),
    ...rows.filter((row) => row.unknown_because !== null).map((row) => unknown(row.unknown_because, [row.policy], ` for ${row.policy}`)),
    listed(rows),
  ];
}

function estimate(row, stem) {
  return { value: row[stem], low: row[`${stem}_low`], high: row[`${stem}_high`] };
}

function summary(rows) {
  const said = rows.map((row) => row.gain === null
    ? `${row.policy}: ${reward(row.mean_reward)}; at random: unknown`
    : `${row.policy}: ${reward(row.mean_reward)}; at random: ${reward(row.random_mean_reward)}`);
  return `Mean reward of ${plural(rows.length, "policy", "policies")}, and of drawing at random. ${said.join(". ")}.`;
}

function listed(rows) {
  const number = (title, stem) => [
    { title, number: true, cell: (row) => (row[stem] === null && row.mean_reward !== null ? "unknown" : reward(row[stem])) },
    { title: "95% interval", number: true, cell: (row) => range(row[`${stem}_low`], row[`${stem}_high`], reward) },
  ];
  return el("div", { class: "below" }, table("Policies against drawing at random", [
    { title: "Policy", cell: (row) => name(row.policy) },
    { title: "With a reward", number: true, cell: (row) => count(row.rewarded) },
    ...number("Mean reward", "mean_reward"),
    ...number("At random", "random_mean_reward"),
    ...number("Gain by choosing", "gain"),
  ], rows));
}
