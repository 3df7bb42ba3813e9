// The pipelines there are, from /status: links to them, and the counters of those that are shown. Asked while somebody
// looks.

import { $, element, number } from "./dom.js";
import { isAsking } from "./login.js";
import { ROOT } from "./root.js";
import { ask } from "./stream.js";

const EVERY = 2000;

export class Status {
  // `ready(names, formats)` is told of the pipelines with a stream, and again when they change.
  constructor(page, ready) {
    this.page = page;
    this.ready = ready;
    this.known = "";
    this.nav = "";
    this.timer = 0;
    this.poll();
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.poll(); });
  }

  async poll() {
    clearTimeout(this.timer);
    if (isAsking()) { // one that waits for the token is enough
      this.timer = setTimeout(() => this.poll(), EVERY);
      return;
    }
    try {
      const response = await ask("status");
      if (response.ok) this.show(await response.json());
      else if (!this.known) this.page.showState("lost", response.status === 401 ? "not logged in: load this page again" : "refused");
    } catch {
      if (!this.known) this.page.showState("lost", "server unreachable, trying again");
    }
    if (!document.hidden) this.timer = setTimeout(() => this.poll(), EVERY);
  }

  show(status) {
    const streams = new Map();
    for (const pipeline of status.pipelines) {
      const found = pipeline.components.find((component) => component.stream?.path);
      if (found) streams.set(pipeline.name, found.stream.json !== false);
    }
    const known = JSON.stringify([...streams]);
    if (known !== this.known) {
      this.known = known;
      this.ready(streams);
    }
    this.links(status.pipelines.map((pipeline) => pipeline.name), streams);
    this.counters(status);
  }

  links(names, streams) {
    const { page } = this;
    const chosen = page.want.pipelines;
    const now = JSON.stringify([names, chosen]);
    if (now === this.nav) return;
    this.nav = now;
    const link = (text, href, current, title) => {
      const one = element("a", "", text);
      one.href = href;
      if (current) one.setAttribute("aria-current", "page");
      if (title) one.title = title;
      return one;
    };
    const links = names.length > 1 ? [link("all", ROOT, chosen === null, "All pipelines")] : [];
    for (const name of names) {
      const current = chosen === null ? names.length === 1 : chosen.includes(name);
      const title = streams.has(name) ? "" : "It has no http sink on this listener, so there is nothing to watch";
      const one = link(name, ROOT + encodeURIComponent(name) + "/", current, title);
      one.addEventListener("click", (event) => this.add(event, name));
      links.push(one);
    }
    $("pipelines").replaceChildren(...links);
    document.title = (chosen === null ? names.length === 1 ? names[0] : "all" : chosen.join(", ")) + " · weir";
  }

  // With shift, a pipeline is added to those shown, or taken away.
  add(event, name) {
    if (!event.shiftKey) return;
    event.preventDefault();
    const before = this.page.want.pipelines ?? [];
    const after = before.includes(name) ? before.filter((one) => one !== name) : [...before, name];
    this.page.want.pipelines = after.length ? after : null;
    this.known = "";
    this.poll();
  }

  counters(status) {
    const shown = status.pipelines.filter((pipeline) => this.page.names?.includes(pipeline.name));
    const sum = (key) => shown.reduce((total, pipeline) => total + (pipeline[key] ?? 0), 0);
    const parts = [];
    for (const [key, label, bad] of [
      ["received", "received"], ["filtered", "filtered"], ["dropped_total", "dropped", true], ["errors", "errors", true], ["clients", "clients"],
    ]) {
      const value = sum(key);
      if (value || !bad) parts.push(element("span", bad ? "bad" : "", label + " " + number(value)));
    }
    for (const pipeline of shown) {
      for (const component of pipeline.components) if (component.why) parts.push(element("span", "bad", component.id + ": " + component.why));
    }
    $("counters").replaceChildren(...parts.flatMap((part, at) => (at ? ["  ·  ", part] : [part])));
  }
}
