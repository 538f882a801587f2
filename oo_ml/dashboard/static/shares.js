// The share of each policy in the traffic by day, as stacked bars.

import { el, name, svg } from "./dom.js";
import { count, day, percent, shortDay } from "./formats.js";
import { folded, table } from "./tables.js";

const DAY = 86_400_000;
// Colours of charts.css; a seventh policy has the first one again.
const COLOURS = 6;

/** Return the chart and its table. A row is { day, policy, decisions, share }; days come in order. */
export function shares(rows) {
  const policies = [...new Set(rows.map((row) => row.policy))].sort();
  const first = Date.parse(rows[0].day);
  const last = Date.parse(rows.at(-1).day);
  const width = 100 / ((last - first) / DAY + 1);
  const bars = [...Map.groupBy(rows, (row) => row.day)].flatMap(([at, of]) => {
    let top = 0;
    return policies.flatMap((policy, index) => {
      const row = of.find((one) => one.policy === policy);
      if (!row) return [];
      const bar = svg("rect", {
        class: `share-${index % COLOURS}`, x: `${width * ((Date.parse(at) - first) / DAY)}%`, width: `${0.9 * width}%`,
        y: `${100 * top}%`, height: `${100 * row.share}%`,
      }, svg("title", {}, `${day(at)}, ${policy}: ${percent(row.share)}`));
      top += row.share;
      return [bar];
    });
  });
  return el("div", { class: "shares below" },
    el("h3", {}, "Share of the traffic by day"),
    el("p", { class: "legend" }, policies.map((policy, index) => el("span", { class: `key share-${index % COLOURS}` }, name(policy)))),
    el("div", { role: "img", "aria-label": summary(rows, policies) }, svg("svg", { width: "100%", height: "96" }, bars)),
    el("p", { class: "ends quiet" }, el("span", {}, shortDay(first)), last > first && el("span", {}, shortDay(last))),
    folded("Table", listed(rows)));
}

function summary(rows, policies) {
  const total = rows.reduce((sum, row) => sum + row.decisions, 0);
  const said = policies.map((policy) => {
    const own = rows.filter((row) => row.policy === policy).reduce((sum, row) => sum + row.decisions, 0);
    return `${policy}: ${percent(own / total)}`;
  });
  return `Share of the traffic by day, ${day(rows[0].day)} to ${day(rows.at(-1).day)}. On all days ${said.join(", ")}.`;
}

function listed(rows) {
  return table("Share of the traffic by day", [
    { title: "Day", value: (row) => row.day, cell: (row) => day(row.day) },
    { title: "Policy", value: (row) => row.policy, cell: (row) => name(row.policy) },
    { title: "Decisions", number: true, value: (row) => row.decisions, cell: (row) => count(row.decisions) },
    { title: "Share", number: true, value: (row) => row.share, cell: (row) => percent(row.share) },
  ], rows);
}
