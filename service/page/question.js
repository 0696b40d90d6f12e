// What the models are asked: a drawing, a sound or a held-out example. It knows the left side of the page, no answers.

import * as api from "./api.js";
import { byId, say } from "./element.js";
import { listExamples, markPicked } from "./examples.js";
import { render } from "./ink.js";
import { Pad } from "./pad.js";
import { paint, paperAndInk } from "./picture.js";
import { Speaking } from "./speaking.js";

const SHOWN = 12;
const SEARCHED = 100; // for examples on which the two differ; the most that the service gives at once
const SEARCHED_SOUNDS = 24; // which are thousands of numbers each

export class Question {
  /**
   * `onAsk` is called with `{ input, truth }`, where a drawing's truth is null, with `{ sound, truth: null }` of a sound
   * file, or with null when there is no question.
   */
  constructor(onAsk) {
    this.onAsk = onAsk;
    this.pad = new Pad(byId("pad"), (strokes) => this.draw(strokes));
    this.speaking = new Speaking((sound) => this.hear(sound));
    this.list = byId("examples");
    this.seed = 0;
    this.turn = 0;
    this.asked = null;
    byId("clear").addEventListener("click", () => this.clear());
    byId("differ").addEventListener("change", () => this.sample());
    byId("resample").addEventListener("click", () => {
      this.seed += 1;
      this.sample();
    });
  }

  /** Asks this pair from now on: the question stays where the second model takes the same, else there is a new one. */
  concern(pair) {
    const [before, now] = [this.pair, pair].map((each) => each && identity(each));
    const { model } = pair.second;
    this.pair = pair;
    byId("differ-label").hidden = !pair.first;
    if (before?.question !== now.question) this.begin(model.input);
    this.onAsk(this.asked);
    if (before?.models !== now.models) this.sample();
  }

  /** Another kind of input. */
  begin({ image, audio, shape }) {
    byId("drawing").hidden = !image;
    this.speaking.prepare(audio, shape);
    say(byId("seen-size"), image && `${shape.join(" × ")} pixels`);
    if (image) this.use({ paper: image.range[0], ink: image.range[1] });
    this.clear();
  }

  /** The values of paper and ink in these data. */
  use(levels) {
    const { shape, image } = this.pair.second.model.input;
    this.levels = levels;
    this.pad.prepare(shape, levels.paper === image.range[1]);
  }

  /** A sample of the held-out examples, or those of a larger one on which the two differ. */
  async sample() {
    const turn = (this.turn += 1);
    const { model, version } = this.pair.second;
    const searching = byId("differ").checked && this.pair.first !== null;
    try {
      const searched = model.input.audio ? SEARCHED_SOUNDS : SEARCHED;
      const { examples } = await api.examples(model.name, version, searching ? searched : SHOWN, this.seed);
      const found = searching ? await differing(this.pair, examples) : examples;
      if (turn !== this.turn) return; // another sample was asked for meanwhile
      this.offer(found, searching);
      say(byId("examples-note"), searching ? `They differ on ${found.length} of these ${examples.length} examples.` : null);
    } catch (error) {
      if (turn !== this.turn) return;
      this.list.replaceChildren();
      say(byId("examples-note"), `There are none to pick from: ${api.inWords(error)}`);
    }
  }

  /** Examples to pick from; the first is asked at once where there is no question, or it is what was searched for. */
  offer(examples, searched) {
    const { image, audio } = this.pair.second.model.input;
    if (image && !searched) this.use(paperAndInk(examples.map(({ input }) => input), image.range));
    listExamples(this.list, examples, { image, audio }, (example) => this.pick(example));
    if (searched || !this.asked) this.list.querySelector("button")?.click();
  }

  pick({ input, label }) {
    const { image } = this.pair.second.model.input;
    if (image) this.pad.show(input, image.range);
    this.put({ input, truth: label });
  }

  draw(strokes) {
    const { shape, image } = this.pair.second.model.input;
    markPicked(this.list, null);
    this.put({ input: render(strokes, { shape, margin: image.margin, ...this.levels }), truth: null });
  }

  hear(sound) {
    markPicked(this.list, null);
    this.put({ sound, truth: null });
  }

  put(question) {
    const { image } = this.pair.second.model.input;
    byId("pad-hint").hidden = true;
    if (image) paint(byId("seen"), question.input, image.range);
    this.asked = question;
    this.onAsk(question);
  }

  /** Nothing drawn, nothing picked. */
  clear() {
    this.asked = null;
    this.onAsk(null);
    markPicked(this.list, null);
    const { shape, image } = this.pair.second.model.input;
    if (!image) return;
    const [height, width] = shape;
    this.pad.clear();
    paint(byId("seen"), Array.from({ length: height }, () => new Array(width).fill(this.levels.paper)), image.range);
    byId("pad-hint").hidden = false;
  }
}

/** What must be equal for a question to stay, and for the examples to stay. */
function identity({ first, second }) {
  const named = (place) => place && `${place.model.name}/${place.version}`;
  const { input, classes } = second.model;
  return { question: JSON.stringify([input, classes]), models: `${named(first)} ${named(second)}` };
}

/** Those examples to which the two models give different labels. */
async function differing({ first, second }, examples) {
  const inputs = examples.map(({ input }) => input);
  const answers = [first, second].map(({ model, version }) => api.predict(model.name, version, inputs));
  const [a, b] = await Promise.all(answers);
  return examples.filter((_, index) => a.labels[index] !== b.labels[index]);
}
