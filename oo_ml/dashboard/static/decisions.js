// A user's decisions, the latest first, a hundred at a time.

import { address, get } from "./api.js";
import { el, name } from "./dom.js";
import { plural, probability, reward, score, time } from "./formats.js";
import { nothing } from "./panels.js";
import { REACTIONS } from "./reactions.js";
import { table } from "./tables.js";

const LIMIT = 100;

/** Return a page of up to a hundred decisions; without a cursor the latest. */
export function load(user, cursor, signal) {
  return get(`${user}/decisions`, { limit: LIMIT, cursor }, signal);
}

/** Return the table of the decisions loaded so far; `more` loads older ones and is null if there are none. */
export function list(user, decisions, more) {
  if (decisions.length === 0) return nothing("There are no decisions for this user.");
  const older = more === null ? null : el("button", { type: "button", click: more }, "Older decisions");
  return [
    table(`The latest ${plural(decisions.length, "decision")}`, columns(user), decisions),
    el("p", { class: "note" }, more === null ? "There are no older decisions." : older),
  ];
}

function columns(user) {
  return [
    { title: "Decided", cell: (one) => el("time", { datetime: one.decided_at }, time(one.decided_at)) },
    { title: "Policy", cell: (one) => name(one.policy) },
    { title: "Tip", cell: tip },
    { title: "Prompt version", cell: (one) => (one.prompt_version === null ? muted("not written by a model") : name(one.prompt_version)) },
    { title: "Chosen", cell: (one) => (one.exploring ? "Explored" : "Exploited") },
    { title: "Score", number: true, cell: (one) => score(one.score) },
    { title: "Probability", number: true, cell: (one) => probability(one.propensity) },
    { title: "Reaction", cell: reaction },
    { title: "Reward", number: true, cell: (one) => reward(one.reward) },
    { title: "Receipt", cell: (one) => receipt(user, one) },
  ];
}

function tip({ tip_id: id, content }) {
  return content === null ? name(id) : el("span", {}, name(id), el("span", { class: "muted excerpt", title: content }, content));
}

function reaction({ reaction: kind, reward: value, rewarded_at: at }) {
  const word = REACTIONS[kind] ?? (value === null ? "None" : "Assumed");
  return at === null ? muted(word) : el("time", { datetime: at, title: time(at) }, word);
}

function receipt(user, { decision_id: id, decided_at: at }) {
  return el("a", { href: address(`${user}/decisions/${id}`) }, "Receipt", el("span", { class: "unseen" }, ` of ${time(at)}`));
}

function muted(text) {
  return el("span", { class: "muted" }, text);
}
