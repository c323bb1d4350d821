// What every page does: fragments that refresh themselves, menus, copying, toasts, keys.
import { GONE, lookAgain } from "./anew.js";
import "./ask.js";
import "./keys.js";
import "./moments.js";
import "./palette.js";
import { holdPointed, keepPointed } from "./pointed.js";
import { clock, writeTimes } from "./times.js";

const TICK = 2000;
const FAST_TICK = 1000;
const PASSING = 6000;
const ONCE = 5000; // ms in which a second click is a slip

const live = document.getElementById("live");
const lost = document.getElementById("lost");
let heardAt = new Date();

export const heard = () => (heardAt = new Date());
export const silence = () => Date.now() - heardAt;

export function showConnection(isHeard) {
  if (isHeard) heard();
  document.documentElement.classList.toggle("is-live", isHeard);
  if (live) {
    live.hidden = false;
    live.classList.toggle("lost", !isHeard);
    live.querySelector(".word").textContent = isHeard ? "Live" : "Lost";
  }
  if (lost) {
    if (lost.hidden !== isHeard) lost.hidden = isHeard;
    lost.querySelector("[data-lost-at]").textContent = clock(heardAt);
  }
}

// ---- fragments: a tab that nobody sees asks for nothing ----
const isLive = () => document.querySelector("[data-live]") !== null;

function tick(name) {
  if (document.visibilityState === "visible" && isLive()) window.htmx.trigger(document.body, name);
}

setInterval(() => tick("forge:tick"), TICK);
setInterval(() => tick("forge:second"), FAST_TICK);
document.addEventListener("visibilitychange", () => tick("forge:tick"));
if (isLive()) showConnection(true);

// By the target's id, if it has one: where a part is replaced by its answer, as `outerHTML` asks for,
// the target is another element each time.
const seen = new Map();
// How long ago something was counts on by itself (times.js): that alone is nothing new.
const COUNTED = /(<time [^>]*data-time="(?:moment|elapsed)"[^>]*>)[^<]*/g;
let opened = [];
let focused = "";

document.body.addEventListener("htmx:beforeSwap", (event) => {
  const { xhr, target, requestConfig } = event.detail;
  const asked = new URL(requestConfig.path, location.href).pathname;
  if (new URL(xhr.responseURL || location.href).pathname !== asked) {
    event.detail.shouldSwap = false; // sent on to the sign-in page: the session has ended
    lookAgain();
    return;
  }
  if (xhr.status === 404 || xhr.status === 403) {
    lookAgain(GONE);
    return;
  }
  // An unchanged part stays as it is, with the reader's selection and pointer in it.
  const part = target.id || target;
  const answer = xhr.response.replace(COUNTED, "$1");
  if (seen.get(part) === answer) event.detail.shouldSwap = false;
  else seen.set(part, answer);
  opened = [...document.querySelectorAll("details[id][open]")].map((one) => [one.id, one.hasAttribute("data-raised")]);
  focused = document.activeElement?.id;
  holdPointed();
});

document.body.addEventListener("htmx:afterSwap", () => {
  for (const [id, isRaised] of opened) {
    const one = document.getElementById(id);
    one?.setAttribute("open", "");
    one?.toggleAttribute("data-raised", isRaised); // to the side on which it opened
  }
  // What was closed when htmx gave the focus back could not take it.
  if (focused && document.activeElement === document.body) {
    document.getElementById(focused)?.focus({ preventScroll: true });
  }
  writeTimes();
  keepPointed();
});
document.body.addEventListener("htmx:afterSettle", keepPointed);
document.body.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.elt.closest("[data-live]") || event.detail.successful) {
    showConnection(event.detail.successful);
  }
});

// ---- menus open to the side that has room; before they open, so that they never move ----
const FILTER_WIDTH = 280; // px, .menu.narrow > .pop
const ROW_HEIGHT = 190; // px, of a row's menu with all that it may have
document.addEventListener("click", (event) => {
  const summary = event.target.closest(".menu.narrow > summary");
  if (!summary) return;
  const room = document.documentElement.clientWidth - summary.getBoundingClientRect().left;
  summary.parentElement.classList.toggle("turned", room < FILTER_WIDTH);
});

document.addEventListener("click", (event) => {
  const summary = event.target.closest(".acts > .menu > summary");
  if (!summary) return;
  const { top, bottom } = summary.getBoundingClientRect();
  const below = document.documentElement.clientHeight - bottom;
  // No class: htmx gives what it has drawn anew its own classes back.
  summary.parentElement.toggleAttribute("data-raised", below < ROW_HEIGHT && top > below);
});

// ---- menus close on a click outside and on Escape ----
document.addEventListener("click", (event) => {
  if (event.target.closest("dialog")) return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  }
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  const search = document.querySelector("[data-slash]");
  if (event.key === "/" && !typing && search && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    search.select();
  }
});

// ---- copy ----
async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  const label = button.querySelector("span");
  const before = button.dataset.label || label.textContent;
  button.dataset.label = before;
  try {
    await navigator.clipboard.writeText(source.textContent);
    label.textContent = "Copied";
  } catch {
    // Without https there is no clipboard: select it, so that Ctrl C is enough.
    getSelection().selectAllChildren(source);
    label.textContent = "Selected: press Ctrl C";
  }
  setTimeout(() => (label.textContent = before), 2500);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button);
  event.target.closest("[data-dismiss]")?.closest(".toast").remove();
});

setTimeout(() => {
  for (const toast of document.querySelectorAll("[data-passing]")) toast.remove();
}, PASSING);

// ---- what shows a token answered a form: back to it, or loaded anew, it would send that again ----
const made = document.querySelector("[data-address]");
if (made) history.replaceState(null, "", made.dataset.address);

// ---- long work goes on by itself, a part at a time ----
const goesOn = document.querySelector("form[data-goes-on]");
if (goesOn) setTimeout(() => goesOn.requestSubmit(), 0);

// ---- after a form was rejected one is where there is something to change ----
const wrong = document.querySelector("main [aria-invalid=true]") ?? document.querySelector("main [data-rejected]");
if (wrong) {
  wrong.focus({ preventScroll: true });
  // In the middle: no bar covers it, and of a short form the summary stays in view.
  wrong.closest(".row")?.scrollIntoView({ block: "center" });
}

// ---- a form is sent once, until the page is left, the browser gives up, or nothing comes of it ----
const mayBeSent = () => {
  for (const form of document.querySelectorAll("[data-sent]")) delete form.dataset.sent;
};

document.addEventListener("submit", (event) => {
  if (event.defaultPrevented) return;
  const form = event.target;
  if (form.dataset.sent) event.preventDefault();
  else if (form.method === "post") {
    form.dataset.sent = "1";
    setTimeout(mayBeSent, ONCE);
  }
});
window.addEventListener("pageshow", mayBeSent);
// Back leads to a list as its address says, with no text beside it that was entered later.
window.addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  for (const form of document.querySelectorAll("form[data-as-told]")) form.reset();
});
window.navigation?.addEventListener("navigateerror", mayBeSent); // Stop or Escape, where it is told
