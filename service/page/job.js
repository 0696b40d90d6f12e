// Follows a comparison to its end, through connections that break. It knows no document.

import * as api from "./api.js";

const AGAIN_MS = 1000;
const MOST_FAILURES = 10;

export const goesOn = ({ state }) => state === "queued" || state === "running";

/** Calls `tell(job)` whenever something was done; the job document with its report once it has ended. */
export async function follow(id, tell) {
  for (let failures = 0; ; ) {
    try {
      for await (const { data } of api.events(id)) {
        failures = 0;
        tell(data);
      }
      const job = await api.comparison(id);
      if (!goesOn(job)) return job;
    } catch (error) {
      failures += 1;
      if (error.status || failures > MOST_FAILURES) throw error;
      api.inWords(error);
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}
