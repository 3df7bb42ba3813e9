// Times as they are shown: the reader's clock in rows, RFC 3339 in full elsewhere. Kept as milliseconds since 1970 with
// microseconds behind the point.

const two = (n) => (n < 10 ? "0" : "") + n;
const three = (n) => (n < 10 ? "00" : n < 100 ? "0" : "") + n;

let today = "";
let checked = 0;
const day = (date) => date.getFullYear() + "-" + two(date.getMonth() + 1) + "-" + two(date.getDate());

export function isToday(time) {
  if (Date.now() - checked > 1000) {
    checked = Date.now();
    today = day(new Date());
  }
  return day(new Date(time)) === today;
}

export function timeText(time, dated) {
  if (!Number.isFinite(time)) return "";
  const date = new Date(time);
  const clock = two(date.getHours()) + ":" + two(date.getMinutes()) + ":" + two(date.getSeconds()) + "." + three(date.getMilliseconds());
  return dated ? day(date) + " " + clock : clock;
}

export function stamp(time) {
  if (!Number.isFinite(time) || Math.abs(time) > 8.64e15) return "";
  const millis = Math.floor(time);
  const micros = Math.round((time - millis) * 1000);
  const text = new Date(millis).toISOString();
  return micros ? text.slice(0, -1) + three(micros) + "Z" : text;
}

// What a sink writes as the time of an event, in any of its formats; NaN when it cannot be told.
export function parseTime(value) {
  if (typeof value === "number") return value > 1e11 ? value : value * 1000;
  if (typeof value !== "string") return NaN;
  const time = Date.parse(value);
  if (value.length <= 24) return time;
  const fraction = /\.\d{3}(\d{1,3})/.exec(value);
  return fraction ? time + Number(fraction[1].padEnd(3, "0")) / 1000 : time;
}
