// Formats of numbers, days and durations. An unknown value is a dash.

export const UNKNOWN = "–";

const known = (format) => (value) => (value === null || value === undefined ? UNKNOWN : format(value));

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const share = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const roundShare = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });
const signed = new Intl.NumberFormat("en", { signDisplay: "exceptZero", minimumFractionDigits: 2, maximumFractionDigits: 2 });
const fixed = new Intl.NumberFormat("en", { minimumFractionDigits: 3, maximumFractionDigits: 3 });
const precise = new Intl.NumberFormat("en", { minimumFractionDigits: 4, maximumFractionDigits: 4 });
const plain = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const dayOf = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", day: "numeric", month: "short", year: "numeric" });
const shortDayOf = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", day: "numeric", month: "short" });
const timeOf = new Intl.DateTimeFormat("en-GB", {
  timeZone: "UTC", day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit",
});

/** 12,345; fractions are rounded */
export const count = known((number) => whole.format(number));
/** 12.3% */
export const percent = known((part) => share.format(part));
/** 12% or 12.5%, for axes */
export const roundPercent = known((part) => roundShare.format(part));
/** +0.31; a minus is as wide as a plus. */
export const reward = known((number) => signed.format(number).replace("-", "−"));
/** 0.123 */
export const score = known((number) => fixed.format(number).replace("-", "−"));
/** 0.9250, 0.00012 */
export const probability = known((number) => (number < 0.001 ? plain : precise).format(number));
/** 0.1234, 1,234 */
export const decimal = known((number) => plain.format(number).replace("-", "−"));
/** 0.1234, or < 0.0001 */
export const chance = known((p) => (p < 0.0001 ? "< 0.0001" : plain.format(p)));
/** 23 Nov 2026, from an ISO date; other text, which an address may contain, is unchanged */
export const day = known((iso) => (Number.isNaN(Date.parse(iso)) ? iso : dayOf.format(new Date(iso))));
/** 23 Nov, from an ISO date or milliseconds */
export const shortDay = known((iso) => shortDayOf.format(new Date(iso)));
/** 23 Nov 2026, 09:11 */
export const time = known((iso) => timeOf.format(new Date(iso)));

/** 45 s, 12 min, 3.5 h, 2 days */
export const duration = known((seconds) => {
  const [unit, size] = [["days", 86_400], ["h", 3_600], ["min", 60]].find(([, length]) => seconds >= 2 * length) ?? ["s", 1];
  return `${plain.format(Number((seconds / size).toPrecision(2)))} ${unit}`;
});

/** 0.25 to 0.31, in the format given */
export function range(low, high, format) {
  return low === null || high === null ? UNKNOWN : `${format(low)} to ${format(high)}`;
}

/** "1 tip", "2 tips" */
export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}
