// Regular expressions of the query language, which are Rust's, as the browser's: what means the same in both is
// rewritten, everything else is left to the server. So are expressions whose search could take the page's time, since
// the browser's engine goes back and forth where the server's does not.

import { WORD_CLASS } from "./words.js";

const W = `[${WORD_CLASS}]`;
const SPACE = "\\t\\v\\f\\r \\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"; // without \n, as there
const CLASSES = { d: "\\p{Nd}", s: SPACE, w: WORD_CLASS };
const UNBOUNDED_MAX = 3;

export class Undecided extends Error {}
const leave = (what) => { throw new Undecided(what); };

// A search with `test(text)` and `ranges(text)`.
export function regexSearch(pattern, ignoreCase) {
  let source = pattern;
  let flags = "gmu" + (ignoreCase ? "i" : "");
  if (source.startsWith("(?i)")) {
    source = source.slice(4);
    if (!ignoreCase) flags += "i";
  }
  let regex;
  try {
    regex = new RegExp(rewritten(source), flags);
  } catch (e) {
    if (e instanceof Undecided) throw e;
    leave("syntax");
  }
  return {
    test: (text) => { regex.lastIndex = 0; return regex.test(text); },
    ranges: (text) => {
      const found = [];
      for (const match of text.matchAll(regex)) if (match[0]) found.push([match.index, match.index + match[0].length]);
      return found;
    },
  };
}

const literal = (c) => (/[\^$\\.*+?()[\]{}|/]/.test(c) ? "\\" + c : c);
const inClass = (c) => (/[\^\]\\[\-&~!#%,:;<=>@`{}()|/$*+?.]/.test(c) ? (/[\^\]\\[\-{}()|/$*+?.]/.test(c) ? "\\" + c : c) : c);

function rewritten(pattern) {
  const chars = [...pattern];
  let out = "";
  let at = 0;
  let unbounded = 0;
  const groups = []; // for each open group, whether it holds a repetition
  let last = null; // what a repetition would apply to: whether it holds one itself
  while (at < chars.length) {
    const c = chars[at];
    if (c === "\\") {
      const [text, next] = escape(chars, at, false);
      out += text;
      at = next;
      last = { repeats: false };
    } else if (c === "[") {
      const [text, next] = klass(chars, at);
      out += text;
      at = next;
      last = { repeats: false };
    } else if (c === "(") {
      const rest = chars.slice(at, at + 80).join("");
      const named = /^\(\?P?<([A-Za-z_]\w*)>/.exec(rest);
      const head = named ? named[0] : rest.startsWith("(?:") ? "(?:" : "(";
      if (head === "(" && chars[at + 1] === "?") leave("flags");
      out += "(?:";
      at += [...head].length;
      groups.push(false);
      last = null;
    } else if (c === ")") {
      if (!groups.length) leave("parenthesis");
      last = { repeats: groups.pop() };
      if (last.repeats && groups.length) groups[groups.length - 1] = true;
      out += ")";
      at += 1;
    } else if ("*+?{".includes(c)) {
      const found = c === "{" ? /^\{(\d+)(,?)(\d*)\}/.exec(chars.slice(at, at + 24).join("")) : [c, "", "", ""];
      if (!found || !last) leave("repetition");
      const open = c === "*" || c === "+" || (found[2] === "," && found[3] === "");
      const many = open || (c === "{" && Number(found[3] || found[1]) > 1);
      if (many && last.repeats) leave("nested repetitions");
      if (open) unbounded += 1;
      if (unbounded > UNBOUNDED_MAX) leave("repetitions");
      if (many && groups.length) groups.fill(true);
      out += found[0];
      at += found[0].length;
      if (chars[at] === "?") { out += "?"; at += 1; }
      if ("*+?{".includes(chars[at] ?? "x")) leave("repetition");
      last = { repeats: many };
    } else {
      if (c === ".") out += "[^\\n]";
      else if (c === "$") out += "(?=\\r?$)";
      else if (c === "^" || c === "|") out += c;
      else out += literal(c);
      last = { repeats: false };
      at += 1;
    }
  }
  if (groups.length) leave("parenthesis");
  return out;
}

// An escape at `at`, rewritten, and where it ends.
function escape(chars, at, inside) {
  const c = chars[at + 1];
  if (c === undefined) leave("backslash");
  const lower = c.toLowerCase();
  if (CLASSES[lower]) {
    if (inside) return c === lower ? [CLASSES[c], at + 2] : leave("negated class in a class");
    return [c === lower ? `[${CLASSES[lower]}]` : `[^${CLASSES[lower]}\\n]`, at + 2];
  }
  if (!inside && c === "b") return [`(?:(?<=${W})(?!${W})|(?<!${W})(?=${W}))`, at + 2];
  if (!inside && c === "B") return [`(?:(?<=${W})(?=${W})|(?<!${W})(?!${W}))`, at + 2];
  if ("tfrv".includes(c)) return ["\\" + c, at + 2];
  if (c === "x" && /^[\da-fA-F]{2}$/.test(chars.slice(at + 2, at + 4).join(""))) return ["\\x" + chars.slice(at + 2, at + 4).join(""), at + 4];
  if (/^[A-Za-z0-9]$/.test(c) || c > "\x7f") leave("escape");
  return [inside ? inClass(c) : literal(c), at + 2];
}

// A class in brackets, without classes in it.
function klass(chars, at) {
  let out = "[";
  at += 1;
  const negated = chars[at] === "^";
  if (negated) { out += "^\\n"; at += 1; }
  let first = true;
  for (;;) {
    const c = chars[at];
    if (c === undefined || c === "[") leave("class");
    if (c === "]" && !first) return [out + "]", at + 1];
    if ((c === "&" || c === "~" || c === "-") && chars[at + 1] === c) leave("class operators");
    if (c === "\\") {
      const [text, next] = escape(chars, at, true);
      out += text;
      at = next;
    } else {
      // A dash between two characters is a range, at an edge itself.
      const range = c === "-" && !first && chars[at + 1] !== "]";
      out += range ? "-" : inClass(c);
      at += 1;
    }
    first = false;
  }
}
