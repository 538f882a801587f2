// Every call, made with a client whose types openapi-typescript generates with its defaults.
// tests/slow/test_typescript.py generates schema.d.ts, compiles this file, and runs it against a service.

import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Problem = components["schemas"]["Problem"];
type Shown = components["schemas"]["ShownFeatures"];
type Outcome = components["schemas"]["ScoreBatchAnswer"]["outcomes"][number];

/** Return a UUIDv7; what crypto.randomUUID() gives is a version 4. */
function uuid7(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const view = new DataView(bytes.buffer);
  const time = Date.now();
  view.setUint32(0, Math.floor(time / 2 ** 16));
  view.setUint16(4, time % 2 ** 16);
  view.setUint8(6, (view.getUint8(6) & 0x0f) | 0x70);
  view.setUint8(8, (view.getUint8(8) & 0x3f) | 0x80);
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** Return whether to send a call again, to give up, or to mend the request. */
function reactionTo(problem: Problem): "retry" | "give up" | "mend" {
  switch (problem.code) {
    case "rate_limited":
    case "unavailable":
    case "draining":
    case "slow_request":
    case "overloaded":
    case "database_unavailable":
    case "database_timeout":
    case "database_read_only":
    case "database_refused":
    case "schema_not_ready":
    case "unsuitable_database":
    case "gateway_unreachable":
    case "unreadable_policy":
      return "retry";
    case "unknown_decision":
    case "unexpected":
    case "export_file":
    case "gateway_error":
    case "invalid_reply":
    case "not_found":
    case "method_not_allowed":
    case "unauthenticated":
    case "missing_scope":
    case "host_not_allowed":
    case "cross_site":
      return "give up";
    case "invalid":
    case "no_candidates":
    case "content_too_large":
    case "head_too_large":
    case "malformed_request":
    case "unsupported_media_type":
    case "decision_exists":
    case "decision_too_old":
    case "other_tip":
    case "idempotency_key_reused":
    case "unknown_prompt_version":
    case "retired_prompt_version":
    case "unknown_policy":
    case "retired_policy":
    case "policy_exists":
    case "policy_name_reserved":
    case "prompt_version_exists":
    case "prompt_version_reserved":
    case "invalid_template":
      return "mend";
  }
  // The switch has every code: a code that is added to the service makes this line an error.
  return problem.code satisfies never;
}

function explain(problem: Problem): string {
  return typeof problem.detail === "string"
    ? problem.detail
    : problem.detail.map(({ loc, msg }) => `${loc.join(".")}: ${msg}`).join("; ");
}

function chosen(outcome: Outcome): string {
  return outcome.kind === "done" ? outcome.body.tip_id : `${outcome.status} ${outcome.error.code}`;
}

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}

