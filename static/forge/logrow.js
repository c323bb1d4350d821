// One line of a log, or the band that stands for folded ones, as an element.
import { dress } from "./logcolours.js";
import { PLAIN } from "./logstyle.js";
import { clock, duration, exact } from "./times.js";

const SVG = "http://www.w3.org/2000/svg";
const READ_THEN = "The runner read it then, less the moment that it took to reach Forge.";
const RECEIVED_THEN = "Forge received it then; when it was written is not known.";

export const counted = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

function made(name, className, text = "") {
  const element = document.createElement(name);
  element.className = className;
  element.textContent = text;
  return element;
}

function chevron() {
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("class", "i");
  drawing.setAttribute("viewBox", "0 0 16 16");
  drawing.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", "M6 4l4 4-4 4");
  drawing.append(path);
  return drawing;
}

// `line` undefined: it is asked for. `fold`: what begins here and can be folded.
export function rowOf({ number, line, isSelected, isError, isHead, hasTimes, needle, isHit, fold }) {
  const row = made("div", ["ln", isSelected && "sel", isError && "err", isHead && "hd"].filter(Boolean).join(" "));
  row.dataset.number = number;
  const link = made("a", "", (number + 1).toLocaleString("en"));
  link.href = `#L${number + 1}`;
  link.tabIndex = -1; // see logcursor.js, for buttons as well
  row.append(link);
  if (fold) row.prepend(toggle(fold, true, `Fold ${counted(fold.last - fold.first + 1, "line")}`));
  if (hasTimes) row.append(timeOf(line));
  const text = made("span", line ? "" : "wait", line ? "" : "…");
  row.append(text);
  if (!line) return row;
  text.append(...piecesOf(line, needle, isHit));
  if (line.omitted) text.append(made("span", "re", `${line.omitted.toLocaleString("en")} more characters in the file`));
  if (line.rewritten > 1) text.append(made("span", "re", `rewritten ${line.rewritten.toLocaleString("en")} times`));
  return row;
}

function toggle(fold, isOpen, label) {
  const button = made("button", isOpen ? "tog" : "fold");
  button.type = "button";
  button.tabIndex = -1;
  button.dataset.key = fold.key;
  button.setAttribute("aria-expanded", String(isOpen));
  if (label) button.title = label;
  if (label) button.setAttribute("aria-label", label);
  button.append(chevron());
  return button;
}

function timeOf(line) {
  const time = document.createElement("time");
  if (!line?.at) return time;
  const at = new Date(line.at);
  time.dateTime = at.toISOString();
  time.textContent = line.isReceipt ? clock(at) : `${clock(at)}.${Math.floor(at.getMilliseconds() / 100)}`;
  time.title = `${exact(at)}. ${line.isReceipt ? RECEIVED_THEN : READ_THEN}`;
  if (line.isReceipt) time.className = "late";
  return time;
}

// `errors` and `hits` say how many of the hidden lines have one.
export function bandOf({ fold, errors, hits, hasTimes }) {
  const band = toggle(fold, false, "");
  band.dataset.number = fold.first;
  if (hasTimes) band.append(made("time", ""));
  const size = counted(fold.last - fold.first + 1, "line");
  const title = fold.title || `Lines ${(fold.first + 1).toLocaleString("en")} to ${(fold.last + 1).toLocaleString("en")}`;
  const took = fold.began && fold.ended ? `, ${lasted((fold.ended - fold.began) / 1000)}` : "";
  const about = made("em", "", `${size}${took}`);
  if (errors) about.append(made("strong", "", counted(errors, "error")));
  if (hits) about.append(made("mark", "", counted(hits, "hit")));
  band.append(made("span", "", title), about);
  return band;
}

function lasted(seconds) {
  if (seconds < 60) return `${Math.max(seconds, 0).toFixed(1)} s`;
  return duration(seconds);
}

// A line as text and elements: one for each stretch that has a style or holds the needle.
function piecesOf(line, needle, isHit) {
  const hits = needle ? placesOf(needle, line.text) : [];
  if (!line.styles && !hits.length) return [line.text];
  const styles = line.styles ?? [0, PLAIN];
  const pieces = [];
  const nowhere = [Infinity, Infinity];
  let style = PLAIN, nextStyle = 0, nextHit = 0;
  for (let at = 0; at < line.text.length; ) {
    while (styles[nextStyle] <= at) (style = styles[nextStyle + 1]), (nextStyle += 2);
    while (hits[nextHit]?.[1] <= at) nextHit += 1;
    const [hit, hitEnd] = hits[nextHit] ?? nowhere;
    const isInside = hit <= at;
    const end = Math.min(styles[nextStyle] ?? Infinity, isInside ? hitEnd : hit, line.text.length);
    pieces.push(piece(line.text.slice(at, end), style, isInside, isHit));
    at = end;
  }
  return pieces;
}

// [first, behind the last], in the text as it is written: a letter may be more in small.
function placesOf(needle, text) {
  const small = text.toLowerCase();
  const origins = small.length === text.length ? null : originsIn(text);
  const places = [];
  for (let at = small.indexOf(needle); at >= 0; at = small.indexOf(needle, at + needle.length)) {
    const last = at + needle.length - 1;
    places.push(origins ? [origins[at][0], origins[last][1]] : [at, last + 1]);
  }
  return places;
}

// For each place in small letters where the letter that it is of begins and ends.
function originsIn(text) {
  const origins = [];
  let at = 0;
  for (const letter of text) {
    const place = [at, at + letter.length];
    for (let n = letter.toLowerCase().length; n > 0; n -= 1) origins.push(place);
    at = place[1];
  }
  return origins;
}

function piece(text, style, isInside, isHit) {
  if (style === PLAIN && !isInside) return text;
  const element = document.createElement(isInside ? "mark" : "span");
  dress(element, style, isInside);
  if (isInside && isHit) element.classList.add("now");
  element.textContent = text;
  return element;
}
