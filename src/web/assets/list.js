// The list: of the rows of a view only those in sight are elements, and elements are used again. Drawn at most once a
// frame. It follows the end until the reader scrolls away, and then holds the row at the top where it is, whatever
// comes, goes or changes its height.

const OVERSCAN = 6; // rows beyond the edges
const NEAR_END = 6; // pixels that count as the end
const MEASURE_ROUNDS = 3;

export class List {
  // `fill(element, row)` makes an element show a row; `measured(row)` tells whether its height must be measured.
  constructor(scroller, content, view, { fill, measured, moved }) {
    Object.assign(this, { scroller, content, view, fill, measured, moved });
    this.following = true;
    this.anchor = -1; // the row at the top while not following, and how much of it is out of sight
    this.hidden = 0;
    this.top = 0;
    this.shown = new Map(); // row -> element
    this.free = [];
    this.stale = new Set(); // rows in sight whose element no longer tells the truth
    this.height = scroller.clientHeight;
    this.length = -1;
    scroller.addEventListener("scroll", () => this.scrolled(), { passive: true });
  }

  scrolled() {
    const top = this.scroller.scrollTop;
    if (Math.abs(top - this.top) < 1) return; // our own doing
    if (this.scroller.clientHeight !== this.height) return; // the window's: `resized` is about to come
    const up = top < this.top;
    this.top = top;
    const was = this.following;
    const end = this.view.total - this.height;
    this.following = top >= end - NEAR_END && !(up && top < end - 1);
    this.hold();
    this.moved(was !== this.following);
  }

  // Remembers what is at the top.
  hold() {
    if (this.view.count === 0) return;
    const position = this.view.find(this.top);
    this.anchor = this.view.at(position);
    this.hidden = this.top - this.view.offset(position);
  }

  follow(yes) {
    if (this.following === yes) return;
    this.following = yes;
    if (!yes) this.hold();
  }

  resized() {
    this.height = this.scroller.clientHeight;
  }

  // All elements are out of date.
  refill() {
    for (const row of this.shown.keys()) this.stale.add(row);
  }

  element(row) { return this.shown.get(row); }

  // Scrolls so that a row is in sight, in the middle if it was not.
  reveal(row, middle = false) {
    const position = this.view.position(row);
    if (position >= this.view.count) return;
    const from = this.view.offset(position);
    const to = from + this.view.height(position);
    let top = this.following ? this.view.total - this.height : this.top;
    if (middle && (from < top || to > top + this.height)) top = from - (this.height - (to - from)) / 2;
    else if (from < top) top = from;
    else if (to > top + this.height) top = Math.min(from, to - this.height);
    else if (!middle) return;
    this.following = false;
    this.top = Math.max(0, top);
    this.hold();
  }

  draw() {
    const { view } = this;
    for (let round = 0; round < MEASURE_ROUNDS; round += 1) {
      this.place();
      if (!this.measure()) break;
    }
    this.scroller.setAttribute("aria-rowcount", String(view.count));
  }

  place() {
    const { view, scroller } = this;
    const total = view.total;
    const end = Math.max(0, total - this.height);
    let top = end;
    if (!this.following) {
      const position = view.position(this.anchor);
      top = position < view.count
        ? view.offset(position) + (view.at(position) === this.anchor ? this.hidden : 0)
        : end;
    }
    top = Math.max(0, Math.min(top, end));
    if (total !== this.length) {
      this.content.style.height = total + "px";
      this.length = total;
    }
    const from = Math.max(0, view.count ? view.find(top) - OVERSCAN : 0);
    let to = from;
    let y = view.offset(from);
    const wanted = [];
    const below = top + this.height;
    for (let over = 0; to < view.count && over < OVERSCAN; to += 1) {
      wanted.push([view.at(to), y, to]);
      y += view.height(to);
      if (y > below) over += 1;
    }
    this.release(wanted);
    let before = null;
    for (const [row, offset, position] of wanted) before = this.show(row, offset, position, before);
    this.stale.clear();
    if (Math.abs(top - this.top) >= 1 || Math.abs(scroller.scrollTop - top) >= 1) {
      scroller.scrollTop = top;
      this.top = scroller.scrollTop;
    }
  }

  release(wanted) {
    const keep = new Set(wanted.map(([row]) => row));
    for (const [row, node] of this.shown) {
      if (keep.has(row)) continue;
      this.shown.delete(row);
      this.free.push(node);
    }
  }

  show(row, offset, position, before) {
    let node = this.shown.get(row);
    if (!node) {
      node = this.free.pop();
      if (!node) {
        node = document.createElement("div");
        node.setAttribute("role", "row");
      }
      // Elements stand in the order of their rows, for those who select, search or listen. The others stay where they
      // are, so that what has the focus keeps it.
      if (before) before.after(node);
      else this.content.prepend(node);
      node.hidden = false;
      node.row = row;
      node.id = "row-" + row;
      this.shown.set(row, node);
      this.fill(node, row);
    } else if (this.stale.has(row)) {
      this.fill(node, row);
    }
    if (node.offset !== offset) {
      node.offset = offset;
      node.style.transform = `translateY(${offset}px)`;
    }
    if (node.position !== position) {
      node.position = position;
      node.setAttribute("aria-rowindex", String(position + 1));
    }
    return node;
  }

  // Asks for the real heights of rows that may be of any; whether one was another than thought.
  measure() {
    for (const node of this.free) {
      if (node.hidden) continue;
      node.hidden = true;
      node.row = -1;
      node.id = "";
    }
    let changed = false;
    for (const [row, node] of this.shown) {
      if (!this.measured(row)) continue;
      const height = node.offsetHeight;
      if (height === this.view.height(node.position)) continue;
      this.view.resize(node.position, height);
      changed = true;
    }
    return changed;
  }
}
