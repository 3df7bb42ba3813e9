// The grammar of queries: `a b` is `a AND b`; NOT binds first, then AND, then OR. Trees are { all }, { not }, { and },
// { or } and { field, test }. Texts that this does not read like the server does are left to it.

import { Undecided } from "./regex.js";

const DEPTH_MAX = 64;
const leave = (what) => { throw new Undecided(what); };
const SPACE = /\s/;

export function parse(text) {
  const parser = { text, at: 0, depth: 0 };
  const tree = or(parser, null);
  if (parser.at < text.length) leave("the end");
  return tree;
}

const peek = (p) => p.text[p.at];
function skip(p) { while (p.at < p.text.length && SPACE.test(p.text[p.at])) p.at += 1; }

function isWord(p, word) {
  if (!p.text.startsWith(word, p.at)) return false;
  const next = p.text[p.at + word.length];
  return next === undefined || SPACE.test(next) || "()\"".includes(next);
}

function or(p, group) {
  const parts = [and(p, group)];
  while (isWord(p, "OR")) { p.at += 2; parts.push(and(p, group)); }
  return parts.length === 1 ? parts[0] : { or: parts };
}

function and(p, group) {
  const parts = [not(p, group)];
  for (;;) {
    skip(p);
    if (p.at >= p.text.length || peek(p) === ")" || isWord(p, "OR")) return parts.length === 1 ? parts[0] : { and: parts };
    if (isWord(p, "AND")) p.at += 3;
    parts.push(not(p, group));
  }
}

function not(p, group) {
  skip(p);
  const next = p.text[p.at + 1];
  const word = isWord(p, "NOT");
  const dash = peek(p) === "-" && next !== undefined && !SPACE.test(next) && next !== ")" && next !== "-";
  if (!word && !dash) return primary(p, group);
  p.at += word ? 3 : 1;
  return nested(p, () => ({ not: not(p, group) }));
}

function nested(p, read) {
  if ((p.depth += 1) > DEPTH_MAX) leave("depth");
  const found = read();
  p.depth -= 1;
  return found;
}

function primary(p, group) {
  const sign = peek(p);
  if (sign === undefined || sign === ")") leave("a condition");
  if (sign === "(") return parenthesised(p, group);
  if (sign === '"') return afterQuote(p, group);
  return word(p, group);
}

function parenthesised(p, group) {
  p.at += 1;
  const inner = nested(p, () => or(p, group));
  skip(p);
  if (peek(p) !== ")") leave("a parenthesis");
  p.at += 1;
  return inner;
}

function afterQuote(p, group) {
  const start = p.at;
  const name = quoted(p);
  if (group === null && peek(p) === ":") {
    p.at += 1;
    return field(p, name);
  }
  p.at = start;
  return { field: group, test: test(p, group) };
}

function word(p, group) {
  const end = runEnd(p);
  const text = p.text.slice(p.at, end);
  if (isWord(p, "AND") || isWord(p, "OR") || /^(&&|\|\||!|\+|--)/.test(text)) leave("an operator");
  if (text === "*:*" || (text === "*" && group === null)) {
    p.at = end;
    return { all: true };
  }
  const colon = text.indexOf(":");
  if (colon === 0) leave("a name");
  if (colon > 0) {
    const name = text.slice(0, colon);
    const value = text.slice(colon + 1);
    if (/[*?]/.test(name) && isPlainName(name.replace(/[*?]/g, "x"))) leave("a name");
    // A URL or a path of some programming language is text; `::1` is told from it by the server.
    if (isPlainName(name) && value.startsWith(":")) {
      if (/^[\da-fA-F:.]+$/.test(value)) leave("an address");
    } else if (isPlainName(name) && !value.startsWith("//")) {
      if (group !== null) leave("a field in a field");
      p.at += colon + 1;
      return field(p, name);
    }
  }
  if (group === null) {
    const sign = /[=<>!]/.exec(text);
    if (sign && isPlainName(text.slice(0, sign.index)) && /^(==|!=|=~|!~|>=|<=|=|>|<)/.test(text.slice(sign.index))
      && !text.slice(0, sign.index).endsWith("-") && !text.slice(sign.index).startsWith("=>")) leave("a comparison");
  }
  return { field: group, test: test(p, group) };
}

