// The query language on the rows that are kept: the same grammar and the same meaning as in weir itself, against which
// tests hold it. The server judges queries; what is not decided here exactly is left to it, and said so.

import { LEVELS, levelIndex, sources } from "./store.js";
import { values } from "./fields.js";
import { Undecided, regexSearch } from "./regex.js";
import { exactSearch, phrase, phraseSearch } from "./words.js";
import { address, compareNumbers, ip, moment, network, numberOf } from "./values.js";
import { parse } from "./query_parse.js";

// `{ test(store, slot), marks(text) or null, undecided }`: `undecided` names what only the server can check.
export function compile(text, level) {
  const least = levelIndex(level);
  const base = { marks: null, undecided: "" };
  if (!text) return { ...base, test: (store, at) => store.level[at] >= least };
  try {
    const marks = [];
    const test = node(parse(text), marks, true);
    return {
      ...base,
      marks: marks.length ? (line) => merged(marks, line) : null,
      test: (store, at) => store.level[at] >= least && test(rowOf(store, at)),
    };
  } catch (e) {
    if (!(e instanceof Undecided)) throw e;
    return { ...base, test: () => false, undecided: "`" + text + "`" };
  }
}

const rowOf = (store, at) => ({ line: store.line[at], level: store.level[at], source: sources.names[store.source[at]], time: store.time[at] });

function merged(marks, line) {
  const found = [];
  for (const mark of marks) found.push(...mark(line));
  found.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const joined = [];
  for (const range of found) {
    const last = joined.at(-1);
    if (last && range[0] <= last[1]) last[1] = Math.max(last[1], range[1]);
    else joined.push(range);
  }
  return joined;
}

// A test of rows for a tree; what it looks for in text is added to `marks`, unless it is under NOT.
function node(tree, marks, shown) {
  if (tree.all) return () => true;
  if (tree.not) {
    const inner = node(tree.not, marks, false);
    return (row) => !inner(row);
  }
  const parts = (tree.and ?? tree.or)?.map((part) => node(part, marks, shown));
  if (tree.and) return (row) => parts.every((part) => part(row));
  if (tree.or) return (row) => parts.some((part) => part(row));
  return leaf(tree, marks, shown);
}

function leaf({ field, test }, marks, shown) {
  if (field === null) {
    const search = searchOf(test);
    if (shown) marks.push(search.ranges);
    return (row) => search.test(row.line);
  }
  if (field === "level") return levelTest(test);
  if (field === "timestamp") return timeTest(test);
  if (field === "pipeline") throw new Undecided("pipeline");
  const check = checkOf(test, shown ? marks : []);
  if (field === "source") return (row) => check({ text: row.source, object: false, empty: false });
  if (field === "message") {
    return (row) => {
      const found = values(row.line, "message");
      return found.length ? found.some(check) : check({ text: row.line, object: false, empty: false });
    };
  }
  const name = field.startsWith(".") ? field.slice(1) : field;
  return (row) => values(row.line, name).some(check);
}

function searchOf(test) {
  if (test.regex !== undefined) return regexSearch(test.regex, test.ignoreCase);
  if (test.text === undefined) throw new Undecided("comparison");
  const words = phrase(test.text, test.quoted);
  if (words.length) return phraseSearch(words);
  if (test.quoted) return exactSearch(test.text);
  throw new Undecided("no words");
}

function checkOf(test, marks) {
  if (test.present) return (value) => !value.empty;
  if (test.low || test.high) return betweenTest(test);
  if (test.between) return (value) => !value.empty;
  if (test.regex === undefined) {
    const number = numberOf(test.text);
    const net = number === null ? network(test.text) : null;
    if (net) return (value) => { const one = address(value.text.trim()); return one !== null && net(one); };
    if (number === null && test.text.includes("/") && /^[\d.]+\/\d+$/.test(test.text)) throw new Undecided("network");
    const wanted = number === null ? ip(test.text) : null;
    const search = searchOf(test);
    marks.push(search.ranges);
    if (number === null && !wanted) return (value) => search.test(value.text);
    return (value) => {
      const text = trimmed(value.text);
      if (number !== null) {
        const one = numberOf(text);
        return one !== null ? compareNumbers(one, number) === 0 : search.test(value.text);
      }
      const one = address(text);
      return one ? one.bits === wanted.bits && one.value === wanted.value : search.test(value.text);
    };
  }
  const search = searchOf(test);
  marks.push(search.ranges);
  return (value) => search.test(value.text);
}

