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

  // Forgets the newest rows of a pipeline, those from `seq` on, which are about to come again. Rows of one pipeline
  // and epoch lie in the order of their sequence. Returns how many went.
  forget(pipeline, epoch, seq) {
    let from = this.next;
    for (let row = this.next - 1; row >= this.first; row -= 1) {
      const at = this.slot(row);
      if (this.kind[at] !== LINE || this.pipeline[at] !== pipeline || this.epoch[at] !== epoch) continue;
      if (this.seq[at] < seq) break;
      from = row;
    }
    let to = from;
    for (let row = from; row < this.next; row += 1) {
      const a = this.slot(row);
      const goes = this.kind[a] === LINE && this.pipeline[a] === pipeline && this.epoch[a] === epoch && this.seq[a] >= seq;
      if (goes) continue;
      if (to !== row) {
        const b = this.slot(to);
        for (const column of COLUMNS) this[column][b] = this[column][a];
        this.line[b] = this.line[a];
      }
      to += 1;
    }
    for (let row = to; row < this.next; row += 1) this.line[this.slot(row)] = "";
    const gone = this.next - to;
    this.next = to;
    return gone;
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
