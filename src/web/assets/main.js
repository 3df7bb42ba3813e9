// Puts the page together.

import { Controls } from "./controls.js";
import { Filter } from "./filter.js";
import { Keys } from "./keys.js";
import { Page } from "./page.js";
import { Status } from "./status.js";
import { ROOT } from "./root.js";
import { Tabs } from "./tabs.js";
import { $, number } from "./dom.js";

export const page = new Page();
// Where the address leads changes with the view; links do not.
$("home").href = ROOT;

export const filter = new Filter(page);
export const controls = new Controls(page);
export const keys = new Keys(page, controls, filter);

export const status = new Status(page, (streams) => {
  const all = [...streams.keys()];
  const names = page.want.pipelines ?? all;
  if (!names.length) return page.showState("lost", "no pipeline has an http sink on this listener");
  page.setLook({ showPipeline: names.length > 1 });
  const same = page.names && page.names.join() === names.join();
  if (!same) page.start(names, names.some((name) => streams.get(name) === false));
});

export const tabs = new Tabs((holds) => {
  if (holds) page.stream.resume();
  else page.stream.rest("resting: other tabs hold the connections; it goes on where it was when this one is shown");
});

document.addEventListener("visibilitychange", () => { if (!document.hidden) page.shown(); });
addEventListener("online", () => page.stream.hurry());

setInterval(() => {
  page.histogram.advance();
  if (document.hidden) return;
  page.histogram.draw();
  page.histogram.tell();
  const { rate } = page.histogram;
  $("rate").textContent = rate ? number(rate) + "/s" : "";
}, 500);
