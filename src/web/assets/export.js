// Rows out of the page: to the clipboard, or into a file, as lines or as JSON, a slice at a time so that nothing stands
// still meanwhile.

import { LEVELS, NOTE, epochs, pipelines, sources } from "./store.js";
import { turn } from "./stream.js";
import { say, events } from "./dom.js";
import { stamp } from "./time.js";

const SLICE = 1000;
const COPY_MAX = 20000; // rows

export function rowAsJson(store, row) {
  const at = store.slot(row);
  return {
    timestamp: stamp(store.time[at]) || null,
    level: LEVELS[store.level[at]] || null,
    pipeline: pipelines.names[store.pipeline[at]],
    source: sources.names[store.source[at]],
    message: store.line[at],
    id: `${epochs.names[store.epoch[at]]}-${store.seq[at]}`,
  };
}

const asLine = (store, row) => store.line[store.slot(row)];
const asNdjson = (store, row) => JSON.stringify(rowAsJson(store, row));

export async function copyText(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without TLS browsers offer only this.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    if (!copied) return say("The browser did not let this page copy.");
  }
  say(what + " copied.");
}

// The rows of the view, or all that are kept, as text.
export async function rowsAsText(page, { shown, json, selected = false, max = Infinity }) {
  const { store, view } = page;
  const parts = [];
  let count = 0;
  const write = json ? asNdjson : asLine;
  const numbers = [];
  if (selected) {
    for (let at = view.position(page.selection.from); at < view.count && view.at(at) <= page.selection.to; at += 1) numbers.push(view.at(at));
  } else if (shown) for (let at = 0; at < view.count; at += 1) numbers.push(view.at(at));
  else for (let row = store.first; row < store.next; row += 1) numbers.push(row);
  let slice = [];
  for (const row of numbers) {
    // Rows may go while this is written.
    if (!store.has(row) || store.kind[store.slot(row)] === NOTE) continue;
    if (count >= max) break;
    slice.push(write(store, row));
    count += 1;
    if (slice.length === SLICE) {
      parts.push(slice.join("\n") + "\n");
      slice = [];
      await turn();
    }
  }
  if (slice.length) parts.push(slice.join("\n") + "\n");
  return { parts, count };
}

export async function download(page, { shown, json }) {
  const { parts, count } = await rowsAsText(page, { shown, json });
  const type = json ? "application/x-ndjson" : "text/plain;charset=utf-8";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(parts, { type }));
  const at = new Date().toISOString().slice(0, 19).replace(/[:T]/g, "-");
  link.download = `${page.names.length === 1 ? page.names[0] : "weir"}-${at}.${json ? "ndjson" : "log"}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  say(`${events(count)} exported.`);
  return count;
}

export async function copyRows(page) {
  const selected = page.selection !== null;
  if (!selected && page.active < 0) return say("No row is selected: use j and k, or click a row.");
  if (!selected) {
    if (page.store.has(page.active)) await copyText(asLine(page.store, page.active), "Line");
    return;
  }
  const { parts, count } = await rowsAsText(page, { shown: true, json: false, selected: true, max: COPY_MAX });
  await copyText(parts.join(""), count === 1 ? "Line" : count.toLocaleString("en-US") + " lines");
}
