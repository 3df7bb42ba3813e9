// The rows that are kept, in flat columns: a ring of fixed size, so that memory stays what it is however long the page
// is open. A row is known by its number, which never changes; `first` is the oldest still kept, `next` the one to come.

export const LEVELS = ["", "trace", "debug", "info", "notice", "warn", "error", "fatal"];
const LEVEL_INDEX = new Map(LEVELS.map((name, index) => [name, index]));
export const levelIndex = (name) => LEVEL_INDEX.get(name) ?? 0;

// What a row is: a line of log, or a note of the page's own (a gap, a drop).
export const LINE = 0, NOTE = 1;

// Names that repeat in many rows, each kept once. What is more than fits is called nothing.
export class Names {
  constructor(max) {
    this.max = max;
    this.names = [""];
    this.index = new Map([["", 0]]);
  }
  of(name) {
    let at = this.index.get(name);
    if (at === undefined) {
      if (this.names.length >= this.max) return 0;
      at = this.names.push(name) - 1;
      this.index.set(name, at);
    }
    return at;
  }
}

export const pipelines = new Names(256);
export const sources = new Names(65536);
export const epochs = new Names(65536);

export class Store {
  constructor(capacity) {
    this.capacity = capacity;
    this.time = new Float64Array(capacity); // milliseconds since 1970; NaN where unknown
    this.seq = new Float64Array(capacity);
    this.level = new Uint8Array(capacity);
    this.pipeline = new Uint8Array(capacity);
    this.source = new Uint16Array(capacity);
    this.epoch = new Uint16Array(capacity);
    this.kind = new Uint8Array(capacity);
    this.hit = new Uint8Array(capacity); // whether the filter wants it: 0 not yet known, 1 yes, 2 no
    this.line = new Array(capacity).fill("");
    this.first = 0;
    this.next = 0;
  }

  get count() { return this.next - this.first; }
  slot(row) { return row % this.capacity; }
  has(row) { return row >= this.first && row < this.next; }

  // Adds a row; lets the oldest go when there is no room.
  push(row) {
    if (this.count === this.capacity) this.drop();
    const at = this.next % this.capacity;
    this.time[at] = row.time;
    this.seq[at] = row.seq;
    this.level[at] = row.level;
    this.pipeline[at] = row.pipeline;
    this.source[at] = row.source;
    this.epoch[at] = row.epoch;
    this.kind[at] = row.kind;
    this.hit[at] = 1;
    this.line[at] = row.line;
    return this.next++;
  }

  drop() {
    this.line[this.first % this.capacity] = "";
    this.first += 1;
  }

  // Moves the oldest row of `from` here.
  take(from) {
    if (this.count === this.capacity) this.drop();
    const a = from.first % from.capacity;
    const b = this.next % this.capacity;
    for (const column of COLUMNS) this[column][b] = from[column][a];
    this.line[b] = from.line[a];
    from.drop();
    return this.next++;
  }

  clear() {
    this.line.fill("");
    this.first = this.next;
  }

  // A row as an object of its own.
  row(row) {
    const at = this.slot(row);
    const copy = { line: this.line[at] };
    for (const column of COLUMNS) copy[column] = this[column][at];
    return copy;
  }

  // Puts rows that come late where they belong, and says whether there were any. `late` holds, for each pipeline, rows
  // of one epoch in their order; those that are here already are not taken again.
  weave(late) {
    let from = this.next;
    const open = new Map([...late].filter(([, rows]) => rows.length).map(([pipeline, rows]) => [pipeline, rows[0]]));
    if (!open.size) return false;
    for (let row = this.next - 1; row >= this.first && open.size; row -= 1) {
      const at = this.slot(row);
      const first = this.kind[at] === LINE ? open.get(this.pipeline[at]) : undefined;
      if (!first) continue;
      if (this.epoch[at] !== first.epoch || this.seq[at] < first.seq) open.delete(this.pipeline[at]);
      else from = row;
    }
    const queues = new Map([...late].map(([pipeline, rows]) => [pipeline, [...rows]]));
    for (let row = from; row < this.next; row += 1) {
      const old = this.row(row);
      const key = old.kind === LINE ? old.pipeline : "notes";
      if (!queues.has(key)) queues.set(key, []);
      queues.get(key).push(old);
      this.line[this.slot(row)] = "";
    }
    this.next = from;
    for (const [key, rows] of queues) if (key !== "notes") queues.set(key, inOrder(rows));
    for (const row of merged([...queues.values()])) {
      const number = this.push(row);
      this.hit[this.slot(number)] = row.hit ?? 1;
    }
    return true;
  }

  // The row of an event, by what its id says; -1 when it is not kept.
  find(pipeline, epoch, seq) {
    for (let row = this.next - 1; row >= this.first; row -= 1) {
      const at = this.slot(row);
      if (this.seq[at] === seq && this.kind[at] === LINE && this.pipeline[at] === pipeline && this.epoch[at] === epoch) return row;
    }
    return -1;
  }
}

const COLUMNS = ["time", "seq", "level", "pipeline", "source", "epoch", "kind", "hit"];

// Rows of one pipeline by their sequence, each once. What was received for this filter counts before what was kept.
function inOrder(rows) {
  const late = new Map();
  for (const row of rows) {
    const key = row.epoch + "-" + row.seq;
    if (!late.has(key)) late.set(key, row);
  }
  return [...late.values()].sort((a, b) => (a.epoch === b.epoch ? a.seq - b.seq : a.epoch - b.epoch));
}

// Rows of several lists by time, each list's own order kept.
export function* merged(lists) {
  const queues = lists.map((rows) => ({ rows, at: 0 }));
  for (;;) {
    let best = null;
    for (const queue of queues) {
      if (queue.at < queue.rows.length && (!best || queue.rows[queue.at].time < best.rows[best.at].time)) best = queue;
    }
    if (!best) return;
    yield best.rows[best.at++];
  }
}
