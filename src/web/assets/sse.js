// Server-sent events (WHATWG HTML, 9.2.6) from chunks of text. An own parser instead of EventSource: a chunk's events
// are taken together, comments count as signs of life, and a refusal can be read. It does not know lines that end
// with a lone CR, which weir never writes.

// An event that never ends must not fill the memory.
const EVENT_CHARS_MAX = 32 * 1024 * 1024;

export class SseParser {
  // `take(kind, data, id)` gets every event with data, with the last id seen up to it; `kind` is "" for a row.
  constructor(take, id = "") {
    this.take = take;
    this.id = id; // what to resume behind
    this.retry = 0; // milliseconds, when the server named a wait
    this.rest = "";
    this.kind = "";
    this.data = null;
    this.pendingId = null;
  }

  push(chunk) {
    const text = this.rest ? this.rest + chunk : chunk;
    let at = 0;
    for (;;) {
      const end = text.indexOf("\n", at);
      if (end < 0) break;
      this.line(text, at, text.charCodeAt(end - 1) === 13 && end > at ? end - 1 : end);
      at = end + 1;
    }
    this.rest = at ? text.slice(at) : text;
    if (this.rest.length > EVENT_CHARS_MAX) throw new Error("an event without end");
  }

  line(text, from, to) {
    if (from === to) return this.dispatch();
    const first = text.charCodeAt(from);
    if (first === 58) return; // a comment
    if (first === 100 && text.startsWith("data: ", from)) {
      const value = text.slice(from + 6, to);
      this.data = this.data === null ? value : this.data + "\n" + value;
      return;
    }
    const line = text.slice(from, to);
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (name === "id") { if (!value.includes("\0")) this.pendingId = value; }
    else if (name === "event") this.kind = value;
    else if (name === "data") this.data = this.data === null ? value : this.data + "\n" + value;
    else if (name === "retry" && /^\d+$/.test(value)) this.retry = Number(value);
  }

  // An event counts only once its empty line is there: its id, too.
  dispatch() {
    if (this.pendingId !== null) this.id = this.pendingId;
    this.pendingId = null;
    const { kind, data } = this;
    this.kind = "";
    this.data = null;
    if (data !== null) this.take(kind, data, this.id);
  }
}
