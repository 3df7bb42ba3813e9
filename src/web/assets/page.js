// What the page is: rows kept, rows shown, the filter they pass, and the one loop that draws, at most once a frame. What
// users do comes in as methods; the other modules are told what they need.

import { Details } from "./details.js";
import { Histogram } from "./histogram.js";
import { Intake } from "./intake.js";
import { List } from "./list.js";
import { Renderer, SeenFields } from "./render.js";
import { NOTE, Store, epochs, pipelines, sources } from "./store.js";
import { Stream } from "./stream.js";
import { View } from "./view.js";
import { compile } from "./query.js";
import { isToday } from "./time.js";
import { $, events, number, say, stored } from "./dom.js";
import * as url from "./url.js";

export const KEPT = 100000; // rows
// Where there is little room, a row's message stands below its columns.
export const NARROW = matchMedia("(max-width: 640px)");
const TAIL = 2000; // rows of history asked for
const ALL = 1000000;
const TAKEN_MAX = 4000; // rows taken in per frame
const CHECK_BUDGET = 8; // milliseconds of checking kept rows against a new filter, per frame
const DRAW_SHARE = 3; // of the time, a third at most goes into drawing
const WRAPPED_LINES = 8;

export class Page {
  constructor() {
    this.want = url.read();
    this.store = new Store(KEPT);
    this.view = new View(KEPT);
    this.histogram = new Histogram($("histogram"));
    this.intake = new Intake(KEPT, { histogram: this.histogram, kept: this.store, came: (gone) => this.came(gone) });
    this.seen = new SeenFields(200);
    this.open = new Set();
    this.active = -1;
    this.selection = null;
    this.paused = false;
    this.applied = { q: "", level: "" };
    this.query = compile("", "");
    this.look = this.readLook();
    this.renderer = new Renderer(this);
    this.detailer = new Details(this);
    this.list = new List($("log"), $("rows"), this.view, {
      fill: (node, row) => this.renderer.fill(node, row),
      measured: (row) => this.look.wrap || NARROW.matches || this.open.has(row),
      moved: (changed) => { if (changed) this.controls(); this.wake(); },
    });
    this.stream = new Stream({
      state: (name, text) => this.showState(name, text),
      opened: (wish) => this.opened(wish),
      take: (kind, data, id) => this.intake.take(kind, data, id),
      refused: (problem, wish) => this.refused(problem, wish),
    });
    this.listeners = new Set();
    this.checking = null;
    this.drawAfter = 0;
    this.evicted = 0;
    this.frame = 0;
    new ResizeObserver(() => { this.list.resized(); this.measureText(); }).observe($("log"));
  }

  readLook() {
    const { want } = this;
    const choose = (key, otherwise) => want[key] ?? (stored(key) === null ? otherwise : stored(key) === "1");
    return {
      columns: want.columns, showPipeline: false, showSource: false,
      wrap: choose("wrap", NARROW.matches), ansi: choose("ansi", true), raw: choose("raw", false),
    };
  }

  // ---- the stream

  // Begins anew, with other pipelines or for the first time.
  start(names, ownFormat) {
    this.names = names;
    this.ownFormat = ownFormat;
    this.connect({ q: this.want.q, level: this.want.level }, true);
  }

  // Shows other rows. What is kept is checked here; what comes is chosen by the server.
  filter(filter) {
    this.want = { ...this.want, ...filter };
    this.connect({ q: this.want.q, level: this.want.level }, false);
  }

  connect(filter, fresh) {
    const params = new URLSearchParams({ p: this.names.join(",") });
    if (filter.q) params.set("q", filter.q);
    if (filter.level) params.set("level", filter.level);
    if (this.ownFormat) params.set("fields", "timestamp,level,source,message");
    const query = compile(filter.q, filter.level);
    // Rows that were hidden so far are not here: they come again, from the history. So does everything where only the
    // server can tell which rows are wanted.
    const replays = fresh || this.applied.q !== "" || this.applied.level !== "" || query.undecided !== "" || !this.stream.lastId;
    const tail = this.want.at ? ALL : TAIL;
    this.stream.open({ params, filter, query, fresh, replays, names: this.names, id: replays ? "" : this.stream.lastId, tail });
  }

  opened(wish) {
    if (wish.again) {
      this.intake.opened(wish.names, false);
      return;
    }
    const changed = wish.filter.q !== this.applied.q || wish.filter.level !== this.applied.level;
    if (wish.fresh || wish.query.undecided) this.clear();
    if (wish.query.undecided && !wish.fresh) {
      this.intake.note(`only the server can check ${wish.query.undecided}: shown is what its history holds, and what is new`);
    }
    this.intake.opened(wish.names, wish.replays);
    this.applied = wish.filter;
    this.query = wish.query;
    if (changed) {
      this.check();
      this.list.refill();
    }
    this.settled = false;
    setTimeout(() => { this.settled = true; this.goTo(); }, 900);
    this.tell("agreed");
    this.remember();
    this.wake();
  }

