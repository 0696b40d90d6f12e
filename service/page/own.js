// Examples of the user's own in the form: a file is chosen, read, found right or wrong, taken away. It knows what models
// take, and asks the service nothing.

import { FileError, readCsv } from "./csv.js";
import { byId, say } from "./element.js";
import { whole } from "./format.js";

export class Own {
  constructor() {
    this.model = null; // any of those that are compared: they take the same
    this.name = null; // of the file
    this.found = null; // what it holds, see csv.js
    this.problem = null; // with the file itself
    this.reading = null; // a promise
    byId("own").addEventListener("change", () => (this.reading = this.read(byId("own").files[0] ?? null)));
    byId("own-remove").addEventListener("click", () => this.remove());
  }

  concern(model) {
    this.model = model;
    this.show();
  }

  async read(file) {
    Object.assign(this, { name: file?.name ?? null, found: null, problem: null });
    this.show();
    if (file === null) return;
    const bytes = await file.arrayBuffer().catch(() => null);
    if (byId("own").files[0] !== file) return; // another one was chosen meanwhile
    try {
      if (bytes === null) throw new FileError("cannot be read: has it changed, or gone?");
      this.found = readCsv(bytes);
    } catch (error) {
      if (!(error instanceof FileError)) throw error;
      this.problem = error.message;
    }
    this.show();
  }

  remove() {
    byId("own").value = "";
    this.reading = this.read(null);
    byId("own").focus();
  }

  /** What is wrong with the file, for these models too; null where nothing is, or none was chosen. */
  get wrong() {
    const problem = this.problem ?? (this.found && this.misfit(this.found.inputs[0].length));
    return problem && `${this.name}: ${problem}.`;
  }

  misfit(width) {
    const { shape } = this.model.input;
    const size = shape.reduce((product, side) => product * side, 1);
    return width === size ? null : `a row has ${whole(width)} numbers, the models take ${shape.join(" × ")}`;
  }

  /** What is asked of the service for the examples. */
  get asked() {
    if (this.found === null) return { dataset: "held-out" };
    const { inputs, labels } = this.found;
    return { inputs, labels: labels && fitted(labels, this.model.classes), limit: null };
  }

  show() {
    const { wrong } = this;
    byId("own").setAttribute("aria-invalid", String(wrong !== null));
    say(byId("own-failure"), wrong);
    say(byId("own-state"), this.found && !wrong ? inWords(this.found) : null);
    byId("own-remove").hidden = this.name === null;
    byId("limit").disabled = this.name !== null;
  }
}

function inWords({ inputs, labels }) {
  const told = labels ? "with labels" : "without labels, so that nothing is said of accuracy";
  return `${whole(inputs.length)} ${inputs.length === 1 ? "example" : "examples"} ${told}.`;
}

/** Whole numbers where no class has such a name: then they are places of classes. */
function fitted(labels, classes) {
  if (labels.some((label) => classes.includes(label)) || !labels.every((label) => /^\d+$/.test(label))) return labels;
  return labels.map(Number);
}
