// From events of the stream to rows. New rows wait in a ring of their own until the page takes them in, a frame's
// worth at a time; while the page is paused they stay there, counted. Knows what came already, so that a stream that
// begins anew neither repeats rows nor leaves some out.

import { LINE, NOTE, Store, epochs, levelIndex, merged, pipelines, sources } from "./store.js";
import { events } from "./dom.js";
import { parseTime } from "./time.js";

const MERGE_WAIT = 150, MERGE_MAX = 600; // milliseconds that history of several pipelines is put in order

export class Intake {
  constructor(capacity, { histogram, kept, came, full }) {
    this.waiting = new Store(capacity);
    this.kept = kept; // the store rows go to in the end
    this.histogram = histogram;
    this.came = came; // told of rows; with `true`, of changes among those kept
    this.full = full; // told that there is no more room for rows to wait
    this.last = new Map(); // pipeline -> { epoch, seq } of its newest row
    this.names = [];
    this.epoch = ""; // of the run that the server is in
    this.received = 0;
    this.letGo = 0; // rows that did not fit while paused
    this.merging = null;
    this.fields = null;
  }

  // A stream begins. `replays` when it brings rows of the past, among them some that are kept.
  opened(names, replays) {
    this.flush();
    this.known = new Set([...this.last.keys()].map((index) => pipelines.names[index]));
    this.names = names;
    if (replays && (names.length > 1 || this.kept.count)) this.merging = { rows: new Map(), since: Date.now(), timer: 0 };
  }

  clear() {
    this.waiting.clear();
    this.last.clear();
    this.letGo = 0;
    if (this.merging) clearTimeout(this.merging.timer);
    this.merging = null;
  }

  take(kind, data, id) {
    if (kind === "") return this.row(data, id);
    if (kind === "hello") this.epoch = parsed(data)?.epoch ?? this.epoch;
    else if (kind === "gap" || kind === "drop") this.missing(kind, parsed(data) ?? {});
  }

  row(data, id) {
    const event = parsed(data) ?? { message: data };
    const name = typeof event.pipeline === "string" && this.names.includes(event.pipeline) ? event.pipeline : this.names[0];
    const [epoch, seq] = position(id, name);
    const pipeline = pipelines.of(name);
    const row = {
      time: parseTime(event.timestamp),
      seq,
      level: levelIndex(event.level),
      pipeline,
      source: sources.of(text(event.source)),
      epoch: epochs.of(epoch),
      kind: LINE,
      line: typeof event.message === "string" ? event.message : data,
    };
    if (Number.isNaN(row.time)) row.time = Date.now();
    const last = this.last.get(pipeline);
    const known = last && last.epoch === row.epoch && seq <= last.seq;
    if (known && !this.merging) return;
    if (!known) {
      if (last) { last.epoch = row.epoch; last.seq = seq; }
      else this.last.set(pipeline, { epoch: row.epoch, seq });
      this.received += 1;
      this.histogram.add(row.time, row.level);
    }
    if (this.merging) this.merge(row, known);
    else this.add(row);
  }

  add(row) {
    if (this.waiting.count === this.waiting.capacity) this.full();
    if (this.waiting.count === this.waiting.capacity) this.letGo += 1;
    this.waiting.push(row);
    this.came(false);
  }

  missing(kind, about) {
    const name = about.pipeline ?? this.names[0];
    const [epoch] = position(about.next ?? "", name);
    let said;
    if (typeof about.missed === "number") {
      const why = kind === "gap"
        ? "the server's history no longer holds them"
        : "this page or the sink's buffer could not keep up";
      said = `${events(about.missed)} of ${name} missing: ${why}`;
    } else if (this.known.has(name)) {
      said = `weir was started anew: whether events of ${name} are missing cannot be told`;
    } else return; // a pipeline that was not shown before
    this.note(said, name, epoch);
  }

  // A row of the page's own.
  note(line, name = "", epoch = "") {
    this.flush();
    this.add({
      time: Date.now(), seq: 0, level: 0, pipeline: pipelines.of(name), source: 0, epoch: epochs.of(epoch), kind: NOTE, line,
    });
  }

  // History comes one pipeline after the other, and some of it is kept already, perhaps with holes where another
  // filter was on. It is gathered first, and then put where it belongs.
  merge(row, known) {
    const { merging } = this;
    if (!merging.rows.has(row.pipeline)) merging.rows.set(row.pipeline, { late: [], fresh: [] });
    merging.rows.get(row.pipeline)[known ? "late" : "fresh"].push(row);
    clearTimeout(merging.timer);
    if (Date.now() - merging.since > MERGE_MAX) this.flush();
    else merging.timer = setTimeout(() => this.flush(), MERGE_WAIT);
  }

  flush() {
    const { merging, kept, waiting } = this;
    if (!merging) return;
    clearTimeout(merging.timer);
    this.merging = null;
    // What waits comes after all that is kept.
    const [old, held] = [new Map(), new Map()];
    for (const [pipeline, { late }] of merging.rows) {
      const epoch = late[0]?.epoch;
      let newest = 0;
      for (let row = kept.next - 1; row >= kept.first && !newest; row -= 1) {
        const at = kept.slot(row);
        if (kept.kind[at] === LINE && kept.pipeline[at] === pipeline && kept.epoch[at] === epoch) newest = kept.seq[at];
      }
      old.set(pipeline, late.filter((row) => row.seq <= newest || !waiting.count));
      held.set(pipeline, late.filter((row) => row.seq > newest && waiting.count));
    }
    waiting.weave(held);
    if (kept.weave(old)) this.came(true);
    for (const row of merged([...merging.rows.values()].map(({ fresh }) => fresh))) this.add(row);
  }
}

// A line may hold any JSON where a text is expected.
const text = (value) => (typeof value === "string" ? value : typeof value === "number" ? String(value) : "");

function parsed(data) {
  try {
    const value = JSON.parse(data);
    return value !== null && typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}

// Epoch and sequence of a pipeline in an id: `<epoch>-<name>:<seq>,…`, or `<epoch>-<seq>` in notes.
export function position(id, name) {
  const dash = id.indexOf("-");
  const epoch = id.slice(0, Math.max(0, dash));
  const rest = id.slice(dash + 1);
  if (!rest.includes(":")) return [epoch, Number(rest) || 0];
  const part = rest.startsWith(name + ":") ? 0 : rest.indexOf("," + name + ":") + 1;
  if (part === 0 && !rest.startsWith(name + ":")) return [epoch, 0];
  return [epoch, parseInt(rest.slice(part + name.length + 1), 10) || 0];
}