  refused(problem, wish) { this.tell("refused", problem, wish); }

  showState(name, text) {
    const state = $("state");
    if (state.textContent === text && state.dataset.state === name) return;
    state.dataset.state = name;
    state.textContent = text;
  }

  // ---- rows

  came(gone) {
    if (gone) this.forgotten = true;
    this.wake();
  }

  // Whether new rows have to wait: while paused, and where they would push out what is being looked at.
  get holding() { return this.paused || (!this.list.following && this.store.count >= KEPT); }

  pump() {
    const { store, view } = this;
    const { waiting } = this.intake;
    if (this.forgotten) this.rebuild();
    if (this.holding) return;
    if (this.intake.letGo) {
      const text = `${events(this.intake.letGo)} let go while this page was paused`;
      this.intake.letGo = 0;
      this.add(store.push({ time: Date.now(), seq: 0, level: 0, pipeline: 0, source: 0, epoch: 0, kind: NOTE, line: text }));
    }
    for (let count = Math.min(TAKEN_MAX, waiting.count); count > 0; count -= 1) {
      if (store.count === KEPT) this.evicted += 1;
      const row = store.take(waiting);
      if (store.hit[store.slot(row)] === 0) this.checkRow(row);
      if (store.hit[store.slot(row)] === 1) this.add(row);
      if (row % 50 === 0) this.seen.look(store.line[store.slot(row)].slice(0, 10000));
    }
    view.evict(store.first);
    if (this.open.size) for (const row of this.open) if (row < store.first) this.open.delete(row);
    if (waiting.count) this.wake();
  }

  add(row) {
    const at = this.store.slot(row);
    if (!this.look.showSource && this.store.source[at] && sources.names.length > 2) this.setLook({ showSource: true });
    if (!this.renderer.dated && !isToday(this.store.time[at])) { this.renderer.dated = true; this.list.refill(); this.dressed(); }
    this.view.push(row, this.heightOf(row));
  }

  rebuild() {
    this.forgotten = false;
    for (const row of this.open) if (!this.store.has(row)) this.open.delete(row);
    this.view.rebuild(this.store, (row) => this.heightOf(row));
    this.list.refill();
    this.wake();
  }

  clear() {
    this.store.clear();
    this.intake.clear();
    this.open.clear();
    this.active = -1;
    this.selection = null;
    this.checking = null;
    this.histogram.clear();
    this.evicted = 0;
    this.rebuild();
    this.controls();
  }

  // Checks kept rows against a new filter, the newest first, some in every frame.
  check() {
    const { store } = this;
    const { waiting } = this.intake;
    for (let row = store.first; row < store.next; row += 1) if (store.kind[store.slot(row)] !== NOTE) store.hit[store.slot(row)] = 0;
    for (let row = waiting.first; row < waiting.next; row += 1) if (waiting.kind[waiting.slot(row)] !== NOTE) waiting.hit[waiting.slot(row)] = 0;
    this.checking = { next: store.next - 1, shown: performance.now() };
    this.forgotten = true;
    this.wake();
  }

  checkRow(row) {
    const at = this.store.slot(row);
    this.store.hit[at] = this.query.test(this.store, at) ? 1 : 2;
  }

  checkSome() {
    const { checking, store } = this;
    const end = performance.now() + CHECK_BUDGET;
    while (checking.next >= store.first) {
      for (let count = 100; count > 0 && checking.next >= store.first; count -= 1) {
        if (store.has(checking.next) && store.hit[store.slot(checking.next)] === 0) this.checkRow(checking.next);
        checking.next -= 1;
      }
      if (performance.now() > end) break;
    }
    const done = checking.next < store.first;
    if (done) this.checking = null;
    if (done || performance.now() - checking.shown > 200) {
      checking.shown = performance.now();
      this.rebuild();
    }
    this.wake();
  }

  // ---- drawing

  wake() {
    if (this.frame) return;
    // Nobody sees a page in the background: its rows are taken in once a second, and nothing is drawn.
    this.frame = document.hidden ? -setTimeout(() => this.turn(), 1000) : requestAnimationFrame(() => this.turn());
  }

  // Comes back into sight.
  shown() {
    if (this.frame < 0) { clearTimeout(-this.frame); this.frame = 0; }
    this.wake();
  }

  turn() {
    this.frame = 0;
    this.pump();
    if (this.checking) this.checkSome();
    if (document.hidden) return;
    const now = performance.now();
    if (now < this.drawAfter) return this.wake();
    this.list.draw();
    $("empty").hidden = this.view.count > 0;
    this.counts();
    this.drawAfter = now + (performance.now() - now) * (DRAW_SHARE - 1) - 4;
  }

