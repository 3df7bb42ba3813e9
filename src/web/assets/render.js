// A row as an element: its cells, the message with colours and marks, and, when it is open, everything about it.

import { LEVELS, NOTE, pipelines, sources } from "./store.js";
import { isStrange, pieces, plain } from "./ansi.js";
import { all, lookup, objectOf } from "./fields.js";
import { element } from "./dom.js";
import { timeText, stamp } from "./time.js";

const MESSAGE_MAX = 4000; // characters of a message in a closed row
const MESSAGE_KEYS = ["message", "msg", "event", "text", "log", "short_message", "body"];
// What the columns say already is left out of the message of a JSON line.
const TOLD_KEYS = new Set(["timestamp", "time", "ts", "@timestamp", "date", "datetime", "level", "severity", "lvl", "loglevel"]);
const PAIRS_MAX = 24;
const TIME = /^\[?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)\]?\s+/;
const LEVEL = /^(?:[-|]\s+)?\[?([A-Za-z]+)\]?:?\s+/;
const LOGFMT = /^[A-Za-z_@][\w@.-]{0,63}=/;
const LINE_END = /\r?\n/g;

export class Renderer {
  // `page` has: store, look (columns, wrap, ansi, raw), query, open, details(node, row), active, isSelected(row).
  constructor(page) {
    this.page = page;
    this.dated = false;
    this.signature = "";
  }

  // The cells of a row by the columns there are now.
  columns() {
    const { look } = this.page;
    const found = ["time", "level"];
    if (look.showPipeline) found.push("pipeline");
    if (look.showSource) found.push("source");
    look.columns.forEach((name) => found.push("field:" + name));
    found.push("message");
    return found;
  }

  fill(node, row) {
    const { store } = this.page;
    const at = store.slot(row);
    const note = store.kind[at] === NOTE;
    const open = this.page.open.has(row);
    const level = LEVELS[store.level[at]];
    node.className = (note ? "row note" : "row " + (level || "plain")) + (open ? " open" : "")
      + (row === this.page.active ? " active" : "") + (this.page.isSelected(row) ? " selected" : "");
    node.setAttribute("aria-selected", String(this.page.isSelected(row) || row === this.page.active));
    if (note) {
      node.columns = "";
      const cell = element("span", "message", store.line[at]);
      cell.setAttribute("role", "gridcell");
      node.replaceChildren(cell);
      return;
    }
    node.setAttribute("aria-expanded", String(open));
    const cells = this.cells(node);
    const line = store.line[at];
    const time = store.time[at];
    cells.time.textContent = timeText(time, this.dated);
    cells.time.title = stamp(time);
    cells.level.textContent = level === "notice" ? "note" : level;
    if (cells.pipeline) cells.pipeline.textContent = pipelines.names[store.pipeline[at]];
    if (cells.source) {
      const source = sources.names[store.source[at]];
      cells.source.textContent = plain(source.slice(source.lastIndexOf("/") + 1));
      cells.source.title = source;
    }
    for (const name of this.page.look.columns) {
      const value = lookup(line, name);
      const cell = cells["field:" + name];
      cell.textContent = value === undefined ? "" : inLine(plain(value.slice(0, 400)));
      cell.title = value === undefined || value.length < 20 ? "" : value.slice(0, 2000);
    }
    this.message(cells.message, line, time, level, this.page.look.wrap || open);
    node.details?.remove();
    node.details = null;
    if (open) {
      node.details = this.page.details(row);
      node.append(node.details);
    }
  }

  cells(node) {
    const columns = this.columns();
    const signature = columns.join("\n");
    if (node.columns === signature) return node.cells;
    node.columns = signature;
    node.cells = {};
    node.replaceChildren(...columns.map((name) => {
      const cell = element("span", name.startsWith("field:") ? "field" : name);
      cell.setAttribute("role", "gridcell");
      node.cells[name] = cell;
      return cell;
    }));
    return node.cells;
  }

