// Whether what is stored of a person is what the ledger says.

import { el } from "./dom.js";
import { plural } from "./formats.js";
import { status } from "./icons.js";

/** Return the answer of /verify in words. */
export function verdict({ verified, states, changes, decisions, difference }) {
  const compared = `${plural(states, "state")}, ${plural(changes, "change")} in the ledger, ${plural(decisions, "decision")}.`;
  return el("div", { class: "verdict" },
    verified
      ? status("green", "Verified: what is stored is what the ledger gives")
      : status("red", "Not verified: what is stored is not what the ledger gives"),
    el("p", { class: "quiet" }, verified ? compared : `The first difference: ${difference}. Compared: ${compared}`));
}
