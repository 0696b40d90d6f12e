// What the models answer, side by side, at any temperature. It knows the right side of the page and no source of
// questions.

import * as api from "./api.js";
import { Card, shownClasses } from "./card.js";
import { byId, element, say } from "./element.js";
import { newestOnly } from "./newest.js";
import { soften, temperatureAt } from "./soften.js";

const GAP_MS = 100; // between requests while one draws

export class Answers {
  /** `choose(secondName, firstName)` is called when another model is chosen on a card. */
  constructor(choose) {
    this.cards = [
      new Card("first", (name) => choose(this.pair.second.model.name, name)),
      new Card("second", (name) => choose(name)),
    ];
    this.ask = newestOnly((question) => this.fetch(question), GAP_MS);
    this.setTemperature(1);
    byId("temperature").addEventListener("input", ({ target }) => this.setTemperature(temperatureAt(target.value)));
    byId("temperature-one").addEventListener("click", () => this.setTemperature(1));
    byId("temperature-trained").addEventListener("click", () => this.setTemperature(this.pair.second.model.temperature));
    byId("logarithmic").addEventListener("change", () => this.showBars());
  }

  /** Which two models answer from now on; `models` are all that could. */
  introduce(pair, models) {
    this.pair = pair;
    this.predictions = null;
    this.shown = pair.first ? this.cards : this.cards.slice(1);
    this.places = [pair.first, pair.second].filter(Boolean);
    const choices = pair.first ? [pair.others, models] : [models];
    this.shown.forEach((card, index) => card.introduce(this.places[index], choices[index]));
    const roots = this.shown.map(({ root }) => root);
    byId("cards").replaceChildren(...(pair.first ? [] : [alone(pair.second.model)]), ...roots);
    const { temperature } = pair.second.model;
    say(byId("temperature-trained"), temperature && temperature !== 1 ? `T = ${temperature}, as distilled` : null);
  }

  /** Asks both models, or forgets the last answer where the question is null. */
  to(question) {
    this.question = question;
    if (question) return this.ask(question);
    this.predictions = null;
    say(byId("failure"), null);
    const { image, audio } = this.pair.second.model.input;
    say(byId("verdict"), `${image ? "Draw, or pick" : audio ? "Say a word, or pick" : "Pick"} a held-out example.`);
    return this.cards.forEach((card) => card.forget());
  }

  /** One model after the other: at once they would slow each other, and the times on show would be wrong. */
  async fetch(question) {
    const { places } = this;
    const stale = () => question !== this.question || places !== this.places;
    const predictions = [];
    try {
      for (const { model, version } of places) {
        if (stale()) return;
        const { input, sound } = question;
        predictions.push(await (sound ? api.hear(model.name, version, sound) : api.predict(model.name, version, [input])));
      }
    } catch (error) {
      if (!stale()) say(byId("failure"), api.inWords(error));
      return;
    }
    if (stale()) return;
    this.predictions = predictions;
    say(byId("failure"), null);
    this.show();
  }

  show() {
    const { truth } = this.question;
    const labels = this.predictions.map((prediction) => prediction.labels[0]);
    this.shown.forEach((card, index) => card.answer(labels[index], truth, this.predictions[index].timings_ms));
    say(byId("verdict"), verdict(labels, this.places.map(({ model }) => model.name), truth));
    this.showBars();
  }

  showBars() {
    if (!this.predictions) return;
    const distributions = this.predictions.map(({ probabilities }) => probabilities[0]);
    const view = {
      classes: this.pair.second.model.classes,
      shown: shownClasses(distributions),
      truth: this.question.truth,
      temperature: this.temperature,
      logarithmic: byId("logarithmic").checked,
    };
    this.shown.forEach((card, index) => card.bars(soften(distributions[index], this.temperature), view));
  }

  setTemperature(temperature) {
    this.temperature = temperature;
    const slider = byId("temperature");
    slider.value = Math.log10(temperature);
    slider.setAttribute("aria-valuetext", `temperature ${temperature}`);
    byId("temperature-value").textContent = temperature;
    this.showBars();
  }
}

/** What a person wants to know first. */
function verdict([first, second], [firstName, secondName], truth) {
  const known = truth === null ? "" : ` The true class is ${truth}.`;
  if (second === undefined) return `It says ${first}.${known}`;
  if (first === second) return `They agree: ${first}.${known}`;
  return `They differ: ${firstName} says ${first}, ${secondName} says ${second}.${known}`;
}

/** In place of the first card. */
const alone = ({ name, teacher }) =>
  element(
    "p",
    { class: "card alone" },
    teacher ? `The teacher of ${name}, ${teacher.name}, is not in this repository. ` : "There is one model to show. ",
    "As soon as another with the same input and classes is published, it will stand here.",
  );
