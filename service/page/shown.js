// Shows a comparison that has ended: the very markup of its report.html, and its files. It computes nothing.

import * as api from "./api.js";
import { byId, element, say } from "./element.js";
import { softened } from "./softened.js";

const FILES = { "report.html": "as a page", "report.md": "as Markdown", "report.json": "as JSON", "samples.npz": "raw latencies" };

const SAVED_MS = 60_000; // a file is saved within that time

export class Shown {
  constructor() {
    this.id = null;
  }

  /** `job` has a report. */
  async show({ id, report }) {
    byId("comparison-report").replaceChildren(...bodyOf(await (await api.file(id, "report.html")).text()));
    byId("comparison-files").replaceChildren("This report:", ...Object.keys(FILES).map((name) => link(id, name)));
    softened(byId("comparison-report"), report);
    byId("comparison").hidden = false;
    this.id = id;
  }

  hide() {
    this.id = null;
    byId("comparison").hidden = true;
    byId("comparison-report").replaceChildren();
  }
}

/** What stands inside <main>: the page has the style of it already, and its policy allows no other. */
function bodyOf(html) {
  const main = html.slice(html.indexOf("<main"));
  return new DOMParser().parseFromString(main, "text/html").querySelector("main").childNodes;
}

/** Where the service asks for a key, which a link cannot send, a click fetches the file and saves it. */
function link(id, name) {
  const page = name.endsWith(".html");
  const saved = `comparison-${id}-${name}`;
  const target = page ? { target: "_blank" } : { download: saved };
  const anchor = element("a", { href: api.fileOf(id, name), ...target }, FILES[name]);
  anchor.addEventListener("click", (event) => {
    if (!api.hasKey()) return;
    event.preventDefault();
    save(id, name, saved).catch((error) => say(byId("compare-failure"), api.inWords(error)));
  });
  return anchor;
}

async function save(id, name, saved) {
  const url = URL.createObjectURL(await api.file(id, name));
  element("a", { href: url, download: saved }).click();
  setTimeout(() => URL.revokeObjectURL(url), SAVED_MS);
}
