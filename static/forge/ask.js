// A question opens over the page that it is about, so that one still sees what is asked about.
// Its link leads to a page of its own, which is what is shown here; without this script it opens.
import { writeTimes } from "./times.js";

async function fetched(href) {
  const answer = await fetch(href, { headers: { Accept: "text/html" } });
  // Signed out, or gone meanwhile: the page itself says so.
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
  dialog.addEventListener("close", () => dialog.remove());
  // What leads back is here already.
  question.querySelector(".end a.btn:not(.primary)")?.addEventListener("click", (event) => {
    event.preventDefault();
    dialog.close();
  });
  document.body.append(dialog);
  dialog.showModal();
  writeTimes(dialog);
}

document.addEventListener("click", async (event) => {
  const link = event.target.closest("a[data-ask]");
  const wantsItsPage = event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey;
  if (!link || wantsItsPage) return;
  event.preventDefault();
  const question = await fetched(link.href).catch(() => null);
  if (!question) location.href = link.href;
  else if (!document.querySelector("dialog[open]")) show(question, link.href);
});
