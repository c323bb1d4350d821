// Where lines are, in pixels, if all of them were drawn: folded ones take the place of one band,
// wrapped ones take more than a row as soon as somebody has measured them.
export const ROW = 20; // px, as in forge.css
const BLOCK = 1000;

export class Layout {
  band = 28; // px, likewise, with the room around it
  version = 0; // changes when something other than the end moves
  #total = 0;
  #folds = []; // {first, last}, ascending, apart from each other
  #saved = [0]; // px that the folds before take less than their lines
  #extra = []; // by block: Uint16Array of px above a row, or undefined
  #sums = null; // px of all blocks before; null: to be added up again

  get total() {
    return this.#total;
  }

  set total(count) {
    this.#total = count;
  }

  get height() {
    return this.topOf(this.#total);
  }

  set folds(folds) {
    this.#folds = folds;
    this.#saved = null;
    this.version += 1;
  }

  // How high a line was found to be.
  measured(line, height) {
    if (this.heightOf(line) === height) return false;
    const block = Math.floor(line / BLOCK);
    (this.#extra[block] ??= new Uint16Array(BLOCK))[line % BLOCK] = height - ROW;
    this.#sums = this.#saved = null;
    this.version += 1;
    return true;
  }

  forgetHeights(band) {
    this.band = band;
    this.#extra = [];
    this.#sums = this.#saved = null;
    this.version += 1;
  }

  heightOf(line) {
    return ROW + (this.#extra[Math.floor(line / BLOCK)]?.[line % BLOCK] ?? 0);
  }

  // The closed fold that hides this line, or undefined.
  foldOf(line) {
    const fold = this.#folds[this.#indexOf(line)];
    return fold && line <= fold.last ? fold : undefined;
  }

  // Of a line that is hidden: where its band is.
  topOf(line) {
    this.#addUp();
    const index = this.#indexOf(line);
    const fold = this.#folds[index];
    if (!fold) return this.#rawTop(line);
    if (line <= fold.last) return this.#rawTop(fold.first) - this.#saved[index];
    return this.#rawTop(line) - this.#saved[index + 1];
  }

  // The last line that begins at or above that place; of a band the first that it hides.
  lineAt(top) {
    let low = 0, high = Math.max(this.#total - 1, 0);
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.topOf(middle) <= top) low = middle;
      else high = middle - 1;
    }
    return this.foldOf(low)?.first ?? low;
  }

  // The last fold that begins at or before the line; -1 for none.
  #indexOf(line) {
    let low = -1, high = this.#folds.length - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.#folds[middle].first <= line) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #rawTop(line) {
    const block = Math.floor(line / BLOCK);
    let top = line * ROW + (this.#sums[Math.min(block, this.#sums.length - 1)] ?? 0);
    const extra = this.#extra[block];
    if (extra) for (let at = line % BLOCK - 1; at >= 0; at -= 1) top += extra[at];
    return top;
  }

  #addUp() {
    if (!this.#sums) {
      this.#sums = [0];
      for (let block = 0; block < this.#extra.length; block += 1) {
        const sum = this.#extra[block]?.reduce((one, other) => one + other, 0) ?? 0;
        this.#sums.push(this.#sums[block] + sum);
      }
    }
    if (this.#saved) return;
    this.#saved = [0];
    for (const { first, last } of this.#folds) {
      const less = this.#rawTop(last + 1) - this.#rawTop(first) - this.band;
      this.#saved.push(this.#saved[this.#saved.length - 1] + less);
    }
  }
}
