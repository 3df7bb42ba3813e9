// The live page. Whatever a log line holds is set as text, never as markup.
"use strict";

const ROWS_MAX = 10000; // rows kept in the page, and rows kept while paused
const TAIL = 500; // rows of history shown first
const LEVELS = new Set(["trace", "debug", "info", "notice", "warn", "error", "fatal"]);

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

function row(data) {
  let event;
  try { event = JSON.parse(data); } catch { event = null; }
  if (event === null || typeof event !== "object") event = { message: data };
  const level = LEVELS.has(event.level) ? event.level : "";
  const node = element("div", "row " + level);
  const at = new Date(event.timestamp ?? NaN);
  const time = Number.isNaN(at.getTime()) ? "" : at.toTimeString().slice(0, 8) + "." + String(at.getMilliseconds()).padStart(3, "0");
  const stamp = element("span", "time", time);
  stamp.title = String(event.timestamp ?? "");
  const origin = element("span", "source", String(event.source ?? ""));
  origin.title = String(event.source ?? "");
  const message = typeof event.message === "string" ? event.message : data;
  node.append(stamp, element("span", "level", level), origin, element("span", "message", message));
  return node;
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
  if (pending.length > ROWS_MAX) {
    pending.splice(0, pending.length - ROWS_MAX);
    if (paused) missedWhilePaused += 1;
  }
  if (paused) showPaused();
  else schedule();
}

function schedule() {
  if (!frame) frame = requestAnimationFrame(flush);
}

function flush() {
  frame = 0;
  if (paused || pending.length === 0) return;
  const batch = pending;
  pending = [];
  const fragment = document.createDocumentFragment();
  for (const make of batch) fragment.append(make());
  rows.append(fragment);
  for (let over = rows.childElementCount - ROWS_MAX; over > 0; over -= 1) rows.firstElementChild.remove();
  $("empty").hidden = true;
  if (following) log.scrollTop = log.scrollHeight;
}

function clear() {
  pending = [];
  missedWhilePaused = 0;
  rows.replaceChildren();
  $("empty").hidden = false;
  showPaused();
}

// ---- the stream

function target(extra) {
  const query = new URLSearchParams();
  if ($("include").value) query.set("include", $("include").value);
  if ($("level").value) query.set("level", $("level").value);
  for (const [key, value] of Object.entries(extra)) query.set(key, value);
  return "/" + encodeURIComponent(pipeline) + "/stream?" + query;
}

let opening = 0;

async function open() {
  const turn = (opening += 1);
  if (source) source.close();
  source = null;
  clear();
  $("problem").textContent = "";
  setState("", "connecting");
  // An EventSource does not tell why it failed; a request that ends at once does.
  try {
    const response = await fetch(target({ limit: "0" }), { headers: { accept: "text/event-stream" } });
    if (turn !== opening) return;
    if (!response.ok) {
      const problem = await response.json();
      $("problem").textContent = [problem.detail, problem.hint].filter(Boolean).join("; ");
      setState("lost", "refused");
      if (response.status >= 500) setTimeout(() => turn === opening && open(), 3000);
      return;
    }
    await response.text();
  } catch {
    if (turn !== opening) return;
    setState("lost", "server unreachable, trying again");
    setTimeout(() => turn === opening && open(), 3000);
    return;
  }
  if (turn !== opening) return;
  source = new EventSource(target({ tail: TAIL }));
  source.onopen = () => setState("live", "live");
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) {
      setState("lost", "closed, trying again");
      setTimeout(() => turn === opening && open(), 3000);
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
$("wrap").addEventListener("change", () => log.classList.toggle("wrap", $("wrap").checked));
$("latest").addEventListener("click", () => { log.scrollTop = log.scrollHeight; });
log.addEventListener("scroll", () => {
  following = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  $("latest").hidden = following;
});
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
    const part = (label, value) => label + " " + value.toLocaleString();
    const parts = [part("received", mine.received), part("filtered", mine.filtered), part("dropped", mine.dropped_total), part("clients", mine.clients), part("errors", mine.errors)];
    const troubled = mine.components.filter((c) => c.why).map((c) => c.id + ": " + c.why);
    $("counters").textContent = parts.concat(troubled).join("  ·  ");
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

if (pipeline) open();
poll();
