// An opened row: all fields, pretty JSON, the line itself, and its neighbours, each with what can be done about it.

import { LEVELS, NOTE, epochs, pipelines, sources } from "./store.js";
import { all, objectOf } from "./fields.js";
import { pieces, plain } from "./ansi.js";
import { NEIGHBOURS, neighbours } from "./context.js";
import { button, element } from "./dom.js";
import { copyText, rowAsJson } from "./export.js";
import { stamp, timeText } from "./time.js";

const JSON_CHARS_MAX = 200000;
const TOKEN = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null)\b|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)/g;
const OWN = new Set(["level", "timestamp", "source", "pipeline", "message"]);
const TABS = [["fields", "Fields"], ["json", "JSON"], ["line", "Line"], ["context", "Context"]];

export class Details {
  constructor(page) {
    this.page = page;
    this.tabs = new Map(); // row -> name of its tab
    this.contexts = new Map(); // row -> neighbours, or "asked"
  }

  choose(row, tab) {
    if (this.tabs.size > 500) this.tabs.clear();
    this.tabs.set(row, tab);
    this.page.refresh(row);
  }

  // Opens a row at its neighbours, or closes them.
  context(row) {
    const { page } = this;
    if (row < 0 || !page.store.has(row) || page.store.kind[page.store.slot(row)] === NOTE) return;
    if (page.open.has(row) && this.tabs.get(row) === "context") return page.toggle(row);
    this.tabs.set(row, "context");
    if (!page.open.has(row)) page.toggle(row);
    else page.refresh(row);
  }

  build(row) {
    const { store } = this.page;
    const line = store.line[store.slot(row)];
    const json = objectOf(line);
    const tab = this.tabs.get(row) ?? "fields";
    const box = element("div", "details");
    box.setAttribute("role", "gridcell");
    const bar = element("div", "tabs");
    for (const [name, label] of TABS) {
      if (name === "json" && !json) continue;
      const one = button("tab", label, "", () => this.choose(row, name));
      one.setAttribute("aria-pressed", String(name === tab));
      bar.append(one);
    }
    bar.append(element("span", "spring"),
      button("act", "Copy line", "The line as it came (y)", () => copyText(line, "Line")),
      button("act", "Copy JSON", "The event as JSON", () => copyText(JSON.stringify(rowAsJson(store, row), null, 2), "Event")),
      button("act", "Copy link", "A link to this event", () => this.link(row)));
    box.append(bar);
    if (tab === "json" && json) box.append(prettyJson(json.object));
    else if (tab === "line") box.append(wholeLine(line, this.page));
    else if (tab === "context") box.append(this.contextList(row));
    else box.append(this.fields(row, line));
    // A click in here is not one on the row.
    box.addEventListener("click", (event) => event.stopPropagation());
    return box;
  }

  link(row) {
    this.page.activate(row);
    this.page.pause(true);
    copyText(location.href, "Link");
  }

  fields(row, line) {
    const { store } = this.page;
    const at = store.slot(row);
    const table = element("dl", "fields");
    const level = LEVELS[store.level[at]];
    const add = (name, value, query, column = false) => {
      const actions = element("span", "actions");
      if (query) {
        actions.append(
          button("act", "+", `Show only events with this ${name}`, () => this.page.tell("query", query)),
          button("act", "−", `Hide events with this ${name}`, () => this.page.tell("query", "-" + query)));
      }
      if (column) {
        const shown = this.page.look.columns.includes(name);
        const toggle = button("act", "col", shown ? "Remove this column" : "Show as a column", () => this.page.tell("column", name));
        toggle.setAttribute("aria-pressed", String(shown));
        actions.append(toggle);
      }
      for (const one of actions.children) one.setAttribute("aria-label", one.title + ": " + name);
      const term = element("dt", "", plain(name));
      const text = element("dd", "", plain(value.length > 8000 ? value.slice(0, 8000) + "…" : value));
      table.append(term, actions, text);
    };
    add("time", stamp(store.time[at]));
    if (level) add("level", level, "level:" + level);
    add("pipeline", `${pipelines.names[store.pipeline[at]]}  (${epochs.names[store.epoch[at]]}-${store.seq[at]})`);
    if (store.source[at]) add("source", sources.names[store.source[at]], "source:" + quoted(sources.names[store.source[at]]));
    const found = all(line);
    for (const [name, value] of found) {
      const reachable = /^[A-Za-z_@$][\w@$./-]*$/.test(name) && value !== undefined;
      // Names with a meaning of their own are the line's own keys behind a dot.
      const asked = OWN.has(name) ? "." + name : name;
      add(name, value ?? "", reachable ? `${asked}:${quoted(value)}` : "", reachable);
    }
    if (!found.length || !line.trimStart().startsWith("{")) add("line", line);
    return table;
  }

  contextList(row) {
    const known = this.contexts.get(row);
    const box = element("div", "context");
    if (!known) {
      if (this.contexts.size > 200) this.contexts.clear();
      this.contexts.set(row, "asked");
      neighbours(this.page, row).then((found) => {
        this.contexts.set(row, found);
        this.page.refresh(row);
      });
    }
    if (!known || known === "asked") {
      box.textContent = "Asking for the events around this one…";
      return box;
    }
    for (const { seq, time, level, line, hit } of known.rows) {
      const one = element("div", "near " + (LEVELS[level] || "plain") + (hit ? " hit" : ""));
      one.append(element("span", "time", timeText(time)), element("span", "level", LEVELS[level]),
        element("span", "message", plain(line.length > 1000 ? line.slice(0, 1000) + "…" : line)));
      one.title = "event " + seq;
      box.append(one);
    }
    box.append(element("p", "quiet", known.said || `The ${NEIGHBOURS} events before and after, whatever the filter.`));
    return box;
  }
}

// A value as the query language takes it.
export const quoted = (value) => '"' + value.slice(0, 200).replace(/[\\"]/g, "\\$&").replace(/[\r\n\t]+/g, " ") + '"';

function wholeLine(line, page) {
  const box = element("pre", "whole");
  const parts = page.look.ansi ? pieces(line) : [{ text: plain(line), className: "" }];
  box.append(...page.renderer.marked(parts, page.query));
  return box;
}

function prettyJson(object) {
  const text = JSON.stringify(object, null, 2);
  const box = element("pre", "whole json");
  if (text.length > JSON_CHARS_MAX) {
    box.textContent = plain(text.slice(0, JSON_CHARS_MAX)) + "…";
    return box;
  }
  let from = 0;
  for (const found of text.matchAll(TOKEN)) {
    box.append(plain(text.slice(from, found.index)));
    const [whole, string, colon, word] = found;
    const kind = string ? (colon ? "key" : "string") : word ? "word" : "digits";
    box.append(element("span", "j-" + kind, plain(whole)));
    from = found.index + whole.length;
  }
  box.append(plain(text.slice(from)));
  return box;
}
