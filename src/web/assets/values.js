// Numbers, addresses and times that a query compares with, read as weir reads them.

import { Undecided } from "./regex.js";

// A whole number as BigInt, another as Number; null for any other text.
export function numberOf(text) {
  if (/^[+-]?\d+$/.test(text)) return text.replace(/^[+-]/, "").length <= 38 ? BigInt(text[0] === "+" ? text.slice(1) : text) : finite(text);
  return /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(text) ? finite(text) : null;
}
const finite = (text) => (Number.isFinite(Number(text)) ? Number(text) : null);

export const compareNumbers = (a, b) => {
  if (typeof a !== typeof b) { a = Number(a); b = Number(b); }
  return a < b ? -1 : a > b ? 1 : 0;
};

// An address as `{ bits: 32 | 128, value: BigInt }`; IPv4 in IPv6 form is IPv4. null for any other text.
export function ip(text) {
  const four = v4(text);
  if (four !== null) return { bits: 32, value: four };
  if (!text.includes(":") || !/^[\da-fA-F:.]+$/.test(text)) return null;
  let tail = [];
  const dotted = text.lastIndexOf(":") + 1;
  if (text.includes(".")) {
    const last = v4(text.slice(dotted));
    if (last === null) return null;
    tail = [last >> 16n, last & 0xffffn];
    text = text.slice(0, dotted) + (text.slice(0, dotted).endsWith("::") ? "" : "x");
    text = text.replace(/:x$/, "");
  }
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const parts = halves.map((half) => (half === "" ? [] : half.split(":")));
  if (parts.flat().some((part) => !/^[\da-fA-F]{1,4}$/.test(part))) return null;
  const groups = parts.map((half) => half.map((part) => BigInt("0x" + part)));
  groups[groups.length - 1].push(...tail);
  const count = groups.flat().length;
  if (halves.length === 1 ? count !== 8 : count > 7) return null;
  const all = halves.length === 1 ? groups[0] : [...groups[0], ...new Array(8 - count).fill(0n), ...groups[1]];
  const value = all.reduce((sum, part) => (sum << 16n) | part, 0n);
  return value >> 32n === 0xffffn ? { bits: 32, value: value & 0xffffffffn } : { bits: 128, value };
}

function v4(text) {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)?.slice(1);
  if (!parts || parts.some((part) => Number(part) > 255 || (part.length > 1 && part[0] === "0"))) return null;
  return parts.reduce((sum, part) => (sum << 8n) | BigInt(part), 0n);
}

// An address as it stands in logs: alone, in brackets, or with a port.
export function address(text) {
  if (text.length > 64) return null;
  const bare = /^\[(.*)\]$/.exec(text);
  const found = ip(bare ? bare[1] : text);
  if (found) return found;
  const port = /^(?:\[([^\]]*)\]|([\d.]+)):(\d{1,5})$/.exec(text);
  if (!port || Number(port[3]) > 65535) return null;
  return ip(port[1] ?? port[2]);
}

// `10.0.0.0/8`: whether an address lies within; null for text that is no network.
export function network(text) {
  const found = /^([^/]+)\/(\d{1,3})$/.exec(text);
  const base = found && ip(found[1]);
  if (!base || Number(found[2]) > base.bits) return null;
  // A mapped address keeps its own form there.
  if (base.bits === 32 && found[1].includes(":")) throw new Undecided("network");
  const shift = BigInt(base.bits - Number(found[2]));
  return (one) => one.bits === base.bits && one.value >> shift === base.value >> shift;
}

const UNITS = { ms: 1, s: 1000, m: 60000, h: 3600000, d: 86400000, w: 7 * 86400000 };

// A time as the stretch it names, `[start, end)` in milliseconds, by a function of now; null for any other text.
export function moment(text, years) {
  if (text.startsWith("now")) {
    const rest = text.slice(3);
    if (!/^([+-]\d+(ms|[smhdw]))*$/.test(rest)) return null;
    let offset = 0;
    for (const [, sign, count, unit] of rest.matchAll(/([+-])(\d+)(ms|[smhdw])/g)) offset += (sign === "-" ? -1 : 1) * Number(count) * UNITS[unit];
    return (now) => [now + offset, now + offset + 0.001];
  }
  const stretch = (start, length) => (Number.isFinite(start) ? () => [start, start + length] : null);
  if (/^\d+$/.test(text)) {
    if (!years) return null;
    if (text.length === 4) return stretchOf(Date.UTC(Number(text), 0, 1), Date.UTC(Number(text) + 1, 0, 1), Number(text) >= 100);
    const step = { 10: 1000, 13: 1, 16: 0.001, 19: 0.000001 }[text.length];
    return step ? stretch(Number(text) * step, step) : null;
  }
  const found = /^(\d{4})-(\d\d)(?:-(\d\d)(?:[Tt ](\d\d)(?::?(\d\d))?(?::?(\d\d))?(?:\.(\d{1,9}))?(Z|z|[+-]\d\d(?::?\d\d)?)?)?)?$/.exec(text);
  if (!found) return null;
  const [, year, month, day, hour, minute, second, fraction, zone] = found;
  const y = Number(year);
  const m = Number(month) - 1;
  if (m < 0 || m > 11) return null;
  if (day === undefined) return stretchOf(Date.UTC(y, m, 1), Date.UTC(y, m + 1, 1), y >= 100);
  const d = Number(day);
  if (d < 1 || d > new Date(Date.UTC(y, m + 1, 0)).getUTCDate() || y < 100) return null;
  if (hour === undefined) return stretchOf(Date.UTC(y, m, d), Date.UTC(y, m, d + 1), true);
  // The forms without colons are not read there.
  if (!/^.{11}\d\d(:\d\d(:\d\d(\.\d+)?)?)?(Z|z|[+-]|$)/.test(text)) return null;
  if (Number(hour) > 23 || Number(minute ?? 0) > 59 || Number(second ?? 0) > 59) return null;
  let start = Date.UTC(y, m, d, Number(hour), Number(minute ?? 0), Number(second ?? 0));
  let length = minute === undefined ? 3600000 : second === undefined ? 60000 : 1000;
  if (fraction) {
    length = 1000 / 10 ** fraction.length;
    start += Number(fraction) * length;
  }
  const offset = /^([+-])(\d\d):?(\d\d)?$/.exec(zone ?? "");
  if (offset) {
    if (Number(offset[2]) > 23 || Number(offset[3] ?? 0) > 59) return null;
    start -= (offset[1] === "-" ? -1 : 1) * (Number(offset[2]) * 60 + Number(offset[3] ?? 0)) * 60000;
  }
  return stretch(start, length);
}

const stretchOf = (start, end, sound) => (sound && Number.isFinite(end) ? () => [start, end] : null);
