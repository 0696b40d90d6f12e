// Which models are to be compared, in which order: two to six rows, a letter each. It knows what GET /models answers.

import { byId, element } from "./element.js";
import { comparable, inOrder } from "./pair.js";

const FEWEST = 2;
const MOST = 6;

export class Lineup {
  constructor() {
    this.chosen = [];
    this.choices = [];
    byId("compare-add").addEventListener("click", () => this.add());
  }

  /** `base` is a model; it and those that answer the same questions can be chosen, in every version, and their cascades. */
  offer(base, { models, cascades }) {
    const fitting = inOrder(models).filter((model) => model.name === base.name || comparable(model, base));
    const names = fitting.map(({ name }) => name);
    const fittingCascades = cascades.filter(({ student }) => names.includes(student.name));
    this.choices = [...fitting, ...fittingCascades].flatMap(({ name, versions }) =>
      [...versions].sort((a, b) => b - a).map((version) => `${name}/${version}`),
    );
    this.chosen = this.chosen.filter((name) => this.choices.includes(name));
    this.show();
  }

  /** These stand there now, each `name/version`; the first is the one on trial. */
  take(names) {
    this.chosen = names.filter((name) => this.choices.includes(name)).slice(0, MOST);
    this.show();
  }

  get names() {
    return this.chosen.length >= FEWEST ? this.chosen : null;
  }

  add() {
    const next = this.choices.find((name) => !this.chosen.includes(name)) ?? this.choices[0];
    this.chosen = [...this.chosen, next];
    this.show();
    byId("compare-models").querySelector("li:last-child select").focus();
  }

  remove(place) {
    this.chosen = this.chosen.filter((_, index) => index !== place);
    this.show();
    byId("compare-add").focus();
  }

  show() {
    byId("compare-models").replaceChildren(...this.chosen.map((name, place) => this.row(name, place)));
    byId("compare-add").disabled = this.chosen.length >= MOST || this.choices.length === 0;
  }

  row(name, place) {
    const letter = String.fromCharCode(65 + place);
    const options = this.choices.map((choice) => element("option", { value: choice, selected: choice === name }, choice));
    const select = element("select", { "aria-label": `Model ${letter}` }, ...options);
    select.addEventListener("change", () => (this.chosen[place] = select.value));
    const button = element("button", { type: "button", "aria-label": `Remove model ${letter}` }, "Remove");
    button.addEventListener("click", () => this.remove(place));
    const removable = this.chosen.length > FEWEST ? [button] : [];
    return element("li", {}, element("span", { class: "letter", "aria-hidden": "true" }, letter), select, ...removable);
  }
}
