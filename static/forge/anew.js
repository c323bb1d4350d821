// Look at this page anew, and never at what a POST was answered with: a reload by a script would
// send the form again, unasked.
//
// Not under an open question: what somebody types into it would go with the page. Then the page
// says why, and looks when the question is closed.
import { say } from "./say.js";

export const SIGNED_OUT =
  "You are signed out. What you typed here is kept in this tab: close this question to sign in.";
export const GONE =
  "What this page showed is gone, or is no longer yours to see. Close this question to go on.";

const load = () => location.replace(location.pathname + location.search);

export function lookAgain(why = SIGNED_OUT) {
  const question = document.querySelector("dialog.ask[open]");
  if (!question) return load();
  if (question.hasAttribute("data-ended")) return;
  question.setAttribute("data-ended", "");
  question.addEventListener("close", load);
  say(why);
}
