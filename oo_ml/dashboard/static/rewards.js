// Mean reward by day, or by week, of exploited and explored tips.

import { el } from "./dom.js";
import { count, day, range, reward, shortDay } from "./formats.js";
import { lines } from "./lines.js";
import { nothing } from "./panels.js";
import { columns, mean } from "./pool.js";
import { folded, table } from "./tables.js";

export const path = "analytics/rewards-by-day";

const DAY = 86_400;
// More days than this are drawn by week, because a line through each of them shows noise.
const MOST = 45;
const KINDS = [
  { name: "Exploited", exploring: false, style: "one" },
  { name: "Explored", exploring: true, style: "two" },
];

export function parameters(query) {
  return query;
}

export function render(items) {
  if (items.every((row) => row.mean_reward === null)) return nothing("There are no rewards for the tips of these days.");
  const days = [...new Set(items.map((row) => row.day))].sort();
  const weekly = seconds(days.at(-1)) - seconds(days[0]) >= MOST * DAY;
  const steps = [...Map.groupBy(days, weekly ? monday : seconds)].map(([at, of]) => ({ at, first: of[0], last: of.at(-1) }));
  const series = KINDS.map((kind) => drawn(kind, steps, items)).filter(({ values }) => values.some((value) => value !== null));
  return [
    lines(summary(days, items), steps.map(({ at }) => at), series, axis(steps, weekly), reward),
    ...(weekly ? [el("p", { class: "note" }, "Drawn by week, from Monday; the table and the CSV have each day.")] : []),
    folded("Table", listed(items)),
  ];
}

function seconds(iso) {
  return Date.parse(iso) / 1000;
}

function monday(iso) {
  // 1 January 1970 was a Thursday.
  const day = seconds(iso) / DAY;
  return (day - ((day + 3) % 7)) * DAY;
}

function drawn({ name, exploring, style }, steps, items) {
  const rows = items.filter((row) => row.exploring === exploring);
  return { name, style, ...columns(steps.map(({ first, last }) => mean(rows.filter((row) => first <= row.day && row.day <= last)))) };
}

function axis(steps, weekly) {
  // A single day needs a range of its own, or the axis would have no width.
  const ends = (low, high) => (low === high ? [low - DAY, high + DAY] : [low, high]);
  const spans = steps.map(({ first, last }) => (first === last ? day(first) : `${day(first)} to ${day(last)}`));
  // Weeks of uPlot begin on Thursdays: of ours, take every one that its step allows.
  const mondays = (_, __, low, high, step) =>
    steps.map(({ at }) => at).filter((at) => low <= at && at <= high && (at - steps[0].at) % step === 0);
  return {
    scale: { time: false, range: (_, low, high) => ends(low, high) },
    space: 64,
    incrs: [1, 2, 7, 14, 28, 56, 112, 364, 728, 3640].filter((number) => !weekly || number % 7 === 0).map((number) => number * DAY),
    splits: weekly ? mondays : undefined,
    ticks: (splits) => splits.map((split) => shortDay(split * 1000)),
    at: (index) => spans[index],
  };
}

function summary(days, items) {
  const means = KINDS.map(({ name, exploring }) => {
    const { value, low, high } = mean(items.filter((row) => row.exploring === exploring));
    return `${name}: ${reward(value)}, ${range(low, high, reward)}`;
  });
  return `Mean reward by day, ${day(days[0])} to ${day(days.at(-1))}. ${means.join(". ")}.`;
}

function listed(items) {
  return table("Mean reward by day", [
    { title: "Day", value: (row) => row.day, cell: (row) => day(row.day) },
    { title: "Chosen", value: (row) => Number(row.exploring), cell: (row) => KINDS[Number(row.exploring)].name },
    { title: "Shown", number: true, value: (row) => row.shown, cell: (row) => count(row.shown) },
    { title: "With a reward", number: true, value: (row) => row.rewarded, cell: (row) => count(row.rewarded) },
    { title: "Mean reward", number: true, value: (row) => row.mean_reward, cell: (row) => reward(row.mean_reward) },
    { title: "95% interval", number: true, cell: (row) => range(row.mean_reward_low, row.mean_reward_high, reward) },
  ], items);
}
