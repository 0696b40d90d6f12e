// One model's answer: who it is, what it says, how long it took, a bar for every class. It asks the service nothing.

import { element } from "./element.js";
import { bytes, probability, time, whole } from "./format.js";

const MOST_BARS = 12;
const BARS_OF_MANY = 10;
const DECADES = 6; // a logarithmic bar starts at a millionth

/** Which classes get a bar: all where there are few, else the likeliest of any model, in the order of the classes. */
export function shownClasses(distributions) {
  const best = distributions[0].map((_, index) => Math.max(...distributions.map((p) => p[index])));
  const all = best.map((_, index) => index);
  if (all.length <= MOST_BARS) return all;
  return all.sort((a, b) => best[b] - best[a]).slice(0, BARS_OF_MANY).sort((a, b) => a - b);
}

/** The length of a bar, 0 to 1. */
export function barLength(p, logarithmic) {
  return logarithmic ? Math.max(0, 1 + Math.log10(Math.max(p, Number.MIN_VALUE)) / DECADES) : p;
}

export class Card {
  /** `side` is "first" or "second", which is its colour; `onChoice(name)` is called when another model is chosen. */
  constructor(side, onChoice) {
    this.side = side;
    this.rows = [];
    this.role = element("p", { class: "role" });
    this.select = element("select");
    this.select.addEventListener("change", () => onChoice(this.select.value));
    this.facts = element("p", { class: "facts" });
    this.label = element("strong");
    this.mark = element("span", { class: "mark" });
    this.times = element("p", { class: "times" });
    this.caption = element("caption");
    this.body = element("tbody");
    this.root = element(
      "article",
      { class: `card ${side}` },
      this.role,
      this.select,
      this.facts,
      element("p", { class: "says" }, this.label, " ", this.mark),
      this.times,
      element("table", { class: "bars" }, this.caption, this.body),
    );
  }

  /** Which model this is, and which others could stand here. */
  introduce({ model, version }, choices) {
    const who = `${model.name}/${version}`;
    if (who !== this.who) this.forget();
    this.who = who;
    this.role.textContent = model.role;
    this.select.setAttribute("aria-label", `${model.role}, the ${this.side} model`);
    this.select.replaceChildren(
      ...choices.map(({ name }) => element("option", { value: name, selected: name === model.name }, name)),
    );
    this.facts.textContent = `version ${version}, ${whole(model.parameters)} parameters, ${bytes(model.bytes)}`;
  }

  /** No answer; its empty rows stay, so that the page does not jump. */
  forget() {
    this.label.textContent = "–";
    for (const node of [this.mark, this.times, this.caption]) node.textContent = "";
    this.mark.className = "mark";
    for (const { row, bar, value } of this.rows) {
      row.className = "";
      bar.style.setProperty("--length", 0);
      value.textContent = "";
    }
    this.shown = null; // which rows stand: the next answer builds its own
  }

  /** What the model said, and whether it is right where the truth is known. */
  answer(label, truth, timings) {
    this.label.textContent = label;
    this.label.className = label.length > 4 ? "long" : "";
    const right = truth === null ? "" : label === truth ? "right" : "wrong";
    this.mark.textContent = right;
    this.mark.className = `mark ${right}`;
    this.times.textContent = `${time(timings.compute)} computing, ${time(timings.total)} in all`;
  }

  /** The bars: `p` is the distribution at `temperature`, `shown` the indices of the classes that have one. */
  bars(p, { classes, shown, truth, temperature, logarithmic }) {
    const many = shown.length < classes.length ? `, the ${shown.length} likeliest of ${classes.length} classes` : "";
    this.caption.textContent = `Probabilities at T = ${temperature}${many}`;
    this.build(shown, classes, truth);
    const best = p.indexOf(Math.max(...p));
    shown.forEach((index, row) => {
      const { row: line, bar, value } = this.rows[row];
      line.classList.toggle("best", index === best);
      bar.style.setProperty("--length", barLength(p[index], logarithmic));
      value.textContent = probability(p[index]);
    });
  }

  /** Rows stay while the classes do, so that bars move instead of being drawn anew. */
  build(shown, classes, truth) {
    const key = JSON.stringify([shown, truth]);
    if (key === this.shown) return;
    this.shown = key;
    this.rows = shown.map((index) => {
      const name = element("th", { scope: "row", title: classes[index] }, classes[index]);
      const bar = element("div", { class: "bar" });
      const value = element("td", { class: "value" });
      const isTrue = classes[index] === truth;
      if (isTrue) name.append(element("span", { class: "visually-hidden" }, " (the true class)"));
      const row = element("tr", { class: isTrue ? "true" : null }, name, element("td", { class: "track" }, bar), value);
      return { row, bar, value };
    });
    this.body.replaceChildren(...this.rows.map(({ row }) => row));
  }
}
