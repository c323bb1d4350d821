// The log on the page: only the lines in view are in the document.
import { LogText, classesOf } from "./logtext.js";

const ROW = 20; // px, as in forge.css
const OVERSCAN = 12;
// No element is drawn higher than that; Firefox stops at about half of what others do. The scroll
// bar of a log with more lines moves a little more than one line's height for each line.
const TALLEST = CSS.supports("-moz-appearance", "none") ? 17000000 : 33000000;

export class LogView {
  #text = new LogText();
  #rows = new Map(); // line number (from 0, dropped ones counted) -> element
  #scroller;
  #canvas;
  #selected = 0;
  #needle = ""; // in small letters
  #hit = 0;
  #stretchBy = 1; // pixels of the log for each pixel of the scroll bar
  #tallest;
  #shift = 0;
  #following = true;
  #countWhenLetGo = 0;
  #lastTop = 0;
  #isDrawing = false;
  #onChange;

  // `onChange(view)` is called after each drawing.
  constructor(scroller, canvas, onChange, tallest = TALLEST) {
    this.#scroller = scroller;
    this.#canvas = canvas;
    this.#tallest = tallest;
    this.#onChange = onChange;
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#request()).observe(scroller);
    window.addEventListener("hashchange", () => this.select(location.hash));
  }

  get lineCount() {
    return this.#text.count;
  }

