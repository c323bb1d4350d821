// The log on the page: only the lines in view are in the document.
import { LogCursor } from "./logcursor.js";
import { Errors, foldsOf, openIn } from "./logfolds.js";
import { Layout, ROW } from "./loglayout.js";
import { bandOf, rowOf } from "./logrow.js";
import { LogStore } from "./logstore.js";

const OVERSCAN = 12;
const NARROW = matchMedia("(max-width: 720px)");
const BAND = { wide: 28, narrow: 44 }; // px, as in forge.css
// No element is drawn higher than that; Firefox stops at about half of what others do. The scroll
// bar of a log with more lines moves a little more than one line's height for each line.
const TALLEST = CSS.supports("-moz-appearance", "none") ? 17000000 : 33000000;

export class LogView {
  errors = new Errors([]);
  #store;
  #layout = new Layout();
  #rows = new Map(); // key -> {element, look}
  #scroller;
  #canvas;
  #cursor;
  #box = document.createElement("div");
  #selected = 0;
  #needle = ""; // in small letters
  #hit = 0;
  #hits = []; // numbers of lines, from 1, ascending
  #folds = [];
  #byFirst = new Map();
  #choices = new Map(); // key of a fold -> whether the reader wants it closed
  #hidden = ""; // what the closed ones hide, to see whether that has changed
  #isFolding = false;
  #hasTimes = false;
  #stretchBy = 1; // pixels of the log for each pixel of the scroll bar
  #tallest;
  #width = 0;
  #following = true;
  #countWhenLetGo = 0;
  #lastTop = 0;
  #anchor = { line: 0, beyond: 0 }; // what stands at the top, and how much of it is above
  #seenVersion = 0;
  #isDrawing = false;
  #onChange;

