// Builds elements. It knows the document, nothing of the service.

/**
 * An element with attributes and children; text stays text, so nothing that the service says becomes markup.
 * An attribute of null, undefined or false is left out. Styles are no attributes: the page's policy blocks them.
 */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

/** The element of the page with this id. */
export const byId = (id) => document.getElementById(id);

/** Shows a text, or hides the element where there is none; an unchanged text is not announced again. */
export function say(node, text) {
  node.hidden = !text;
  if (node.textContent !== (text ?? "")) node.textContent = text ?? "";
}