  // The number, from 1, of the first line in view.
  get firstInView() {
    return Math.floor((this.#scroller.scrollTop * this.#stretchBy) / ROW) + this.#text.dropped + 1;
  }

  get isFollowing() {
    return this.#following;
  }

  get newLines() {
    return this.#following ? 0 : Math.max(this.lineCount - this.#countWhenLetGo, 0);
  }

  push(bytes) {
    this.#text.push(bytes);
    this.#request();
  }

  clear() {
    this.#text = new LogText();
    for (const row of this.#rows.values()) row.remove();
    this.#rows.clear();
    this.#request();
  }

  follow(isFollowing) {
    this.#following = isFollowing;
    this.#countWhenLetGo = this.lineCount;
    this.#request();
  }

  // `#L12`: mark that line and show it. True when the line is there.
  select(hash) {
    const number = Number(/^#L(\d+)$/.exec(hash)?.[1] || 0);
    const before = this.#selected;
    this.#selected = number;
    for (const line of [before, number]) this.#redraw(line - 1);
    return number > 0 && this.#bringIntoView(number);
  }

  // Mark `needle` wherever it is drawn, and bring line `hit` into view, where it stands out.
  // True when that line is there.
  mark(needle, hit) {
    this.#needle = needle.toLowerCase();
    this.#hit = hit;
    for (const row of this.#rows.values()) row.remove();
    this.#rows.clear();
    this.#request();
    if (hit) this.follow(false);
    return hit > 0 && this.#bringIntoView(hit);
  }

  #bringIntoView(number) {
    if (number > this.lineCount || number <= this.#text.dropped) return false;
    this.#stretch(); // or the browser would not scroll that far yet
    const top = (number - 1 - this.#text.dropped) * ROW;
    const { scrollTop, clientHeight } = this.#scroller;
    const seenFrom = scrollTop * this.#stretchBy;
    if (top < seenFrom || top > seenFrom + clientHeight - ROW) {
      this.follow(false);
      this.#scroller.scrollTop = (top - clientHeight / 3) / this.#stretchBy;
    }
    return true;
  }

  // Whoever scrolls up wants to read; whoever comes back to the end wants to follow.
  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    const isAtEnd = scrollTop + clientHeight >= scrollHeight - ROW / 2;
    if (scrollTop < this.#lastTop - 1 && !isAtEnd && this.#following) this.follow(false);
    else if (scrollTop > this.#lastTop && isAtEnd && !this.#following) this.follow(true);
    this.#lastTop = scrollTop;
    this.#request();
  }

  #request() {
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    requestAnimationFrame(() => {
      this.#isDrawing = false;
      this.#draw();
    });
  }

  #draw() {
    const { lines, dropped } = this.#text;
    const shown = this.#stretch();
    if (this.#following) {
      this.#scroller.scrollTop = this.#scroller.scrollHeight;
      this.#lastTop = this.#scroller.scrollTop;
    }
    const { scrollTop, clientHeight } = this.#scroller;
    const top = scrollTop * this.#stretchBy;
    const first = Math.max(Math.floor(top / ROW) - OVERSCAN, 0);
    const last = Math.min(Math.ceil((top + clientHeight) / ROW) + OVERSCAN, shown);
    this.#drop(first + dropped, last + dropped);
    this.#place(top - scrollTop);
    for (let index = first; index < last; index += 1) this.#show(index, lines[index], dropped);
    this.#text.changedFrom = Infinity;
    this.#onChange(this);
  }

  // Makes the canvas as high as all lines; returns how many there are.
  #stretch() {
    const shown = this.lineCount - this.#text.dropped;
    const height = shown * ROW;
    const drawn = Math.min(height, this.#tallest);
    this.#canvas.style.height = `${drawn}px`;
    const { scrollHeight, clientHeight } = this.#scroller;
    const around = scrollHeight - drawn - clientHeight;
    this.#stretchBy = height === drawn ? 1 : (height + around) / (drawn + around);
    return shown;
  }

  // Rows stand where their line is, less what the scroll bar cannot tell.
  #place(shift) {
    if (shift === this.#shift) return;
    this.#shift = shift;
    for (const [number, row] of this.#rows) this.#put(row, number - this.#text.dropped);
  }

  #put(row, index) {
    row.style.top = `${index * ROW - this.#shift}px`;
  }

  #drop(first, last) {
    for (const [number, row] of this.#rows) {
      const isStale = number - this.#text.dropped >= this.#text.changedFrom;
      if (number >= first && number < last && !isStale) continue;
      row.remove();
      this.#rows.delete(number);
    }
  }

  // Rows that stay are left alone, or the reader's selection of text would be lost.
  #show(index, line, dropped) {
    const number = index + dropped;
    if (this.#rows.has(number)) return;
    const row = this.#rowOf(number, line);
    this.#put(row, index);
    this.#rows.set(number, row);
    // Drawn in ascending order: the line before is there already, or this is the first.
    const before = this.#rows.get(number - 1);
    if (before) before.after(row);
    else this.#canvas.prepend(row);
  }

  #redraw(number) {
    this.#rows.get(number)?.remove();
    this.#rows.delete(number);
    this.#request();
  }

  #rowOf(number, line) {
    const row = document.createElement("div");
    row.className = number + 1 === this.#selected ? "ln sel" : "ln";
    row.dataset.number = number;
    const link = document.createElement("a");
    link.href = `#L${number + 1}`;
    link.textContent = (number + 1).toLocaleString("en");
    const text = document.createElement("span");
    text.append(...piecesOf(line, this.#needle, number + 1 === this.#hit));
    if (line.omitted) text.append(remark(`${line.omitted.toLocaleString("en")} more characters in the file`));
    if (line.rewritten > 1) text.append(remark(`rewritten ${line.rewritten.toLocaleString("en")} times`));
    row.append(link, text);
    return row;
  }
}

// A line as text and elements: one for each stretch that has a style or holds the needle.
function piecesOf(line, needle, isHit) {
  const hits = needle ? placesOf(needle, line.text) : [];
  if (!line.styles && !hits.length) return [line.text];
  const styles = line.styles ?? [0, 0];
  const pieces = [];
  let style = 0, nextStyle = 0, nextHit = 0;
  for (let at = 0; at < line.text.length; ) {
    while (styles[nextStyle] <= at) (style = styles[nextStyle + 1]), (nextStyle += 2);
    while (hits[nextHit] + needle.length <= at) nextHit += 1;
    const hit = hits[nextHit] ?? Infinity;
    const isInside = hit <= at;
    const end = Math.min(styles[nextStyle] ?? Infinity, isInside ? hit + needle.length : hit, line.text.length);
    pieces.push(piece(line.text.slice(at, end), classesOf(style), isInside, isHit));
    at = end;
  }
  return pieces;
}

function placesOf(needle, text) {
  const small = text.toLowerCase();
  if (small.length !== text.length) return []; // letters that are not one each: found, not marked
  const places = [];
  for (let at = small.indexOf(needle); at >= 0; at = small.indexOf(needle, at + needle.length)) places.push(at);
  return places;
}

function piece(text, names, isInside, isHit) {
  if (!names && !isInside) return text;
  const element = document.createElement(isInside ? "mark" : "span");
  element.className = isInside && isHit ? `${names} now`.trim() : names;
  element.textContent = text;
  return element;
}

function remark(text) {
  const element = document.createElement("span");
  element.className = "re";
  element.textContent = text;
  return element;
}
