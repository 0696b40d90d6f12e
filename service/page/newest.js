// Questions that come faster than answers. It knows promises, not what is asked.

/**
 * Calls `work` for the newest value alone: one call at a time, at least `gapMs` apart; what is overtaken is dropped, and
 * the last value is never.
 */
export function newestOnly(work, gapMs) {
  let waiting = [];
  let busy = false;
  return async (value) => {
    waiting = [value];
    if (busy) return;
    busy = true;
    try {
      while (waiting.length) {
        await Promise.all([work(waiting.pop()), new Promise((resolve) => setTimeout(resolve, gapMs))]);
      }
    } finally {
      busy = false;
    }
  };
}
