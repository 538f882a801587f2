// At a glance: four numbers over all policies, and of each policy.

import { el, name } from "./dom.js";
import { count, percent, reward } from "./formats.js";
import { nothing } from "./panels.js";

export const path = "analytics/reaction-rates";

export function parameters(query) {
  return { ...query, by: "policy" };
}

export function render(items) {
  if (sum(items, "shown") === 0) return nothing("No tips were shown on these days, or none match the filters.");
  return el("dl", { class: "tiles" }, [
    tile("Tips shown", count(sum(items, "shown")), items, ({ shown }) => count(shown)),
    tile("Reacted to", percent(sum(items, "reacted") / sum(items, "shown")), items, (one) => percent(one.reacted_rate)),
    tile("Done", percent(sum(items, "done") / sum(items, "shown")), items, (one) => percent(one.done_rate)),
    tile("Mean reward", reward(mean(items)), items, (one) => reward(one.mean_reward)),
  ]);
}

function tile(title, value, items, each) {
  const parts = items.map((one) => el("span", {}, name(one.policy), el("b", {}, each(one))));
  return el("div", {}, el("dt", {}, title), el("dd", { class: "big" }, value), el("dd", { class: "each" }, parts));
}

function sum(items, field) {
  return items.reduce((total, one) => total + one[field], 0);
}

function mean(items) {
  const rewarded = sum(items, "rewarded");
  const total = items.reduce((part, one) => part + (one.mean_reward ?? 0) * one.rewarded, 0);
  return rewarded === 0 ? null : total / rewarded;
}
