// Calls of the service. Addresses are relative to this file, so the page works behind a prefix before /dashboard.

const ROOT = new URL("../../", import.meta.url);
const PAGE = 1000;
// In milliseconds: twice the limit of the service's longest calls.
const TIMEOUT = 120_000;

/** An error with a message for the user of the page. */
export class Refusal extends Error {}

/** Return the address of a call; parameters that are null or empty are left out. */
export function address(path, parameters = {}) {
  const url = new URL(path, ROOT);
  for (const [key, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(key, value);
  }
  return url.href;
}

/** Return an id as a segment of a path. Throws a Refusal if no address can contain it. */
export function segment(id) {
  // Browsers resolve "." and ".." as path segments, even if they are percent-encoded.
  if (id === "." || id === "..") throw new Refusal("No user can have this id.");
  return encodeURIComponent(id);
}

/** Return the answer to a GET. Throws a Refusal, or an AbortError after `signal` was aborted. */
export async function get(path, parameters, signal) {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(new Refusal("The service doesn’t answer.")), TIMEOUT);
  let response;
  try {
    response = await fetch(address(path, parameters), {
      signal: AbortSignal.any([signal, late.signal]),
      headers: { Accept: "application/json" },
    });
    if (response.ok) return await response.json();
    // The session has ended: the page that asks for a key comes instead.
    if (response.status === 401) location.reload();
  } catch (error) {
    if (error.name === "AbortError" || error instanceof Refusal) throw error;
    throw new Refusal("The service can’t be reached.");
  } finally {
    clearTimeout(timer);
  }
  throw new Refusal(sentence(await response.json().catch(() => ({})), response));
}

/** Return all items of a list, page by page. */
export async function items(path, parameters, signal) {
  const found = [];
  let cursor = null;
  do {
    const page = await get(path, { ...parameters, limit: PAGE, cursor }, signal);
    found.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor !== null);
  return found;
}

function sentence(problem, response) {
  const { code, detail, request_id: id } = problem;
  const text = Array.isArray(detail)
    ? detail.map((field) => `${field.loc.at(-1)}: ${field.msg}`).join("; ")
    : detail ?? `The service answered ${response.status}`;
  const wait = response.headers.get("Retry-After");
  // By its id an operator finds the request in the log.
  const name = code === "unexpected" ? ` Request ${id}.` : "";
  return `${text.replace(/\.?$/, ".")}${name}${wait === null ? "" : ` Retry in ${wait === "1" ? "a second" : `${wait} seconds`}.`}`;
}
