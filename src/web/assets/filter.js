// The filter: a query and a least level. The server checks the query; what it finds wrong stands below the input, with
// the place marked, while the rows of the last good one stay.

import { $, element } from "./dom.js";

const TYPING = 350; // milliseconds of rest before what was typed is tried

export class Filter {
  constructor(page) {
    this.page = page;
    this.timer = 0;
    this.input = $("q");
    this.input.value = page.want.q;
    $("level").value = page.want.level;
    this.input.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.apply(), TYPING);
    });
    $("level").addEventListener("change", () => this.apply());
    $("controls").addEventListener("submit", (event) => {
      event.preventDefault();
      this.apply();
    });
    page.listeners.add((what, ...about) => {
      if (what === "agreed") this.agreed();
      else if (what === "refused") this.refused(...about);
      else if (what === "query") this.add(about[0]);
    });
  }

  apply() {
    clearTimeout(this.timer);
    const filter = { q: this.input.value.trim(), level: $("level").value };
    const { want } = this.page;
    if (filter.q === want.q && filter.level === want.level && !this.wrong) return;
    this.input.classList.add("busy");
    this.page.filter(filter);
  }

  set(q) {
    this.input.value = q;
    this.apply();
  }

  // One more condition. What is there already keeps its meaning.
  add(condition) {
    const before = this.input.value.trim();
    if (before.split(/\s+(?:AND\s+)?/).includes(condition)) return;
    const opposite = condition.startsWith("-") ? condition.slice(1) : "-" + condition;
    if (before === opposite) return this.set(condition);
    this.set(!before ? condition : (/\bOR\b/.test(before) ? `(${before})` : before) + " " + condition);
  }

  agreed() {
    this.wrong = false;
    this.input.classList.remove("busy");
    this.input.removeAttribute("aria-invalid");
    $("problem").hidden = true;
  }

  refused(problem, wish) {
    this.input.classList.remove("busy");
    const box = $("problem");
    box.replaceChildren();
    const at = problem.position;
    const query = wish.filter.q;
    this.wrong = problem.status === 400;
    if (this.wrong && query) {
      this.input.setAttribute("aria-invalid", "true");
      const [from, to] = range(query, at);
      const shown = element("code", "query");
      shown.append(query.slice(0, from), element("mark", "", query.slice(from, to) || " "), query.slice(to));
      box.append(shown);
    }
    const message = problem.message ?? problem.detail ?? "refused";
    box.append(worded("what", message));
    if (problem.expected) box.append(worded("expected", "expected " + problem.expected));
    if (problem.hint) box.append(worded("hint", "hint: " + problem.hint));
    if (problem.status === 401) box.append(element("span", "hint", "load this page again to log in"));
    box.hidden = false;
  }
}

// What the server says, with what stands between backticks as code.
function worded(className, text) {
  const parts = text.split("`");
  const node = element("span", className);
  if (parts.length % 2 === 0) node.append(text);
  else node.append(...parts.map((part, at) => (at % 2 ? element("code", "", part) : part)));
  return node;
}

// The marked place, from bytes of UTF-8 to characters: `[from, to]` or `{ start, end }`, or a single place.
function range(query, at) {
  const [from, to] = Array.isArray(at) ? at : at && typeof at === "object" ? [at.start, at.end] : [at ?? query.length, at ?? query.length];
  const bytes = new TextEncoder().encode(query);
  const characters = (n) => new TextDecoder().decode(bytes.slice(0, n)).length;
  return [characters(from), Math.max(characters(to), characters(from))];
}
