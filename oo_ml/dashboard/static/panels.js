// A part of a page and its states: loading, failed, empty, shown.

import { el } from "./dom.js";
import { Refusal } from "./api.js";

const runs = new WeakMap();

/**
 * Load data, and fill a section's `.content` (or the section) with the rendered data.
 *
 * The old content stays, dimmed, while data is loading. A later call for the same section cancels an earlier one.
 * `again` is the action of "Try again". Returns "shown", "failed" or "overtaken".
 */
export async function fill(section, load, render, again = () => fill(section, load, render)) {
  runs.get(section)?.abort();
  const run = new AbortController();
  runs.set(section, run);
  const content = section.querySelector(".content") ?? section;
  section.setAttribute("aria-busy", "true");
  if (!content.hasChildNodes()) content.append(el("p", { class: "loading" }, "Loading"));
  try {
    const shown = [render(await load(run.signal))].flat();
    if (run.signal.aborted) return "overtaken";
    replace(content, shown);
    return "shown";
  } catch (error) {
    if (run.signal.aborted) return "overtaken";
    if (!(error instanceof Refusal)) console.error(error);
    content.replaceChildren(failure(section, error, again));
    return "failed";
  } finally {
    if (!run.signal.aborted) section.removeAttribute("aria-busy");
  }
}

// Keep unfolded details unfolded, and the position of scrolling.
function replace(content, shown) {
  const unfolded = content.querySelector("details")?.open ?? false;
  const scrolled = content.querySelector(".scroll")?.scrollTop ?? 0;
  content.replaceChildren(...shown);
  if (unfolded) content.querySelector("details")?.setAttribute("open", "");
  content.querySelector(".scroll")?.scrollTo({ top: scrolled });
}

/** Announce a sentence to screen readers. */
export function announce(sentence) {
  document.getElementById("status").textContent = sentence;
}

/** Return a note for each filter that is set and does not apply to a part; `sentences` has one for such a filter. */
export function ignored(shown, sentences) {
  return Object.entries(sentences).filter(([filter]) => shown[filter] !== "")
    .map(([, sentence]) => el("p", { class: "note" }, sentence));
}

/** Return a sentence that replaces missing numbers. */
export function nothing(...sentence) {
  return el("p", { class: "nothing" }, sentence);
}

function failure(section, error, again) {
  const sentence = error instanceof Refusal ? error.message : "This page has an error.";
  const retry = async () => {
    // The button disappears. Move the focus to the heading, so that keyboard users do not start at the top again.
    const heading = section.querySelector("h2") ?? document.getElementById("main");
    heading.tabIndex = -1;
    heading.focus();
    const outcome = await again();
    if (outcome) announce(`${heading.textContent}: ${outcome === "failed" ? "could not be loaded" : outcome}.`);
  };
  return el("div", { class: "failure" }, el("p", {}, sentence), el("button", { type: "button", click: retry }, "Try again"));
}