  counts() {
    const { store, view } = this;
    const waits = this.intake.waiting.count + this.intake.letGo;
    const label = this.paused ? "Resume" : "Pause";
    const text = this.paused && waits ? `${label} (${number(waits)} waiting)` : label;
    if ($("pause-text").textContent !== text) $("pause-text").textContent = text;
    const latest = waits && !this.paused ? `Jump to the latest (${number(waits)} waiting)` : "Jump to the latest";
    if ($("latest").textContent !== latest) $("latest").textContent = latest;
    const kept = `${number(view.count)} shown of ${number(store.count)} kept` +
      (this.evicted ? `, ${number(this.evicted)} older let go` : "") + (this.checking ? ", checking…" : "");
    if ($("kept").textContent !== kept) $("kept").textContent = kept;
  }

  heightOf(row) {
    const { store, look, metrics } = this;
    if (this.open.has(row)) return 320; // measured once it is in sight
    const above = NARROW.matches ? 20 : 0;
    if (!look.wrap) return metrics.line + above;
    const length = store.line[store.slot(row)].length;
    return above + metrics.line * Math.max(1, Math.min(WRAPPED_LINES, Math.ceil(length / metrics.columns)));
  }

  // How wide a character is and how many fit: what heights are guessed from before rows are seen.
  measureText() {
    const probe = $("probe").getBoundingClientRect();
    const before = this.metrics?.columns;
    const head = $("head").querySelector(".message")?.clientWidth || $("log").clientWidth;
    this.metrics = { line: Math.round(probe.height), columns: Math.max(10, Math.floor(head / (probe.width / 10))) };
    if (this.look.wrap && before !== this.metrics.columns) this.view.reheight((row) => this.heightOf(row));
    this.wake();
  }

  // ---- what users do

  pause(yes, quiet = false) {
    this.paused = yes;
    if (!yes) { this.want.at = ""; this.list.follow(true); }
    else if (!quiet) this.want.at = this.idOf(this.active >= 0 ? this.active : this.lastShown());
    this.controls();
    this.remember();
    this.wake();
  }

  lastShown() {
    return this.view.count ? this.view.at(this.list.following ? this.view.count - 1 : this.view.position(this.list.anchor)) : -1;
  }

  idOf(row) {
    if (!this.store.has(row)) return "";
    const at = this.store.slot(row);
    return `${pipelines.names[this.store.pipeline[at]]}:${epochs.names[this.store.epoch[at]]}-${this.store.seq[at]}`;
  }

  // Goes to the event that the address names, once the history is here.
  goTo() {
    if (!this.want.at || this.paused) return;
    const found = /^(.+):([^:-]+)-(\d+)$/.exec(this.want.at);
    this.intake.flush();
    while (this.intake.waiting.count && !this.holding) this.pump();
    const row = found ? this.store.find(pipelines.of(found[1]), epochs.of(found[2]), Number(found[3])) : -1;
    if (row < 0) {
      say("The event that this link names is no longer in the history.");
      this.want.at = "";
      return this.remember();
    }
    this.activate(row, true);
    this.pause(true, true);
    this.list.reveal(row, true);
  }

  isSelected(row) { return this.selection !== null && row >= this.selection.from && row <= this.selection.to; }

  activate(row, extend = false) {
    const anchor = this.active;
    for (const one of [this.active, row]) this.list.stale.add(one);
    this.active = row;
    if (extend === "range" && anchor >= 0) {
      const start = this.selection?.start ?? anchor;
      this.selection = { start, from: Math.min(start, row), to: Math.max(start, row) };
      this.list.refill();
    } else if (this.selection) {
      this.selection = null;
      this.list.refill();
    }
    $("log").setAttribute("aria-activedescendant", row >= 0 ? "row-" + row : "");
    this.tell("selection");
    this.wake();
  }

  toggle(row) {
    if (!this.store.has(row) || this.store.kind[this.store.slot(row)] === NOTE) return;
    if (!this.open.delete(row)) { this.open.add(row); this.list.follow(false); }
    this.refresh(row);
    this.controls();
  }

  // Shows a row anew, with the height it has now.
  refresh(row) {
    const position = this.view.position(row);
    if (this.view.has(row)) this.view.resize(position, this.heightOf(row));
    this.list.stale.add(row);
    this.wake();
  }

  setLook(change) {
    Object.assign(this.look, change);
    for (const key of ["wrap", "ansi", "raw"]) if (key in change) { stored(key, change[key] ? "1" : "0"); this.want[key] = change[key]; }
    if (change.columns) this.want.columns = change.columns;
    this.dressed();
    this.measureText();
    this.view.reheight((row) => this.heightOf(row));
    this.list.refill();
    this.remember();
    this.wake();
  }

  details(row) { return this.detailer.build(row); }
  dressed() { this.tell("look"); }
  controls() { this.tell("controls"); }
  tell(what, ...about) { for (const listener of this.listeners) listener(what, ...about); }

  // Puts what is shown into the address.
  remember() {
    const { applied, want } = this;
    const { pathname, search } = url.write({ ...want, ...applied });
    // Without the origin: where a login stood in the address, only the browser can repeat it.
    history.replaceState(null, "", pathname + search);
  }
}
