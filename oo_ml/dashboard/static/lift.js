// Was it worth it? Each policy against the hold-out, by the users that the traffic gave it; without a hold-out, against
// drawing at random among the same candidates.

import { items } from "./api.js";
import { el, name } from "./dom.js";
import { UNKNOWN, count, percent, plural, range, reward } from "./formats.js";
import { intervals } from "./intervals.js";
import { ignored, nothing } from "./panels.js";
import { shares } from "./shares.js";
import { table } from "./tables.js";

export const path = "analytics/policy-lift";

const FILTERS = {
  policy: "All policies: they are compared with each other, so that filter does not apply here.",
  prompt_version: "All prompt versions: a policy is judged by all its decisions, so that filter does not apply here.",
};

export function parameters({ policy: _, prompt_version: __, ...query }) {
  return query;
}

export function view({ policy, prompt_version: version }) {
  return [policy, version];
}

/** Return the rows, the shares by day, and the gains over drawing at random where there is no hold-out. */
export async function load(asked, signal) {
  const [rows, days] = await Promise.all([
    items(path, asked, signal), items("analytics/policy-traffic-by-day", asked, signal),
  ]);
  const values = holdOut(rows) === null ? await items("analytics/policy-values", asked, signal) : null;
  return { rows, days, values };
}

export function render({ rows, days, values }, shown) {
  const notes = ignored(shown, FILTERS);
  if (rows.length === 0) return [...notes, nothing("No policy has decided on these days.")];
  const assigned = rows.filter((row) => row.decisions > 0);
  return [
    ...notes,
    ...(assigned.length === 0 ? [unassigned()] : []),
    ...(values === null ? againstHoldOut(assigned) : againstRandom(values)),
    ...(assigned.length === 0 ? [] : [...caveats(rows), listed(assigned), shares(days)]),
  ];
}

function holdOut(rows) {
  return rows.length === 0 ? null : rows[0].hold_out;
}

function unassigned() {
  return el("p", { class: "note" }, "On these days the traffic chose no policy: each call had the policy that its client named. ",
    el("code", {}, "oo-ml policies traffic"), " lets the service give each policy a share of the users.");
}

function againstHoldOut(rows) {
  const known = rows.filter((row) => row.lift !== null);
  const base = holdOut(rows);
  if (known.length === 0) return [nothing("No policy can be compared with the hold-out ", name(base), " yet.")];
  const said = known.map((row) => `${row.policy}: ${reward(row.lift)} (${range(row.lift_low, row.lift_high, reward)})`);
  return [
    el("h3", {}, "Lift over the hold-out ", name(base)),
    chart(`Lift of ${plural(known.length, "policy", "policies")} over the hold-out ${base}. ${said.join(". ")}.`, known, "lift"),
  ];
}

function againstRandom(values) {
  if (values.every((row) => row.gain === null)) {
    return [nothing("There is no hold-out, and the gain over drawing at random is unknown: see Policies for the reason.")];
  }
  const said = values.map((row) => (row.gain === null
    ? `${row.policy}: unknown` : `${row.policy}: ${reward(row.gain)} (${range(row.gain_low, row.gain_high, reward)})`));
  return [
    el("h3", {}, "Gain over drawing at random, because there is no hold-out"),
    chart(`Gain of ${plural(values.length, "policy", "policies")} over drawing at random. ${said.join(". ")}.`, values, "gain"),
  ];
}

function chart(summary, rows, stem) {
  const drawn = rows.map((row) => ({
    label: row.policy, muted: false, weighted: null,
    raw: { value: row[stem], low: row[`${stem}_low`], high: row[`${stem}_high`] },
  }));
  return intervals(summary, drawn, reward, [stem]);
}

// One note for all policies with the same reason.
function caveats(rows) {
  const reasons = Map.groupBy(rows.filter((row) => row.unknown_because !== null), (row) => row.unknown_because);
  return [...reasons].map(([reason, of]) => el("p", { class: "note warning" },
    el("b", {}, `No lift of ${of.map((row) => row.policy).join(", ")}: ${reason}.`), ` ${advice(reason)}`));
}

function advice(reason) {
  if (reason.startsWith("no hold-out")) return "To have one, give uniform-v1 a share of the traffic, such as 0.05.";
  if (reason.startsWith("the traffic")) return "Its decisions are of clients that named it, and are not compared.";
  return "Choose a longer period, or give it a larger share of the traffic.";
}

function listed(rows) {
  const base = (row) => row.policy === row.hold_out;
  return el("div", { class: "below" }, table("Policies against the hold-out", [
    { title: "Policy", cell: (row) => el("span", {}, name(row.policy), base(row) && " (hold-out)") },
    { title: "Share", number: true, cell: (row) => percent(row.share) },
    { title: "Decisions", number: true, cell: (row) => count(row.decisions) },
    { title: "With a reward", number: true, cell: (row) => count(row.rewarded) },
    { title: "Mean reward", number: true, cell: (row) => reward(row.mean_reward) },
    { title: "95% interval", number: true, cell: (row) => range(row.mean_reward_low, row.mean_reward_high, reward) },
    { title: "Lift", number: true, cell: (row) => (row.lift === null && !base(row) ? "unknown" : reward(row.lift)) },
    { title: "95% interval", number: true, cell: (row) => range(row.lift_low, row.lift_high, reward) },
    { title: "Best with probability", number: true, cell: (row) => (row.probability_best === null ? UNKNOWN : certain(row.probability_best)) },
  ], rows));
}

// Exact to 0.001.
function certain(probability) {
  if (probability < 0.001) return "< 0.1%";
  return probability > 0.999 ? "> 99.9%" : percent(probability);
}
