// The results table and its summary, from the manifests. It asks the service nothing.

import { element } from "./element.js";
import { bytes, interval, percent, share, time, times, whole } from "./format.js";
import { inOrder } from "./pair.js";

const COLUMNS = ["Model", "Test errors", "Accuracy", "NLL", "ECE", "Agreement", "Parameters", "Size", "One example"];

/** Fills `table` with a row for each model; `chosen` are the names of the pair on show. */
export function fillTable(table, models, chosen) {
  const head = element("tr", {}, ...COLUMNS.map((title) => element("th", { scope: "col" }, title)));
  table.replaceChildren(
    element("thead", {}, head),
    element("tbody", {}, ...inOrder(models).map((model) => row(model, chosen.indexOf(model.name)))),
  );
}

function row(model, place) {
  const { metrics } = model;
  const errors = metrics.accuracy_interval.map((accuracy) => metrics.examples * (1 - accuracy)).reverse();
  const cells = [
    [`${whole(metrics.errors)} of ${whole(metrics.examples)}`, interval(errors, whole)],
    [share(metrics.accuracy), interval(metrics.accuracy_interval, percent)],
    [metrics.nll.toFixed(3)],
    [metrics.ece.toFixed(3)],
    [share(metrics.agreement)],
    [whole(model.parameters)],
    [bytes(model.bytes)],
    [time(metrics.cpu_ms_per_image)],
  ];
  const name = element("th", { scope: "row" }, model.name, element("small", {}, `${model.role}, version ${model.version}`));
  return element("tr", { class: ["first", "second"][place] }, name, ...cells.map((lines) => cell(...lines)));
}

function cell(text, below) {
  return element("td", {}, text, ...(below ? [element("small", {}, below)] : []));
}

/** In words: what the second model saves against the first, and what it costs. */
export function summary(first, second) {
  const [slow, quick] = [first, second].map(({ metrics }) => metrics.cpu_ms_per_image);
  const speed = slow && quick ? `, and takes ${time(quick)} for one example instead of ${time(slow)}` : "";
  const errors = ({ metrics }) => `${whole(metrics.errors)} of ${whole(metrics.examples)}`;
  const taught = second.teacher?.name === first.name && second.metrics.agreement !== null;
  const agreement = taught ? `; the two agree on ${share(second.metrics.agreement)}` : "";
  return (
    `${second.name} has ${howMany(second.parameters / first.parameters)} ${first.name}${speed}. ` +
    `It errs on ${errors(second)} held-out examples, ${first.name} on ${errors(first)}${agreement}.`
  );
}

function howMany(ratio) {
  if (Math.abs(ratio - 1) < 0.05) return "about as many parameters as";
  return ratio < 1 ? `${times(1 / ratio)} fewer parameters than` : `${times(ratio)} the parameters of`;
}

/** What the repository holds and the service refuses, with its reasons. */
export function fillRefused(node, refused) {
  node.hidden = refused.length === 0;
  const title = element("h2", {}, "Refused models");
  node.replaceChildren(title, element("ul", {}, ...refused.map(({ reason }) => element("li", {}, reason))));
}
