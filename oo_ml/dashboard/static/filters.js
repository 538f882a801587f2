// The filters, stored in the address: a link shows the same numbers to another reader, and "back" undoes a change.

const DEFAULTS = { period: "28", measure: "done", by: "prompt_version" };
const DAY = 86_400_000;

/** Return the filters in the address. If it has `since` or `until`, the period is `days`. */
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

/** Write filters to the address as a new step of the history; defaults are left out. */
export function write(wanted) {
  const entries = Object.entries(wanted).filter(([key, value]) => value !== "" && value !== DEFAULTS[key]);
  const query = new URLSearchParams(entries.filter(([key, value]) => !(key === "period" && value === "days")));
  const target = `${location.pathname}${query.size ? `?${query}` : ""}`;
  if (target !== location.pathname + location.search) history.pushState(null, "", target);
}

/** Return the days of a period, empty where it has no bound; `last` is the last day with data. */
export function days({ period, since, until }, last) {
  if (period === "days") return { since, until };
  if (!/^[1-9][0-9]{0,3}$/.test(period)) return { since: "", until: "" };
  return { since: new Date(Date.parse(last) - (Number(period) - 1) * DAY).toISOString().slice(0, 10), until: last };
}

/** Return the period { since, until, days } of the same length before one, from the first day on; null if there is none. */
export function before({ since, until }, { first_day: first, last_day: last }) {
  if (!since || since <= first) return null;
  const length = (Date.parse(until || last) - Date.parse(since)) / DAY + 1;
  const bounds = [Math.max(Date.parse(since) - length * DAY, Date.parse(first)), Date.parse(since) - DAY];
  if (!(length > 0) || bounds.some(Number.isNaN)) return null;
  const [from, to] = bounds.map((bound) => new Date(bound).toISOString().slice(0, 10));
  return { since: from, until: to, days: (bounds[1] - bounds[0]) / DAY + 1 };
}

/**
 * Keep the form and the address in sync.
 *
 * `known` returns the answer of /analytics/filters; `changed` is called after the form has changed the address.
 * Returns a function that updates the form from the address.
 */
export function connect(form, known, changed) {
  const { period, since, until, policy, prompt_version: version } = form.elements;

  const go = (changes) => {
    write({ ...read(), ...changes });
    changed();
  };
  period.addEventListener("change", () => {
    // Before days are selected, keep the days shown now.
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
  // A link may contain a name that no longer exists. Show it, because the numbers are filtered by it.
  const offered = chosen === "" || names.includes(chosen) ? names : [...names, chosen];
  const all = select.options[0];
  select.replaceChildren(all, ...offered.map((name) => new Option(name, name)));
  select.value = chosen;
}
