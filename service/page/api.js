// The service over HTTP. It knows routes and errors, not what is done with an answer.

import { readEvents } from "./events.js";

/** What went wrong, in words for the person at the page. */
export class ServiceError extends Error {
  /** `status` is that of the answer, where there was one. */
  constructor(message, status = null) {
    super(message);
    this.status = status;
  }
}

/** The words of a ServiceError; any other error is a mistake of this page and belongs in the console. */
export function inWords(error) {
  if (!(error instanceof ServiceError)) throw error;
  return error.message;
}

export const models = () => request("models");

export const examples = (model, version, count, seed) =>
  request(`models/${model}/examples?${new URLSearchParams({ version, count, seed })}`);

export const predict = (model, version, inputs) => post("predict", { model, version, inputs, top_k: 1 });

/** The same of a sound file. */
export function hear(model, version, file) {
  const form = new FormData();
  for (const [name, value] of Object.entries({ model, version, top_k: 1 })) form.append(name, value);
  form.append("audio", file, "word.wav");
  return request("predict", { method: "POST", body: form });
}

export const manifest = (model, version) => request(`models/${model}?${new URLSearchParams({ version })}`);

/** Begins a comparison; the answer is its job document. */
export const compare = (asked) => post("compare", asked, { prefer: "respond-async" });

export const comparisons = () => request("compare");
export const comparison = (id) => request(`compare/${id}`);

/** Cancels a comparison that goes on, forgets one that has ended. */
export const remove = (id) => request(`compare/${id}`, { method: "DELETE" });

/** A file that belongs to a comparison, with whatever key the service asks for. */
export const file = async (id, name) => (await answer(fileOf(id, name))).blob();
export const fileOf = (id, name) => `compare/${id}/${name}`;

/** What happens to a comparison, as the service tells it: `{ event, data }` each. */
export async function* events(id) {
  const response = await answer(`compare/${id}/events`);
  try {
    yield* readEvents(response.body);
  } catch {
    throw new ServiceError(BROKEN_OFF);
  }
}

const BROKEN_OFF = "The service's answer broke off. Please try again.";

const post = (path, body, headers = {}) =>
  request(path, { method: "POST", headers: { "content-type": "application/json", ...headers }, body: JSON.stringify(body) });

async function request(path, options) {
  const body = await (await answer(path, options)).json().catch(() => null);
  if (body === null) throw new ServiceError(BROKEN_OFF);
  return body;
}

/** A good answer. */
async function answer(path, options = {}) {
  const key = storedKey();
  let response = await send(path, options, key);
  // Where several requests are refused at once, the first one asks and the others take what it got.
  if (response.status === 401 && (storedKey() !== key || askForKey())) response = await send(path, options, storedKey());
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  throw new ServiceError(body?.error ?? `The service answered with status ${response.status}.`, response.status);
}

async function send(path, options, key) {
  const headers = key ? { ...options.headers, authorization: `Bearer ${key}` } : options.headers;
  try {
    return await fetch(path, { ...options, headers });
  } catch {
    throw new ServiceError("The service does not answer. Is it still running?");
  }
}

/** Whether requests carry a key: a link cannot. */
export const hasKey = () => storedKey() !== null;

/** The key lives as long as the tab. */
const storedKey = () => sessionStorage.getItem("key");

function askForKey() {
  const given = window.prompt("This service asks for an API key (scopes predict and compare):")?.trim();
  if (given) sessionStorage.setItem("key", given);
  return Boolean(given);
}
