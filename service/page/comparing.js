// Runs comparisons: from the form to a job, its progress, its end. It knows no figures: the report shows them.

import * as api from "./api.js";
import { byId, say } from "./element.js";
import { whole } from "./format.js";
import { History } from "./history.js";
import { follow, goesOn } from "./job.js";
import { Lineup } from "./lineup.js";
import { Own } from "./own.js";
import { Shown } from "./shown.js";

const NUMBERS = ["margin", "limit", "price_per_hour", "batch", "blocks", "calls", "threads", "rate", "seed"];
const OPENED = "comparison"; // in the page's address, so that a reload shows it again

export class Comparing {
  constructor() {
    this.lineup = new Lineup();
    this.own = new Own();
    this.shown = new Shown();
    this.history = new History((job) => this.open(job.id), (job) => this.forgotten(job));
    this.id = null; // of the job that is followed
    byId("compare-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.run();
    });
    byId("compare-cancel").addEventListener("click", () => this.cancel());
    const opened = new URLSearchParams(location.search).get(OPENED);
    if (opened) this.open(opened);
    this.history.refresh();
  }

  /** Which models there are, and which pair is on show: another pair takes the place of what stands in the form. */
  concern({ first, second }, listing) {
    this.lineup.offer(second.model, listing);
    this.own.concern(second.model);
    const names = [second, first].filter(Boolean).map(({ model, version }) => `${model.name}/${version}`);
    if (names.join() !== this.pair?.join() || !this.lineup.names) this.lineup.take(names);
    this.pair = names;
    this.refreshForm();
  }

  refreshForm() {
    const going = this.id !== null;
    byId("compare-start").disabled = going || !this.lineup.names;
    byId("compare-cancel").hidden = !going;
    byId("compare-progress").hidden = !going;
    if (!going) say(byId("compare-doing"), this.lineup.names ? null : "Comparing takes two models.");
  }

  async run() {
    say(byId("compare-failure"), null);
    try {
      await this.own.reading;
      if (this.own.wrong) return say(byId("compare-failure"), this.own.wrong);
      const job = await api.compare({ models: this.lineup.names, ...asked(), ...this.own.asked });
      this.history.refresh();
      await this.watch(job);
    } catch (error) {
      this.fail(error);
    }
  }

  /** Shows a comparison that has ended, or follows one that goes on. */
  async open(id) {
    say(byId("compare-failure"), null);
    try {
      const job = await api.comparison(id);
      await (goesOn(job) ? this.watch(job) : this.show(job));
    } catch (error) {
      if (error.status === 404) remember(null);
      this.fail(error);
    }
  }

  async watch(job) {
    this.id = job.id;
    this.shown.hide(); // the report of another one would pass for this one's
    remember(job.id);
    say(byId("compare-state"), `Comparing ${job.models.join(", ")}.`);
    this.tell(job);
    this.refreshForm();
    try {
      const ended = await follow(job.id, (now) => this.id === now.id && this.tell(now));
      if (this.id === job.id) await this.show(ended);
    } finally {
      if (this.id === job.id) this.id = null;
      this.refreshForm();
      this.history.refresh();
    }
  }

  tell({ state, progress }) {
    const bar = byId("compare-progress");
    bar.removeAttribute("value");
    if (progress?.total) {
      bar.max = progress.total;
      bar.value = progress.done;
    }
    const far = progress && `${whole(progress.done)} of about ${whole(progress.total)} s: ${progress.doing}`;
    say(byId("compare-doing"), state === "queued" ? "Waiting for another comparison to end." : far ?? "Beginning.");
  }

  /** The verdict first: it is announced, then the report stands below. */
  async show(job) {
    if (job.state !== "done") {
      say(byId("compare-state"), null);
      remember(null);
      const why = job.state === "cancelled" ? "it was cancelled." : job.error;
      return say(byId("compare-failure"), `There is no report: ${why}`);
    }
    await this.shown.show(job);
    remember(job.id);
    return say(byId("compare-state"), job.verdict ?? job.headline);
  }

  async cancel() {
    try {
      await api.remove(this.id);
    } catch (error) {
      this.fail(error);
    }
  }

  forgotten(job) {
    if (this.shown.id !== job.id) return;
    this.shown.hide();
    remember(null);
    say(byId("compare-state"), null);
  }

  fail(error) {
    say(byId("compare-state"), null);
    say(byId("compare-failure"), api.inWords(error));
  }
}

/** What the form says beside the models; an empty field is left to the service. */
function asked() {
  const form = new FormData(byId("compare-form"));
  const number = (name) => (form.get(name) ? Number(form.get(name)) : null); // one that is disabled is not there
  return { scenarios: form.getAll("scenarios"), ...Object.fromEntries(NUMBERS.map((name) => [name, number(name)])) };
}

function remember(id) {
  const address = new URL(location);
  if (id === null) address.searchParams.delete(OPENED);
  else address.searchParams.set(OPENED, id);
  history.replaceState(null, "", address);
}
