// Mean reward by day of exploited and explored tips.

import { count, day, range, reward, shortDay } from "./formats.js";
import { lines } from "./lines.js";
import { nothing } from "./panels.js";
import { mean } from "./pool.js";
import { folded, table } from "./tables.js";

export const path = "analytics/rewards-by-day";

const DAY = 86_400;
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
  const series = KINDS.map((kind) => drawn(kind, days, items)).filter(({ values }) => values.some((value) => value !== null));
  return [
    lines(summary(days, items), days.map((one) => Date.parse(one) / 1000), series, axis(days), reward),
    folded("Table", listed(items)),
  ];
}

function drawn({ name, exploring, style }, days, items) {
  const rows = new Map(items.filter((row) => row.exploring === exploring).map((row) => [row.day, row]));
  const column = (field) => days.map((one) => rows.get(one)?.[field] ?? null);
  return { name, style, values: column("mean_reward"), low: column("mean_reward_low"), high: column("mean_reward_high") };
}

function axis(days) {
  // A single day needs a range of its own, or the axis would have no width.
  const ends = (low, high) => (low === high ? [low - DAY, high + DAY] : [low, high]);
  return {
    scale: { time: false, range: (_, low, high) => ends(low, high) },
    space: 64,
    incrs: [1, 2, 7, 14, 28, 56, 112, 364, 728, 3640].map((number) => number * DAY),
    ticks: (splits) => splits.map((seconds) => shortDay(seconds * 1000)),
    at: (index) => day(days[index]),
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