function field(p, name) {
  if (peek(p) === "(") return parenthesised(p, name);
  if (p.at >= p.text.length || SPACE.test(peek(p)) || peek(p) === ")") leave("a value");
  return { field: name, test: test(p, name) };
}

function test(p, group) {
  const sign = peek(p);
  let found;
  if (sign === '"') found = { text: quoted(p), quoted: true };
  else if (sign === "/") found = regex(p) ?? bare(p);
  else if ((sign === "[" || sign === "{") && group !== null) found = between(p);
  else if (sign === "<" || sign === ">") found = compare(p, group);
  else if ((sign === "=" || sign === "!") && group !== null) leave("a sign");
  else {
    found = bare(p);
    if (group !== null && found.text === "*") found = { present: true };
  }
  if (found.text === "") leave("text");
  if (p.at < p.text.length && !SPACE.test(peek(p)) && peek(p) !== ")") leave("a space");
  return found;
}

function runEnd(p) {
  let at = p.at;
  for (; at < p.text.length; at += 1) {
    const c = p.text[at];
    if (c === "\\") {
      at += 1;
      if (at >= p.text.length) leave("a character");
      continue;
    }
    if ("()\"".includes(c) || SPACE.test(c)) break;
  }
  return at;
}

function bare(p) {
  const end = runEnd(p);
  const text = p.text.slice(p.at, end);
  p.at = end;
  return { text, quoted: false };
}

function quoted(p) {
  let out = "";
  for (let at = p.at + 1; at < p.text.length; at += 1) {
    const c = p.text[at];
    if (c === '"') {
      p.at = at + 1;
      return out;
    }
    if (c === "\\" && (p.text[at + 1] === '"' || p.text[at + 1] === "\\")) at += 1;
    out += p.text[at];
  }
  return leave("a quote");
}

// null for what starts with a slash and is a path.
function regex(p) {
  let at = p.at + 1;
  while (at < p.text.length && p.text[at] !== "/") at += p.text[at] === "\\" ? 2 : 1;
  if (at < p.text.length && at > p.at + 1) {
    const ignoreCase = p.text[at + 1] === "i";
    const end = at + (ignoreCase ? 2 : 1);
    const next = p.text[end];
    if (next === undefined || SPACE.test(next) || next === ")") {
      const found = { regex: p.text.slice(p.at + 1, at), ignoreCase };
      p.at = end;
      return found;
    }
  }
  if (/^[^\s]*[([{\\|^$]/.test(p.text.slice(p.at))) leave("a slash");
  return null;
}

function compare(p, group) {
  if (group === null) leave("a field");
  const sign = /^(>=|<=|>|<)/.exec(p.text.slice(p.at))[0];
  p.at += sign.length;
  const next = peek(p);
  if (next === undefined || SPACE.test(next) || next === "(" || next === ")") leave("a value");
  const end = next === '"' ? { text: quoted(p), quoted: true } : bare(p);
  if (!end.quoted && /^[=<>]/.test(end.text)) leave("a comparison");
  const included = sign.endsWith("=");
  return sign[0] === ">" ? { between: true, low: end, lowIn: included, high: null } : { between: true, low: null, high: end, highIn: included };
}

function between(p) {
  const lowIn = peek(p) === "[";
  p.at += 1;
  const low = bound(p);
  skip(p);
  if (!isWord(p, "TO")) leave("TO");
  p.at += 2;
  const high = bound(p);
  skip(p);
  const close = peek(p);
  if (close !== "]" && close !== "}") leave("a bracket");
  p.at += 1;
  return { between: true, low, lowIn, high, highIn: close === "]" };
}

function bound(p) {
  skip(p);
  if (peek(p) === '"') return { text: quoted(p), quoted: true };
  const found = /^[^\s\]}]*/.exec(p.text.slice(p.at))[0];
  if (!found || found === "TO") leave("an end");
  p.at += found.length;
  return found === "*" ? null : { text: found, quoted: false };
}

// Letters, digits and `_ . - @ $ /`, not a digit first.
export function isPlainName(name) {
  return /^[\p{Alphabetic}_@$.][\p{Alphabetic}\p{N}_.\-@$/]*$/u.test(name) && !name.endsWith(".");
}
