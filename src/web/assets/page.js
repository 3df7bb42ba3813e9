// What the page is: its rows, the filter they pass, the stream they come by, and the one loop that draws, at most once a
// frame. What users do comes in as methods; the other modules are told what they need.

import { Details } from "./details.js";
import { Histogram } from "./histogram.js";
import { List } from "./list.js";
import { Renderer } from "./render.js";
import { NARROW, Rows } from "./rows.js";
import { NOTE, epochs, pipelines } from "./store.js";
import { Stream } from "./stream.js";
import { compile } from "./query.js";
import { $, number, say, stored } from "./dom.js";
import * as url from "./url.js";

const TAIL = 2000; // rows of history asked for
const ALL = 1000000;
const DRAW_SHARE = 3; // of the time, a third at most goes into drawing

export class Page extends Rows {
  constructor() {
    super(new Histogram($("histogram")));
    this.want = url.read();
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
    this.drawAfter = 0;
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

  // Begins anew, with other pipelines or for the first time. Where only some are added, what is kept stays.
  start(names, ownFormat) {
    const grows = this.names?.every((name) => names.includes(name)) ?? false;
    this.names = names;
    this.ownFormat = ownFormat;
    this.connect({ q: this.want.q, level: this.want.level }, !grows, true);
  }

  // Shows other rows. What is kept is checked here; what comes is chosen by the server.
  filter(filter) {
    this.want = { ...this.want, ...filter };
    this.connect({ q: this.want.q, level: this.want.level }, false);
  }

  connect(filter, fresh, again = fresh) {
    const params = new URLSearchParams({ p: this.names.join(",") });
    if (filter.q) params.set("q", filter.q);
    if (filter.level) params.set("level", filter.level);
    if (this.ownFormat) params.set("fields", "timestamp,level,source,message");
    const query = compile(filter.q, filter.level);
    // Rows that were hidden so far are not here: they come again, from the history. So does everything where only the
    // server can tell which rows are wanted.
    const replays = again || this.applied.q !== "" || this.applied.level !== "" || query.undecided !== "" || !this.stream.lastId;
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
    const { q, level } = this.applied;
    const empty = q || level ? "No event matches the filter so far." : "Waiting for events.";
    if ($("empty").textContent !== empty) $("empty").textContent = empty;
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
