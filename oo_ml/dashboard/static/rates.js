// Reactions by prompt version: the raw rates, and the weighted rates, which estimate random choices. By policy all weighted
// rates would estimate the same, so there are raw rates only.

import { el, name } from "./dom.js";
import { count, percent, plural, range, reward, roundPercent } from "./formats.js";
import { intervals } from "./intervals.js";
import { nothing } from "./panels.js";
import { REACTIONS } from "./reactions.js";
import { folded, table } from "./tables.js";
import { POLICIES, unknown } from "./unknown.js";

export const path = "analytics/reaction-rates";

// The largest number of rows in a readable chart.
const MOST = 12;

const SUBJECTS = {
  prompt_version: { title: "Prompt version", words: ["prompt version"], of: (row) => row.prompt_version },
  policy: { title: "Policy", words: ["policy", "policies"], of: (row) => row.policy },
};
const MEASURES = { ...REACTIONS, reacted: "Any reaction", mean_reward: "Mean reward" };

export function parameters(query, { by }) {
  return { ...query, by: Object.hasOwn(SUBJECTS, by) ? by : "prompt_version" };
}

export function view({ measure }) {
  return measure;
}

/** Keep the form above the chart and the address in sync; `changed` gets the new choices. */
export function connect(form, changed) {
  const { measure, by } = form.elements;
  measure.replaceChildren(...Object.entries(MEASURES).map(([key, title]) => new Option(title, key)));
  form.addEventListener("change", () => changed({ measure: measure.value, by: by.value }));
  form.addEventListener("submit", (event) => event.preventDefault());
  return (shown) => {
    measure.value = measured(shown);
    by.value = parameters({}, shown).by;
    document.getElementById("weighted").hidden = by.value === "policy";
  };
}

export function render(items, shown) {
  const rows = items.filter((row) => row.shown > 0);
  if (rows.length === 0) return nothing("No tips were shown on these days, or none match the filters.");
  const subject = SUBJECTS[parameters({}, shown).by];
  const measure = measured(shown);
  const format = measure === "mean_reward" ? reward : percent;
  const most = rows.toSorted((a, b) => b.shown - a.shown).slice(0, MOST);
  const charted = most.map((row) => ({ label: label(subject, row), muted: subject.of(row) === null, ...marks(subject, row, measure) }));
  charted.sort((a, b) => height(b) - height(a));
  return [
    intervals(summary(charted, subject, measure, format), charted, format, ["raw", "weighted"], measure === "mean_reward" ? reward : roundPercent),
    ...reasons(rows, subject, shown),
    ...rest(rows, most, subject),
    folded(`Table, ${plural(rows.length, "row")}`, listed(rows, subject, measure, format)),
  ];
}

function summary(charted, subject, measure, format) {
  const first = charted.slice(0, 3).map(({ label: title, raw, weighted }) =>
    `${title} ${format(raw.value)} raw${weighted === null ? "" : `, ${weighted.value === null ? "unknown" : format(weighted.value)} weighted`}`);
  return `${MEASURES[measure]}, ${plural(charted.length, ...subject.words)}, the highest first: ${first.join("; ")}. The table has all.`;
}

// The reasons why weighted rates are missing: one note for the rows that share a reason.
function reasons(rows, subject, { policy }) {
  if (subject === SUBJECTS.policy) {
    return [el("p", { class: "note" }, "Raw rates only: by policy, every weighted rate would estimate drawing at random. The panel Policies compares them.")];
  }
  const affected = Map.groupBy(rows.filter((row) => row.unknown_because !== null), (row) => row.unknown_because);
  return [...affected].map(([reason, { length }]) => unknown(
    reason, policy === "" ? Object.keys(POLICIES) : [policy],
    length === rows.length ? "" : ` for ${plural(length, ...subject.words)} of ${count(rows.length)}`));
}

function rest(rows, most, subject) {
  if (rows.length === most.length) return [];
  const tips = (list) => list.reduce((sum, row) => sum + row.shown, 0);
  const part = percent(1 - tips(most) / tips(rows));
  const [one, many = `${one}s`] = subject.words;
  return [el("p", { class: "note" },
    `The chart has the ${most.length} ${many} that were shown most. It leaves out ${count(rows.length - most.length)}`
    + ` more, with ${part} of the ${count(tips(rows))} tips; the table has all.`)];
}

function listed(rows, subject, measure, format) {
  const counted = measure === "mean_reward" ? ["With a reward", "rewarded"] : [MEASURES[measure], measure];
  const estimate = (title, kind) => {
    const of = (row) => estimates(row, measure)[kind];
    return [
      {
        title, number: true, value: (row) => of(row).value,
        cell: (row) => (kind === "weighted" && row.unknown_because !== null ? "unknown" : format(of(row).value)),
      },
      { title: "95% interval", number: true, cell: (row) => range(of(row).low, of(row).high, format) },
    ];
  };
  const columns = [
    { title: subject.title, value: (row) => subject.of(row) ?? "", cell: (row) => named(subject, row) },
    { title: "Shown", number: true, value: (row) => row.shown, cell: (row) => count(row.shown) },
    { title: counted[0], number: true, value: (row) => row[counted[1]], cell: (row) => count(row[counted[1]]) },
    ...estimate("Raw", "raw"),
  ];
  const weighted = subject === SUBJECTS.policy ? [] : [
    ...estimate("Weighted", "weighted"),
    {
      title: "Worth", number: true,
      value: (row) => row.effective_sample_size,
      cell: (row) => count(row.effective_sample_size),
    },
  ];
  return el("div", {},
    table(`${MEASURES[measure]}, by ${subject.words[0]}`, [...columns, ...weighted], rows, { sorted: { column: 1, descending: true } }),
    weighted.length > 0 && el("p", { class: "note" },
      "Worth: the number of tips drawn at random that would give weighted numbers of the same precision."));
}

function marks(subject, row, measure) {
  const { raw, weighted } = estimates(row, measure);
  return { raw, weighted: subject === SUBJECTS.policy ? null : weighted };
}

function estimates(row, measure) {
  const stems = measure === "mean_reward" ? ["mean_reward", "weighted_mean_reward"] : [measure, `${measure}_weighted`];
  const end = measure === "mean_reward" ? "" : "_rate";
  const [raw, weighted] = stems.map((stem) => ({
    value: row[stem + end] ?? null, low: row[`${stem}_low`] ?? null, high: row[`${stem}_high`] ?? null,
  }));
  return { raw, weighted };
}

function height({ raw, weighted }) {
  return weighted?.value ?? raw.value ?? -2;
}

function measured({ measure }) {
  return Object.hasOwn(MEASURES, measure) ? measure : "done";
}

function label(subject, row) {
  return subject.of(row) ?? "not written by a model";
}

function named(subject, row) {
  return subject.of(row) === null ? el("span", { class: "muted" }, label(subject, row)) : name(subject.of(row));
}
