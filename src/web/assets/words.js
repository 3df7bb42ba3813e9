// Words as the query language knows them: runs of letters, digits and `_` in any script, one word per character in
// scripts without spaces. Phrases of words, with wildcards, compared without case.

const WORD = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}";
const ALONE = "\\u0e00-\\u0eff\\u1000-\\u109f\\u1780-\\u17ff\\u2e80-\\u30ff\\u31f0-\\u31ff\\u3400-\\u9fff\\uf900-\\ufaff\\uff66-\\uff9f\\u{20000}-\\u{3ffff}";
const TOKEN = new RegExp(`(?:(?![${ALONE}])[${WORD}])+|(?=[${WORD}])[${ALONE}]`, "gu");
const IS_WORD = new RegExp(`^[${WORD}]$`, "u");
const IS_ALONE = new RegExp(`^[${ALONE}]$`, "u");
export const WORD_CLASS = WORD;

// Characters beyond ASCII that equal each other besides their upper and lower case.
const FOLDS = ["σςΣ", "ßẞ", "µμΜ", "θϑϴΘ", "βϐΒ", "εϵΕ", "κϰΚ", "πϖΠ", "ρϱΡ", "φϕΦ", "åÅ\u212b", "ωΩ\u2126", "ṡẛṠ"];
const folded = new Map();

// All characters that equal `c` when case does not count. ASCII letters equal each other only.
function variants(c) {
  if (c < "\x80") return c.toLowerCase() === c.toUpperCase() ? [c] : [c.toLowerCase(), c.toUpperCase()];
  let found = folded.get(c);
  if (!found) {
    const group = FOLDS.find((fold) => fold.includes(c));
    const lower = c.toLowerCase();
    const upper = c.toUpperCase();
    const all = [c, ...(group ?? ""), lower, upper, lower.toUpperCase(), upper.toLowerCase()];
    found = [...new Set(all)].filter((one) => one >= "\x80" && [...one].length === 1);
    folded.set(c, found);
  }
  return found;
}

const ANY = 0, ONE = 1;

// The words of a text without quotes, `\` taking the next character as it is, `*` and `?` being wildcards; or of a
// quoted one, in which nothing is special. Empty where there are none.
export function phrase(text, quoted) {
  const chars = [];
  let escaped = false;
  for (const c of text) {
    if (!quoted && c === "\\" && !escaped) { escaped = true; continue; }
    chars.push([c, !quoted && !escaped && (c === "*" || c === "?")]);
    escaped = false;
  }
  const words = [];
  let pieces = [];
  const end = () => {
    if (pieces.length) words.push(word(pieces));
    pieces = [];
  };
  let behindAlone = false;
  for (const [c, wildcard] of chars) {
    const letter = !wildcard && IS_WORD.test(c);
    const alone = letter && IS_ALONE.test(c);
    if (wildcard && c === "*" && behindAlone) continue;
    behindAlone = alone;
    if (alone && pieces.every(([one, wild]) => wild && one === "*")) pieces = [];
    if (alone || (!wildcard && !letter)) end();
    if (alone) { pieces.push([c, false]); end(); }
    else if (wildcard || letter) pieces.push([c, wildcard]);
  }
  end();
  return words;
}

// A word as a list of pieces: sets of characters, ONE, ANY.
function word(pieces) {
  const list = [];
  for (const [c, wildcard] of pieces) {
    const piece = wildcard ? (c === "*" ? ANY : ONE) : variants(c);
    if (piece !== ANY || list.at(-1) !== ANY) list.push(piece);
  }
  const literal = pieces.every(([c, wildcard]) => !wildcard && c < "\x80") ? pieces.map(([c]) => c.toLowerCase()).join("") : null;
  return { list, literal };
}

function is(one, text) {
  if (one.literal !== null) {
    return text.length === one.literal.length && (text === one.literal || asciiLower(text) === one.literal);
  }
  return glob(one.list, [...text]);
}

const asciiLower = (text) => text.replace(/[A-Z]+/g, (run) => run.toLowerCase());

// Going back only to the last `*` keeps it at the product of the two lengths.
function glob(pieces, chars) {
  let piece = 0;
  let at = 0;
  let retry = -1;
  let from = 0;
  for (;;) {
    const wanted = pieces[piece];
    if (wanted === ANY) { retry = piece += 1; from = at; continue; }
    if (piece === pieces.length && at === chars.length) return true;
    if (piece < pieces.length && at < chars.length && (wanted === ONE || wanted.includes(chars[at]))) {
      piece += 1;
      at += 1;
    } else if (retry >= 0 && from < chars.length) {
      piece = retry;
      at = from += 1;
    } else return false;
  }
}

// A search for a phrase: `test(text)` and `ranges(text)`.
export function phraseSearch(words) {
  // Nearly every line that lacks the phrase lacks its longest plain run, which is fast to look for.
  let longest = "";
  for (const { list } of words) {
    let run = "";
    for (const piece of [...list, ANY]) {
      const plain = Array.isArray(piece) && piece[0] < "\x80" ? piece[0] : "";
      if (plain) { run += plain; continue; }
      if (run.length > longest.length) longest = run;
      run = "";
    }
  }
  const likely = longest ? new RegExp(longest.replace(/[^\w]/g, "\\$&"), "i") : null;
  const find = function* (text) {
    if (likely && !likely.test(text)) return;
    const window = [];
    for (const token of text.matchAll(TOKEN)) {
      window.push(token);
      if (window.length > words.length) window.shift();
      if (window.length < words.length || !words.every((one, at) => is(one, window[at][0]))) continue;
      yield [window[0].index, token.index + token[0].length];
      window.length = 0;
    }
  };
  return { test: (text) => !find(text).next().done, ranges: (text) => [...find(text)] };
}

export function exactSearch(wanted) {
  return {
    test: (text) => text.includes(wanted),
    ranges: (text) => {
      const found = [];
      for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length)) found.push([at, at + wanted.length]);
      return found;
    },
  };
}
