// Accuracy over versions as a plot, in the looks of the report's plots. It knows manifests, no service.

import { bytes, interval, percent, share } from "./format.js";

const NAMESPACE = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [380, 200, 50, 360, 24, 150];

function svg(tag, attributes, ...children) {
  const node = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** A figure; `manifests` are of one model, the oldest version first. */
export function trend(name, manifests) {
  const ends = manifests.flatMap(({ metrics }) => metrics.accuracy_interval);
  const room = 0.08 * (Math.max(...ends) - Math.min(...ends)) || 0.01;
  const [low, high] = [Math.min(...ends) - room, Math.max(...ends) + room];
  const y = (accuracy) => BOTTOM - ((accuracy - low) / (high - low)) * (BOTTOM - TOP);
  const x = (place) => LEFT + ((place + 0.5) / manifests.length) * (RIGHT - LEFT);
  const caption = document.createElement("figcaption");
  caption.textContent = `${name}: accuracy on its held-out set by version, with its 95 % interval, and its size`;
  const plot = svg(
    "svg",
    { class: "plot", role: "img", viewBox: `0 0 ${WIDTH} ${HEIGHT}` },
    svg("title", {}, caption.textContent),
    svg("desc", {}, manifests.map(told).join(" ")),
    svg("text", { x: 2, y: TOP - 9, class: "axis" }, "accuracy"),
    ...[low + room, (low + high) / 2, high - room].flatMap((value) => grid(value, y(value))),
    svg("text", { x: (LEFT + RIGHT) / 2, y: BOTTOM + 44, class: "axis", "text-anchor": "middle" }, "version"),
    ...manifests.flatMap((manifest, place) => version(manifest, x(place), y)),
  );
  const figure = document.createElement("figure");
  figure.append(caption, plot);
  const frame = document.createElement("div");
  frame.className = "figures";
  frame.append(figure);
  return frame;
}

const grid = (value, y) => [
  svg("line", { x1: LEFT, x2: RIGHT, y1: y, y2: y, class: "grid" }),
  svg("text", { x: LEFT - 6, y: y + 4, class: "tick", "text-anchor": "end" }, `${percent(value)} %`),
];

function version({ version: number, metrics, bytes: size }, x, y) {
  const [low, high] = metrics.accuracy_interval.map(y);
  return [
    svg("line", { x1: x, x2: x, y1: low, y2: high, class: "whisker s1" }),
    ...[low, high].map((end) => svg("line", { x1: x - 4, x2: x + 4, y1: end, y2: end, class: "whisker s1" })),
    svg("circle", { cx: x, cy: y(metrics.accuracy), r: 4.5, class: "marker s1" }),
    svg("text", { x, y: BOTTOM + 15, class: "tick", "text-anchor": "middle" }, number),
    svg("text", { x, y: BOTTOM + 29, class: "tick", "text-anchor": "middle" }, bytes(size)),
  ];
}

const told = ({ version: number, metrics, bytes: size }) =>
  `Version ${number}: ${share(metrics.accuracy)}, 95 % ${interval(metrics.accuracy_interval, percent)}, ${bytes(size)}.`;
