// Fields of a line: of a JSON object, of logfmt pairs, or of an object at the end. `lookup` finds one exactly as weir's
// own query does; `all` lists them for reading. Works on any text; garbage has no fields.

const DEPTH_MAX = 32;
const FIELDS_MAX = 300; // of one line, as listed

const space = (code) => code === 32 || (code >= 9 && code <= 13 && code !== 11);

// The first value of a field, strings without quotes and escapes, others as they are written; undefined without one.
export const lookup = (line, name) => values(line, name)[0]?.text;

// Every value of a field: of a key, of objects within, of elements of arrays, of `key=value` pairs. Each is
// `{ text, object }`; `object` says that it is a JSON object as a whole, `empty` that it is null.
export function values(line, name) {
  const found = [];
  const start = skip(line, 0);
  if (line[start] === "{") {
    inObject(line.slice(start), name, 0, found);
    return found;
  }
  if (line.includes(name)) {
    for (const [key, written] of pairs(line)) if (key === name) found.push(valueOf(written, false));
  }
  const object = line.indexOf('{"');
  if (object >= 0) inObject(line.slice(object), name, 0, found);
  return found;
}

function valueOf(written, json = true) {
  if (written.length >= 2 && written[0] === '"' && written.endsWith('"')) return { text: unescaped(written.slice(1, -1)), object: false, empty: false };
  return { text: written, object: json && written[0] === "{", empty: written === "null" };
}

function inObject(text, name, depth, found) {
  for (let at = 1; ;) {
    at = skip(text, at);
    if (text[at] === ",") { at += 1; continue; }
    if (text[at] !== '"') return;
    const end = stringEnd(text, at);
    const colon = end < 0 ? -1 : skip(text, end);
    if (colon < 0 || text[colon] !== ":") return;
    const key = unescaped(text.slice(at + 1, end - 1));
    const from = skip(text, colon + 1);
    const to = endOrCut(text, from);
    if (to < 0) return;
    if (key === name) each(text.slice(from, to), depth, found);
    else if (name.startsWith(key + ".") && depth < DEPTH_MAX) inside(text.slice(from, to), name.slice(key.length + 1), depth + 1, found);
    at = to;
  }
}

// Of a line that was cut off in the middle of an object or an array, the value is what is left.
function endOrCut(text, from) {
  const to = valueEnd(text, from);
  return to < 0 && (text[from] === "{" || text[from] === "[") ? text.length : to;
}

function inside(text, name, depth, found) {
  if (text[0] === "{") inObject(text, name, depth, found);
  else if (text[0] === "[" && depth < DEPTH_MAX) for (const one of elements(text)) inside(one, name, depth + 1, found);
}

function each(text, depth, found) {
  if (text[0] !== "[") found.push(valueOf(text));
  else if (depth < DEPTH_MAX) for (const one of elements(text)) each(one, depth + 1, found);
}

function* elements(array) {
  for (let at = 1; ;) {
    at = skip(array, at);
    if (array[at] === ",") { at += 1; continue; }
    if (at >= array.length || array[at] === "]") return;
    const end = endOrCut(array, at);
    if (end < 0) return;
    yield array.slice(at, end);
    at = end;
  }
}

function skip(text, at) {
  while (at < text.length && space(text.charCodeAt(at))) at += 1;
  return at;
}

// One past the closing quote of the string that opens at `open`; -1 without one.
function stringEnd(text, open) {
  for (let at = open + 1; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === 34) return at + 1;
    if (code === 92) at += 1;
  }
  return -1;
}

function valueEnd(text, start) {
  let depth = 0;
  for (let at = start; ;) {
    if (at >= text.length) return -1;
    const sign = text[at];
    if (sign === '"') {
      at = stringEnd(text, at);
      if (at < 0) return -1;
    } else if (sign === "{" || sign === "[") {
      depth += 1;
      at += 1;
    } else if (sign === "}" || sign === "]") {
      if (depth === 0) return -1;
      depth -= 1;
      at += 1;
    } else if (depth > 0) {
      at += 1;
      continue;
    } else {
      let end = at;
      while (end < text.length && !',}]":'.includes(text[end]) && !space(text.charCodeAt(end))) end += 1;
      return end > at ? end : -1;
    }
    if (depth === 0) return at;
  }
}

const SHORT = { n: "\n", t: "\t", r: "\r", b: "\b", f: "\f", '"': '"', "\\": "\\", "/": "/" };

// The inside of a JSON string. Unknown escapes stay as they are, lone surrogates become U+FFFD.
export function unescaped(inner) {
  if (!inner.includes("\\")) return inner;
  return inner.replace(/\\u([dD][89abAB][\da-fA-F]{2})\\u([dD][c-fC-F][\da-fA-F]{2})|\\u([\da-fA-F]{4})|\\([^])/g,
    (whole, high, low, unit, sign) => {
      if (high) return String.fromCharCode(parseInt(high, 16), parseInt(low, 16));
      if (unit) return /^d[89a-f]/i.test(unit) ? "\ufffd" : String.fromCharCode(parseInt(unit, 16));
      return sign === "u" ? "\ufffd" : SHORT[sign] ?? whole;
    });
}

const edge = (sign) => space(sign.charCodeAt(0)) || ",;([{|".includes(sign);
const wordEnd = (line, at) => {
  while (at < line.length && !space(line.charCodeAt(at)) && !",;)]}|".includes(line[at])) at += 1;
  return at;
};

// `[key, value as it is written]` of every pair, from the left.
function* pairs(line) {
  for (let at = 0; ;) {
    const equals = line.indexOf("=", at);
    if (equals < 0) return;
    let key = equals;
    while (key > at && !edge(line[key - 1])) key -= 1;
    let start = equals + 1;
    let end = -1;
    let next = 0;
    if (line[start] === '"') {
      end = stringEnd(line, start);
      next = end;
      if (end < 0) next = start + 1;
    }
    if (end < 0) end = wordEnd(line, start);
    if (!next) next = end;
    yield [line.slice(key, equals), line.slice(start, end)];
    at = next;
  }
}

// The object that a line is, or ends with; null without one.
export function objectOf(line) {
  const trimmed = line.trimStart();
  const at = trimmed.startsWith("{") ? line.length - trimmed.length : line.indexOf('{"');
  if (at < 0) return null;
  try {
    const object = JSON.parse(line.slice(at));
    return object && typeof object === "object" && !Array.isArray(object) ? { object, at } : null;
  } catch {
    return null;
  }
}

// `[path, text]` of all fields of a line, as many as are listed.
export function all(line) {
  const found = [];
  const json = objectOf(line);
  const walk = (object, before, depth) => {
    for (const [key, inner] of Object.entries(object)) {
      if (found.length >= FIELDS_MAX) return;
      const path = before + key;
      if (inner && typeof inner === "object" && !Array.isArray(inner) && depth < DEPTH_MAX) walk(inner, path + ".", depth + 1);
      else found.push([path, typeof inner === "string" ? inner : JSON.stringify(inner)]);
    }
  };
  if (!json || json.at > 0) {
    const known = new Set();
    for (const [key, text] of pairs(json ? line.slice(0, json.at) : line)) {
      if (found.length >= FIELDS_MAX) break;
      if (!/^[\p{L}\p{N}_@$./:-]{1,64}$/u.test(key) || known.has(key)) continue;
      known.add(key);
      found.push([key, valueOf(text, false).text]);
    }
  }
  if (json) walk(json.object, "", 0);
  return found;
}
