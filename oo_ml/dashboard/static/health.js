// Loop health: failed checks first, with their reasons; all checks are in a folded table.

import { el, name } from "./dom.js";
import { chance, count, decimal, duration, percent, plural } from "./formats.js";
import { status } from "./icons.js";
import { ignored, nothing } from "./panels.js";
import { folded, table } from "./tables.js";

export const path = "analytics/loop-health";

const RANK = ["red", "amber", "unknown", "green"];
const CHECKS = {
  reward_delay_p50: ["Time to a reaction, median", duration],
  reward_delay_p95: ["Time to a reaction, 95th percentile", duration],
  never_rewarded: ["Tips without a reaction", percent],
  explored_share: ["Share drawn at random", percent],
  unsupported_share: ["Decisions in which a candidate had no chance", percent],
  propensity_calibration: ["Propensities against observed choices", decimal],
  states_not_finite: ["States with non-finite numbers", count],
  partitions_ahead: ["Partitions of coming months", count],
  uncounted: ["Rows not yet in the sums by day", count],
};

export function parameters({ prompt_version: _, ...query }) {
  return query;
}

export function view({ prompt_version: version }) {
  return version;
}

export function render(items, shown) {
  const notes = ignored(shown, {
    policy: "Checks that name no policy are of all policies: that filter does not apply to them.",
    prompt_version: "All prompt versions: that filter does not apply here.",
  });
  if (items.length === 0) return [...notes, nothing("There is nothing to check yet.")];
  const checks = items.toSorted((a, b) => rank(a) - rank(b));
  const wrong = checks.filter(({ status: found }) => found !== "green");
  const well = checks.filter(({ status: found }) => found === "green");
  return [
    el("p", { class: "verdict" }, verdict(checks)),
    wrong.length > 0 && el("ul", { class: "checks" }, wrong.map(check)),
    ...notes,
    folded(well.length === items.length ? "All checks" : "All checks, the green ones too", listed(checks)),
  ].filter(Boolean);
}

function verdict(checks) {
  const worst = checks[0].status;
  const number = (kind) => checks.filter((one) => one.status === kind).length;
  if (worst === "green") return status("green", `Green: all ${plural(checks.length, "check")} are fine`);
  const found = RANK.filter((kind) => kind !== "green" && number(kind)).map((kind) => `${number(kind)} ${kind}`);
  return status(worst, `${word(worst)}: of ${plural(checks.length, "check")}, ${found.join(", ")}`);
}

function check(one) {
  const [title] = described(one.check);
  return el(
    "li",
    {},
    status(one.status, word(one.status)),
    el("div", {},
      el("p", { class: "what" }, title, one.policy === null ? null : [" · ", name(one.policy)]),
      el("p", {}, sentence(one.reason))),
    el("p", { class: "found" }, measured(one)),
  );
}

function listed(checks) {
  return table("Loop health, every check", [
    { title: "Check", cell: (one) => described(one.check)[0] },
    { title: "Policy", cell: (one) => (one.policy === null ? "all" : name(one.policy)) },
    { title: "Status", cell: (one) => status(one.status, word(one.status)) },
    { title: "Found", number: true, cell: (one) => described(one.check)[1](one.value) },
    { title: "Expected", number: true, cell: (one) => described(one.check)[1](one.expected) },
    { title: "p-value", number: true, cell: (one) => chance(one.p_value) },
    { title: "Reason", cell: (one) => el("span", { class: "prose" }, sentence(one.reason)) },
  ], checks);
}

function measured({ check: kind, value, expected }) {
  const format = described(kind)[1];
  return expected === null ? format(value) : `${format(value)}, expected ${format(expected)}`;
}

function described(kind) {
  return CHECKS[kind] ?? [kind, decimal];
}

function rank({ status: found }) {
  return RANK.indexOf(found) + (RANK.includes(found) ? 0 : RANK.length);
}

function sentence(reason) {
  return `${word(reason).replace(/\.$/, "")}.`;
}

function word(kind) {
  return kind.charAt(0).toUpperCase() + kind.slice(1);
}
