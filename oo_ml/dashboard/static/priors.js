// The versions of the prior from which the users of a policy start.

import { get, items, segment } from "./api.js";
import { el, name } from "./dom.js";
import { count, plural, score, time } from "./formats.js";
import { ignored, nothing } from "./panels.js";
import { folded, table } from "./tables.js";

export const path = "analytics/prior-history";

// A change of the mean, in standard deviations of users, that a warning names.
const LARGE = 1;

export function parameters({ prompt_version: _, ...query }) {
  return query;
}

export function view({ prompt_version: version }) {
  return version;
}

/** Return the versions of each policy, the latest first, with the labels of its features. */
export async function load(asked, signal) {
  const rows = await items(path, asked, signal);
  const policies = [...Map.groupBy(rows, (row) => row.policy)];
  return Promise.all(policies.map(async ([policy, versions]) => {
    const { labels } = await get(`policies/${segment(policy)}`, {}, signal);
    return { policy, versions, labels };
  }));
}

export function render(found, shown) {
  const notes = ignored(shown, {
    prompt_version: "All prompt versions: users share what they like in all of them, so that filter does not apply here.",
  });
  if (found.length === 0) {
    return [...notes, nothing("No prior was fitted on these days. Users share one by policies such as ", name("pooled-v1"), ".")];
  }
  return [...notes, ...found.map(card)];
}

function card({ policy, versions, labels }) {
  const [latest] = versions;
  return el("article", { "aria-label": `Prior of ${policy}` },
    el("h3", {}, name(policy)),
    latestNumbers(latest, labels),
    caveats(latest, labels),
    folded(`Table, ${plural(versions.length, "version")}`, listed(policy, versions, labels)));
}

function latestNumbers(latest, labels) {
  const entries = [
    ["Latest version", count(latest.version)],
    ["Fitted", time(latest.fitted_at)],
    ["Users", count(latest.users)],
    ["Rewards", count(latest.rewards)],
    ["Noise of a reward", score(noise(latest))],
    ["Largest change", change(latest, labels)],
  ];
  return el("dl", { class: "counters" }, entries.map(([title, value]) => el("div", {}, el("dt", {}, title), el("dd", {}, value))));
}

function caveats(latest, labels) {
  // A fit counts its assumption about the spread like so many users.
  const assumed = labels.length + 2;
  const few = latest.users < assumed && el("p", { class: "note" },
    `Fitted to ${plural(latest.users, "user")}: below ${count(assumed)} users, how much users differ is mostly assumed.`);
  const moved = latest.version > 1 && latest.largest_change >= LARGE && el("p", { class: "note warning" },
    el("b", {}, `The latest fit moved ${feature(latest, labels)} by ${score(latest.largest_change)} standard deviations of users.`),
    " That is as much as users differ from each other: their taste, the candidates or the meaning of a field may have changed.");
  return [few, moved];
}

function noise({ noise_variance: variance }) {
  return Math.sqrt(variance);
}

function feature({ changed_feature: place }, labels) {
  return labels[place - 1];
}

function change(row, labels) {
  if (row.largest_change === null) return "unknown";
  return el("span", {}, score(row.largest_change), el("span", { class: "muted detail" }, feature(row, labels)));
}

function listed(policy, versions, labels) {
  return table(`Versions of the prior of ${policy}`, [
    { title: "Version", value: (row) => row.version, cell: (row) => count(row.version) },
    { title: "Fitted", value: (row) => row.fitted_at, cell: (row) => el("time", { datetime: row.fitted_at }, time(row.fitted_at)) },
    { title: "Users", number: true, value: (row) => row.users, cell: (row) => count(row.users) },
    { title: "Rewards", number: true, value: (row) => row.rewards, cell: (row) => count(row.rewards) },
    { title: "Noise", number: true, value: noise, cell: (row) => score(noise(row)) },
    { title: "Largest change", value: (row) => row.largest_change, cell: (row) => change(row, labels) },
  ], versions);
}
