// A ruler beside the log: where hits and errors are in all of it, and what is in view.
const SVG = "http://www.w3.org/2000/svg";
const UNITS = 1000; // the drawing's height, whatever the element's is
const STEPS = 250; // so many marks at most of each kind
const PAUSE = 200;

export class LogRuler {
  #element;
  #view;
  #inView = rectangle("v");
  #marks = document.createElementNS(SVG, "g");
  #drawn = "";
  #timer = 0;

  constructor(element, view) {
    this.#element = element;
    this.#view = view;
    element.setAttribute("viewBox", `0 0 12 ${UNITS}`);
    element.setAttribute("preserveAspectRatio", "none");
    element.append(this.#marks, this.#inView);
    // For the pointer; the keyboard has keys for the next hit and the next error.
    element.addEventListener("click", (event) => {
      const { top, height } = element.getBoundingClientRect();
      this.#go((event.clientY - top) / height);
    });
  }

  drawn() {
    const { from, share } = this.#view.picture;
    const isAll = !(share < 1);
    this.#inView.setAttribute("y", isAll ? 0 : from * UNITS);
    this.#inView.setAttribute("height", isAll ? 0 : Math.max(share * UNITS, 8));
    this.#timer ||= setTimeout(() => {
      this.#timer = 0;
      this.#redraw();
    }, PAUSE);
  }

  #redraw() {
    const { place, hits, errors } = this.#view.picture;
    const hitsAt = steps(hits.map((line) => place(line - 1)));
    const errorsAt = steps(errors.flatMap(([line, count]) => [place(line), place(line + count - 1)]));
    const drawn = `${[...hitsAt]}|${[...errorsAt]}`;
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    const marks = [...hitsAt].map((at) => rectangle("m", at)).concat([...errorsAt].map((at) => rectangle("e", at)));
    this.#marks.replaceChildren(...marks);
  }

  #go(share) {
    const { place } = this.#view.picture;
    let low = 0, high = Math.max(this.#view.lineCount - 1, 0);
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (place(middle) <= share) low = middle;
      else high = middle - 1;
    }
    this.#view.reveal(low + 1);
  }
}

function steps(places) {
  return new Set(places.map((place) => Math.floor(place * STEPS)));
}

function rectangle(name, step = 0) {
  const element = document.createElementNS(SVG, "rect");
  element.setAttribute("class", name);
  element.setAttribute("x", name === "v" ? 1 : 3);
  element.setAttribute("width", name === "v" ? 11 : 7);
  element.setAttribute("y", (step * UNITS) / STEPS);
  element.setAttribute("height", 5);
  return element;
}
