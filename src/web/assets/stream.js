// The one connection of the page: `/_stream` by fetch, with resuming, waiting longer and longer between attempts, and
// tickets where credentials do not come along. Says how it stands in words.

import { credentials, currentToken, isAsking, newToken, wantsToken } from "./login.js";
import { ROOT } from "./root.js";
import { SseParser } from "./sse.js";

const WAIT_FIRST = 500, WAIT_MAX = 15000; // milliseconds between attempts
const SILENCE_MAX = 50000; // three heartbeats missing: the connection is dead
const SLOW_ANSWER = 6000;
const PARSE_CHARS = 32768; // parsed at once
const PARSE_BUDGET = 8; // milliseconds of parsing before frames and keys get their turn

// A turn of the event loop. Timers of pages in the background come once a second; messages do not wait.
const channel = new MessageChannel();
const waiting = [];
channel.port1.onmessage = () => waiting.shift()?.();
export const turn = () => new Promise((done) => { waiting.push(done); channel.port2.postMessage(0); });

const sleep = (time) => new Promise((done) => { setTimeout(done, time); });

export async function problemOf(response) {
  try {
    const problem = await response.json();
    return { status: response.status, detail: problem.title ?? "", ...problem };
  } catch {
    return { status: response.status, detail: "the server answered " + response.status };
  }
}

// A request to weir, with the token if there is one; where one is asked for, it waits until the user has given it. Where
// a password is asked for and the browser does not send it along, a ticket stands in for it.
let needsTicket = false;
export async function ask(target, options = {}) {
  const url = new URL(target, ROOT);
  for (let attempt = 0; ;) {
    if (needsTicket) {
      const answer = await fetch(new URL("_ticket", ROOT), { method: "POST", cache: "no-store", headers: credentials() });
      if (answer.ok) url.searchParams.set("ticket", (await answer.json()).ticket);
    }
    const token = currentToken();
    const headers = { ...options.headers, ...credentials() };
    const response = await fetch(url, { cache: "no-store", ...options, headers });
    if (wantsToken(response)) {
      await newToken(token, options.signal);
      continue;
    }
    if (response.status !== 401 || attempt > 0) return response;
    needsTicket = true;
    attempt += 1;
  }
}

export class Stream {
  // `on` has: state(name, text), opened(wish), take(kind, data, id), refused(problem, wish).
  constructor(on) {
    this.on = on;
    this.current = null; // the run that is shown
    this.candidate = null; // one that the server has not agreed to yet
    this.received = 0; // characters, for figures
  }

  get lastId() { return this.current?.parser?.id || this.current?.wish.id || ""; }

  // Asks for something new: a wish is { params, id, tail }. What runs goes on until the server has agreed.
  open(wish) {
    end(this.candidate);
    this.candidate = { wish, alive: true, live: false, abort: null, parser: null, failures: 0 };
    this.go(this.candidate);
  }

  // Ends the connection; `resume` goes on where it was.
  rest(why) {
    end(this.candidate);
    const wish = this.candidate?.wish ?? this.current?.wish;
    const id = this.candidate ? this.candidate.wish.id : this.lastId;
    this.candidate = null;
    end(this.current);
    this.resting = wish && { ...wish, id, again: !!id };
    this.on.state("rest", why);
  }

  resume() {
    const wish = this.resting;
    this.resting = null;
    if (wish) this.open(wish);
  }

  // Does not wait any longer for the next attempt.
  hurry() {
    for (const run of [this.current, this.candidate]) run?.wake?.();
  }

  say(run, state, text) {
    const shown = this.current?.alive ? this.current : this.candidate;
    if (run === shown || !shown) this.on.state(state, text);
  }

  async go(run) {
    while (run.alive) {
      const why = await this.once(run);
      if (!run.alive) return;
      run.live = false;
      run.failures += 1;
      // One that ran goes on where it was; one that never did asks again for all of it.
      if (run.parser?.id) run.wish = { ...run.wish, id: run.parser.id };
      if (run.parser) run.wish = { ...run.wish, again: true };
      const base = Math.max(run.parser?.retry ? WAIT_FIRST : 0, Math.min(WAIT_MAX, WAIT_FIRST * 2 ** (run.failures - 1)));
      await this.wait(run, why, base * (0.75 + Math.random() / 2));
    }
  }

  async wait(run, why, time) {
    const until = Date.now() + time;
    let over = false;
    run.wake = () => { over = true; run.failures = 0; };
    while (!over && run.alive && Date.now() < until) {
      const seconds = Math.ceil((until - Date.now()) / 1000);
      this.say(run, "lost", why + ", trying again" + (seconds > 1 ? " in " + seconds + " s" : ""));
      await sleep(Math.min(500, Math.max(0, until - Date.now())));
    }
    run.wake = null;
  }

  // One connection, to its end. Returns why it ended.
  async once(run) {
    run.abort = new AbortController();
    this.say(run, "wait", run.parser ? "reconnecting" : "connecting");
    const slow = setTimeout(() => {
      if (!isAsking()) this.say(run, "wait", "no answer yet; other tabs or downloads may hold all connections");
    }, SLOW_ANSWER);
    try {
      const options = { signal: run.abort.signal, headers: { accept: "text/event-stream" } };
      const response = await ask(target(run.wish), options);
      clearTimeout(slow);
      if (!run.alive) return "";
      if (!response.ok) return await this.refusal(run, response);
      return await this.read(run, response);
    } catch {
      return run.live ? "connection lost" : "server unreachable";
    } finally {
      clearTimeout(slow);
      run.abort.abort();
    }
  }

  async refusal(run, response) {
    const problem = await problemOf(response);
    if (!run.alive) return "";
    // What may pass: a busy server, a pipeline that is gone until the next reload.
    if (response.status >= 500 || response.status === 429) return problem.detail || "the server is busy";
    if (response.status === 404 && run.parser) return problem.detail;
    run.alive = false;
    if (run === this.candidate) this.candidate = null;
    if (!this.current?.alive) this.on.state("lost", response.status === 401 ? "not logged in" : "refused");
    this.on.refused(problem, run.wish);
    return "";
  }

  async read(run, response) {
    if (run !== this.current) {
      end(this.current);
      this.current = run;
      this.candidate = null;
    }
    let why = "connection lost";
    run.parser = new SseParser((kind, data, id) => {
      if (kind === "bye") why = "the server ended the stream";
      this.on.take(kind, data, id);
    }, run.wish.id ?? "");
    run.live = true;
    this.on.opened(run.wish);
    this.on.state("live", "live");
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let silence = 0;
    try {
      let since = performance.now();
      for (;;) {
        clearTimeout(silence);
        silence = setTimeout(() => run.abort.abort(), SILENCE_MAX);
        const { done, value } = await reader.read();
        if (done || !run.alive) return why;
        run.failures = 0;
        const text = decoder.decode(value, { stream: true });
        this.received += text.length;
        for (let at = 0; at < text.length && run.alive; at += PARSE_CHARS) {
          run.parser.push(text.slice(at, at + PARSE_CHARS));
          if (performance.now() - since > PARSE_BUDGET) {
            await turn();
            since = performance.now();
          }
        }
      }
    } finally {
      clearTimeout(silence);
    }
  }
}

function end(run) {
  if (!run) return;
  run.alive = false;
  run.abort?.abort();
}

// The URL of a wish. Once there is an id, the history it began with counts no more.
function target(wish) {
  const params = new URLSearchParams(wish.params);
  if (wish.id) params.set("last_event_id", wish.id);
  else if (wish.tail) params.set("tail", wish.tail);
  return "_stream?" + params;
}
