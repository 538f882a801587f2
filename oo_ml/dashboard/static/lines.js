// Lines with bands of uncertainty, drawn by uPlot. They follow the width and the colours of the page.

import { el } from "./dom.js";
import { plural, range } from "./formats.js";

const HEIGHT = 240;
const FONT = "12px system-ui, sans-serif";
const MANY = 45;
// A mean of fewer rewards is a dot beside the line, and so few means make no line.
const LEAST = 3;
// Between dots of two series at one position, in pixels.
const SIDE = 8;

const live = new Set();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of live) chart.plot?.redraw(false);
});

/**
 * Return the chart with its legend.
 *
 * x: positions of the points, ascending. series: { name, style, values, low, high, numbers }, with null for missing values;
 * `numbers` has the rewards of each value; `style` is "one" (a solid line) or "two" (a dashed line). axis: the x axis { scale, space, incrs, splits, ticks(x),
 * at(index) }; `space` is the least distance between two ticks. format: the format of y.
 */
export function lines(summary, x, series, axis, format) {
  const host = el("div", { class: "plot", role: "img", "aria-label": summary });
  const chart = { host, plot: null, watch: null };
  const split = series.map(parted);
  const options = plotted(series, split, axis, format, host);
  const data = [x, ...split.flatMap(({ line, low, high }) => [line, low, high])];
  chart.watch = new ResizeObserver(([{ contentRect }]) => {
    const size = { width: Math.floor(contentRect.width), height: HEIGHT };
    if (!host.isConnected || size.width === 0) return;
    if (chart.plot === null) chart.plot = new uPlot({ ...options, ...size }, data, host);
    else if (chart.plot.width !== size.width) chart.plot.setSize(size);
  });
  chart.watch.observe(host);
  sweep();
  live.add(chart);
  return el("div", {}, legend(series, split), host);
}

// Divide the points of a series into those of its line with their band, and those that are only dots.
function parted({ values, low, high, numbers }) {
  const known = values.keys().filter((index) => values[index] !== null).toArray();
  const solid = known.map((index) => numbers[index] >= LEAST);
  // A line needs a neighbour: without one, a point would have no line and no band.
  const joined = known.filter((_, place) => solid[place] && (solid[place - 1] || solid[place + 1]));
  const line = new Set(joined.length >= LEAST ? joined : []);
  // uPlot draws over what is undefined, and breaks the line at null: there, a dot is.
  const other = (index) => (values[index] === null ? undefined : null);
  const keep = (column) => column.map((value, index) => (line.has(index) ? value : other(index)));
  return {
    line: keep(values), low: keep(low), high: keep(high),
    dots: known.filter((index) => !line.has(index)),
  };
}

// Destroy the charts that are no longer in the page.
function sweep() {
  for (const chart of live) {
    if (chart.plot === null || chart.host.isConnected) continue;
    chart.watch.disconnect();
    chart.plot.destroy();
    live.delete(chart);
  }
}

function plotted(series, split, axis, format, host) {
  const tip = el("div", { class: "tip", hidden: true });
  const grid = { stroke: () => colour("--line"), width: 1 };
  const side = { stroke: () => colour("--quiet"), font: FONT, grid, ticks: { show: false } };
  return {
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
    scales: { x: axis.scale, y: { range: reach(series.flatMap(ends)) } },
    axes: [
      {
        ...side, grid: { show: false }, size: 30, space: axis.space, incrs: axis.incrs, splits: axis.splits,
        filter: (_, splits) => splits, values: (_, splits) => axis.ticks(splits),
      },
      { ...side, space: 34, size: 54, values: (_, splits) => splits.map((split) => format(split)) },
    ],
    series: [{}, ...series.flatMap(drawn)],
    bands: series.map(({ style }, index) => ({
      series: [3 * index + 3, 3 * index + 2], fill: () => colour(`--${style}-band`),
    })),
    hooks: {
      init: [(plot) => plot.over.append(tip)],
      drawAxes: [zero],
      draw: [(plot) => series.forEach((one, index) => dotted(plot, one, split[index], SIDE * (index - (series.length - 1) / 2)))],
      setCursor: [(plot) => point(plot, tip, series, axis, format)],
      setSize: [() => { tip.hidden = true; }],
      destroy: [() => host.replaceChildren()],
    },
  };
}

