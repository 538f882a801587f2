// Axes with round numbers for ends and ticks.

/** Return { low, high, ticks } with round ends around two numbers, some `count` ticks apart. */
export function scale(low, high, count = 5) {
  const span = high - low || 1;
  const rough = span / count;
  const magnitude = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * magnitude).find((size) => size >= rough * 0.999);
  const first = Math.floor(low / step + 1e-9);
  const last = Math.max(Math.ceil(high / step - 1e-9), first + 1);
  const ticks = Array.from({ length: last - first + 1 }, (_, index) => round((first + index) * step));
  return { low: ticks[0], high: ticks.at(-1), ticks };
}

/** Return the position of `value` on a scale for SVG and CSS: "37.5%". */
export function place({ low, high }, value) {
  return `${round((100 * (Math.min(Math.max(value, low), high) - low)) / (high - low))}%`;
}

function round(number) {
  return Number(number.toPrecision(12));
}
