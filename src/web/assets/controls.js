// Everything around the list that can be switched: pause, columns, wrap, colours, theme, menus, export, and what is
// said about all that.

import { $, button, element, stored } from "./dom.js";
import { NARROW } from "./rows.js";
import { copyRows, copyText, download } from "./export.js";

const FIELDS_LISTED = 60;
// Columns of their own already.
const SAID = new Set(["timestamp", "level", "message", "time", "ts", "msg"]);
const WIDE = { time: "12ch", level: "5ch", pipeline: "minmax(6ch, 12ch)", source: "minmax(6ch, 14ch)", message: "minmax(0, 1fr)" };

export class Controls {
  constructor(page) {
    this.page = page;
    for (const key of ["wrap", "ansi", "raw"]) $(key).addEventListener("change", () => page.setLook({ [key]: $(key).checked }));
    $("pause").addEventListener("click", () => page.pause(!page.paused));
    $("clear").addEventListener("click", () => { page.clear(); this.closeMenus(); });
    $("latest").addEventListener("click", () => this.latest());
    $("copy-rows").addEventListener("click", () => { copyRows(page); this.closeMenus(); });
    $("copy-link").addEventListener("click", () => { copyText(location.href, "Link"); this.closeMenus(); });
    for (const one of document.querySelectorAll("[data-export]")) {
      const [which, how] = one.dataset.export.split(" ");
      one.addEventListener("click", () => { download(page, { shown: which === "shown", json: how === "json" }); this.closeMenus(); });
    }
    this.menus = [...document.querySelectorAll(".menu")];
    for (const menu of this.menus) {
      menu.addEventListener("toggle", () => {
        if (!menu.open) return;
        for (const other of this.menus) if (other !== menu) other.open = false;
        if (menu.contains($("columns"))) this.listFields();
      });
    }
    document.addEventListener("click", (event) => { if (!event.target.closest?.(".menu")) this.closeMenus(); });
    $("theme").addEventListener("click", () => this.theme());
    page.listeners.add((what, about) => {
      if (what === "look") this.look();
      else if (what === "controls") this.show();
      else if (what === "column") this.column(about);
    });
    const theme = page.want.theme ?? stored("theme");
    if (theme) document.documentElement.dataset.theme = theme;
    NARROW.addEventListener("change", () => page.setLook({}));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => page.histogram.restyle());
    this.look();
    this.show();
  }

  closeMenus() {
    const open = this.menus.filter((menu) => menu.open);
    for (const menu of open) menu.open = false;
    return open.length > 0;
  }

  latest() {
    const { page } = this;
    page.list.follow(true);
    if (page.paused) page.pause(false);
    page.controls();
    page.wake();
  }

  theme() {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    stored("theme", root.dataset.theme);
    this.page.want.theme = root.dataset.theme;
    this.page.remember();
    this.page.histogram.restyle();
  }

  // The columns and switches, as they are now.
  look() {
    const { page } = this;
    for (const key of ["wrap", "ansi", "raw"]) $(key).checked = page.look[key];
    $("rows").classList.toggle("wrapped", page.look.wrap);
    const names = page.renderer.columns();
    const widths = names.map((name) => {
      if (name === "time" && page.renderer.dated) return "23ch";
      return WIDE[name] ?? this.width(name.slice(6));
    });
    const main = document.querySelector("main");
    main.style.setProperty("--cols", widths.join(" "));
    $("head").replaceChildren(...names.map((name) => element("span", name.split(":")[0], name.startsWith("field:") ? name.slice(6) : name)));
  }

  // As wide as what was seen of it, within reason.
  width(name) {
    const sample = this.page.seen.counts.get(name)?.sample ?? "";
    return `minmax(5ch, ${Math.max(8, name.length + 1, Math.min(28, sample.length + 2))}ch)`;
  }

  show() {
    const { page } = this;
    $("pause").setAttribute("aria-pressed", String(page.paused));
    $("latest").hidden = page.list.following;
    page.counts();
  }

  column(name) {
    const { columns } = this.page.look;
    this.page.setLook({ columns: columns.includes(name) ? columns.filter((one) => one !== name) : [...columns, name].slice(-12) });
    if (this.menus.some((menu) => menu.open)) this.listFields();
  }

  listFields() {
    const { page } = this;
    const chosen = page.look.columns;
    const seen = page.seen.list.filter(([name]) => !chosen.includes(name) && !SAID.has(name)).slice(0, FIELDS_LISTED);
    const rows = [...chosen.map((name) => [name, page.seen.counts.get(name)]), ...seen].map(([name, about]) => {
      const label = element("label");
      const box = element("input");
      box.type = "checkbox";
      box.checked = chosen.includes(name);
      box.addEventListener("change", () => this.column(name));
      label.append(box, element("span", "", name), element("span", "sample quiet", about?.sample.slice(0, 40) ?? ""));
      return label;
    });
    for (const [key, name] of [["showPipeline", "pipeline"], ["showSource", "source"]]) {
      const label = element("label");
      const box = element("input");
      box.type = "checkbox";
      box.checked = page.look[key];
      box.addEventListener("change", () => page.setLook({ [key]: box.checked }));
      label.append(box, element("span", "", name));
      rows.push(label);
    }
    if (!seen.length && !chosen.length) rows.unshift(element("p", "quiet", "No fields seen yet: they come from JSON lines and key=value pairs."));
    if (chosen.length) rows.push(button("", "No field columns", "", () => { page.setLook({ columns: [] }); this.listFields(); }));
    $("columns").replaceChildren(...rows);
  }
}

