// The disagreements of a report at any temperature: a slider, and the bars that follow it. It asks the service nothing.

import { element } from "./element.js";
import { probability } from "./format.js";
import { soften, temperatureAt } from "./soften.js";

/** Puts a slider above the disagreements in `node`, which holds the markup of `report`. */
export function softened(node, report) {
  const section = node.querySelector("#report-disagreements");
  const cards = [...section.querySelectorAll(".disagreement")];
  if (cards.length === 0) return;
  const examples = report.pairs.flatMap(({ disagreements }) => disagreements);
  const tables = cards.flatMap((card, place) => {
    const [a, b] = card.querySelectorAll(".top");
    return [bars(a, examples[place].a), bars(b, examples[place].b)];
  });
  section.querySelector("h3").after(slider((temperature) => tables.forEach((show) => show(temperature))));
}

function slider(onTemperature) {
  const value = element("output", { for: "report-temperature" }, "1");
  const input = element("input", { id: "report-temperature", type: "range", min: -0.3, max: 1.7, step: 0.05, value: 0 });
  const set = (temperature) => {
    input.value = Math.log10(temperature);
    input.setAttribute("aria-valuetext", `temperature ${temperature}`);
    value.textContent = temperature;
    onTemperature(temperature);
  };
  input.addEventListener("input", () => set(temperatureAt(input.value)));
  const one = element("button", { type: "button" }, "T = 1");
  one.addEventListener("click", () => set(1));
  return element("div", { class: "temperature" }, element("label", { for: "report-temperature" }, "Temperature"), input, value, one);
}

/** The likeliest classes stay the same at every temperature, so only lengths and numbers change. */
function bars(table, distribution) {
  const rows = [...table.querySelectorAll("tr")];
  const order = distribution.map((_, index) => index).sort((a, b) => distribution[b] - distribution[a]);
  return (temperature) => {
    const p = soften(distribution, temperature);
    rows.forEach((row, place) => {
      row.querySelector("rect.bar").setAttribute("width", 100 * p[order[place]]);
      row.lastElementChild.textContent = probability(p[order[place]]);
    });
  };
}
