// The service over HTTP. It knows routes and errors, not what is done with an answer.

/** What went wrong, in words for the person at the page. */
export class ServiceError extends Error {}

/** The words of a ServiceError; any other error is a mistake of this page and belongs in the console. */
export function inWords(error) {
  if (!(error instanceof ServiceError)) throw error;
  return error.message;
}

export const models = () => request("models");

export const examples = (model, version, count, seed) =>
  request(`models/${model}/examples?${new URLSearchParams({ version, count, seed })}`);

export const predict = (model, version, inputs) => post("predict", { model, version, inputs, top_k: 1 });

/** Each of `names` is `name/version`. */
export const compare = (names) => post("compare", { models: names });

const post = (path, body) =>
  request(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

async function request(path, options = {}) {
  const key = storedKey();
  let response = await send(path, options, key);
  // Where several requests are refused at once, the first one asks and the others take what it got.
  if (response.status === 401 && (storedKey() !== key || askForKey())) response = await send(path, options, storedKey());
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new ServiceError(body?.error ?? `The service answered with status ${response.status}.`);
  if (body === null) throw new ServiceError("The service's answer broke off. Please try again.");
  return body;
}

async function send(path, options, key) {
  const headers = key ? { ...options.headers, authorization: `Bearer ${key}` } : options.headers;
  try {
    return await fetch(path, { ...options, headers });
  } catch {
    throw new ServiceError("The service does not answer. Is it still running?");
  }
}

/** The key lives as long as the tab. */
const storedKey = () => sessionStorage.getItem("key");

function askForKey() {
  const given = window.prompt("This service asks for an API key (scopes predict and compare):")?.trim();
  if (given) sessionStorage.setItem("key", given);
  return Boolean(given);
}
