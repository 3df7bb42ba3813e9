// The events around one, whatever the filter hid: from the server's history by their sequence, and from the rows kept
// here where the history no longer reaches.

import { LINE, epochs, levelIndex, pipelines } from "./store.js";
import { SseParser } from "./sse.js";
import { ask } from "./stream.js";
import { position } from "./intake.js";
import { parseTime } from "./time.js";

export const NEIGHBOURS = 10; // before, and after
const QUIET = 700; // milliseconds without an event: there are no more

export async function neighbours(page, row) {
  const { store } = page;
  const at = store.slot(row);
  const pipeline = store.pipeline[at];
  const epoch = epochs.names[store.epoch[at]];
  const seq = store.seq[at];
  const from = Math.max(1, seq - NEIGHBOURS);
  const to = seq + NEIGHBOURS;
  const found = new Map();
  for (let one = store.first; one < store.next; one += 1) {
    const slot = store.slot(one);
    const near = store.seq[slot] >= from && store.seq[slot] <= to;
    if (near && store.kind[slot] === LINE && store.pipeline[slot] === pipeline && epochs.names[store.epoch[slot]] === epoch) {
      found.set(store.seq[slot], { seq: store.seq[slot], time: store.time[slot], level: store.level[slot], line: store.line[slot] });
    }
  }
  const name = pipelines.names[pipeline];
  let told = "";
  if (found.size < to - from + 1) {
    if (epoch === page.intake.epoch) told = await fromHistory(page, name, epoch, from, to, found);
    else told = "weir was started anew since: only what is kept here can be shown.";
  }
  const rows = [...found.values()].sort((a, b) => a.seq - b.seq);
  for (const one of rows) one.hit = one.seq === seq;
  const before = rows.filter((one) => one.seq < seq).length;
  const missing = seq - from - before;
  return { rows, said: missing > 0 ? `${missing} of the ${seq - from} events before are no longer in the history. ${told}` : told };
}

async function fromHistory(page, name, epoch, from, to, found) {
  const params = new URLSearchParams({ p: name, last_event_id: `${epoch}-${name}:${from - 1}`, limit: String(to - from + 1) });
  if (page.ownFormat) params.set("fields", "timestamp,level,source,message");
  const abort = new AbortController();
  let timer = setTimeout(() => abort.abort(), 5000);
  const parser = new SseParser((kind, data, id) => {
    if (kind !== "") return;
    const [, seq] = position(id, name);
    if (seq > to) return abort.abort();
    let event = {};
    try { event = JSON.parse(data); } catch { /* shown as it is */ }
    const line = typeof event?.message === "string" ? event.message : data;
    if (seq >= from) found.set(seq, { seq, time: parseTime(event?.timestamp), level: levelIndex(event?.level), line });
    if (seq === to) abort.abort();
  });
  try {
    const response = await ask("_stream?" + params, { signal: abort.signal, headers: { accept: "text/event-stream" } });
    if (!response.ok) return "The server did not say what else there was.";
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    for (;;) {
      clearTimeout(timer);
      timer = setTimeout(() => abort.abort(), QUIET);
      const { done, value } = await reader.read();
      if (done) break;
      parser.push(decoder.decode(value, { stream: true }));
    }
  } catch {
    if (!abort.signal.aborted) return "The server could not be reached for more.";
  } finally {
    clearTimeout(timer);
    abort.abort();
  }
  return "";
}
