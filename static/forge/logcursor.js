// The keyboard in a log: however many lines it has, it is one stop of Tab.
//
// The log itself takes the focus; arrows go from line to line, whose links take it without being
// stops. Rows come and go with what is in view, so the one with the focus may go, too.
const UPWARDS = new Set(["Home", "PageUp", "ArrowUp"]);

export class LogCursor {
  #scroller;
  #box;
  #view;
  #last; // the number of the line that had the focus last, from 0

  // `letGo()` is called before anything moves up.
  constructor(scroller, box, view, letGo) {
    this.#scroller = scroller;
    this.#box = box;
    this.#view = view;
    scroller.addEventListener("keydown", (event) => {
      // Before it moves: at the end the next drawing would take the view back there, and end what
      // the browser has just begun.
      if (UPWARDS.has(event.key)) letGo();
      if (!event.ctrlKey && !event.metaKey && !event.altKey) this.#pressed(event);
    });
    box.addEventListener("focusin", () => (this.#last = this.line));
  }

  // The number, from 0, of the line that has the focus, or with which the folded ones begin that
  // have it; undefined when none has.
  get line() {
    const row = this.#row;
    return row ? Number(row.dataset.number) : undefined;
  }

  // After a drawing: `line` had the focus before it. Its row may have been made anew, or be gone.
  keep(line) {
    if (line === undefined || this.#row) return;
    const row = this.#rowOf(line);
    (row ? stopOf(row) : this.#scroller).focus({ preventScroll: true });
  }

  get #row() {
    const { activeElement } = document;
    return this.#box.contains(activeElement) ? activeElement.closest("[data-number]") : null;
  }

  #rowOf(line) {
    return this.#box.querySelector(`:scope > [data-number="${line}"]`);
  }

  #pressed(event) {
    const { key, shiftKey } = event;
    const row = this.#row;
    // From a line back, too, the log is one stop.
    if (key === "Tab" && shiftKey && row) this.#scroller.focus({ preventScroll: true });
    if (shiftKey) return;
    if (key === "ArrowDown" || key === "ArrowUp") {
      if (this.#go(row, key === "ArrowDown")) event.preventDefault();
    } else if ((key === "ArrowLeft" || key === "ArrowRight") && row) {
      const button = row.matches("button") ? row : row.querySelector("button");
      const isOpen = button?.getAttribute("aria-expanded") === "true";
      if (!button || isOpen !== (key === "ArrowLeft")) return; // the browser scrolls
      event.preventDefault();
      button.click();
    }
  }

  // True when there is a line to be at.
  #go(row, isDown) {
    const from = row && this.#isInView(row) ? row : null;
    const to = from ? (isDown ? from.nextElementSibling : from.previousElementSibling) : this.#start();
    if (!to) return Boolean(from); // at an end, or what follows is not drawn yet
    const stop = stopOf(to);
    stop.focus({ preventScroll: true });
    stop.scrollIntoView({ block: "nearest", inline: "nearest" });
    return true;
  }

  // Where the reader was if that is in sight; else the last line when following, or the first.
  #start() {
    const last = this.#last === undefined ? null : this.#rowOf(this.#last);
    if (last && this.#isInView(last)) return last;
    if (this.#view.isFollowing) return this.#box.lastElementChild;
    return [...this.#box.children].find((row) => this.#isInView(row));
  }

  #isInView(row) {
    const { top, bottom } = row.getBoundingClientRect();
    const seen = this.#scroller.getBoundingClientRect();
    return bottom > seen.top + 1 && top < seen.bottom - 1;
  }
}

function stopOf(row) {
  return row.matches("button") ? row : row.querySelector(":scope > a");
}
