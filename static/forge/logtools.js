// The log's switches: times, wrapped lines, folds, full screen. The first three are remembered.
const NARROW = "(max-width: 720px)"; // there lines are wrapped unless somebody chose otherwise
const CHORD = 1500; // ms after g, which begins a way to another page: see keys.js

function remembered(name, otherwise) {
  try {
    return { on: true, off: false }[localStorage.getItem(`forge-log-${name}`)] ?? otherwise;
  } catch {
    return otherwise; // no storage: the choice lasts as long as the page
  }
}

function remember(name, isOn) {
  try {
    localStorage.setItem(`forge-log-${name}`, isOn ? "on" : "off");
  } catch {
    // likewise
  }
}

export class LogTools {
  #panel;
  #view;
  #buttons = {};
  #lastChord = -Infinity;

  constructor(panel, view) {
    this.#panel = panel;
    this.#view = view;
    for (const name of ["times", "wrap", "fold", "full"]) {
      const button = panel.querySelector(`[data-${name}]`);
      this.#buttons[name] = button;
      button.addEventListener("click", () => this.#turn(name, button.getAttribute("aria-pressed") !== "true"));
    }
    this.#set("times", remembered("times", false));
    this.#set("wrap", remembered("wrap", matchMedia(NARROW).matches));
    this.#set("fold", remembered("fold", false));
    panel.querySelector("[data-errors]").addEventListener("click", () => this.nextError());
    document.addEventListener("keydown", (event) => this.#pressed(event));
  }

  // To the next line that tells of an error; after the last one to the first.
  nextError() {
    const line = this.#view.errors.next(this.#at);
    if (line === undefined) return;
    this.#at = line;
    history.replaceState(null, "", `#L${line + 1}`);
    this.#view.select(location.hash);
  }

  #at = -1;

  #turn(name, isOn) {
    this.#set(name, isOn);
    if (name !== "full") remember(name, isOn);
  }

  #set(name, isOn) {
    this.#buttons[name].setAttribute("aria-pressed", String(isOn));
    if (name === "times") this.#view.showTimes(isOn);
    else if (name === "wrap") this.#view.wrap(isOn);
    else if (name === "fold") this.#view.foldAll(isOn);
    else {
      this.#panel.classList.toggle("full", isOn);
      document.documentElement.classList.toggle("log-is-full", isOn);
    }
  }

  #pressed(event) {
    const isChord = event.timeStamp - this.#lastChord < CHORD;
    this.#lastChord = event.key === "g" ? event.timeStamp : -Infinity;
    const isElsewhere = event.target.closest("input, textarea, select, [contenteditable], dialog, details[open]");
    if (isElsewhere || isChord || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const isFull = this.#panel.classList.contains("full");
    if (event.key === "Escape" && isFull) this.#set("full", false);
    else if (event.key === "e") this.nextError();
    else if (TURNS[event.key]) this.#buttons[TURNS[event.key]].click();
  }
}

const TURNS = { t: "times", w: "wrap", z: "fold", f: "full" };
