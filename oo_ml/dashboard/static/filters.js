// What is shown, as the address says it: a link shows the same to somebody else, and "back" goes back.

const DEFAULTS = { period: "28", measure: "done", by: "prompt_version" };
const DAY = 86_400_000;

/** Return what the address asks for. Days that are named count as the period `days`. */
export function read() {
  const given = new URLSearchParams(location.search);
  const text = (key) => given.get(key) ?? DEFAULTS[key] ?? "";
  const named = given.get("since") || given.get("until");
  return {
    period: named ? "days" : text("period"),
    since: text("since"),
    until: text("until"),
    policy: text("policy"),
    prompt_version: text("prompt_version"),
    measure: text("measure"),
    by: text("by"),
  };
}

/** Put `wanted` into the address, as a step that "back" takes back; what is as it would be anyhow is left out. */
export function write(wanted) {
  const entries = Object.entries(wanted).filter(([key, value]) => value !== "" && value !== DEFAULTS[key]);
  const query = new URLSearchParams(entries.filter(([key, value]) => !(key === "period" && value === "days")));
  const target = `${location.pathname}${query.size ? `?${query}` : ""}`;
  if (target !== location.pathname + location.search) history.pushState(null, "", target);
}

/** Return the days that a period stands for, empty where it has no bound; `last` is the last day there is data of. */
export function days({ period, since, until }, last) {
  if (period === "days") return { since, until };
  if (!/^[1-9][0-9]{0,3}$/.test(period)) return { since: "", until: "" };
  return { since: new Date(Date.parse(last) - (Number(period) - 1) * DAY).toISOString().slice(0, 10), until: last };
}

/**
 * Keep the form and the address the same.
 *
 * `known` is what /analytics/filters says; `changed` is called after the address has changed by the form.
 * Returns a function that makes the form say what the address says.
 */
export function connect(form, known, changed) {
  const { period, since, until, policy, prompt_version: version } = form.elements;

  const go = (changes) => {
    write({ ...read(), ...changes });
    changed();
  };
  period.addEventListener("change", () => {
    // Of chosen days there is nothing to show before they are chosen; those shown now are where to begin.
    if (period.value === "days") go({ period: "days", ...days(read(), known().last_day) });
    else go({ period: period.value, since: "", until: "" });
  });
  policy.addEventListener("change", () => go({ policy: policy.value }));
  version.addEventListener("change", () => go({ prompt_version: version.value }));
  for (const bound of [since, until]) {
    bound.addEventListener("input", () => {
      const backwards = since.value && until.value && since.value > until.value;
      until.setCustomValidity(backwards ? "The last day is before the first." : "");
    });
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (since.value || until.value) go({ period: "days", since: since.value, until: until.value });
    else go({ period: "all", since: "", until: "" });
  });
  form.querySelector("#reset").addEventListener("click", () => go({ period: "28", since: "", until: "", policy: "", prompt_version: "" }));

  return () => {
    const shown = read();
    const bounds = days(shown, known().last_day);
    period.value = shown.period;
    if (period.selectedIndex < 0) period.value = "all";
    since.value = bounds.since || known().first_day;
    until.value = bounds.until || known().last_day;
    until.setCustomValidity("");
    form.querySelector("#days").hidden = period.value !== "days";
    choose(policy, known().policies, shown.policy);
    choose(version, known().prompt_versions, shown.prompt_version);
  };
}

function choose(select, names, chosen) {
  // A link may name what isn't there any more; it is shown all the same, or the form would lie.
  const offered = chosen === "" || names.includes(chosen) ? names : [...names, chosen];
  const all = select.options[0];
  select.replaceChildren(all, ...offered.map((name) => new Option(name, name)));
  select.value = chosen;
}
