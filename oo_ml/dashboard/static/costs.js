// Costs of prompt versions: calls, tokens, latency, and money if the registry has prices.

import { name } from "./dom.js";
import { count, decimal } from "./formats.js";
import { ignored, nothing } from "./panels.js";
import { table } from "./tables.js";

export const path = "analytics/prompt-costs";

export function parameters({ policy: _, ...query }) {
  return query;
}

export function view({ policy }) {
  return policy;
}

export function render(items, shown) {
  const notes = ignored(shown, { policy: "All policies: the model writes before a policy chooses, so that filter does not apply here." });
  if (items.length === 0) return [...notes, nothing("The model wrote no tips on these days, or none match the filters.")];
  const number = (title, field) => ({ title, number: true, value: (row) => row[field], cell: (row) => count(row[field]) });
  const money = (title, field) => ({ title, number: true, value: (row) => row[field], cell: (row) => decimal(row[field]) });
  // The registry need not have prices.
  const prices = items.some((row) => row.cost !== null) ? [money("Cost", "cost"), money("Cost per done", "cost_per_done")] : [];
  const columns = [
    { title: "Prompt version", value: (row) => row.prompt_version, cell: (row) => name(row.prompt_version) },
    number("Calls", "calls"),
    number("Failed", "failed"),
    number("Retries", "retries"),
    number("Prompt tokens", "prompt_tokens"),
    number("Completion tokens", "completion_tokens"),
    number("Latency, median (ms)", "latency_p50_ms"),
    number("95th percentile (ms)", "latency_p95_ms"),
    number("Done", "done"),
    number("Tokens per done", "tokens_per_done"),
    ...prices,
  ];
  return [...notes, table("Costs of prompt versions", columns, items, { sorted: { column: 1, descending: true } })];
}
