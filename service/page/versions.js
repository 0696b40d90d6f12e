// How a model has changed from version to version, from its manifests: a plot and a table. It measures nothing.

import * as api from "./api.js";
import { byId, element, say } from "./element.js";
import { bytes, interval, percent, share, whole } from "./format.js";
import { trend } from "./trend.js";

const MOST = 20; // versions on show, the newest
const COLUMNS = ["Version", "Published", "Accuracy", "NLL", "ECE", "Agreement", "Parameters", "Size"];

export class Versions {
  constructor() {
    this.select = byId("versions-of");
    this.manifests = new Map(); // a version never changes
    this.select.addEventListener("change", () => this.show());
  }

  /** Models that have more than one version; the student's are shown first. */
  concern(models) {
    this.models = models.filter(({ versions }) => versions.length > 1);
    byId("versions").hidden = this.models.length === 0;
    if (this.models.length === 0) return;
    const names = this.models.map(({ name }) => name);
    const student = this.models.find(({ role }) => role === "student") ?? this.models[0];
    const chosen = names.includes(this.select.value) ? this.select.value : student.name;
    this.select.replaceChildren(...names.map((name) => element("option", { value: name, selected: name === chosen }, name)));
    this.show();
  }

  async show() {
    const { name, versions } = this.models.find((model) => model.name === this.select.value);
    const shown = [...versions].sort((a, b) => a - b).slice(-MOST);
    try {
      const manifests = await Promise.all(shown.map((version) => this.manifest(name, version)));
      if (this.select.value !== name) return;
      say(byId("versions-failure"), null);
      byId("versions-trend").replaceChildren(trend(name, manifests));
      fill(byId("versions-table"), manifests.reverse());
    } catch (error) {
      say(byId("versions-failure"), api.inWords(error));
    }
  }

  async manifest(name, version) {
    const key = `${name}/${version}`;
    if (!this.manifests.has(key)) this.manifests.set(key, await api.manifest(name, version));
    return this.manifests.get(key);
  }
}

function fill(table, manifests) {
  const head = element("tr", {}, ...COLUMNS.map((title) => element("th", { scope: "col" }, title)));
  table.replaceChildren(element("thead", {}, head), element("tbody", {}, ...manifests.map(row)));
}

function row({ version, created, metrics, parameters, ...manifest }) {
  const when = new Date(created).toLocaleDateString("en-GB", { dateStyle: "medium" });
  const ends = interval(metrics.accuracy_interval, percent);
  const cells = [
    [when],
    [share(metrics.accuracy), `${ends}, of ${whole(metrics.examples)}`],
    [metrics.nll.toFixed(3)],
    [metrics.ece.toFixed(3)],
    [share(metrics.agreement)],
    [whole(parameters)],
    [bytes(manifest.bytes)],
  ];
  const cell = ([text, below]) => element("td", {}, text, ...(below ? [element("small", {}, below)] : []));
  return element("tr", {}, element("th", { scope: "row" }, version), ...cells.map(cell));
}
