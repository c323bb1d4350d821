// What can be folded in a log, from its outline (tasks/log_outline.py): sections that the program
// marked, and long stretches between lines that tell of errors. What a fold hides, it counts.

const LONG_SECTION = 20; // lines: shorter ones stay open when all long ones are folded
const LONG_STRETCH = 200;
const AROUND = 10; // lines that stay in sight around an error, and at the log's beginning
const LIVE_END = 100; // lines at the end of a log that grows

// Numbers of lines with errors: runs [first, count], ascending.
export class Errors {
  #runs;

  constructor(marks) {
    this.#runs = marks.filter(([, kind]) => kind === "error").map(([line, , count]) => [line, count]);
  }

  get runs() {
    return this.#runs;
  }

  get count() {
    return this.#runs.reduce((sum, [, count]) => sum + count, 0);
  }

  // How many are among lines `first` to `last`.
  within(first, last) {
    let sum = 0;
    for (let at = this.#from(first); at < this.#runs.length && this.#runs[at][0] <= last; at += 1) {
      const [line, count] = this.#runs[at];
      sum += Math.min(line + count - 1, last) - Math.max(line, first) + 1;
    }
    return sum;
  }

  // The first line of the next run behind line `after`, or of the first one.
  next(after) {
    return (this.#runs.find(([line]) => line > after) ?? this.#runs[0])?.[0];
  }

  // The first run that ends at or behind the line.
  #from(line) {
    let low = 0, high = this.#runs.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#runs[middle][0] + this.#runs[middle][1] <= line) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

// {key, first, last, title, isClosed, isLong, began, ended}; `isClosed`: the program asks for it.
// A section that waits for an end of its own and has none is no fold: how the program failed
// stands there.
export function foldsOf({ marks, end, isLive, errors }) {
  const folds = [];
  let free = 0; // the first line that no section holds
  let section = null;
  const close = (last, at) => {
    if (section && last > section.first) folds.push(sectionTo(section, last, at));
    free = section ? last + 1 : free;
    section = null;
  };
  for (const [line, kind, title, at] of marks) {
    if (kind === "error") continue;
    if (kind === "end") {
      close(line, at);
      continue;
    }
    close(line - 1, at);
    folds.push(...stretches(free, line - 1, errors));
    section = { first: line, title, isClosed: kind === "closed", isPaired: kind !== "head", began: at };
    free = line;
  }
  if (section && !section.isPaired) {
    if (!isLive) close(end - 1, null);
  } else if (!section || !isLive) folds.push(...stretches(free, end - 1 - (isLive ? LIVE_END : AROUND), errors));
  return folds;
}

// The key of the section that nothing has ended yet, if there is one.
export function openIn(marks) {
  const last = marks.findLast(([, kind]) => kind !== "error");
  return last && last[1] !== "end" ? keyOf(last[0]) : "";
}

const keyOf = (first) => `section ${first}`;

function sectionTo({ first, title, isClosed, began }, last, ended) {
  const isLong = last - first >= LONG_SECTION;
  return { key: keyOf(first), first, last, title, isClosed, isLong, began, ended };
}

// Long runs of lines from `first` to `last` without an error and what is around one.
function* stretches(first, last, errors) {
  let begin = first + AROUND;
  for (const [line, count] of errors.runs) {
    if (line + count <= first) continue;
    if (line > last) break;
    yield* stretch(begin, line - AROUND - 1);
    begin = line + count + AROUND;
  }
  yield* stretch(begin, last);
}

function* stretch(first, last) {
  if (last - first + 1 < LONG_STRETCH) return;
  yield { key: `stretch ${first}`, first, last, title: "", isClosed: false, isLong: true };
}
