// Shows what POST /compare measured. It asks the service nothing.

import { element } from "./element.js";
import { bytes, figures, interval, percent, points, share, time, times, whole } from "./format.js";
import { inOrder } from "./pair.js";

/** Fills `node` with a report of schema stillroom.compare/1. */
export function showReport(node, report) {
  const headlines = report.pairs.map((pair) => headline(pair, report));
  node.replaceChildren(...headlines, scrolled(table(report)), conditions(report));
}

/** The report in one sentence. */
export const inOneSentence = ({ pairs: [{ a, b, speed_up }] }) =>
  `Measured: ${a} is ${times(speed_up.value)} as fast as ${b}, one example at a time.`;

/** The figures that decide: what the pair gains in time and loses in accuracy, each with its interval. */
function headline({ a, b, speed_up, batch_speed_up, accuracy_difference, agreement }, { models, data }) {
  const size = models[0].batch.size;
  const faster = (estimate, where) =>
    figure(times(estimate.value), interval(estimate.interval, times), `speed-up, ${where}`);
  return element(
    "div",
    { class: "pair" },
    element("h3", {}, `${a} against ${b}`),
    element(
      "dl",
      {},
      faster(speed_up, "one example at a time"),
      faster(batch_speed_up, `${size} examples at a time`),
      ...(accuracy_difference ? [difference(accuracy_difference)] : []),
      figure(share(agreement), null, `agreement on ${whole(data.examples)} examples`),
    ),
  );
}

function difference({ value, interval: ends }) {
  const either = ends[0] <= 0 && ends[1] >= 0;
  return figure(points(value), interval(ends, points), `points of accuracy${either ? ", no clear difference" : ""}`);
}

/** A big number over its 95 % interval and what it is; first the name, as a list of definitions wants it. */
function figure(value, range, name) {
  const small = range ? [element("small", {}, `95 %: ${range}`)] : [];
  return element("div", {}, element("dt", {}, name), element("dd", {}, element("strong", {}, value), ...small));
}

function table({ models, data }) {
  const rows = inOrder(models).map((model) => element("tr", {}, ...cells(model)));
  const titles = ["Model", "p50", "p90", "p99", "Throughput", "Accuracy", "NLL", "ECE", "Size"];
  return element(
    "table",
    {},
    element("caption", {}, `Latency of one example at a time; ${whole(data.examples)} ${data.dataset} examples`),
    element("thead", {}, element("tr", {}, ...titles.map((title) => element("th", { scope: "col" }, title)))),
    element("tbody", {}, ...rows),
  );
}

function cells({ name, version, role, latency_ms, throughput, batch, accuracy, accuracy_interval, nll, ece, ...model }) {
  const cell = (text, below) => element("td", {}, text, ...(below ? [element("small", {}, below)] : []));
  return [
    element("th", { scope: "row" }, name, element("small", {}, `${role}, version ${version}`)),
    ...[latency_ms.p50, latency_ms.p90, latency_ms.p99].map((latency) => cell(time(latency))),
    cell(`${figures(throughput)}/s`, `batches of ${batch.size}`),
    cell(share(accuracy), accuracy_interval && interval(accuracy_interval, percent)),
    cell(nll?.toFixed(3) ?? "–"),
    cell(ece?.toFixed(3) ?? "–"),
    cell(bytes(model.bytes)),
  ];
}

function scrolled(table) {
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Measured figures" }, table);
}

/** Everything else that the report says of the run: data, settings, machine. */
function conditions({ data, settings: { request, ...settings }, machine, seconds, other_runs, models }) {
  const [{ provider, threads }] = models;
  const facts = { ...data, ...request, ...settings, ...machine, other_runs, provider, threads };
  const terms = Object.entries(facts).flatMap(([name, value]) => [
    element("dt", {}, name.replaceAll("_", " ")),
    element("dd", {}, [value].flat().join(", ")),
  ]);
  const title = element("summary", {}, `How it was measured, in ${figures(seconds)} s`);
  const details = element("details", {}, title, element("dl", { class: "facts" }, ...terms));
  if (!other_runs) return details;
  const warning = `The models answered ${other_runs} other times meanwhile: measure again when the service is quiet.`;
  return element("div", {}, element("p", { class: "failure" }, warning), details);
}