async function main(baseUrl: string): Promise<void> {
  const client = createClient<paths>({ baseUrl });
  const path = { user_id: "team/ada" };
  const user_id = path.user_id;

  // A decision with an id of the client's own, and its reward.
  const decision_id = uuid7();
  const { data: decision, error: refusal } = await client.POST("/score", {
    body: {
      user_id,
      decision_id,
      candidates: [
        {
          id: "t1",
          content: "Call the dentist",
          source: "todoist",
          features: { is_overdue: true, task_age_days: 3, priority: 4 },
        },
        { id: "t2", content: "Water the plants", source: "todoist" },
      ],
      context: { hour_of_day: 9, day_of_week: 0 },
    },
  });
  if (!decision) throw new Error(explain(refusal));
  const probability: number = decision.propensity;
  check(decision.decision_id === decision_id && probability === 1, "the decision is the one asked for");
  const { data: learned } = await client.POST("/reward", {
    body: { user_id, tip_id: decision.tip_id, reward: -1, decision_id },
  });
  check(learned?.applied === true && learned.reward === -1, "the reward is learned");

  // A reward without a decision, named by a key.
  const { data: named } = await client.POST("/reward/egreedy", {
    params: { header: { "Idempotency-Key": "9f0c7a1e-reaction-17" } },
    body: { user_id, tip_id: "t2", reward: 0.5, features: { hour_of_day: 9 } },
  });
  check(named?.decision_id === null, "no decision waits for this reward");

  // What is known of the user.
  const { data: stats } = await client.GET("/stats/{user_id}", { params: { path } });
  const seen: string | null | undefined = stats?.last_updated;
  check(stats?.pulls === 1 && typeof seen === "string", "the decision is counted");
  const { data: egreedy } = await client.GET("/stats/egreedy/{user_id}", { params: { path } });
  const labels: string[] = egreedy?.feature_labels ?? [];
  check(labels.length === 7 && egreedy?.policy === "egreedy-v1", "the other policy has seven features");
  const { data: features } = await client.GET("/features/{user_id}", { params: { path } });
  // Decisions of other policies have fields of their own.
  const shown = (features?.history ?? []).map((entry) => entry.features as Shown);
  const hours: number[] = shown.map((one) => one.hour_of_day);
  const explored: (boolean | undefined)[] = shown.map((one) => one.exploring);
  check(hours.length === 1 && explored[0] === undefined, "linucb-v1 says nothing of exploring");

  // The receipt, and correcting the reward.
  const decisionPath = { ...path, decision_id };
  const { data: receipt } = await client.GET("/users/{user_id}/decisions/{decision_id}", {
    params: { path: decisionPath },
  });
  const draw: number[] | undefined = receipt?.draw;
  check(draw?.length === 2 && receipt?.candidates[0]?.prompt_version === null, "the receipt explains the decision");
  const reward = "/users/{user_id}/decisions/{decision_id}/reward";
  const { data: amended } = await client.PUT(reward, { params: { path: decisionPath }, body: { reward: 0.5 } });
  const { data: retracted } = await client.DELETE(reward, { params: { path: decisionPath } });
  check(amended?.reward === 0.5 && retracted?.reward === null, "the reward is amended, then retracted");

  // A batch: an outcome for each item.
  const candidates = [{ id: "t7", content: "Stretch for a minute", source: "llm" }];
  const { data: batch } = await client.POST("/score/batch", {
    body: {
      items: [
        { user_id, policy: "egreedy-v1", candidates },
        { user_id, candidates: [] },
      ],
    },
  });
  check(batch?.outcomes.map(chosen).join() === "t7,422 no_candidates", "each item has its outcome");
  const { data: rewards } = await client.POST("/reward/batch", { body: { items: [] } });
  check(rewards?.outcomes.length === 0, "a batch may be empty");

  // Every list is read in the same way.
  const tips: string[] = [];
  let cursor: string | undefined;
  do {
    const { data: page } = await client.GET("/users/{user_id}/decisions", {
      params: { path, query: { limit: 1, cursor } },
    });
    tips.push(...(page?.items ?? []).filter((one) => one.reaction === "none").map((one) => one.tip_id));
    cursor = page?.next_cursor ?? undefined;
  } while (cursor !== undefined);
  check(tips.join() === "t7,t1", "the decisions, the latest first");
  const { data: rates } = await client.GET("/analytics/reaction-rates", {
    params: { query: { since: "2026-11-01", by: "policy", policy: "linucb-v1" } },
  });
  const rate: number | null | undefined = rates?.items[0]?.done_rate;
  check(rate === undefined || rate === null || rate <= 1, "a rate is a number, or null");
  const { data: health } = await client.GET("/analytics/loop-health");
  check(health?.items.some((one) => one.check === "never_rewarded") === true, "the checks have names");
  const { data: values } = await client.GET("/analytics/policy-values");
  const gain: number | null | undefined = values?.items[0]?.gain;
  check(gain === undefined || gain === null || gain <= 2, "a gain is a number, or null");
  const { data: lifts } = await client.GET("/analytics/policy-lift");
  check(lifts?.items.every((one) => one.lift === null) === true, "without traffic there is no lift");
  await client.GET("/analytics/policy-traffic-by-day");
  await client.GET("/analytics/rewards-by-day");
  await client.GET("/analytics/learning-curve");
  const { data: priors } = await client.GET("/analytics/prior-history");
  check(priors?.items.length === 0, "no prior is fitted yet");
  await client.GET("/analytics/learning-by-prior");
  await client.GET("/analytics/prompt-costs");
  const { data: filters } = await client.GET("/analytics/filters");
  check(filters?.policies.includes("linucb-v1") !== undefined, "the policies have names");

  // The prompt registry.
  const { data: prompts } = await client.GET("/prompts", { params: { query: { limit: 2 } } });
  check(prompts?.items.length === 2 && prompts.next_cursor !== null, "the first page of three versions");
  const { error: unknown } = await client.GET("/prompts/{version}", { params: { path: { version: "v99" } } });
  check(unknown?.code === "unknown_prompt_version" && reactionTo(unknown) === "mend", "a version that is not there");
  const { data: published } = await client.POST("/prompts", {
    body: { version: "v4-short", system_template: "Be brief.", user_template: "{{ n }} tips." },
  });
  check(published?.status === "active", "a version is published");

  // A policy of one's own: publish it, choose by it, reward it, and read what it knows.
  const { data: schema } = await client.GET("/definition-schema");
  check(schema?.title === "Definition", "definitions have a schema");
  const { data: policy } = await client.POST("/policies", {
    body: {
      policy: "articles-v1",
      definition: {
        inputs: [
          { name: "hour", of: "context", encoding: "cyclic", period: 24 },
          { name: "topic", of: "candidate", encoding: "category", values: ["news", "sport"] },
          { name: "tags", of: "candidate", encoding: "hashed", buckets: 4, missing: [] },
        ],
        terms: [{ input: "topic" }, { input: "tags" }, { product: ["topic", "hour"] }],
        rule: { alpha: 1, sigma: 0.3, exploration: 0.02 },
      },
    },
  });
  check(policy?.dimension === 10 && policy.labels[0] === "topic=news", "the policy has its features");
  const policyPath = { policy: "articles-v1" };
  const fields = { topic: "news", tags: ["city"], words: 820, paid: false, author: null };
  const { data: article } = await client.POST("/policies/{policy}/score", {
    params: { path: policyPath },
    body: { user_id, context: { hour: 9.5 }, candidates: [{ id: "a1", features: fields }] },
  });
  check(article?.policy === "articles-v1" && article.tip_id === "a1", "an article is chosen");
  const { error: missing } = await client.POST("/policies/{policy}/score", {
    params: { path: policyPath },
    body: { user_id, candidates: [{ id: "a1", features: fields }] },
  });
  check(missing !== undefined && explain(missing).startsWith("body.context.hour: "), "the hour is required");
  const { data: read } = await client.POST("/policies/{policy}/reward", {
    params: { path: policyPath, header: { "Idempotency-Key": "9f0c7a1e-reaction-18" } },
    body: { user_id, tip_id: "a1", reward: 1, context: { hour: 9.5 }, features: fields },
  });
  check(read?.applied === true && read.decision_id === article?.decision_id, "the reward goes to the decision");
  const { data: known } = await client.GET("/policies/{policy}/users/{user_id}", {
    params: { path: { ...policyPath, ...path } },
  });
  const weight = known?.theta.find((one) => one.label === "topic=news");
  check(weight !== undefined && weight.low < weight.estimate && weight.estimate < weight.high, "theta has intervals");
  check(known?.own_evidence === null && weight?.population === null, "users of this policy share nothing");
  const { data: pooled } = await client.GET("/policies/{policy}/users/{user_id}", {
    params: { path: { policy: "pooled-v1", ...path } },
  });
  const spread = pooled?.theta.map(({ population }) => (population ? population.high - population.low : 0)) ?? [];
  check(pooled?.own_evidence === 0 && Math.min(...spread) > 0, "an unknown user is as all users are");
  const { data: mixed } = await client.POST("/score/batch", {
    body: {
      items: [
        { user_id, candidates },
        { user_id, policy: "articles-v1", context: { hour: 9.5 }, candidates: [{ id: "a1", features: fields }] },
      ],
    },
  });
  check(mixed?.outcomes.map(chosen).join() === "t7,a1", "a batch has items of any policy");
  const { data: policies } = await client.GET("/policies", { params: { query: { limit: 10 } } });
  check(policies?.items.at(-1)?.policy === "articles-v1", "the policies, the oldest first");
  const { error: nowhere } = await client.GET("/policies/{policy}", { params: { path: { policy: "articles-v2" } } });
  check(nowhere?.code === "unknown_policy" && reactionTo(nowhere) === "mend", "a policy that is not there");

  // No model answers here; the problem says so.
  const { data: generated, error: away } = await client.POST("/generate", {
    body: { user_id, context: { tasks: [{ content: "Call the dentist", priority: 4 }] }, n: 2 },
  });
  const rationale: string | undefined = generated?.candidates[0]?.rationale;
  check(rationale === undefined && away !== undefined && reactionTo(away) === "retry", "the gateway is away");

  // Proof, a copy, a fresh start, and the end.
  const { data: proof } = await client.GET("/users/{user_id}/verify", { params: { path } });
  check(proof?.verified === true && proof.difference === null, "the state is verified");
  const { data: copy } = await client.GET("/users/{user_id}/export", { params: { path }, parseAs: "text" });
  const lines = copy?.trimEnd().split("\n").map((line) => JSON.parse(line));
  check(lines?.at(-1)?.complete === true && lines.at(-1).rows === lines.length - 2, "the export is complete");
  await client.POST("/reset/{user_id}", { params: { path } });
  const { data: erased } = await client.DELETE("/users/{user_id}", { params: { path } });
  check(erased !== undefined && Object.values(erased.erased).reduce((sum, rows) => sum + rows, 0) === erased.total, "erased");
  for (const probe of ["/health", "/livez", "/readyz"] as const) {
    const { data: alive } = await client.GET(probe);
    check(alive?.ok === true, probe);
  }
}

declare const process: { argv: string[] };
await main(process.argv[2] ?? "http://localhost:8000");
