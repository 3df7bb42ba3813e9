// The live page. Whatever a log line holds is set as text, never as markup.
"use strict";

const ROWS_MAX = 10000; // rows kept in the page, and rows kept while paused
const TAIL = 500; // rows of history shown first
const LEVELS = new Set(["trace", "debug", "info", "notice", "warn", "error", "fatal"]);
// What many lines begin with and the columns already say.
const TIME = /^\[?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)\]?\s+/;
const LEVEL = /^\[?([A-Za-z]+)\]?:?\s+/;

const $ = (id) => document.getElementById(id);
const log = $("log"), rows = $("rows");
const fromPath = decodeURIComponent(location.pathname.split("/")[1] || "");

let pipeline = fromPath;
let source = null;
let pending = []; // rows to show in the next frame
let missedWhilePaused = 0;
let paused = false;
let following = true;
let frame = 0;
let arrived = 0; // rows since the rate was last shown

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function setState(state, text) {
  $("state").dataset.state = state;
  $("state").textContent = text;
}

// ---- rows

// A line may hold any JSON where a text is expected.
const text = (value) => (typeof value === "string" || typeof value === "number" ? String(value) : "");

function row(data) {
  let event;
  try { event = JSON.parse(data); } catch { event = null; }
  if (event === null || typeof event !== "object") event = { message: data };
  const named = text(event.level).toLowerCase();
  const level = LEVELS.has(named) ? named : "";
  const node = element("div", "row " + level);
  const at = new Date(event.timestamp ? text(event.timestamp) : NaN);
  const time = Number.isNaN(at.getTime()) ? "" : at.toTimeString().slice(0, 8) + "." + String(at.getMilliseconds()).padStart(3, "0");
  const stamp = element("span", "time", time);
  stamp.title = text(event.timestamp);
  const origin = element("span", "source", text(event.source).split("/").pop());
  origin.title = text(event.source);
  const message = element("span", "message");
  const line = typeof event.message === "string" ? event.message : data;
  const told = toldLength(line, at, level);
  if (told) message.append(element("span", "told", line.slice(0, told)));
  message.append(line.slice(told));
  node.append(stamp, element("span", "level", level), origin, message);
  return node;
}

// How much of the line's beginning repeats the time and the level of its columns.
function toldLength(line, at, level) {
  const time = TIME.exec(line);
  if (!time || new Date(time[1].replace(" ", "T").replace(",", ".")).getTime() !== at.getTime()) return 0;
  const word = LEVEL.exec(line.slice(time[0].length));
  const same = word && level && word[1].toLowerCase().startsWith(level.slice(0, 4));
  return time[0].length + (same ? word[0].length : 0);
}

function note(kind, data) {
  let about = {};
  try { about = JSON.parse(data); } catch { /* shown without numbers */ }
  const count = typeof about.missed === "number" ? about.missed.toLocaleString() + " events" : "some events";
  const why = kind === "gap" ? "no longer in the history" : "lost, because this page could not keep up";
  return element("div", "note", count + " " + why);
}

function push(make) {
  pending.push(make);
  // A page in the background shows nothing and gets events all the same.
  if (pending.length >= 2 * ROWS_MAX) {
    pending = pending.slice(-ROWS_MAX);
    if (paused) missedWhilePaused += ROWS_MAX;
  }
  schedule();
}

function schedule() {
  if (!frame) frame = requestAnimationFrame(flush);
}

function flush() {
  frame = 0;
  if (paused) return showPaused();
  if (pending.length === 0) return;
  const batch = pending.slice(-ROWS_MAX);
  pending = [];
  const fragment = document.createDocumentFragment();
  for (const make of batch) fragment.append(make());
  rows.append(fragment);
  for (let over = rows.childElementCount - ROWS_MAX; over > 0; over -= 1) rows.firstElementChild.remove();
  $("empty").hidden = true;
}

function clear() {
  pending = [];
  missedWhilePaused = 0;
  rows.replaceChildren();
  $("empty").hidden = false;
  showPaused();
}

// ---- the stream

function chosen() {
  const query = new URLSearchParams();
  if ($("include").value) query.set("include", $("include").value);
  if ($("level").value) query.set("level", $("level").value);
  return query;
}

function target(extra) {
  const query = chosen();
  for (const [key, value] of Object.entries(extra)) query.set(key, value);
  return "/" + encodeURIComponent(pipeline) + "/stream?" + query;
}

// Some browsers send no credentials with an EventSource. Then each one gets a ticket, which is good for it alone.
let wantsTicket = false;

async function ticket() {
  if (!wantsTicket) return {};
  const response = await fetch("/_ticket", { method: "POST" });
  return response.ok ? { ticket: (await response.json()).ticket } : {};
}

let opening = 0;

