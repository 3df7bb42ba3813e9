// The keyboard and the pointer in the list, and the dialog that tells of them.

import { NOTE } from "./store.js";
import { $, element } from "./dom.js";
import { copyRows } from "./export.js";

const KEYS = [
  ["/", "filter"], ["space", "pause or resume"], ["j k", "next, previous row; with shift they select"], ["enter", "open or close the row"],
  ["c", "the events around it"], ["g G", "first row, latest row"], ["n p", "next, previous warning or error"], ["y", "copy the row or the selection"],
  ["w", "wrap long lines"], ["a", "terminal colours"], ["r", "lines as they came"], ["t", "light or dark"], ["esc", "close, deselect, leave the filter"], ["?", "this help"],
];

const inDialog = () => document.querySelector("dialog[open]") !== null;

export class Keys {
  constructor(page, controls, filter) {
    Object.assign(this, { page, controls, filter });
    document.addEventListener("keydown", (event) => this.pressed(event));
    const rows = $("rows");
    rows.addEventListener("click", (event) => this.clicked(event));
    rows.addEventListener("mousedown", (event) => { if (event.shiftKey && event.target.closest(".row")) event.preventDefault(); });
    $("help-open").addEventListener("click", () => $("help").showModal());
    $("help").addEventListener("click", (event) => { if (event.target === $("help")) $("help").close(); });
    $("keys").replaceChildren(...KEYS.flatMap(([keys, what]) => {
      const term = element("dt");
      for (const key of keys.split(" ")) term.append(element("kbd", "", key), " ");
      return [term, element("dd", "", what)];
    }));
  }

  // A click opens a row; a drag selects text; with shift, rows.
  clicked(event) {
    const node = event.target.closest(".row");
    if (!node || !(node.row >= 0)) return;
    const { page } = this;
    if (event.shiftKey) return page.activate(node.row, "range");
    if (!getSelection().isCollapsed) return;
    page.activate(node.row);
    page.toggle(node.row);
  }

  pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const typing = event.target.closest?.("input:not([type=checkbox]), select, textarea");
    if (event.key === "Escape") return this.escape(event, typing);
    if (typing || inDialog()) return;
    // Buttons and links keep what they do with space and enter.
    const onControl = event.target.closest?.("button, a, summary, input");
    if (onControl && (event.key === " " || event.key === "Enter")) return;
    if (this.act(event.key, event.shiftKey)) event.preventDefault();
  }

  escape(event, typing) {
    const { page } = this;
    if (inDialog()) return;
    if (this.controls.closeMenus()) event.preventDefault();
    else if (typing) event.target.blur();
    else if (page.selection) { page.selection = null; page.list.refill(); page.wake(); }
    else if (page.open.size) { for (const row of [...page.open]) page.toggle(row); }
    else if (page.active >= 0) page.activate(-1);
  }

  act(key, shift) {
    const { page } = this;
    const { active } = page;
    switch (key) {
      case "/": $("q").focus(); $("q").select(); return true;
      case " ": page.pause(!page.paused); return true;
      case "j": case "J": case "ArrowDown": this.step(1, shift); return true;
      case "k": case "K": case "ArrowUp": this.step(-1, shift); return true;
      case "n": case "p": this.bad(key === "n" ? 1 : -1); return true;
      case "Enter": if (active >= 0) { page.toggle(active); page.list.reveal(active); } return active >= 0;
      case "c": if (active >= 0) { page.detailer.context(active); page.list.reveal(active); } return true;
      case "g": case "Home": this.ends(0); return true;
      case "G": case "End": this.controls.latest(); this.lastActive(); return true;
      case "y": copyRows(page); return true;
      case "w": case "a": case "r": {
        const name = { w: "wrap", a: "ansi", r: "raw" }[key];
        page.setLook({ [name]: !page.look[name] });
        return true;
      }
      case "t": this.controls.theme(); return true;
      case "?": $("help").showModal(); return true;
      default: return false;
    }
  }

  step(by, shift) {
    const { page } = this;
    const { view } = page;
    if (!view.count) return;
    const at = page.active >= 0 && view.has(page.active) ? view.position(page.active) + by : this.start(by);
    this.go(Math.max(0, Math.min(view.count - 1, at)), shift);
  }

  // Without an active row, the last one in sight is where one begins.
  start() {
    const { view, list } = this.page;
    return Math.min(view.count - 1, list.following ? view.count - 1 : view.find(list.top + list.height / 2));
  }

  go(position, shift) {
    const { page } = this;
    const row = page.view.at(position);
    page.activate(row, shift ? "range" : false);
    page.list.follow(false);
    page.list.reveal(row);
    page.controls();
  }

  bad(by) {
    const { store, view, active } = this.page;
    let at = active >= 0 && view.has(active) ? view.position(active) + by : this.start();
    for (; at >= 0 && at < view.count; at += by) {
      const slot = store.slot(view.at(at));
      if (store.level[slot] >= 5 && store.kind[slot] !== NOTE) return this.go(at, false);
    }
  }

  ends(position) {
    if (this.page.view.count) this.go(position, false);
  }

  lastActive() {
    const { page } = this;
    if (page.view.count) page.activate(page.view.at(page.view.count - 1));
  }
}