  // `fetch(first, count)`: see LogStore. `onChange(view)` is called after each drawing.
  constructor(scroller, canvas, { fetch, onChange = () => {}, tallest = TALLEST, kept } = {}) {
    this.#scroller = scroller;
    this.#canvas = canvas;
    this.#box.className = "rows";
    canvas.append(this.#box);
    this.#tallest = tallest;
    this.#onChange = onChange;
    this.#store = new LogStore(fetch, () => this.#request(), kept);
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.#cursor = new LogCursor(scroller, this.#box, this, () => this.#letGo());
    scroller.addEventListener("wheel", ({ deltaY }) => deltaY < 0 && this.#letGo(), { passive: true });
    this.#box.addEventListener("click", (event) => this.#clicked(event));
    new ResizeObserver(() => this.#resized()).observe(scroller);
    window.addEventListener("hashchange", () => this.select(location.hash));
  }

  get lineCount() {
    return this.#store.count;
  }

  // The number, from 1, of the first line in view.
  get firstInView() {
    return this.#layout.lineAt(this.#scroller.scrollTop * this.#stretchBy) + 1;
  }

  get isFollowing() {
    return this.#following;
  }

  get newLines() {
    return this.#following ? 0 : Math.max(this.lineCount - this.#countWhenLetGo, 0);
  }

  get isFolding() {
    return this.#isFolding;
  }

  // What a picture of the whole log needs: where things are, from 0 to 1.
  get picture() {
    const { height } = this.#layout;
    const { clientHeight } = this.#scroller;
    const place = (line) => (height ? this.#layout.topOf(line) / height : 0);
    const top = this.#scroller.scrollTop * this.#stretchBy;
    return { place, hits: this.#hits, errors: this.errors.runs, from: top / height, share: clientHeight / height };
  }

  push(bytes, cut) {
    this.#store.push(bytes, cut);
    this.#request();
  }

  stamp(at, isReceipt) {
    this.#store.stamp(at, isReceipt);
  }

  // The last lines are from number `first` on; what comes next begins there.
  restart(first) {
    this.#store.restart(first);
    this.#request();
  }

  clear() {
    this.#store.clear();
    this.#choices.clear();
    this.outline([], 0, true, false);
  }

  follow(isFollowing) {
    this.#following = isFollowing;
    this.#countWhenLetGo = this.lineCount;
    this.#request();
  }

  // What stands out: see tasks/log_outline.py. The first `end` lines were looked through; `isAll`:
  // no more are there yet.
  outline(marks, end, isLive, isAll) {
    const open = isLive && isAll && !this.#isFolding && openIn(marks);
    // It stays open when it has ended: nothing folds under the eyes of whoever sees it come.
    if (open && !this.#choices.has(open)) this.#choices.set(open, false);
    this.errors = new Errors(marks);
    this.#folds = foldsOf({ marks, end: Math.min(end, this.lineCount), isLive, errors: this.errors });
    this.#byFirst = new Map(this.#folds.map((fold) => [fold.first, fold]));
    this.#fold();
  }

  // Fold all long stretches, or none but those that the program wants folded.
  foldAll(isFolding) {
    this.#isFolding = isFolding;
    this.#choices.clear();
    this.#fold();
  }

  showTimes(hasTimes) {
    this.#hasTimes = hasTimes;
    this.#scroller.classList.toggle("ts", hasTimes);
    this.#forgetHeights();
  }

  wrap(isWrapping) {
    this.#scroller.classList.toggle("wrap", isWrapping);
    this.#forgetHeights();
  }

  // `#L12`: mark that line and show it. True when the line is there.
  select(hash) {
    const number = Number(/^#L(\d+)$/.exec(hash)?.[1] || 0);
    this.#selected = number;
    this.#request();
    return number > 0 && this.reveal(number);
  }

  // Mark `needle` wherever it is drawn, and bring line `hit` into view, where it stands out.
  // `hits` are the lines that hold it. True when that line is there.
  mark(needle, hit, hits = []) {
    this.#needle = needle.toLowerCase();
    this.#hit = hit;
    this.#hits = hits;
    this.#request();
    if (hit) this.follow(false);
    return hit > 0 && this.reveal(hit);
  }

  // Bring a line into view, by its number from 1, whatever hides it. True when it is there.
  reveal(number) {
    if (number > this.lineCount || number < 1) return false;
    this.#layout.total = this.lineCount;
    const hiding = this.#layout.foldOf(number - 1);
    if (hiding) this.#choose(hiding.key, false);
    this.#stretch(); // or the browser would not scroll that far yet
    const top = this.#layout.topOf(number - 1);
    const { scrollTop, clientHeight } = this.#scroller;
    const seenFrom = scrollTop * this.#stretchBy;
    if (hiding || top < seenFrom || top > seenFrom + clientHeight - ROW) {
      this.follow(false);
      this.#scrollTo(Math.max(top - clientHeight / 3, 0));
    }
    return true;
  }

  // Somebody is about to scroll up, if there is anything above.
  #letGo() {
    if (this.#following && this.#scroller.scrollTop > 0) this.follow(false);
  }

  #scrollTo(top) {
    this.#scroller.scrollTop = top / this.#stretchBy;
    this.#lastTop = this.#scroller.scrollTop;
    this.#hold();
  }

  // Remember what stands at the top: it stays there when something above it changes its height.
  #hold() {
    const top = this.#scroller.scrollTop * this.#stretchBy;
    const line = this.#layout.lineAt(top);
    this.#anchor = { line, beyond: top - this.#layout.topOf(line) };
  }

  // Whoever scrolls up wants to read; whoever comes back to the end wants to follow.
  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    const left = scrollHeight - clientHeight - scrollTop;
    if (scrollTop < this.#lastTop - 1 && left > 1 && this.#following) this.follow(false);
    else if (scrollTop > this.#lastTop && left <= ROW / 2 && !this.#following) this.follow(true);
    this.#lastTop = scrollTop;
    this.#hold();
    this.#request();
  }

  #resized() {
    const { clientWidth } = this.#scroller;
    if (clientWidth !== this.#width) this.#forgetHeights();
    this.#width = clientWidth;
    this.#request();
  }

  #forgetHeights() {
    this.#layout.forgetHeights(NARROW.matches ? BAND.narrow : BAND.wide);
    this.#request();
  }

  #clicked(event) {
    const button = event.target.closest("button[data-key]");
    if (!button) return;
    const { key } = button.dataset;
    this.#choose(key, button.getAttribute("aria-expanded") === "true");
    this.#draw();
    this.#box.querySelector(`button[data-key="${key}"]`)?.focus({ preventScroll: true });
  }

  #choose(key, isClosed) {
    this.#choices.set(key, isClosed);
    this.#fold();
  }

  #isClosed(fold) {
    return this.#choices.get(fold.key) ?? (fold.isClosed || (this.#isFolding && fold.isLong));
  }

  #fold() {
    const closed = this.#folds.filter((fold) => this.#isClosed(fold));
    const hidden = closed.map(({ first, last }) => `${first}-${last}`).join();
    if (hidden !== this.#hidden) this.#layout.folds = closed;
    this.#hidden = hidden;
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
    this.#layout.total = this.lineCount;
    this.#stretch();
    this.#stay();
    const { scrollTop, clientHeight } = this.#scroller;
    const top = scrollTop * this.#stretchBy;
    const wanted = this.#itemsFrom(top - OVERSCAN * ROW, top + clientHeight + OVERSCAN * ROW);
    const first = wanted[0]?.line ?? 0;
    this.#store.want(first, (wanted.at(-1)?.line ?? -1) + 1);
    for (const item of wanted) item.look = this.#lookOf(item);
    const focused = this.#cursor.line;
    this.#drop(new Map(wanted.map(({ key, look }) => [key, look])));
    this.#show(wanted);
    // Rows stand where their line is, less what the scroll bar cannot tell.
    this.#box.style.top = `${this.#layout.topOf(first) - (top - scrollTop)}px`;
    this.#cursor.keep(focused);
    this.#store.changedFrom = Infinity;
    if (this.#measure(wanted)) this.#request();
    this.#onChange(this);
  }

  // At the end when following, and otherwise at what the reader looks at.
  #stay() {
    if (this.#following) {
      const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
      // Set when it is there already, it would end the scrolling that somebody has just begun.
      if (scrollTop + clientHeight < scrollHeight - 1) this.#scroller.scrollTop = scrollHeight;
      this.#lastTop = this.#scroller.scrollTop;
      this.#hold();
    } else if (this.#seenVersion !== this.#layout.version) {
      const top = this.#layout.topOf(this.#anchor.line) + this.#anchor.beyond;
      if (Math.abs(top - this.#scroller.scrollTop * this.#stretchBy) >= 1) this.#scrollTo(top);
    }
    this.#seenVersion = this.#layout.version;
  }

  // Lines and bands between two heights, from top to bottom: {key, line, fold}
  #itemsFrom(top, bottom) {
    const items = [];
    const layout = this.#layout;
    let line = layout.lineAt(Math.max(top, 0));
    for (let at = layout.topOf(line); line < layout.total && at < bottom; ) {
      const fold = layout.foldOf(line);
      items.push({ key: fold ? `fold ${line}` : line, line, fold });
      at += fold ? layout.band : layout.heightOf(line);
      line = fold ? fold.last + 1 : line + 1;
    }
    return items;
  }

  // Makes the canvas as high as all lines.
  #stretch() {
    const { height } = this.#layout;
    const drawn = Math.min(height, this.#tallest);
    this.#canvas.style.height = `${drawn}px`;
    // As wide as the longest number, with room for the sign that folds.
    const digits = Math.max(this.lineCount.toLocaleString("en").length, 4);
    this.#scroller.style.setProperty("--digits", digits);
    const { scrollHeight, clientHeight } = this.#scroller;
    const around = scrollHeight - drawn - clientHeight;
    this.#stretchBy = height === drawn ? 1 : (height + around) / (drawn + around);
  }

  // Rows that stay are left alone, or the reader's selection of text would be lost.
  #drop(looks) {
    for (const [key, row] of this.#rows) {
      const isChanged = typeof key === "number" && key >= this.#store.changedFrom;
      if (looks.get(key) === row.look && !isChanged) continue;
      row.element.remove();
      this.#rows.delete(key);
    }
  }

  #show(wanted) {
    let before = null;
    for (const { key, line, fold, look } of wanted) {
      let row = this.#rows.get(key);
      if (!row) {
        row = { element: fold ? this.#bandOf(fold) : this.#rowOf(line), look };
        this.#rows.set(key, row);
        if (before) before.after(row.element);
        else this.#box.prepend(row.element);
      }
      before = row.element;
    }
  }

  // Wrapped lines are as high as they are drawn. True when one was not known to be.
  #measure(wanted) {
    if (!this.#scroller.classList.contains("wrap")) return false;
    let isNew = false;
    for (const { key, line, fold } of wanted) {
      if (fold || !this.#store.line(line)) continue;
      isNew = this.#layout.measured(line, Math.round(this.#rows.get(key).element.offsetHeight)) || isNew;
    }
    return isNew;
  }

  // What a row or band shows beside its text: when it changes, it is made anew.
  #lookOf({ line, fold }) {
    const about = `${this.#hasTimes} ${this.#needle}`;
    if (fold) return `${about} ${fold.last} ${Object.values(this.#within(fold))}`;
    const { isError, isSelected, isHit, fold: foldable } = this.#aboutLine(line);
    const isHere = this.#store.line(line) !== undefined;
    return `${about} ${isHere} ${isError} ${isSelected} ${isHit} ${foldable?.last}`;
  }

  #aboutLine(number) {
    const fold = this.#byFirst.get(number);
    const isFoldable = fold && (fold.title || this.#isFolding || this.#choices.has(fold.key));
    return {
      fold: isFoldable ? fold : undefined,
      isSelected: number + 1 === this.#selected,
      isError: this.errors.within(number, number) > 0,
      isHead: Boolean(fold?.title),
      isHit: number + 1 === this.#hit,
    };
  }

  #rowOf(number) {
    const line = this.#store.line(number);
    return rowOf({ number, line, hasTimes: this.#hasTimes, needle: this.#needle, ...this.#aboutLine(number) });
  }

  // How much that somebody may look for is hidden.
  #within({ first, last }) {
    const hits = this.#hits.filter((line) => line > first && line <= last + 1).length;
    return { errors: this.errors.within(first, last), hits };
  }

  #bandOf(fold) {
    return bandOf({ fold, hasTimes: this.#hasTimes, ...this.#within(fold) });
  }
}
