// The button that measures the pair on this machine, its progress and its failures. It knows no figures: see report.js.

import * as api from "./api.js";
import { byId, say } from "./element.js";
import { inOneSentence, showReport } from "./report.js";

const USUAL_S = 10;

export class Measurement {
  constructor() {
    this.running = false;
    byId("measure-start").addEventListener("click", () => this.run());
  }

  /** Which pair the next run measures; the report of the last one says itself whose it is. */
  concern({ first, second }) {
    const names = first && [second, first].map(({ model, version }) => `${model.name}/${version}`);
    const same = names?.join() === this.names?.join();
    this.names = names;
    if (this.running || (same && names)) return;
    byId("measure-start").disabled = !names;
    const what = names ? `${names.join(" against ")}: about ${USUAL_S} seconds.` : "Measuring takes two models.";
    say(byId("measure-state"), what);
  }

  async run() {
    const names = this.names;
    this.progress(true);
    say(byId("measure-failure"), null);
    say(byId("measure-state"), `Measuring ${names.join(" against ")}…`);
    const stop = countSeconds(byId("measure-seconds"));
    try {
      const report = await api.compare(names);
      showReport(byId("measured"), report);
      say(byId("measure-state"), inOneSentence(report));
    } catch (error) {
      say(byId("measure-state"), null);
      say(byId("measure-failure"), `Not measured: ${api.inWords(error)}`);
    } finally {
      stop();
      this.progress(false);
    }
  }

  progress(running) {
    this.running = running;
    byId("measure-start").disabled = running || !this.names;
    byId("measure-progress").hidden = !running;
    byId("measured").setAttribute("aria-busy", running);
  }
}

/** Counts up in `node` until the returned function is called; nothing announces it every second. */
function countSeconds(node) {
  let seconds = 0;
  const show = () => say(node, `${seconds} s of about ${USUAL_S} s`);
  const clock = setInterval(() => {
    seconds += 1;
    show();
  }, 1000);
  show();
  return () => {
    clearInterval(clock);
    say(node, null);
  };
}
