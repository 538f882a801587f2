// Lines with bands of uncertainty, drawn by uPlot. They follow the width and the colours of the page.

import { el } from "./dom.js";
import { range } from "./formats.js";

const HEIGHT = 240;
const FONT = "12px system-ui, sans-serif";
const MANY = 45;

const live = new Set();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of live) chart.plot?.redraw(false);
});

/**
 * Return the chart with its legend.
 *
 * x: positions of the points, ascending. series: { name, style, values, low, high }, with null for missing values;
 * `style` is "one" (a solid line) or "two" (a dashed line). axis: the x axis { scale, space, incrs, splits, ticks(x),
 * at(index) }; `space` is the least distance between two ticks. format: the format of y.
 */
export function lines(summary, x, series, axis, format) {
  const host = el("div", { class: "plot", role: "img", "aria-label": summary });
  const chart = { host, plot: null, watch: null };
  const options = plotted(series, axis, format, host);
  const data = [x, ...series.flatMap(({ values, low, high }) => [values, low, high])];
  chart.watch = new ResizeObserver(([{ contentRect }]) => {
    const size = { width: Math.floor(contentRect.width), height: HEIGHT };
    if (!host.isConnected || size.width === 0) return;
    if (chart.plot === null) chart.plot = new uPlot({ ...options, ...size }, data, host);
    else if (chart.plot.width !== size.width) chart.plot.setSize(size);
  });
  chart.watch.observe(host);
  sweep();
  live.add(chart);
  return el("div", {}, legend(series), host);
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

function plotted(series, axis, format, host) {
  const tip = el("div", { class: "tip", hidden: true });
  const grid = { stroke: () => colour("--line"), width: 1 };
  const side = { stroke: () => colour("--quiet"), font: FONT, grid, ticks: { show: false } };
  return {
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
    scales: { x: axis.scale, y: { range: (_, low, high) => reach(low, high) } },
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
      setCursor: [(plot) => point(plot, tip, series, axis, format)],
      setSize: [() => { tip.hidden = true; }],
      destroy: [() => host.replaceChildren()],
    },
  };
}

function drawn({ style, values }) {
  const line = {
    stroke: () => colour(`--${style}`), width: 2, spanGaps: true, dash: style === "two" ? [6, 4] : undefined,
    points: { show: values.length <= MANY, size: 5, fill: () => colour(`--${style}`) },
  };
  const bound = { width: 0, stroke: "transparent", spanGaps: true, points: { show: false } };
  return [line, bound, bound];
}

// Zero is always visible, because positive and negative rewards mean different things.
function reach(low, high) {
  const pad = 0.08 * (Math.max(high, 0) - Math.min(low, 0) || 1);
  return [low < 0 ? Math.max(low - pad, -1.02) : Math.min(0, low), high > 0 ? Math.min(high + pad, 1.02) : 0];
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
  const shown = series.filter(({ values }) => values[idx] !== null).map((one) =>
    el("p", {}, `${one.name}: `, el("b", {}, format(one.values[idx])), ` (${range(one.low[idx], one.high[idx], format)})`),
  );
  tip.replaceChildren(el("p", { class: "quiet" }, axis.at(idx)), ...shown);
  const width = plot.over.clientWidth;
  tip.style.left = `${Math.max(0, Math.min(left + 12, width - tip.offsetWidth))}px`;
}

function legend(series) {
  return el("p", { class: "legend" }, series.map(({ name, style }) => el("span", { class: `key ${style}` }, name)));
}

function colour(property) {
  return getComputedStyle(document.documentElement).getPropertyValue(property).trim();
}
