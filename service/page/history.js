// The comparisons that the service keeps: to open again, to delete. It knows no figures.

import * as api from "./api.js";
import { byId, element } from "./element.js";
import { goesOn } from "./job.js";

export class History {
  /** `onOpen(job)` and `onRemove(job)` are called with the document of a comparison. */
  constructor(onOpen, onRemove) {
    Object.assign(this, { onOpen, onRemove });
  }

  /** What cannot be listed, for want of a right or of a connection, is not shown. */
  async refresh() {
    try {
      this.show((await api.comparisons()).comparisons);
    } catch (error) {
      api.inWords(error);
      byId("history").hidden = true;
    }
  }

  show(jobs) {
    byId("history").hidden = jobs.length === 0;
    byId("history-list").replaceChildren(...jobs.map((job) => this.row(job)));
  }

  row(job) {
    const who = job.models.join(", ");
    const when = new Date(job.created).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
    const button = (text, action) => {
      const it = element("button", { type: "button", "aria-label": `${text} the comparison of ${who}, ${when}` }, text);
      it.addEventListener("click", () => action(job));
      return it;
    };
    const told = element("p", {}, who, element("small", {}, `${when}. ${inWords(job)}`));
    const open = { queued: "Follow", running: "Follow", done: "Open" }[job.state]; // of others this row says all there is
    const remove = button(goesOn(job) ? "Cancel" : "Delete", () => this.remove(job));
    return element("li", {}, told, ...(open ? [button(open, this.onOpen)] : []), remove);
  }

  async remove(job) {
    await api.remove(job.id).catch(api.inWords);
    this.onRemove(job);
    await this.refresh();
  }
}

/** What a comparison found, the verdict first. */
const sentences = ({ verdict, headline }) =>
  [verdict, headline].filter(Boolean).map((text) => text.replace(/\.?$/, ".")).join(" ");

const inWords = ({ state, verdict, headline, error }) =>
  ({
    queued: "It waits for its turn.",
    running: "It runs.",
    done: sentences({ verdict, headline }),
    failed: `It failed: ${error}`,
    cancelled: "It was cancelled.",
  })[state];
