// Browsers open six connections to a server under HTTP/1.1, and every open page holds one. So the pages of one weir
// tell each other which of them holds a stream; those looked at last keep theirs, the others rest and resume when they
// are shown. Two connections stay free for loading pages. Under HTTP/2 there is no such limit, and nobody rests.

import { ROOT } from "./root.js";

export const HOLDERS_MAX = 4;
const TELL_EVERY = 3000, FORGET_AFTER = 9000;

export class Tabs {
  // `yieldNow(holds)` is called when this page may, or may no longer, hold a stream.
  constructor(decide) {
    this.decide = decide;
    this.id = Math.random().toString(36).slice(2) + Date.now().toString(36);
    this.others = new Map(); // id -> { hidden, shownAt, heard }
    this.shownAt = Date.now();
    this.holds = true;
    const unlimited = performance.getEntriesByType("navigation")[0]?.nextHopProtocol === "h2";
    if (unlimited || typeof BroadcastChannel === "undefined") return;
    this.channel = new BroadcastChannel("weir " + ROOT);
    this.channel.onmessage = (event) => this.hear(event.data);
    document.addEventListener("visibilitychange", () => this.changed());
    addEventListener("focus", () => this.changed());
    addEventListener("pagehide", () => this.tell("gone"));
    addEventListener("pageshow", () => this.changed());
    setInterval(() => this.tell("here"), TELL_EVERY);
    this.tell("new");
  }

  changed() {
    if (!document.hidden) this.shownAt = Date.now();
    this.tell("here");
    this.weigh();
  }

  tell(kind) {
    this.channel?.postMessage({ kind, id: this.id, hidden: document.hidden, shownAt: this.shownAt });
    const old = Date.now() - FORGET_AFTER;
    // Timers of hidden pages may come once a minute only: those are forgotten later.
    for (const [id, other] of this.others) if (other.heard < (other.hidden ? old - 60000 : old)) this.others.delete(id);
    if (kind === "here") this.weigh();
  }

  hear({ kind, id, hidden, shownAt }) {
    if (id === this.id) return;
    if (kind === "gone") this.others.delete(id);
    else this.others.set(id, { hidden, shownAt, heard: Date.now() });
    if (kind === "new") this.tell("here");
    this.weigh();
  }

  // Those that are shown come first, then those shown last. Every page reckons the same.
  weigh() {
    const hidden = document.hidden;
    let before = 0;
    for (const [id, other] of this.others) {
      const sooner = other.hidden !== hidden ? hidden
        : other.shownAt !== this.shownAt ? other.shownAt > this.shownAt : id < this.id;
      if (sooner) before += 1;
    }
    const holds = before < HOLDERS_MAX;
    if (holds !== this.holds) {
      this.holds = holds;
      this.decide(holds);
    }
  }
}
