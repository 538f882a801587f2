// The overview: loads the numbers for the filters in the address, and again after each change of the address.

import { address, get, items } from "./api.js";
import * as costs from "./costs.js";
import { el } from "./dom.js";
import * as filters from "./filters.js";
import * as firsts from "./firsts.js";
import { day, plural } from "./formats.js";
import * as health from "./health.js";
import * as learning from "./learning.js";
import * as lift from "./lift.js";
import * as policies from "./policies.js";
import { announce, fill, nothing } from "./panels.js";
import * as priors from "./priors.js";
import "./session.js";
import * as rates from "./rates.js";
import * as rewards from "./rewards.js";
import * as totals from "./totals.js";

// Each part has the call for its items (path, parameters), further choices that change it (view), its rendering, and its
// own loading if that needs more than one call.
const PARTS = { totals, health, rates, policies, lift, rewards, learning, priors, firsts, costs };

const start = document.getElementById("start");
const form = document.getElementById("filters");
const parts = document.getElementById("parts");

// The key of the last load of each part, so that a part is loaded again only if its own choices change.
const filled = new Map();
let known = null;

const showFilters = filters.connect(form, () => known, show);
const showView = rates.connect(document.getElementById("view"), (chosen) => {
  filters.write({ ...filters.read(), ...chosen });
  show();
});
document.getElementById("refresh").addEventListener("click", begin);
addEventListener("popstate", () => known && show());
begin();

// The choices of the filters are loaded first, because the days of a period depend on the last day with data.
async function begin() {
  const load = (signal) => get("analytics/filters", {}, signal);
  start.hidden = known !== null;
  const outcome = await fill(start, load, (found) => {
    known = found;
    return [];
  }, begin);
  start.hidden = outcome === "shown";
  filled.clear();
  if (outcome === "shown") await show();
  else if (outcome === "failed") announce("The numbers could not be loaded.");
}

async function show() {
  const empty = known.last_day === null;
  form.hidden = empty;
  parts.hidden = empty;
  start.hidden = !empty;
  if (empty) {
    start.replaceChildren(unused());
    announce("No tip has been shown yet.");
    return;
  }
  const shown = filters.read();
  const days = filters.days(shown, known.last_day);
  const query = { ...days, policy: shown.policy, prompt_version: shown.prompt_version };
  showFilters();
  showView(shown);
  document.getElementById("period").textContent = period(days);
  announce("Loading the numbers.");
  const outcomes = await Promise.all(Object.entries(PARTS).map(([id, part]) => load(id, part, query, shown)));
  if (outcomes.includes("overtaken")) return;
  const failed = outcomes.filter((outcome) => outcome === "failed").length;
  announce(failed ? `${plural(failed, "part")} of the page could not be loaded.` : `Shown: ${period(days)}.`);
}

async function load(id, part, query, shown) {
  const section = document.getElementById(id);
  const parameters = part.parameters(query, shown);
  const key = JSON.stringify([address(part.path, parameters), part.view?.(shown)]);
  if (filled.get(id) === key) return "shown";
  filled.set(id, key);
  link(section, address(`${part.path}.csv`, parameters));
  const ask = (signal) => (part.load ? part.load(parameters, signal, known) : items(part.path, parameters, signal));
  const outcome = await fill(section, ask, (found) => part.render(found, shown));
  if (outcome === "failed") filled.delete(id);
  return outcome;
}

function link(section, href) {
  const csv = section.querySelector("a.csv");
  csv?.setAttribute("href", href);
  csv?.replaceChildren("CSV", el("span", { class: "unseen" }, ` of ${section.querySelector("h2").textContent.toLowerCase()}`));
}

function period({ since, until }) {
  if (since && until) return since === until ? day(since) : `${day(since)} to ${day(until)}`;
  if (since) return `Since ${day(since)}`;
  if (until) return `Until ${day(until)}`;
  return `All days, ${day(known.first_day)} to ${day(known.last_day)}`;
}

function unused() {
  return el("div", { class: "start" },
    nothing("No tip has been shown yet. The first call of ", el("code", {}, "POST /score"), " shows numbers here."),
    el("button", { type: "button", click: begin }, "Reload"));
}
