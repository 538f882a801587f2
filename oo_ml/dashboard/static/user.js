// The page of a person: what the policies know of them, what was decided, and the proof that it is true.

import { get, segment } from "./api.js";
import * as decisions from "./decisions.js";
import { name } from "./dom.js";
import { announce, fill, nothing } from "./panels.js";
import { known } from "./state.js";
import { verdict } from "./verify.js";

const id = new URLSearchParams(location.search).get("id");
const part = (section) => document.getElementById(section);

part("id").value = id ?? "";
if (id) show();
else say("Whose page? Type the id of a person above.");

async function show() {
  document.title = `${id} · oO ML`;
  part("name").replaceChildren(name(id));
  let person;
  try {
    person = segment(id);
  } catch (refusal) {
    say(refusal.message);
    return;
  }
  part("parts").hidden = false;
  part("verify-now").addEventListener("click", () => verify(person));
  const outcomes = await Promise.all([states(person), latest(`users/${person}`)]);
  announce(outcomes.includes("failed") ? "Not all of it could be loaded." : "Shown.");
}

function say(sentence) {
  part("start").append(nothing(sentence));
  announce(sentence);
}

function states(person) {
  const load = (signal) => Promise.all([get(`stats/${person}`, {}, signal), get(`stats/egreedy/${person}`, {}, signal)]);
  return fill(part("state"), load, ([linucb, egreedy]) => known(linucb, egreedy));
}

function latest(person, cursor = null, earlier = []) {
  const load = (signal) => decisions.load(person, cursor, signal);
  return fill(part("decisions"), load, ({ items, next_cursor: next }) => {
    const all = [...earlier, ...items];
    return decisions.list(person, all, next === null ? null : () => older(person, next, all));
  });
}

async function older(person, cursor, earlier) {
  const outcome = await latest(person, cursor, earlier);
  announce(outcome === "shown" ? "Older decisions shown." : "Older decisions could not be loaded.");
  // The button that was pressed is gone. There is another, or the end is reached.
  const heading = part("decisions-title");
  heading.tabIndex = -1;
  (part("decisions").querySelector("button") ?? heading).focus({ preventScroll: true });
}

async function verify(person) {
  announce("Verifying.");
  const outcome = await fill(part("verify"), (signal) => get(`users/${person}/verify`, {}, signal), verdict);
  if (outcome !== "overtaken") announce(part("verify").querySelector(".content").textContent);
}
