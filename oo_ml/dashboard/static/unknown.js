// The sentence that replaces weighted numbers which the decisions do not support.

import { el } from "./dom.js";

/** The setting of each policy of the contract for the probability of a uniform draw; others have it in their definition. */
export const POLICIES = { "linucb-v1": "OO_ML_EXPLORATION", "egreedy-v1": "OO_ML_EPSILON" };

/** Return the reason, and the way to change it for `policies`; `subject` names the affected rows if there are others. */
export function unknown(reason, policies, subject = "") {
  return el("p", { class: "note warning" }, el("b", {}, `Unknown${subject}: ${reason}.`), ` ${advice(reason, policies)}`);
}

function advice(reason, policies) {
  if (reason.startsWith("fewer than")) return "To change that, choose a longer period.";
  const settings = policies.filter((policy) => Object.hasOwn(POLICIES, policy)).map((policy) => `${POLICIES[policy]} (${policy})`);
  const others = policies.filter((policy) => !Object.hasOwn(POLICIES, policy));
  const ways = [
    ...settings.length ? [`set ${settings.join(" and ")} above 0, such as 0.1`] : [],
    ...others.length ? [`publish a policy with rule.exploration above 0, such as 0.1, in place of ${others.join(" and ")}`] : [],
  ];
  const set = `To change that, ${ways.join(", ")}, and choose days from then on`;
  return policies.length > 1 ? `${set}, or filter by a policy that explores already.` : `${set}.`;
}