function drawn({ style, values }) {
  const line = {
    stroke: () => colour(`--${style}`), width: 2, dash: style === "two" ? [6, 4] : undefined,
    points: { show: values.length <= MANY, size: 5, fill: () => colour(`--${style}`) },
  };
  const bound = { width: 0, stroke: "transparent", points: { show: false } };
  return [line, bound, bound];
}

// Draw the dots of a series, each with its interval if it stands on enough rewards. Series stand side by side.
function dotted(plot, { style, values, low, high, numbers }, { dots }, shift) {
  const { ctx, bbox } = plot;
  const y = (value) => Math.min(Math.max(plot.valToPos(value, "y", true), bbox.top), bbox.top + bbox.height);
  ctx.save();
  ctx.strokeStyle = colour(`--${style}`);
  ctx.fillStyle = colour("--panel");
  ctx.lineWidth = 1.5 * devicePixelRatio;
  for (const index of dots) {
    const x = plot.valToPos(plot.data[0][index], "x", true) + shift * devicePixelRatio;
    if (has(numbers, low, index)) stroke(ctx, () => [ctx.moveTo(x, y(low[index])), ctx.lineTo(x, y(high[index]))]);
    stroke(ctx, () => ctx.arc(x, y(values[index]), 3 * devicePixelRatio, 0, 2 * Math.PI));
    ctx.fill();
  }
  ctx.restore();
}

function has(numbers, low, index) {
  return numbers[index] >= LEAST && low[index] !== null;
}

function stroke(ctx, path) {
  ctx.beginPath();
  path();
  ctx.stroke();
}

// Zero is always visible, because positive and negative rewards mean different things.
function reach(known) {
  const [low, high] = [Math.min(0, ...known), Math.max(0, ...known)];
  const pad = 0.08 * (high - low || 1);
  return [low < 0 ? Math.max(low - pad, -1.02) : 0, high > 0 ? Math.min(high + pad, 1.02) : 0];
}

// The values of a series, and the ends of the intervals that are drawn.
function ends({ values, low, high, numbers }) {
  return values.flatMap((value, index) =>
    (value === null ? [] : has(numbers, low, index) ? [value, low[index], high[index]] : [value]));
}

function zero(plot) {
  const { ctx, bbox } = plot;
  const y = Math.round(plot.valToPos(0, "y", true));
  ctx.save();
  ctx.strokeStyle = colour("--strong-line");
  ctx.lineWidth = devicePixelRatio;
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.restore();
}

function point(plot, tip, series, axis, format) {
  const { idx, left } = plot.cursor;
  tip.hidden = idx === null || idx === undefined || left < 0;
  if (tip.hidden) return;
  const shown = series.filter(({ values }) => values[idx] !== null).map((one) => el("p", {},
    `${one.name}: `, el("b", {}, format(one.values[idx])),
    ` (${range(one.low[idx], one.high[idx], format)}; ${plural(one.numbers[idx], "reward")})`));
  tip.replaceChildren(el("p", { class: "quiet" }, axis.at(idx)), ...shown);
  const width = plot.over.clientWidth;
  tip.style.left = `${Math.max(0, Math.min(left + 12, width - tip.offsetWidth))}px`;
}

function legend(series, split) {
  const keys = series.map(({ name, style }) => el("span", { class: `key ${style}` }, name));
  return el("p", { class: "legend" }, keys,
    split.some(({ dots }) => dots.length > 0) && el("span", { class: "key dot" }, "Too few rewards for a line"));
}

function colour(property) {
  return getComputedStyle(document.documentElement).getPropertyValue(property).trim();
}
