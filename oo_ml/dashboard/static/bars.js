// Bars for positive and negative numbers, each with its label and interval.

import { el, svg } from "./dom.js";
import { place } from "./scales.js";

/** Return the chart of rows { label, value, low, high } on a scale from -reach to reach. */
export function bars(summary, rows, reach, format) {
  const axis = { low: -reach, high: reach };
  return el("div", { class: "bars", role: "img", "aria-label": summary }, rows.map((row) => line(row, axis, format)));
}

function line({ label, value, low, high }, axis, format) {
  const [left, right] = [Math.min(value, 0), Math.max(value, 0)].map((end) => Number.parseFloat(place(axis, end)));
  const bar = svg("rect", {
    class: value < 0 ? "below" : "above", x: `${left}%`, width: `${right - left}%`, y: "4", height: "14", rx: "2",
  });
  const zero = svg("line", { class: "zero", x1: "50%", x2: "50%", y1: "0", y2: "22" });
  const interval = svg("line", { class: "interval", x1: place(axis, low), x2: place(axis, high), y1: "11", y2: "11" });
  return el(
    "div",
    { class: "row" },
    el("span", { class: "label" }, label),
    svg("svg", { class: "track", width: "100%", height: "22" }, bar, zero, interval),
    el("span", { class: "value" }, format(value)),
  );
}
