// How many events came, second by second and by level, over the last minutes: a canvas, and the same in words for those
// who cannot see it. Events are counted at their own time where that lies within, else when they came.

import { LEVELS } from "./store.js";
import { $, events, number } from "./dom.js";

export const SECONDS = 300;
const KINDS = LEVELS.length;
const BAR = 3; // pixels of a bar, with its gap

export class Histogram {
  constructor(canvas) {
    this.canvas = canvas;
    this.counts = new Uint32Array(SECONDS * KINDS);
    this.sums = new Uint32Array(SECONDS);
    this.now = Math.floor(Date.now() / 1000); // the newest second there is room for
    this.colors = null;
    this.width = 0;
    new ResizeObserver(() => { this.width = 0; this.draw(); }).observe(canvas);
    canvas.addEventListener("pointermove", (event) => this.point(event));
    canvas.addEventListener("pointerleave", () => { this.pointed = null; this.tell(); });
  }

  // Moves on to the present: seconds that come into sight are empty.
  advance(second = Math.floor(Date.now() / 1000)) {
    if (second < this.now - 1) {
      // A clock that was set back starts the picture anew.
      this.clear();
      this.now = second;
    }
    const steps = Math.min(SECONDS, second - this.now);
    for (let step = 1; step <= steps; step += 1) {
      const at = (this.now + step) % SECONDS;
      this.counts.fill(0, at * KINDS, (at + 1) * KINDS);
      this.sums[at] = 0;
    }
    this.now = Math.max(this.now, second);
  }

  add(time, level) {
    let second = Math.floor(time / 1000);
    if (!(second <= this.now && second > this.now - SECONDS)) second = this.now;
    const at = second % SECONDS;
    this.counts[at * KINDS + level] += 1;
    this.sums[at] += 1;
  }

  clear() {
    this.counts.fill(0);
    this.sums.fill(0);
  }

  // The counts of `seconds` from `first` on.
  between(first, seconds) {
    const found = new Array(KINDS).fill(0);
    for (let second = first; second < first + seconds; second += 1) {
      if (second > this.now || second <= this.now - SECONDS) continue;
      const at = (second % SECONDS) * KINDS;
      for (let level = 0; level < KINDS; level += 1) found[level] += this.counts[at + level];
    }
    return found;
  }

  // Events in the last whole second.
  get rate() { return this.sums[(this.now - 1) % SECONDS]; }

  restyle() { this.colors = null; this.draw(); }

  draw() {
    const { canvas } = this;
    const scale = devicePixelRatio || 1;
    if (!this.width) {
      this.width = canvas.clientWidth;
      this.height = canvas.clientHeight;
      canvas.width = Math.max(1, Math.round(this.width * scale));
      canvas.height = Math.max(1, Math.round(this.height * scale));
    }
    if (!this.colors) {
      const style = getComputedStyle(canvas);
      this.colors = LEVELS.map((name) => style.getPropertyValue("--bar-" + (name || "none")).trim() || "gray");
    }
    const bars = Math.max(1, Math.min(SECONDS, Math.floor(this.width / BAR)));
    this.step = Math.ceil(SECONDS / bars);
    this.bars = Math.floor(SECONDS / this.step);
    // Bars keep their seconds, so that they move and do not flicker.
    this.last = Math.floor(this.now / this.step) * this.step;
    const columns = [];
    let most = 1;
    for (let bar = 0; bar < this.bars; bar += 1) {
      const counts = this.between(this.last - (this.bars - 1 - bar) * this.step, this.step);
      const sum = counts.reduce((a, b) => a + b, 0);
      most = Math.max(most, sum);
      columns.push([counts, sum]);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    const wide = this.width / this.bars;
    columns.forEach(([counts, sum], bar) => {
      if (!sum) return;
      let y = this.height;
      const full = Math.max(2, (this.height - 1) * sum / most);
      for (let level = 0; level < KINDS; level += 1) {
        if (!counts[level]) continue;
        // The few bad ones among many good ones must stay to be seen.
        const high = Math.max(level >= 5 ? 2 : 0, full * counts[level] / sum);
        y -= high;
        pen.fillStyle = this.colors[level];
        pen.fillRect(bar * wide, y, Math.max(1, wide - 1), high);
      }
    });
  }

  // The words. Drawn again and again, but said only when asked for: nobody can listen to a number that changes.
  tell() {
    const counts = this.between(this.now - SECONDS + 1, SECONDS);
    const sum = counts.reduce((a, b) => a + b, 0);
    const bad = counts[6] + counts[7];
    let peak = 0;
    for (let at = 0; at < SECONDS; at += 1) peak = Math.max(peak, this.sums[at]);
    this.canvas.setAttribute("aria-label",
      `Last 5 minutes: ${events(sum)}, at most ${number(peak)} in a second; ` +
      LEVELS.map((name, level) => (counts[level] ? `${number(counts[level])} ${name || "without level"}` : "")).filter(Boolean).join(", "));
    if (this.pointed) return this.tellBar();
    const parts = [`5 min: ${events(sum)}`, `peak ${number(peak)}/s`];
    if (counts[5]) parts.push(`${number(counts[5])} warn`);
    if (bad) parts.push(`${number(bad)} error`);
    $("histogram-text").textContent = sum ? parts.join(" · ") : "no events in 5 min";
  }

  point(event) {
    const x = event.clientX - this.canvas.getBoundingClientRect().left;
    const bar = Math.min(this.bars - 1, Math.max(0, Math.floor(x / this.width * this.bars)));
    this.pointed = { second: this.last - (this.bars - 1 - bar) * this.step };
    this.tellBar();
  }

  tellBar() {
    const { second } = this.pointed;
    const counts = this.between(second, this.step);
    const at = new Date(second * 1000).toTimeString().slice(0, 8);
    const parts = LEVELS.map((name, level) => (counts[level] ? `${number(counts[level])} ${name || "no level"}` : "")).filter(Boolean);
    $("histogram-text").textContent = `${at}${this.step > 1 ? " +" + this.step + " s" : ""}: ${parts.reverse().join(", ") || "no events"}`;
  }
}
