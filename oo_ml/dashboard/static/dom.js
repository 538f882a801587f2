// Elements made from data. Text stays text: these pages never parse it as markup.

const SVG = "http://www.w3.org/2000/svg";

/** Return a new HTML element. Attributes that are null or false are left out; a function listens to its event.
 * Children that are null or false are left out. */
export function el(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

/** Return a new SVG element, like `el`. */
export function svg(tag, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

/** Return a name from the data, shown unchanged and isolated from the direction of the text around it. */
export function name(text) {
  return el("bdi", { class: "name" }, text);
}

function build(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}
