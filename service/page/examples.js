// The held-out examples to pick from: thumbnails of pictures or of sounds, or values. It asks the service nothing.

import { element } from "./element.js";
import { paint, paintSound } from "./picture.js";

const MOST_VALUES = 8;

/** Fills `list` with a button for each example of such inputs; `onPick(example)` is called with the chosen one. */
export function listExamples(list, examples, { image, audio }, onPick) {
  list.classList.toggle("thumbnails", Boolean(image || audio));
  list.replaceChildren(
    ...examples.map((example) => {
      const button = exampleButton(example, image, audio);
      button.addEventListener("click", () => {
        markPicked(list, button);
        onPick(example);
      });
      return element("li", {}, button);
    }),
  );
}

/** Marks one button as the picked one, or none. */
export function markPicked(list, picked) {
  for (const button of list.querySelectorAll("button")) button.setAttribute("aria-pressed", button === picked);
}

function exampleButton({ index, label, input }, image, audio) {
  const name = `example ${index}, true class ${label}`;
  const attributes = { type: "button", "aria-pressed": "false", title: name };
  if (!image && !audio) return element("button", attributes, name, element("small", {}, valuesOf(input)));
  const picture = element("canvas", { "aria-hidden": "true" });
  if (image) paint(picture, input, image.range);
  else paintSound(picture, input);
  return element("button", { ...attributes, "aria-label": name }, picture);
}

/** The first few numbers of an input, and how many there are. */
function valuesOf(input) {
  const values = [input].flat(Infinity);
  const first = values.slice(0, MOST_VALUES).map((value) => Number(value.toPrecision(4)));
  return first.join("  ") + (values.length > first.length ? ` … (${values.length} values)` : "");
}
