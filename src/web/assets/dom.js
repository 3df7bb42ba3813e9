// Elements. Text only ever becomes a text node here; no module makes markup of a string.

export const $ = (id) => document.getElementById(id);

export function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

export function button(className, text, title, act) {
  const node = element("button", className, text);
  node.type = "button";
  if (title) node.title = title;
  node.addEventListener("click", (event) => {
    event.stopPropagation();
    act(event);
  });
  return node;
}

export const number = (n) => n.toLocaleString("en-US");
export const events = (n) => number(n) + (n === 1 ? " event" : " events");

export function stored(key, value) {
  try {
    if (value !== undefined) localStorage.setItem("weir." + key, value);
    return localStorage.getItem("weir." + key);
  } catch {
    return null; // storage may be forbidden; the page does without
  }
}

// Says something to those who listen to the page instead of looking at it, and shows it for a moment.
let quiet = 0;
export function say(text) {
  const toast = $("toast");
  toast.textContent = text;
  toast.hidden = false;
  clearTimeout(quiet);
  quiet = setTimeout(() => { toast.hidden = true; }, 4000);
}