const trimmed = (text) => text.replace(/^[ \t\n\f\r]+|[ \t\n\f\r]+$/g, "");

// Numbers or addresses between two ends. Times in fields are told from other text by the server only.
function betweenTest({ low, high, lowIn, highIn }) {
  const read = (end) => (end ? numberOf(end.text) ?? ip(end.text) : undefined);
  const [from, to] = [read(low), read(high)];
  if (from === null || to === null) throw new Undecided("time");
  const kind = (value) => (value === undefined ? "" : typeof value === "object" ? "address" : "number");
  if (kind(from) && kind(to) && kind(from) !== kind(to)) throw new Undecided("range");
  const within = (order, sign, included) => (order === 0 ? included : order === sign);
  if ((kind(from) || kind(to)) === "number") {
    return ({ text, object }) => {
      const one = object ? null : numberOf(trimmed(text));
      return one !== null && (from === undefined || within(compareNumbers(one, from), 1, lowIn)) && (to === undefined || within(compareNumbers(one, to), -1, highIn));
    };
  }
  const order = (a, b) => (a.value < b.value ? -1 : a.value > b.value ? 1 : 0);
  return ({ text, object }) => {
    const one = object ? null : address(trimmed(text));
    const fits = (end, sign, included) => end === undefined || (one.bits === end.bits && within(order(one, end), sign, included));
    return one !== null && fits(from, 1, lowIn) && fits(to, -1, highIn);
  };
}

const SPELLINGS = {
  info: ["info", "inf", "i", "note", "information", "informational"], warn: ["warn", "warning", "wrn", "w"], error: ["error", "err", "e", "severe"],
  debug: ["debug", "dbg", "d", "fine"], trace: ["trace", "trc", "t", "verbose", "v", "vrb", "finer", "finest", "silly"], notice: ["notice", "n"],
  fatal: ["fatal", "ftl", "f", "critical", "crit", "c", "alert", "a", "emerg", "panic", "dpanic", "pnc", "emergency"],
};

function levelOf(text) {
  const name = text.toLowerCase();
  for (const [level, spellings] of Object.entries(SPELLINGS)) if (spellings.includes(name)) return levelIndex(level);
  throw new Undecided("level"); // numbers among them
}

function levelTest(test) {
  let keep;
  if (test.present) keep = () => true;
  else if (test.low || test.high) {
    const low = test.low ? levelOf(test.low.text) : null;
    const high = test.high ? levelOf(test.high.text) : null;
    keep = (level) => (low === null || level > low || (test.lowIn && level === low)) && (high === null || level < high || (test.highIn && level === high));
  } else if (test.between) keep = () => true;
  else if (test.text !== undefined && (test.quoted || !/[*?]/.test(test.text))) {
    const wanted = levelOf(test.text);
    keep = (level) => level === wanted;
  } else {
    const search = searchOf(test);
    keep = (level) => search.test(LEVELS[level]);
  }
  const bits = LEVELS.map((name, level) => level > 0 && keep(level));
  return (row) => bits[row.level];
}

function timeTest(test) {
  const read = (end) => {
    if (!end) return null;
    const found = moment(end.text, true);
    if (!found) throw new Undecided("time");
    return found;
  };
  if (test.present || (test.between && !test.low && !test.high)) return () => true;
  if (test.regex !== undefined) throw new Undecided("time");
  const exact = test.text !== undefined ? read(test) : null;
  const [low, high] = exact ? [exact, exact] : [read(test.low), read(test.high)];
  const [lowIn, highIn] = exact ? [true, true] : [test.lowIn, test.highIn];
  return ({ time }) => {
    const now = Date.now();
    const at = (end, included, first) => end(now)[included === first ? 0 : 1];
    return (!low || time >= at(low, lowIn, true)) && (!high || time < at(high, !highIn, true));
  };
}
