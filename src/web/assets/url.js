// What the page shows, as its URL: pipelines, query, level, columns, switches and the event it is paused at. Whoever
// opens the link sees the same, as far as the history still holds it.

import { ROOT } from "./root.js";

export const LEVEL_CHOICES = ["", "trace", "debug", "info", "notice", "warn", "error", "fatal"];
const COLUMNS_MAX = 12;

// Reads the address. `pipelines` is null for all of them.
export function read(href = location.href) {
  const url = new URL(href);
  const inside = url.pathname.slice(new URL(ROOT).pathname.length);
  const name = decodeURIComponent(inside.split("/")[0]);
  const asked = url.searchParams;
  const list = (key) => (asked.get(key) ?? "").split(",").filter(Boolean);
  const level = asked.get("level") ?? "";
  return {
    pipelines: name ? [name] : list("p").length ? list("p") : null,
    q: asked.get("q") ?? "",
    level: LEVEL_CHOICES.includes(level) ? level : "",
    columns: asked.getAll("col").slice(0, COLUMNS_MAX),
    wrap: flag(asked, "wrap"),
    ansi: flag(asked, "ansi"),
    raw: flag(asked, "raw"),
    theme: ["light", "dark"].includes(asked.get("theme")) ? asked.get("theme") : null,
    at: asked.get("at") ?? "",
  };
}

// A switch that the address sets, or null where it says nothing.
const flag = (asked, key) => (asked.has(key) ? asked.get(key) !== "0" : null);

// The address of a state, below any prefix.
export function write(state) {
  const { pipelines } = state;
  const single = pipelines?.length === 1;
  const url = new URL(single ? encodeURIComponent(pipelines[0]) + "/" : "", ROOT);
  if (pipelines && !single) url.searchParams.set("p", pipelines.join(","));
  if (state.q) url.searchParams.set("q", state.q);
  if (state.level) url.searchParams.set("level", state.level);
  for (const column of state.columns) url.searchParams.append("col", column);
  for (const key of ["wrap", "ansi", "raw"]) if (state[key] !== null) url.searchParams.set(key, state[key] ? "1" : "0");
  if (state.theme) url.searchParams.set("theme", state.theme);
  if (state.at) url.searchParams.set("at", state.at);
  return url;
}
