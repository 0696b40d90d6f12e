// The page's roof: which models there are, which two are shown, and who is told. It asks for no prediction itself.

import { Answers } from "./answers.js";
import * as api from "./api.js";
import { Comparing } from "./comparing.js";
import { byId, say } from "./element.js";
import { choosePair } from "./pair.js";
import { Question } from "./question.js";
import { fillRefused, fillTable, summary } from "./results.js";
import { Versions } from "./versions.js";

const WAITING_MS = 2000; // until the service answers and there are two models to compare
const WATCHING_MS = 15000; // for new versions

let listing = null; // the answer of GET /models
let pair = null; // see pair.js; null while there is no model

const answers = new Answers(choose);
const question = new Question((asked) => answers.to(asked));
const comparing = new Comparing();
const versions = new Versions();

/** Looks for models, again and again: what is published appears, what is retired goes. */
async function watch() {
  let wait = WAITING_MS;
  try {
    const found = await api.models();
    if (JSON.stringify(found) !== JSON.stringify(listing)) adopt(found);
    say(byId("notice"), found.models.length ? null : NOTHING_YET);
    if (pair?.first) wait = WATCHING_MS;
  } catch (error) {
    say(byId("notice"), `${api.inWords(error)} Trying again by itself.`);
  }
  setTimeout(watch, wait);
}

const NOTHING_YET =
  "No models yet: the trainer has not published any into the service's model repository. " +
  "“make run” trains and publishes them. They will appear here by themselves.";

function adopt(found) {
  listing = found;
  const some = listing.models.length > 0;
  for (const id of ["try", "results", "compare"]) byId(id).hidden = !some;
  const { asked, got } = listing.device;
  say(byId("device"), got && `Device: asked for ${asked}, got ${got}`);
  fillRefused(byId("refused"), listing.refused);
  versions.concern(listing.models);
  // A pair on show stays; while there is none, what is published last may bring it.
  const { first, second } = (pair?.first && pair) ?? {};
  if (some) choose(second?.model.name, first?.model.name);
  else pair = null;
}

/** Shows the models of these names, or what pair.js makes of none. */
function choose(secondName, firstName) {
  pair = choosePair(listing, secondName, firstName);
  const { first, second } = pair;
  answers.introduce(pair, listing.models);
  question.concern(pair);
  comparing.concern(pair, listing);
  fillTable(byId("models"), listing.models, [first?.model.name, second.model.name]);
  say(byId("summary"), first && summary(first.model, second.model));
}

watch();
