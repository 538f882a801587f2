// Accessible tables: a caption, headers with a scope, and aligned numbers.

import { el } from "./dom.js";

/**
 * Return a table that scrolls by itself in both directions.
 *
 * A column is { title, cell, number, value }. `cell` returns the text or the element of a row; `number` aligns it to the
 * right; `value` returns the key for sorting. The first column is the header of the row.
 */
export function table(caption, columns, rows, { sorted = null } = {}) {
  const body = el("tbody");
  const heads = columns.map((column) => el("th", { scope: "col", class: column.number && "number" }, column.title));
  let order = sorted;

  const show = () => {
    const shown = order === null ? rows : rows.toSorted(by(columns[order.column].value, order.descending));
    body.replaceChildren(...shown.map((row) => line(columns, row)));
    columns.forEach((_, index) => {
      if (order?.column === index) heads[index].setAttribute("aria-sort", order.descending ? "descending" : "ascending");
      else heads[index].removeAttribute("aria-sort");
    });
  };
  columns.forEach((column, index) => {
    if (!column.value) return;
    const sort = () => {
      order = { column: index, descending: order?.column === index ? !order.descending : true };
      show();
    };
    heads[index].replaceChildren(el("button", { type: "button", class: "sort", click: sort }, column.title));
  });
  show();

  const grid = el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, heads)), body);
  return el("div", { class: "scroll", role: "region", "aria-label": `${caption}: table`, tabindex: "0" }, grid);
}

/** Return `content`, folded under a summary. */
export function folded(summary, content, open = false) {
  return el("details", { open }, el("summary", {}, summary), content);
}

function line(columns, row) {
  return el("tr", {}, columns.map((column, index) =>
    index === 0
      ? el("th", { scope: "row" }, column.cell(row))
      : el("td", { class: column.number && "number" }, column.cell(row)),
  ));
}

function by(value, descending) {
  const sign = descending ? -1 : 1;
  return (a, b) => {
    const [left, right] = [value(a), value(b)];
    // Unknown values come last in both directions.
    if (left === null || right === null) return (left === null) - (right === null);
    return sign * (left < right ? -1 : left > right ? 1 : 0);
  };
}
