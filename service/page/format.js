// Numbers as people read them. It knows units, not where the numbers come from.

const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const superscript = (digits) => [...digits].map((digit) => SUPERSCRIPTS[digit]).join("");

/** A probability: "97.3 %", and below a thousandth its power of ten, because that is where dark knowledge lives. */
export function probability(p) {
  if (p >= 0.001) return share(p);
  if (p <= 0) return "0";
  const [digits, exponent] = p.toExponential(0).split("e-");
  return `${digits} × 10⁻${superscript(exponent)}`;
}

/** A share of something as a bare number of percent, and with its sign. */
export const percent = (value) => (100 * value).toFixed(1);
export const share = (value) => (value === null || value === undefined ? "–" : `${percent(value)} %`);

/** A whole number with its thousands apart. */
export const whole = (value) => Math.round(value).toLocaleString("en");

/** Three significant figures, without an exponent. */
export const figures = (value) =>
  value.toLocaleString("en", { minimumSignificantDigits: 3, maximumSignificantDigits: 3 });

/** A time given in milliseconds, in microseconds where it is shorter than one. */
export function time(ms) {
  if (ms === null || ms === undefined) return "–";
  return ms < 1 ? `${figures(1000 * ms)} µs` : `${figures(ms)} ms`;
}

/** A size in decimal units. */
export function bytes(value) {
  const step = Math.min(3, Math.floor(Math.log10(Math.max(value, 1)) / 3));
  return `${figures(value / 1000 ** step)} ${["B", "kB", "MB", "GB"][step]}`;
}

/** How many times: "12.4×". */
export const times = (value) => `${figures(value)}×`;

/** A difference of shares in percentage points, with its sign. */
export function points(value) {
  const text = percent(Math.abs(value));
  return `${text === "0.0" ? "" : value < 0 ? "−" : "+"}${text}`;
}

/** "low to high", each end formatted. */
export const interval = ([low, high], format) => `${format(low)} to ${format(high)}`;