  // `tall` says that the row may have several lines; any other has one, whatever line ends its text holds.
  message(cell, line, time, level, tall) {
    const { look, query } = this.page;
    if (!look.raw && line.trimStart().startsWith("{")) {
      const json = objectOf(line);
      if (json) return this.json(cell, json.object, query, tall);
    }
    if (!look.raw && LOGFMT.test(line)) {
      const pairs = Object.fromEntries(all(line));
      if (MESSAGE_KEYS.some((name) => pairs[name])) return this.json(cell, pairs, query, tall);
    }
    let shown = line.length > MESSAGE_MAX ? line.slice(0, MESSAGE_MAX) + "…" : line;
    if (!look.raw) shown = shown.slice(toldLength(shown, time, level));
    shown = tall ? shown : inLine(shown);
    if (!isStrange(shown) && !query.marks) {
      cell.textContent = shown;
      return;
    }
    cell.replaceChildren(...this.marked(look.ansi ? pieces(shown) : [{ text: plain(shown), className: "" }], query));
  }

  // The message first, then the other fields in short; of logfmt as of JSON.
  json(cell, object, query, tall) {
    const nodes = [];
    const laid = tall ? (text) => text.trimEnd() : inLine;
    const key = MESSAGE_KEYS.find((name) => typeof object[name] === "string");
    if (key) {
      const text = laid(object[key].length > MESSAGE_MAX ? object[key].slice(0, MESSAGE_MAX) + "…" : object[key]);
      nodes.push(...this.marked(this.page.look.ansi ? pieces(text) : [{ text: plain(text), className: "" }], query));
    }
    let count = 0;
    for (const [name, value] of Object.entries(object)) {
      if (name === key || TOLD_KEYS.has(name.toLowerCase()) || this.page.look.columns.includes(name)) continue;
      if ((count += 1) > PAIRS_MAX) {
        nodes.push(element("span", "key", " …"));
        break;
      }
      const text = typeof value === "string" ? value : JSON.stringify(value);
      nodes.push(element("span", "key", (nodes.length ? " " : "") + plain(name) + "="));
      nodes.push(...this.marked([{ text: plain(laid(text.slice(0, 500))), className: "value" }], query));
    }
    cell.replaceChildren(...nodes);
  }

  // Pieces as spans, with what the query looks for marked.
  marked(parts, query) {
    const text = parts.map((part) => part.text).join("");
    const ranges = query.marks ? query.marks(text) : [];
    const nodes = [];
    let from = 0;
    let next = 0;
    for (const part of parts) {
      const end = from + part.text.length;
      let at = from;
      while (at < end) {
        while (next < ranges.length && ranges[next][1] <= at) next += 1;
        const range = ranges[next];
        const inside = range && range[0] <= at;
        const to = Math.min(end, inside ? range[1] : range ? range[0] : end);
        nodes.push(span(part, text.slice(at, to), inside));
        at = to;
      }
      from = end;
    }
    return nodes;
  }
}

// Text on one line: ends of lines are signs, and the last ones are left out.
const inLine = (text) => (text.includes("\n") ? text.trimEnd().replace(LINE_END, "↵") : text);

function span(part, text, hit) {
  if (!part.className && !part.color && !part.background) return hit ? element("mark", "", text) : document.createTextNode(text);
  const node = element(hit ? "mark" : "span", part.className, text);
  if (part.color) node.style.color = part.color;
  if (part.background) node.style.backgroundColor = part.background;
  return node;
}

// How much of the line's beginning repeats the time and the level of its columns.
export function toldLength(line, time, level) {
  const found = TIME.exec(line);
  if (!found || Math.floor(time) !== Date.parse(found[1].replace(" ", "T").replace(",", "."))) return 0;
  const word = LEVEL.exec(line.slice(found[0].length));
  const same = word && level && word[1].toLowerCase().startsWith(level.slice(0, 4));
  return found[0].length + (same ? word[0].length : 0);
}

// Names of fields that lines have, and how often they were seen: what columns can be made of.
export class SeenFields {
  constructor(max) {
    this.max = max;
    this.counts = new Map();
  }
  look(line) {
    for (const [name, value] of all(line)) {
      if (value === undefined || name.length > 100) continue;
      const seen = this.counts.get(name);
      if (seen) { seen.count += 1; seen.sample = value; }
      else if (this.counts.size < this.max) this.counts.set(name, { count: 1, sample: value });
    }
  }
  get list() { return [...this.counts].sort((a, b) => b[1].count - a[1].count); }
}
