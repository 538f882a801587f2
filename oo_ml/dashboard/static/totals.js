// At a glance: four numbers with their intervals, beside those of each policy and of the period before.

import { items } from "./api.js";
import { el, name } from "./dom.js";
import { before } from "./filters.js";
import { UNKNOWN, count, percent, plural, range, reward } from "./formats.js";
import { nothing } from "./panels.js";

export const path = "analytics/reaction-rates";

const TILES = [
  { title: "Tips shown", format: count, of: (row) => ({ value: row.shown, low: null, high: null }) },
  { title: "Reacted to", format: percent, of: (row) => ({ value: row.reacted_rate, low: row.reacted_low, high: row.reacted_high }) },
  { title: "Done", format: percent, of: (row) => ({ value: row.done_rate, low: row.done_low, high: row.done_high }) },
  {
    title: "Mean reward", format: reward,
    of: (row) => ({ value: row.mean_reward, low: row.mean_reward_low, high: row.mean_reward_high }),
  },
];

export function parameters(query) {
  return { ...query, by: "policy" };
}

/** Return the rows of the period by policy, its sum, and the period before { days, sum }; null where there is none. */
export async function load(asked, signal, known) {
  const previous = before(asked, known);
  const sum = (days) => items(path, { ...asked, ...days, by: "all" }, signal).then(([row = null]) => row);
  const [policies, now, earlier] = await Promise.all([
    items(path, asked, signal), sum({}), previous && sum({ since: previous.since, until: previous.until }),
  ]);
  return { policies, now, previous: previous && { days: previous.days, sum: earlier } };
}

export function render({ policies, now, previous }) {
  if (now === null) return nothing("No tips were shown on these days, or none match the filters.");
  return el("dl", { class: "tiles" }, TILES.map((tile) => drawn(tile, policies, now, previous)));
}

function drawn({ title, format, of }, policies, now, previous) {
  const found = of(now);
  const beside = [
    previous && line(`${plural(previous.days, "day")} before`, previous.sum && of(previous.sum), format),
    ...policies.map((row) => line(name(row.policy), of(row), format)),
  ];
  return el("div", {},
    el("dt", {}, title),
    el("dd", { class: "big" }, format(found.value)),
    found.low !== null && el("dd", { class: "interval" }, `${range(found.low, found.high, format)} (95% interval)`),
    el("dd", { class: "each" }, beside));
}

function line(label, found, format) {
  return el("div", {},
    el("span", {}, label), el("b", {}, found ? format(found.value) : UNKNOWN),
    found && found.low !== null && el("span", { class: "interval" }, range(found.low, found.high, format)));
}
