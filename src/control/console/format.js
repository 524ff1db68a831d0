// Numbers for people.

const NONE = "–";
const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** Three digits that count. */
function digits(value) {
  return value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0);
}

function inUnit(value, units) {
  let [factor, unit] = units[0];
  // What would be rounded to a thousand belongs to the next unit.
  for (const [next, name] of units) if (value >= next * 0.9995) [factor, unit] = [next, name];
  return factor === 1 ? `${Math.round(value)} ${unit}` : `${digits(value / factor)} ${unit}`;
}

const DURATIONS = [[1, "ns"], [1e3, "µs"], [1e6, "ms"], [1e9, "s"]];
const SIZES = [[1, "B"], [2 ** 10, "KiB"], [2 ** 20, "MiB"], [2 ** 30, "GiB"], [2 ** 40, "TiB"]];

/** A round number beside an axis. */
const tick = (show) => (value) => show(value).replace(/\.0+(?= )|(?<=\.\d)0(?= )/, "");

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

const duration = (ns) => (isNumber(ns) ? inUnit(ns, DURATIONS) : NONE);
const bytes = (count) => (isNumber(count) ? inUnit(count, SIZES) : NONE);
const count = (value) => (isNumber(value) ? WHOLE.format(value) : NONE);
const percent = (share) => (isNumber(share) ? `${(share * 100).toFixed(1)} %` : NONE);

/** So many a second, or for each other. */
function rate(value) {
  if (!isNumber(value)) return NONE;
  return value > 0 && value < 9.95 ? value.toFixed(1) : WHOLE.format(value);
}

/** Seconds, to the two largest units. */
function span(seconds) {
  if (!isNumber(seconds)) return NONE;
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const at = units.findIndex(([length]) => seconds >= length);
  if (at < 0 || at === 3) return `${Math.floor(seconds)} s`;
  const [[length, unit], [finer, name]] = [units[at], units[at + 1]];
  const rest = Math.floor((seconds % length) / finer);
  return `${Math.floor(seconds / length)} ${unit}${rest ? ` ${rest} ${name}` : ""}`;
}

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const MINUTE = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

const clock = (unixMs) => CLOCK.format(unixMs);

/** The time, with the day unless it is today. */
function moment(unixMs) {
  const day = DAY.format(unixMs);
  return day === DAY.format(Date.now()) ? clock(unixMs) : `${day} ${clock(unixMs)}`;
}

