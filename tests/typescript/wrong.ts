// Calls that must not compile: each comment demands an error in the line below it, and is an error without one.

import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

const client = createClient<paths>();
const path = { user_id: "ada" };
const candidates = [{ id: "t1", content: "Call the dentist", source: "todoist" }];

export async function wrong(outcome: components["schemas"]["RewardBatchAnswer"]["outcomes"][number]): Promise<void> {
  // @ts-expect-error: no such call
  await client.GET("/scores");
  // @ts-expect-error: no such method
  await client.PUT("/score", { body: { user_id: "ada", candidates } });
  // @ts-expect-error: no user_id
  await client.POST("/score", { body: { candidates } });
  // @ts-expect-error: text for a number
  await client.POST("/reward", { body: { user_id: "ada", tip_id: "t1", reward: "1" } });
  // @ts-expect-error: an item without candidates
  await client.POST("/score/batch", { body: { items: [{ user_id: "ada", policy: "linucb-v1" }] } });
  // @ts-expect-error: an object is no field
  await client.POST("/policies/{policy}/score", { params: { path: { policy: "p" } }, body: { user_id: "ada", candidates: [{ id: "t1", features: { a: {} } }] } });
  // @ts-expect-error: no such encoding
  await client.POST("/policies", { body: { policy: "p", definition: { inputs: [{ name: "a", of: "context", encoding: "words" }], terms: [], rule: {} } } });
  // @ts-expect-error: no such filter
  await client.GET("/analytics/reaction-rates", { params: { query: { offset: 100 } } });
  // @ts-expect-error: a user is missing
  await client.GET("/stats/{user_id}");

  const { data, error } = await client.GET("/users/{user_id}/decisions", { params: { path } });
  // @ts-expect-error: the error has no such code
  if (error?.code === "no_decision") return;
  // @ts-expect-error: no such reaction
  if (data?.items[0]?.reaction === "liked") return;
  // @ts-expect-error: the cursor may be null
  data?.next_cursor.length;
  // @ts-expect-error: only an outcome that is done has a body
  outcome.body;
}
