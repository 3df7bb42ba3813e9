// Colours of terminals (SGR, ECMA-48 8.3.117) as pieces of text with a class or a colour. Every other escape sequence
// is left out; control characters and those that reorder text become visible signs, so that a line cannot show itself
// as what it is not (CWE-150, CVE-2021-42574).

// eslint-disable-next-line no-control-regex
const STRANGE = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029\ufeff]/;
// CSI, OSC and its like up to their terminator, two-character escapes.
const ESCAPE = /(?:\x1b\[|\x9b)([0-?]*)[ -/]*([@-~])|(?:\x1b[\]P^_X]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c|$)|\x1b[ -/]*[0-~]?/g;
const SIGNS = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029\ufeff]/g;
const PIECES_MAX = 512; // of one line; what is more keeps the last style

export const isStrange = (text) => STRANGE.test(text);

// Control characters as visible signs: U+2400 and on for ASCII, `‹U+202E›` for the others.
export function visible(text) {
  return text.replace(SIGNS, (sign) => {
    const code = sign.charCodeAt(0);
    if (code === 13) return "";
    if (code < 32) return String.fromCharCode(0x2400 + code);
    if (code === 127) return "\u2421";
    return "\u2039U+" + code.toString(16).toUpperCase().padStart(4, "0") + "\u203a";
  });
}

// The text without any escape sequence.
export function plain(text) {
  return STRANGE.test(text) ? visible(text.replace(ESCAPE, "")) : text;
}

// Pieces `{ text, className, color, background }` that together are the line.
export function pieces(text) {
  if (!text.includes("\x1b[") && !text.includes("\x9b")) return [{ text: plain(text), className: "" }];
  const found = [];
  let style = fresh();
  let from = 0;
  ESCAPE.lastIndex = 0;
  const add = (to) => {
    if (to > from) found.push({ text: visible(text.slice(from, to)), ...dressed(style) });
  };
  for (let match = ESCAPE.exec(text); match; match = ESCAPE.exec(text)) {
    add(match.index);
    from = match.index + match[0].length;
    if (match[2] === "m" && found.length < PIECES_MAX) style = applied(style, match[1]);
    if (match[0] === "") ESCAPE.lastIndex += 1;
  }
  add(text.length);
  return found;
}

const fresh = () => ({ bold: false, dim: false, italic: false, underline: false, strike: false, inverse: false, fore: null, back: null });

function dressed(style) {
  const names = [];
  for (const name of ["bold", "dim", "italic", "underline", "strike"]) if (style[name]) names.push("a-" + name);
  const [fore, back] = style.inverse ? [style.back ?? 0, style.fore ?? 7] : [style.fore, style.back];
  let color = "";
  let background = "";
  if (typeof fore === "number") names.push("a-f" + fore);
  else if (fore) color = fore;
  if (typeof back === "number") names.push("a-b" + back);
  else if (back) background = back;
  return { className: names.join(" "), color, background };
}

function applied(before, parameters) {
  const style = { ...before };
  const codes = parameters.split(/[;:]/).map((code) => (code === "" ? 0 : Number(code)));
  for (let at = 0; at < codes.length; at += 1) {
    const code = codes[at];
    if (code === 0) Object.assign(style, fresh());
    else if (code === 1) style.bold = true;
    else if (code === 2) style.dim = true;
    else if (code === 3) style.italic = true;
    else if (code === 4) style.underline = true;
    else if (code === 7) style.inverse = true;
    else if (code === 9) style.strike = true;
    else if (code === 22) style.bold = style.dim = false;
    else if (code === 23) style.italic = false;
    else if (code === 24) style.underline = false;
    else if (code === 27) style.inverse = false;
    else if (code === 29) style.strike = false;
    else if (code >= 30 && code <= 37) style.fore = code - 30;
    else if (code >= 90 && code <= 97) style.fore = code - 82;
    else if (code >= 40 && code <= 47) style.back = code - 40;
    else if (code >= 100 && code <= 107) style.back = code - 92;
    else if (code === 39) style.fore = null;
    else if (code === 49) style.back = null;
    else if (code === 38 || code === 48) {
      const [color, used] = extended(codes, at + 1);
      style[code === 38 ? "fore" : "back"] = color;
      at += used;
    }
    // Hidden text (8) is shown all the same, and blinking (5) does not blink.
  }
  return style;
}

const byte = (n) => Math.max(0, Math.min(255, n | 0));

// 256 colours and true colour; the first sixteen follow the theme.
function extended(codes, at) {
  if (codes[at] === 2) return [`rgb(${byte(codes[at + 1])},${byte(codes[at + 2])},${byte(codes[at + 3])})`, 4];
  if (codes[at] !== 5) return [null, 0];
  const index = byte(codes[at + 1]);
  if (index < 16) return [index, 2];
  if (index >= 232) {
    const gray = 8 + (index - 232) * 10;
    return [`rgb(${gray},${gray},${gray})`, 2];
  }
  const step = (n) => (n ? 55 + n * 40 : 0);
  const cube = index - 16;
  return [`rgb(${step(Math.floor(cube / 36))},${step(Math.floor(cube / 6) % 6)},${step(cube % 6)})`, 2];
}
