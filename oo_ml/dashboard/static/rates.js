// Reactions by prompt version or policy: the raw rates, and the weighted rates, which estimate random choices.

import { el, name } from "./dom.js";
import { count, percent, plural, range, reward, roundPercent } from "./formats.js";
import { intervals } from "./intervals.js";
import { nothing } from "./panels.js";
import { REACTIONS } from "./reactions.js";
import { folded, table } from "./tables.js";

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
  };
}

export function render(items, shown) {
  const rows = items.filter((row) => row.shown > 0);
  if (rows.length === 0) return nothing("No tips were shown on these days, or none match the filters.");
  const subject = SUBJECTS[parameters({}, shown).by];
  const measure = measured(shown);
  const format = measure === "mean_reward" ? reward : percent;
  const most = rows.toSorted((a, b) => b.shown - a.shown).slice(0, MOST);
  const charted = most.map((row) => ({ label: label(subject, row), muted: subject.of(row) === null, ...estimates(row, measure) }));
  charted.sort((a, b) => height(b) - height(a));
  return [
    intervals(summary(charted, subject, measure, format), charted, format, measure === "mean_reward" ? reward : roundPercent),
    ...rest(rows, most, subject),
    folded(`Table, ${plural(rows.length, "row")}`, listed(rows, subject, measure, format)),
  ];
}

function summary(charted, subject, measure, format) {
  const first = charted.slice(0, 3).map(({ label: title, raw, weighted }) =>
    `${title} ${format(raw.value)} raw, ${format(weighted.value)} weighted`);
  return `${MEASURES[measure]}, ${plural(charted.length, ...subject.words)}, the highest first: ${first.join("; ")}. The table has all.`;
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
      { title, number: true, value: (row) => of(row).value, cell: (row) => format(of(row).value) },
      { title: "95% interval", number: true, cell: (row) => range(of(row).low, of(row).high, format) },
    ];
  };
  const columns = [
    { title: subject.title, value: (row) => subject.of(row) ?? "", cell: (row) => named(subject, row) },
    { title: "Shown", number: true, value: (row) => row.shown, cell: (row) => count(row.shown) },
    { title: counted[0], number: true, value: (row) => row[counted[1]], cell: (row) => count(row[counted[1]]) },
    ...estimate("Raw", "raw"),
    ...estimate("Weighted", "weighted"),
    {
      title: "Worth", number: true,
      value: (row) => row.effective_sample_size,
      cell: (row) => count(row.effective_sample_size),
    },
  ];
  return el("div", {},
    table(`${MEASURES[measure]}, by ${subject.words[0]}`, columns, rows, { sorted: { column: 1, descending: true } }),
    el("p", { class: "note" }, "Worth: the number of tips drawn at random that would give weighted numbers of the same precision."));
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
  return weighted.value ?? raw.value ?? -2;
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
