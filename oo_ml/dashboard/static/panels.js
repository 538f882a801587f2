// A part of a page and its states: loading, failed, empty, there.

import { el } from "./dom.js";
import { Refusal } from "./api.js";

const runs = new WeakMap();

/**
 * Fill a section's `.content`, or the section, with what `render` makes of what `load` brings.
 *
 * What was there stays, dimmed, until then. A later call for the same section overtakes an earlier one. `again` is
 * what "Try again" does. Returns "shown", "failed" or "overtaken".
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

// What was unfolded stays unfolded, and what was scrolled stays there.
function replace(content, shown) {
  const unfolded = content.querySelector("details")?.open ?? false;
  const scrolled = content.querySelector(".scroll")?.scrollTop ?? 0;
  content.replaceChildren(...shown);
  if (unfolded) content.querySelector("details")?.setAttribute("open", "");
  content.querySelector(".scroll")?.scrollTo({ top: scrolled });
}

/** Tell those who can't see the page what became of it. */
export function announce(sentence) {
  document.getElementById("status").textContent = sentence;
}

/** A sentence in the place of numbers that there are none of. */
export function nothing(...sentence) {
  return el("p", { class: "nothing" }, sentence);
}

function failure(section, error, again) {
  const sentence = error instanceof Refusal ? error.message : "Something went wrong in this page.";
  const retry = async () => {
    // The button goes; whoever pressed it by keyboard should not be sent back to the top of the page.
    const heading = section.querySelector("h2") ?? document.getElementById("main");
    heading.tabIndex = -1;
    heading.focus();
    const outcome = await again();
    if (outcome) announce(`${heading.textContent}: ${outcome === "failed" ? "could not be loaded" : outcome}.`);
  };
  return el("div", { class: "failure" }, el("p", {}, sentence), el("button", { type: "button", click: retry }, "Try again"));
}
