// A question opens over the page that it is about, so that one still sees what is asked about.
// Its link leads to a page of its own, which is what is shown here; without this script it opens.
import { openQuestion } from "./drafts.js";
import { say, unsay } from "./say.js";
import { writeTimes } from "./times.js";

const PATIENCE = 15000; // ms

// The question's part of its page; null if the page itself has something else to say: one is
// signed out, or what was asked about is gone meanwhile. Fails if Forge does not answer.
async function fetched(href) {
  const signal = AbortSignal.timeout(PATIENCE);
  const answer = await fetch(href, { headers: { Accept: "text/html" }, signal });
  if (answer.status >= 500) throw new Error(answer.status);
  if (!answer.ok || answer.redirected) return null;
  const there = new DOMParser().parseFromString(await answer.text(), "text/html");
  return there.querySelector("section.dlg");
}

function show(question, href) {
  const dialog = document.createElement("dialog");
  dialog.className = "ask";
  const heading = question.querySelector("h1");
  heading.id = "ask-heading";
  dialog.setAttribute("aria-labelledby", heading.id);
  for (const form of question.querySelectorAll("form")) {
    if (!form.hasAttribute("action")) form.action = href;
  }
  dialog.append(question);
  const from = document.activeElement?.id;
  dialog.addEventListener("close", () => {
    dialog.remove();
    // What the question was opened from may have been drawn anew behind it.
    if (from && document.activeElement === document.body) document.getElementById(from)?.focus();
  });
  // What leads back is here already.
  question.querySelector(".end a.btn:not(.primary)")?.addEventListener("click", (event) => {
    event.preventDefault();
    dialog.close();
  });
  document.body.append(dialog);
  dialog.showModal();
  writeTimes(dialog);
  openQuestion(dialog, href);
}

async function ask(href) {
  let question;
  try {
    question = await fetched(href);
  } catch {
    return say("Forge does not answer. Try again.");
  }
  unsay();
  if (!question) location.href = href;
  else if (!document.querySelector("dialog[open]")) show(question, href);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-ask]");
  const wantsItsPage = event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey;
  if (!link || wantsItsPage) return;
  event.preventDefault();
  ask(link.href);
});

// ---- a button that acts on what is stored asks, while a form beside it says something else ----
function isOther(field) {
  if (field.type === "hidden" || field.tagName === "BUTTON" || !field.name) return false;
  if (field.type === "checkbox" || field.type === "radio") return field.checked !== field.defaultChecked;
  if (field.tagName !== "SELECT") return field.value !== field.defaultValue;
  const stored = [...field.options].filter((option) => option.defaultSelected);
  // A list of which nothing was chosen shows its first.
  if (!field.multiple && !stored.length) return field.selectedIndex > 0;
  return [...field.options].some((option) => option.selected !== option.defaultSelected);
}

// What was rejected is not stored, although the page came with it.
const saysOther = (form) =>
  document.querySelector("main .meanwhile, main [data-rejected]") !== null ||
  [...form.elements].some(isOther);

document.addEventListener("submit", (event) => {
  const edited = document.getElementById(event.target.dataset.askUnless);
  if (!edited || !saysOther(edited)) return;
  event.preventDefault();
  ask(`${event.target.action}?unsaved=`);
});
