// The palette: find or run anything by its name. Without a script its button leads to a page.
import { lookAgain } from "./anew.js";

const PAUSE = 80; // ms after a letter, before the server is asked

const dialog = document.getElementById("palette");
const text = document.getElementById("palette-text");
const list = document.getElementById("palette-list");
const none = document.getElementById("palette-none");
const said = document.getElementById("palette-status");

let asking = null; // the request that is under way
let waiting = 0; // the timer of the next one
let chosen = null;
let entered = null; // the text that Enter was pressed for before its list had come
let shown = null; // the text that the list is of

const options = () => [...list.querySelectorAll("[role=option]")];

function choose(option) {
  chosen?.setAttribute("aria-selected", "false");
  chosen = option ?? null;
  if (!chosen) return text.removeAttribute("aria-activedescendant");
  chosen.setAttribute("aria-selected", "true");
  text.setAttribute("aria-activedescendant", chosen.id);
  chosen.scrollIntoView({ block: "nearest" });
}

function step(by) {
  const all = options();
  const at = all.indexOf(chosen);
  const next = at < 0 ? (by > 0 ? 0 : all.length - 1) : (at + by + all.length) % all.length;
  choose(all[next]);
}

function show(html, query) {
  shown = query;
  list.innerHTML = html;
  const count = options().length;
  list.hidden = count === 0;
  none.hidden = count > 0;
  text.setAttribute("aria-expanded", String(count > 0));
  said.textContent = count ? `${count} found` : none.textContent;
  // Nothing is chosen before somebody has typed: Enter alone must not run anything. And a few
  // letters may choose only a run that they may well mean, or a place to go to.
  choose(query ? list.querySelector("[data-meant]") : null);
  const isAwaited = entered !== null && entered === query && query === text.value.trim();
  entered = null;
  // What was not yet to be seen is opened at most; a run is chosen, and Enter once more runs it.
  if (isAwaited && chosen?.matches("a:not([data-ask])")) chosen.click();
}

async function ask() {
  asking?.abort();
  asking = new AbortController();
  const fields = new FormData(text.form);
  fields.set("part", "list");
  const query = text.value.trim();
  const address = `${text.form.action}?${new URLSearchParams(fields)}`;
  try {
    const answer = await fetch(address, { signal: asking.signal });
    if (answer.redirected) return lookAgain(); // the session has ended
    if (!answer.ok) throw new Error(String(answer.status));
    show(await answer.text(), query);
  } catch (error) {
    if (error.name === "AbortError") return;
    entered = null;
    show("", query);
    shown = null;
    none.hidden = true;
    said.textContent = "Forge does not answer. Type again in a moment.";
    said.classList.remove("vh");
    return;
  }
  said.classList.add("vh");
}

function typed() {
  choose(null); // what is shown is not yet what was typed, and Enter must not mean it
  entered = null;
  shown = null;
  asking?.abort(); // nor must the list of fewer letters, which may be on its way
  clearTimeout(waiting);
  waiting = setTimeout(ask, PAUSE);
}

function open() {
  if (dialog.open) return;
  text.value = "";
  dialog.showModal();
  text.focus();
  ask();
}

const STEPS = { ArrowDown: 1, ArrowUp: -1 };

function key(event) {
  if (event.isComposing) return;
  if (STEPS[event.key]) {
    event.preventDefault();
    entered = null;
    step(STEPS[event.key]);
  } else if (event.key === "Enter") {
    event.preventDefault();
    if (event.repeat) return;
    const query = text.value.trim();
    if (!chosen && query && shown !== query) entered = query;
    const { ctrlKey, metaKey, shiftKey } = event;
    chosen?.dispatchEvent(
      new MouseEvent("click", { bubbles: true, cancelable: true, ctrlKey, metaKey, shiftKey }),
    );
  }
}

if (dialog) {
  text.addEventListener("input", typed);
  text.addEventListener("keydown", key);
  list.addEventListener("pointermove", (event) => {
    const option = event.target.closest("[role=option]");
    if (option && option !== chosen) choose(option);
  });
  // A question opens over the page, and there is one dialog at a time.
  list.addEventListener("click", (event) => {
    const isElsewhere = event.ctrlKey || event.metaKey || event.shiftKey;
    if (event.target.closest("[data-ask]") && !isElsewhere) dialog.close();
  });
  // The caret stays in the field, wherever one clicks.
  list.addEventListener("mousedown", (event) => event.preventDefault());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => {
    asking?.abort();
    clearTimeout(waiting);
    entered = null;
  });
  window.addEventListener("pageshow", (event) => event.persisted && dialog.close());

  document.addEventListener("keydown", (event) => {
    const isCalled = event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey);
    if (!isCalled || event.altKey || event.shiftKey) return;
    event.preventDefault();
    if (dialog.open) dialog.close();
    else if (!document.querySelector("dialog[open]")) open();
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-palette]");
    if (!button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open();
  });

  if (/Mac|iPhone|iPad/.test(navigator.platform)) {
    for (const mark of document.querySelectorAll("[data-mod]")) mark.textContent = "⌘ K";
  }
}
