// The result of a verification.

import { el } from "./dom.js";
import { plural } from "./formats.js";
import { status } from "./icons.js";

/** Return the answer of /verify as text. */
export function verdict({ verified, states, changes, decisions, difference }) {
  const compared = `${plural(states, "state")}, ${plural(changes, "ledger entry", "ledger entries")}, ${plural(decisions, "decision")}.`;
  return el("div", { class: "verdict" },
    verified
      ? status("green", "Verified: the stored states equal the fold of the ledger")
      : status("red", "Not verified: the stored data differs from the ledger"),
    el("p", { class: "quiet" }, verified ? compared : `First difference: ${difference}. Compared: ${compared}`));
}
