// The rows of the store that the filter wants, in order, with their heights: what the list shows. Positions count from
// the oldest row of the view.

import { Heights } from "./heights.js";

export class View {
  constructor(capacity) {
    this.capacity = capacity;
    this.rows = new Float64Array(capacity); // row numbers, ascending, from `head` around the end
    this.head = 0;
    this.count = 0;
    this.heights = new Heights(capacity);
  }

  slot(position) { return (this.head + position) % this.capacity; }
  at(position) { return this.rows[this.slot(position)]; }
  get total() { return this.heights.span(this.head, this.count); }
  offset(position) { return this.heights.span(this.head, position); }
  height(position) { return this.heights.height[this.slot(position)]; }
  resize(position, height) { this.heights.set(this.slot(position), height); }

  push(row, height) {
    if (this.count === this.capacity) this.shift();
    const slot = this.slot(this.count);
    this.rows[slot] = row;
    this.heights.set(slot, height);
    this.count += 1;
  }

  shift() {
    this.heights.set(this.head, 0);
    this.head = (this.head + 1) % this.capacity;
    this.count -= 1;
  }

  // Lets go what is older than `first`.
  evict(first) {
    while (this.count > 0 && this.rows[this.head] < first) this.shift();
  }

  // The position at an offset in pixels.
  find(y) {
    return Math.min(this.heights.find(this.head, Math.max(0, y)), Math.max(0, this.count - 1));
  }

  // The position of a row, or of the next one that is shown.
  position(row) {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.at(middle) < row) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  has(row) {
    const position = this.position(row);
    return position < this.count && this.at(position) === row;
  }

  // All rows of `store` that are hits, anew.
  rebuild(store, heightOf) {
    this.head = 0;
    this.count = 0;
    for (let row = store.first; row < store.next; row += 1) {
      if (store.hit[store.slot(row)] === 1) this.rows[this.count++] = row;
    }
    this.reheight(heightOf);
  }

  // All heights anew, as after a change of width.
  reheight(heightOf) {
    const { head, count, capacity } = this;
    this.heights.fill((slot) => {
      const position = (slot - head + capacity) % capacity;
      return position < count ? heightOf(this.rows[slot]) : 0;
    });
  }
}
