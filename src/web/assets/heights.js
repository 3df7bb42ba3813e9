// Heights of rows in a ring, and where each row begins: a Fenwick tree, so that appending, measuring and finding the
// row at an offset cost a logarithm, also where every row has its own height.

export class Heights {
  constructor(capacity) {
    this.capacity = capacity;
    this.height = new Float64Array(capacity);
    this.tree = new Float64Array(capacity + 1);
    this.top = 1;
    while (this.top * 2 <= capacity) this.top *= 2;
  }

  set(slot, height) {
    const change = height - this.height[slot];
    if (change === 0) return;
    this.height[slot] = height;
    for (let at = slot + 1; at <= this.capacity; at += at & -at) this.tree[at] += change;
  }

  // Sum of the heights of the slots before `slot`.
  before(slot) {
    let sum = 0;
    for (let at = slot; at > 0; at -= at & -at) sum += this.tree[at];
    return sum;
  }

  total() { return this.before(this.capacity); }

  // Sum of `count` slots from `head` on, around the end.
  span(head, count) {
    const end = head + count;
    if (end <= this.capacity) return this.before(end) - this.before(head);
    return this.before(this.capacity) - this.before(head) + this.before(end - this.capacity);
  }

  // How many slots from `head` on lie wholly above the offset `y`.
  find(head, y) {
    const above = this.before(head);
    const tail = this.total() - above;
    if (y < tail) return this.slotAt(above + y) - head;
    return this.capacity - head + this.slotAt(y - tail);
  }

  // The slot in which the offset `y` from slot 0 lies.
  slotAt(y) {
    let at = 0;
    for (let step = this.top; step > 0; step >>= 1) {
      if (at + step <= this.capacity && this.tree[at + step] <= y) {
        at += step;
        y -= this.tree[at];
      }
    }
    return at;
  }

  // All heights anew, at once.
  fill(heightOf) {
    this.tree.fill(0);
    for (let slot = 0; slot < this.capacity; slot += 1) {
      const height = heightOf(slot);
      this.height[slot] = height;
      const at = slot + 1;
      this.tree[at] += height;
      const up = at + (at & -at);
      if (up <= this.capacity) this.tree[up] += this.tree[at];
    }
  }
}
