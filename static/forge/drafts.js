// What somebody has typed into a form outlives the end of their session, a page that failed and a
// reload. It is kept in this tab only, by form and person; secrets never are.
//
// `isSent`: the form went off, and nothing was heard of it yet. A page that Forge has marked with
// `data-saved` means that it was saved; any other page, that it may not have been.
import { lookAgain } from "./anew.js";
import { clock } from "./times.js";

const PREFIX = "forge-draft:";
const SIGNED_OUT = "forge-signed-out";
const PAUSE = 300;
const FORMS = "form.form[method=post]";

const main = document.getElementById("main");
const user = main?.dataset.user;
const mine = `${PREFIX}${user}:`;
const keyOf = ({ pathname, search }, at) => `${mine}${pathname}${search}#${at}`;

// ---- the store; there may be none, or no room in it ----
function store() {
  try {
    return window.sessionStorage;
  } catch {
    return null;
  }
}

const kept = () => Object.keys(store() ?? {}).filter((key) => key.startsWith(PREFIX));
const forget = (key) => store()?.removeItem(key);

function read(key) {
  try {
    return JSON.parse(store().getItem(key));
  } catch {
    return null;
  }
}

function write(key, draft) {
  try {
    store().setItem(key, JSON.stringify(draft));
  } catch {
    // What cannot be kept is lost as it would be without this script.
  }
}

// ---- what a form says ----
const isTick = (field) => field.type === "checkbox" || field.type === "radio";
const isSecret = (field) => field.type === "password" || field.classList.contains("secret");
const nameOf = (field) => (isTick(field) ? `${field.name}=${field.value}` : field.name);

// The version that it was opened with goes along: else somebody else's change would be undone.
function fieldsOf(form) {
  return [...form.elements].filter(
    (field) =>
      field.name && !isSecret(field) && field.type !== "file" && field.tagName !== "BUTTON" &&
      (field.type !== "hidden" || field.name === "version"),
  );
}

const saidIn = (form) =>
  Object.fromEntries(fieldsOf(form).map((field) => [nameOf(field), isTick(field) ? field.checked : field.value]));

const hasSecret = (form) => [...form.elements].some((field) => field.name && isSecret(field) && field.value);

// False if it says that already.
function fill(form, said) {
  let isOther = false;
  for (const field of fieldsOf(form)) {
    const value = said[nameOf(field)];
    const property = isTick(field) ? "checked" : "value";
    if (value === undefined || field[property] === value) continue;
    if (field.type !== "hidden") isOther = true;
    field[property] = value;
  }
  return isOther;
}

// ---- one form ----
function watch(form, key) {
  let timer = 0;
  const keep = (isSent = false) => {
    clearTimeout(timer);
    timer = 0;
    write(key, { at: Date.now(), said: saidIn(form), hadSecret: hasSecret(form), isSent });
  };
  const later = () => (timer ||= setTimeout(keep, PAUSE));
  form.addEventListener("input", later);
  form.addEventListener("change", later);
  window.addEventListener("pagehide", () => timer && keep());
  document.addEventListener("submit", (event) => {
    if (event.target === form && !event.defaultPrevented) keep(true);
  });
  for (const cancel of form.querySelectorAll(".end a.btn")) {
    cancel.addEventListener("click", () => {
      if (form.closest("[data-ended]")) return; // the session ended, and nothing was decided
      clearTimeout(timer);
      timer = 0;
      forget(key);
    });
  }
}

function restore(form, key, discard) {
  const draft = read(key);
  if (!draft?.said) return forget(key);
  if (!fill(form, draft.said) && !draft.hadSecret) return forget(key);
  tell(form, key, draft, discard);
}

function tell(form, key, draft, discard) {
  const note = document.createElement("div");
  note.className = "panel restored";
  note.setAttribute("role", "status");
  const words = document.createElement("p");
  const secrets = draft.hadSecret ? " Secrets are never kept: type them again." : "";
  words.textContent = `Restored what you had typed by ${clock(new Date(draft.at)).slice(0, 5)}. It is not saved yet.${secrets}`;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "btn s";
  button.textContent = "Discard it";
  button.addEventListener("click", () => {
    forget(key);
    discard(note);
  });
  note.append(words, button);
  // A form in a frame keeps its distance from the frame; before it, the note would touch it.
  if (form.closest(".panel, .dlg")) form.prepend(note);
  else form.before(note);
}

// ---- a question that opens over a page: kept as on the page of its own that it has ----
export function openQuestion(dialog, href) {
  [...dialog.querySelectorAll(FORMS)].forEach((form, at) => {
    const key = keyOf(new URL(href, location.href), at);
    restore(form, key, (note) => {
      form.reset();
      note.remove();
    });
    watch(form, key);
  });
}

// ---- which page is this? ----
const forms = [...main?.querySelectorAll(FORMS) ?? []];
const isRejected = document.querySelector("main .wrong, main .meanwhile, main [data-rejected]") !== null;
const isSaved = document.querySelector("[data-saved]") !== null;

function begin() {
  for (const key of kept()) if (!key.startsWith(mine)) forget(key); // another person's
  for (const key of kept()) {
    const draft = read(key);
    if (!draft?.isSent) continue;
    if (isSaved) forget(key);
    else write(key, { ...draft, isSent: false });
  }
  forms.forEach((form, at) => {
    const key = keyOf(location, at);
    if (!isRejected) restore(form, key, () => lookAgain());
    watch(form, key);
  });
}

function unsend() {
  for (const key of kept()) {
    const draft = read(key);
    if (draft?.isSent) write(key, { ...draft, isSent: false });
  }
}

// ---- signing out, in this tab or another ----
const forgetAll = () => kept().forEach(forget);

document.addEventListener("submit", (event) => {
  if (!event.target.matches("[data-sign-out]")) return;
  forgetAll();
  try {
    localStorage.setItem(SIGNED_OUT, String(Date.now()));
  } catch {
    // Other tabs then keep theirs until somebody signs in there, or they are closed.
  }
});
window.addEventListener("storage", (event) => {
  if (event.key === SIGNED_OUT) forgetAll();
});

if (user) begin();
else unsend();
