// What a page says by itself, where it says what the server has to tell. In an open question it is
// said there: what lies behind it is neither seen nor read out.
export function say(words) {
  unsay();
  const said = document.getElementById("said").content.firstElementChild.cloneNode(true);
  said.querySelector("[data-said]").textContent = words;
  const question = document.querySelector("dialog.ask[open]");
  if (!question) return document.querySelector(".toasts").append(said);
  said.className = "problem box";
  said.querySelector("[data-dismiss]").remove();
  question.querySelector("form, .end").before(said);
}

export const unsay = () => document.querySelector("[data-from-page]")?.remove();
