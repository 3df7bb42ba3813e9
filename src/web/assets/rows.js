// The rows of the page: those kept, those that the filter wants, and how high each is. Takes in what waits, a frame's
// worth at a time, and checks what is kept against a new filter, a bit in every frame.

import { Intake } from "./intake.js";
import { NOTE, Store, epochs, pipelines, sources } from "./store.js";
import { View } from "./view.js";
import { SeenFields } from "./render.js";
import { isToday } from "./time.js";
import { $, events } from "./dom.js";

export const KEPT = 100000; // rows
// Where there is little room, a row's message stands below its columns.
export const NARROW = matchMedia("(max-width: 640px)");
const TAKEN_MAX = 4000; // rows taken in per frame, and milliseconds for it
const TAKE_BUDGET = 8;
const CHECK_BUDGET = 8; // milliseconds of checking kept rows against a new filter, per frame
const WRAPPED_LINES = 8;
// Every one of the first rows is looked at for fields, so that a few rows show theirs; of the others one in fifty is.
const LOOKED_AT = 200;

// What a page is above: it has `list`, `look`, `query`, `renderer`, `paused`, and draws when told to `wake`.
export class Rows {
  constructor(histogram) {
    this.store = new Store(KEPT);
    this.view = new View(KEPT);
    this.histogram = histogram;
    this.intake = new Intake(KEPT, { histogram, kept: this.store, came: (changed) => this.came(changed), full: () => this.pump() });
    this.seen = new SeenFields(200);
    this.open = new Set();
    this.active = -1;
    this.selection = null;
    this.checking = null;
    this.forgotten = false;
    this.evicted = 0;
  }

  came(changed) {
    if (changed) {
      this.forgotten = true;
      // Rows have other numbers now.
      if (this.checking) this.checking.next = this.store.next - 1;
    }
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
      const text = `${events(this.intake.letGo)} let go while rows had to wait`;
      this.intake.letGo = 0;
      this.add(store.push({ time: Date.now(), seq: 0, level: 0, pipeline: 0, source: 0, epoch: 0, kind: NOTE, line: text }));
    }
    const end = document.hidden ? Infinity : performance.now() + TAKE_BUDGET;
    for (let count = document.hidden ? waiting.count : Math.min(TAKEN_MAX, waiting.count); count > 0; count -= 1) {
      if (count % 64 === 0 && performance.now() > end) break;
      if (store.count === KEPT) this.evicted += 1;
      const row = store.take(waiting);
      if (store.hit[store.slot(row)] === 0) this.checkRow(row);
      if (store.hit[store.slot(row)] === 1) this.add(row);
      if (row < LOOKED_AT || row % 50 === 0) this.seen.look(store.line[store.slot(row)].slice(0, 10000));
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

  idOf(row) {
    if (!this.store.has(row)) return "";
    const at = this.store.slot(row);
    return `${pipelines.names[this.store.pipeline[at]]}:${epochs.names[this.store.epoch[at]]}-${this.store.seq[at]}`;
  }
}
