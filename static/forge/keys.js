// Keys for those who would rather not reach for the mouse. The list of them is templates/keys.html.
const PLACES = { o: "overview", t: "tasks", q: "queue", m: "templates", r: "runners" };
const CHORD = 1500; // ms between g and the letter after it

const list = document.getElementById("keys");
let goes = -Infinity; // when g was pressed; at the beginning of a page it was not

// The links that stand for rows, from top to bottom.
function rows() {
  const links = document.querySelectorAll("main td a.name, main .lately a.name, main .trouble a.btn");
  return [...links].filter((link) => link.offsetParent);
}

function move(step) {
  const all = rows();
  const at = all.indexOf(document.activeElement);
  const next = at < 0 ? (step > 0 ? 0 : all.length - 1) : at + step;
  all[next]?.focus();
}

function go(letter) {
  document.querySelector(`.nav [data-place="${PLACES[letter]}"]`)?.click();
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !list) return;
  const follows = event.timeStamp - goes < CHORD;
  goes = event.key === "g" ? event.timeStamp : -Infinity;
  if (list.open) return event.key === "?" && list.close(); // Escape closes it by itself
  if (document.querySelector("dialog[open]")) return; // what is behind it is out of reach
  if (event.key === "?") list.showModal();
  else if (follows && PLACES[event.key]) go(event.key);
  else if (event.key === "j" || event.key === "k") move(event.key === "j" ? 1 : -1);
});

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-keys]")) list.showModal();
  else if (event.target === list) list.close(); // the ground around it
});
