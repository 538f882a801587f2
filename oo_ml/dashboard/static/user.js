// The page of a user: states, decisions and verification.

import { get, items, segment } from "./api.js";
import * as decisions from "./decisions.js";
import { name } from "./dom.js";
import { announce, fill, nothing } from "./panels.js";
import "./session.js";
import { known } from "./state.js";
import { verdict } from "./verify.js";

const id = new URLSearchParams(location.search).get("id");
const part = (section) => document.getElementById(section);

part("id").value = id ?? "";
if (id) show();
else say("Enter the id of a user above.");

async function show() {
  document.title = `${id} · oO ML`;
  part("name").replaceChildren(name(id));
  let user;
  try {
    user = segment(id);
  } catch (refusal) {
    say(refusal.message);
    return;
  }
  part("parts").hidden = false;
  part("verify-now").addEventListener("click", () => verify(user));
  const outcomes = await Promise.all([states(user), latest(`users/${user}`)]);
  announce(outcomes.includes("failed") ? "A part of the page could not be loaded." : "Shown.");
}

function say(sentence) {
  part("start").append(nothing(sentence));
  announce(sentence);
}

function states(user) {
  const load = async (signal) => {
    const policies = await items("policies", {}, signal);
    return Promise.all(policies.map(({ policy }) => get(`policies/${segment(policy)}/users/${user}`, {}, signal)));
  };
  return fill(part("state"), load, known);
}

function latest(user, cursor = null, earlier = []) {
  const load = (signal) => decisions.load(user, cursor, signal);
  return fill(part("decisions"), load, ({ items, next_cursor: next }) => {
    const all = [...earlier, ...items];
    return decisions.list(user, all, next === null ? null : () => older(user, next, all));
  });
}

async function older(user, cursor, earlier) {
  const outcome = await latest(user, cursor, earlier);
  announce(outcome === "shown" ? "Older decisions shown." : "Older decisions could not be loaded.");
  // The pressed button has disappeared. Focus the next one, or the heading if there are no older decisions.
  const heading = part("decisions-title");
  heading.tabIndex = -1;
  (part("decisions").querySelector("button") ?? heading).focus({ preventScroll: true });
}

async function verify(user) {
  announce("Verifying.");
  const outcome = await fill(part("verify"), (signal) => get(`users/${user}/verify`, {}, signal), verdict);
  if (outcome !== "overtaken") announce(part("verify").querySelector(".content").textContent);
}
