// Icons that show a status without colour.

import { el, svg } from "./dom.js";

const SHAPES = {
  green: ["M8 1a7 7 0 1 1 0 14A7 7 0 0 1 8 1Z", "M4.8 8.2 7 10.4l4.2-4.6"],
  amber: ["M8 1.2 15.3 14H.7Z", "M8 5.8v4M8 11.6v.4"],
  red: ["M5.1 1h5.8L15 5.1v5.8L10.9 15H5.1L1 10.9V5.1Z", "M5.4 5.4l5.2 5.2M10.6 5.4l-5.2 5.2"],
  unknown: ["M8 1a7 7 0 1 1 0 14A7 7 0 0 1 8 1Z", "M5 8h6"],
};

/** Return a status as an icon and a word. */
export function status(kind, word) {
  const [shape, sign] = SHAPES[kind] ?? SHAPES.unknown;
  return el(
    "span",
    { class: `status ${kind in SHAPES ? kind : "unknown"}` },
    svg("svg", { viewBox: "0 0 16 16", width: "16", height: "16", "aria-hidden": "true" },
      svg("path", { class: "shape", d: shape }), svg("path", { class: "sign", d: sign })),
    el("span", {}, word),
  );
}
