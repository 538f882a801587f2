// A row for each name, with one or two estimates and their intervals: raw (a dot) above weighted (a diamond).

import { el, name, svg } from "./dom.js";
import { range } from "./formats.js";
import { place, scale } from "./scales.js";

const MARKS = [
  ["raw", (x) => svg("circle", { cx: x, cy: "10", r: "4.5" })],
  ["weighted", (x) => svg("svg", { x, y: "24", overflow: "visible" }, svg("path", { d: "M0-5.5 5.5 0 0 5.5-5.5 0Z" }))],
];
const HEIGHTS = { raw: "10", weighted: "24" };

/**
 * Return the chart. A row is { label, muted, raw, weighted }; an estimate is { value, low, high } with null for what is
 * unknown; `weighted` is null if the chart has raw estimates only. `words` name both; `ticked` is the format of the axis.
 */
export function intervals(summary, rows, format, words, ticked = format) {
  const estimates = rows.flatMap(({ raw, weighted }) => [raw, weighted]).filter((one) => one !== null);
  const ends = estimates.flatMap(({ value, low, high }) => [value, low, high]);
  const axis = around(ends.filter((end) => end !== null));
  return el(
    "div",
    { class: "intervals", role: "img", "aria-label": summary },
    el("div", { class: "rows" }, grid(axis), rows.map((row) => line(row, axis, format, words))),
    el("div", { class: "axis" }, el("div", { class: "ticks" }, axis.ticks.map((tick) => label(axis, tick, ticked)))),
  );
}

// Include zero, unless the data would then fill less than half of the width.
function around(known) {
  const [low, high] = [Math.min(...known), Math.max(...known)];
  if (low > high / 2 || high < low / 2) return scale(low, high);
  return scale(Math.min(low, 0), Math.max(high, 0));
}

function line(row, axis, format, words) {
  const kinds = MARKS.filter(([kind]) => row[kind] !== null);
  const drawn = kinds.flatMap(([kind, mark]) => estimate(kind, mark, row[kind], axis));
  return el(
    "div",
    { class: "row", title: `${row.label}: ${kinds.map(([kind], index) => `${words[index]} ${said(row[kind], format)}`).join("; ")}` },
    el("span", { class: row.muted ? "label muted" : "label" }, row.muted ? row.label : name(row.label)),
    svg("svg", { class: "track", width: "100%", height: kinds.length === 1 ? "20" : "34" }, drawn),
    el("span", { class: "values" }, kinds.map(([kind]) => el("span", { class: kind }, written(row[kind], format)))),
  );
}

function estimate(kind, mark, { value, low, high }, axis) {
  if (value === null) return [];
  const y = HEIGHTS[kind];
  const drawn = [svg("g", { class: `mark ${kind}` }, mark(place(axis, value)))];
  if (low !== null && high !== null) {
    drawn.unshift(svg("line", { class: `bar ${kind}`, x1: place(axis, low), x2: place(axis, high), y1: y, y2: y }));
  }
  return drawn;
}

function grid(axis) {
  const lines = axis.ticks.map((tick) => {
    const x = place(axis, tick);
    return svg("line", { class: tick === 0 ? "zero" : null, x1: x, x2: x, y1: "0", y2: "100%" });
  });
  return el("div", { class: "grid" }, svg("svg", { width: "100%", height: "100%" }, lines));
}

function label(axis, tick, format) {
  const text = el("span", {}, format(tick));
  text.style.left = place(axis, tick);
  return text;
}

function written({ value }, format) {
  return value === null ? "unknown" : format(value);
}

function said({ value, low, high }, format) {
  return value === null ? "unknown" : `${format(value)} (${range(low, high, format)})`;
}
