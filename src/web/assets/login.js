// The token, where weir asks for one: a form stands in for the browser's prompt, which there is for passwords only. A
// token is kept for this tab alone, sent in a header to this server, and told to nothing else.

import { $ } from "./dom.js";
import { ROOT } from "./root.js";

const KEY = "weir.token " + ROOT; // an origin may serve several

let token = kept() ?? "";
let asked = null; // while the form is open: a promise of a token, and what keeps it
let keep;

function kept(value) {
  try {
    if (value) sessionStorage.setItem(KEY, value);
    else if (value === "") sessionStorage.removeItem(KEY);
    return sessionStorage.getItem(KEY);
  } catch {
    return null; // storage may be forbidden; the token then lasts until the page is left
  }
}

function use(value) {
  token = value;
  kept(value);
  $("forget").hidden = !value;
}

export const isAsking = () => asked !== null;

// The header that says who asks. Tokens may hold any character: what is sent are the bytes of its UTF-8.
export const credentials = (of = token) =>
  of ? { authorization: "Bearer " + String.fromCharCode(...new TextEncoder().encode(of)) } : {};

// Whether an answer asks for a token and nothing else. Where a password would do, the browser has asked for it.
export function wantsToken(response) {
  const challenge = response.headers.get("www-authenticate") ?? "";
  return response.status === 401 && /\bbearer\b/i.test(challenge) && !/\bbasic\b/i.test(challenge);
}

export const currentToken = () => token;

// Waits for another token than `refused`; rejected when `signal` aborts.
export async function newToken(refused, signal) {
  if (token !== refused) return;
  if (!asked) {
    use("");
    asked = new Promise((done) => { keep = done; });
    open(refused ? "This token is not accepted any more." : "");
  }
  await new Promise((done, failed) => {
    asked.then(done);
    signal?.addEventListener("abort", () => failed(signal.reason), { once: true });
  });
}

function open(why) {
  const state = $("state");
  state.dataset.state = "wait";
  state.textContent = "a token is needed";
  $("login-plain").hidden = isSecureContext;
  $("login").showModal();
  $("token").focus();
  complain(why);
}

function complain(why) {
  $("login-problem").textContent = why;
  $("login-problem").hidden = !why;
  if (why) $("token").setAttribute("aria-invalid", "true");
  else $("token").removeAttribute("aria-invalid");
}

// Why a token does not open the door; nothing when it does.
async function tried(given) {
  if (!given) return "Enter a token.";
  if (/\s/.test(given)) return "A token has no spaces in it.";
  let answer;
  try {
    const how = { method: "HEAD", cache: "no-store", headers: credentials(given) };
    answer = await fetch(new URL("status", ROOT), how);
  } catch {
    return "The server cannot be reached.";
  }
  if (answer.ok) return "";
  if (answer.status === 401) return "The server does not accept this token.";
  const seconds = Number(answer.headers.get("retry-after"));
  const when = seconds ? `Try again in ${seconds} s.` : "Try again later.";
  return answer.status === 429 ? `Too many attempts from this address. ${when}` : `The server answered ${answer.status}. ${when}`;
}

let trying = false;
async function submit(event) {
  event.preventDefault();
  if (trying) return;
  trying = true;
  // As it is copied from a line of a script.
  const given = $("token").value.trim().replace(/^bearer\s+/i, "");
  const why = await tried(given);
  trying = false;
  if (!asked) return;
  complain(why);
  if (why) return $("token").select();
  use(given);
  $("token").value = "";
  asked = null;
  $("login").close();
  keep();
}

$("forget").hidden = !token;
$("forget").addEventListener("click", () => { use(""); location.reload(); });
$("login-form").addEventListener("submit", submit);
// Nothing is behind the form yet: it stays until there is a token.
$("login").addEventListener("cancel", (event) => event.preventDefault());
$("login").addEventListener("close", () => { if (asked) $("login").showModal(); });