async function open() {
  const turn = (opening += 1);
  const again = () => setTimeout(() => turn === opening && open(), 3000);
  if (!source) setState("", "connecting");
  // An EventSource does not tell why it failed; a request that ends at once does. What is shown stays until the
  // server has agreed to something new.
  let one = {};
  try {
    const response = await fetch(target({ limit: "0", ...(await ticket()) }), { headers: { accept: "text/event-stream" } });
    if (turn !== opening) return;
    if (response.status === 401 && !wantsTicket) {
      wantsTicket = true;
      open();
      return;
    }
    if (!response.ok) {
      const problem = await response.json();
      showProblem([problem.detail, problem.hint].filter(Boolean).join("\n"));
      if (!source) setState("lost", "refused");
      if (response.status >= 500) again();
      return;
    }
    await response.text();
    one = await ticket();
  } catch {
    if (turn !== opening) return;
    setState("lost", "server unreachable, trying again");
    again();
    return;
  }
  if (turn !== opening) return;
  if (source) source.close();
  clear();
  showProblem("");
  const query = chosen().toString();
  history.replaceState(null, "", location.pathname + (query && "?" + query));
  $("raw").href = target({ format: "raw", tail: TAIL });
  $("raw").hidden = false;
  source = new EventSource(target({ tail: TAIL, ...one }));
  let opened = false;
  source.onopen = () => {
    opened = true;
    setState("live", "live");
  };
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) {
      // The request before it was let through.
      if (!opened) wantsTicket = true;
      setState("lost", "closed, trying again");
      source = null;
      again();
    } else {
      setState("lost", "reconnecting");
    }
  };
  source.onmessage = (event) => {
    arrived += 1;
    push(() => row(event.data));
  };
  for (const kind of ["gap", "drop"]) source.addEventListener(kind, (event) => push(() => note(kind, event.data)));
  source.addEventListener("bye", () => setState("lost", "the server is stopping"));
}

// ---- controls

function showProblem(what) {
  $("problem").textContent = what;
  $("problem").hidden = !what;
}

function showPaused() {
  const waiting = pending.length + missedWhilePaused;
  const count = paused && waiting ? " (" + waiting.toLocaleString() + (missedWhilePaused ? ", oldest let go" : " waiting") + ")" : "";
  $("pause").textContent = (paused ? "Resume" : "Pause") + count;
  $("pause").setAttribute("aria-pressed", String(paused));
}

function setPaused(value) {
  paused = value;
  if (!paused) {
    missedWhilePaused = 0;
    schedule();
  }
  showPaused();
}

let typing = 0;
$("include").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(open, 350);
});
$("level").addEventListener("change", open);
$("controls").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  open();
});
$("pause").addEventListener("click", () => setPaused(!paused));
$("clear").addEventListener("click", clear);
$("wrap").addEventListener("change", () => {
  log.classList.toggle("wrap", $("wrap").checked);
  stored("wrap", $("wrap").checked ? "yes" : "no");
});
// A click opens a row in full; a drag selects text.
rows.addEventListener("click", (event) => {
  if (getSelection().isCollapsed) event.target.closest(".row")?.classList.toggle("open");
});
$("latest").addEventListener("click", () => { log.scrollTop = log.scrollHeight; });
let lastTop = 0;
log.addEventListener("scroll", () => {
  // The end also moves away when rows get their real height; only upwards is the reader's doing.
  if (log.scrollHeight - log.scrollTop - log.clientHeight < 40) following = true;
  else if (log.scrollTop < lastTop) following = false;
  lastTop = log.scrollTop;
  $("latest").hidden = following;
});
const follow = new ResizeObserver(() => { if (following) log.scrollTop = log.scrollHeight; });
follow.observe(rows);
follow.observe(log);
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, button") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === " ") { event.preventDefault(); setPaused(!paused); }
  if (event.key === "/") { event.preventDefault(); $("include").focus(); }
});

function stored(key, value) {
  try {
    if (value !== undefined) localStorage.setItem(key, value);
    return localStorage.getItem(key);
  } catch { return null; }
}
$("wrap").checked = (stored("wrap") ?? (matchMedia("(max-width: 640px)").matches ? "yes" : "no")) === "yes";
log.classList.toggle("wrap", $("wrap").checked);
if (stored("theme")) document.documentElement.dataset.theme = stored("theme");
$("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = stored("theme", dark ? "light" : "dark") || (dark ? "light" : "dark");
});

// ---- pipelines and counters

let named = "";

function showPipelines(status) {
  const names = status.pipelines.map((p) => p.name);
  if (!pipeline && names.length > 0) {
    // The first one that can be watched.
    pipeline = (status.pipelines.find((p) => p.components.some((c) => c.stream)) || status.pipelines[0]).name;
    open();
  }
  document.title = pipeline ? pipeline + " · weir" : "weir";
  const now = names.join(" ") + "|" + pipeline;
  if (now !== named) {
    named = now;
    $("pipelines").replaceChildren(...names.map((name) => {
      const link = element("a", "", name);
      link.href = "/" + encodeURIComponent(name) + "/";
      if (name === pipeline) link.setAttribute("aria-current", "page");
      return link;
    }));
  }
  const mine = status.pipelines.find((p) => p.name === pipeline);
  if (mine) {
    const part = (label, value, bad) => element("span", bad && value ? "bad" : "", label + " " + value.toLocaleString());
    const parts = [
      part("received", mine.received), part("filtered", mine.filtered), part("dropped", mine.dropped_total, true),
      part("errors", mine.errors, true), part("clients", mine.clients),
    ];
    for (const c of mine.components) if (c.why) parts.push(element("span", "bad", c.id + ": " + c.why));
    $("counters").replaceChildren(...parts.flatMap((p, n) => (n ? ["  ·  ", p] : [p])));
  }
}

async function poll() {
  try {
    const response = await fetch("/status");
    if (response.ok) showPipelines(await response.json());
  } catch { /* the stream's state says it */ }
  setTimeout(poll, 2000);
}

setInterval(() => {
  $("rate").textContent = arrived ? arrived.toLocaleString() + " events/s" : "";
  arrived = 0;
}, 1000);

const asked = new URLSearchParams(location.search);
$("include").value = asked.get("include") ?? "";
if (LEVELS.has(asked.get("level"))) $("level").value = asked.get("level");
if (pipeline) open();
poll();
