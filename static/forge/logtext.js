// The log's text: bytes in, lines out.
//
// Nothing in a log can act: text reaches the page by textContent alone, colours as numbers that
// logcolours.js makes them from, and every escape sequence is dropped but those of colours and
// those with which progress is drawn in one line: move in it, erase it.
// tasks/log_search.py numbers and reads lines in the same way.
import { PLAIN, restyled } from "./logstyle.js";

const SHOWN_CHARACTERS = 4000; // of one line; the file has all of it
const SHOWN_STRETCHES = 1000; // of one line; what follows looks like the last of them
const MAXIMUM_SEQUENCE = 256;
const WIDEST = 200; // columns, as of a wide terminal: no further is gone beyond a line's end

// A line is its text and, only if something is styled, [from, style] stretches. `column` is where
// the next text goes, in units of the text: as a rule its end, for what is omitted counts.
class Line {
  text = "";
  styles = null;
  column = 0;
  omitted = 0;
  rewritten = 0;
  at = 0; // milliseconds since 1970; 0: nobody told
  isReceipt = false; // it was received then; when it was written is not known

  get #end() {
    return this.text.length + this.omitted;
  }

  write(text, style) {
    const { column } = this;
    if (column > this.#end) this.#add(" ".repeat(column - this.#end), PLAIN);
    if (column === this.#end) this.#add(text, style);
    else this.#over(text, style);
    this.column = column + text.length;
  }

  #add(text, style) {
    const room = SHOWN_CHARACTERS - this.text.length;
    if (text.length > room) {
      this.omitted += text.length - Math.max(room, 0);
      text = text.slice(0, Math.max(room, 0));
    }
    if (!text) return;
    const last = this.styles ? this.styles[this.styles.length - 1] : PLAIN;
    if (style !== last && !(this.styles?.length > 2 * SHOWN_STRETCHES)) {
      (this.styles ??= [0, PLAIN]).push(this.text.length, style);
    }
    this.text += text;
  }

  // Each character takes the place of one that is there.
  #over(text, style) {
    const { column } = this;
    const beyond = column - this.text.length;
    if (beyond >= 0) this.omitted = Math.max(this.omitted, beyond + text.length);
    else this.#replace(column, placeAfter(this.text, column, charactersIn(text)), text, style);
  }

  #replace(from, to, text, style) {
    const tail = this.#stretches(to);
    const omitted = Math.max(this.omitted - Math.max(to - this.text.length, 0), 0);
    this.#cut(from);
    this.omitted = 0;
    this.#add(text, style);
    for (const stretch of tail) this.#add(...stretch);
    this.omitted += omitted;
  }

  // [text, style] of what stands from there on.
  #stretches(from) {
    const styles = this.styles ?? [0, PLAIN];
    const found = [];
    for (let at = 0; at < styles.length; at += 2) {
      const end = styles[at + 2] ?? this.text.length;
      if (end > from) found.push([this.text.slice(Math.max(styles[at], from), end), styles[at + 1]]);
    }
    return found;
  }

  #cut(from) {
    this.omitted = Math.max(Math.min(this.omitted, from - this.text.length), 0);
    this.text = this.text.slice(0, from);
    while (this.styles?.length && this.styles[this.styles.length - 2] >= from) this.styles.length -= 2;
    if (!this.styles?.length) this.styles = null;
  }

  back() {
    const { text, column } = this;
    const isPair = column <= text.length && text.codePointAt(column - 2) > 0xffff;
    this.column = Math.max(column - (isPair ? 2 : 1), 0);
  }

  // `ESC [ n D`: so many characters, each by itself only where one may take two units.
  left(count) {
    if (count >= this.column || !PAIRED.test(this.text)) {
      this.column = Math.max(this.column - count, 0);
      return;
    }
    // What is omitted has no end while a log is followed: over it in one go.
    const beyond = Math.min(Math.max(this.column - this.text.length, 0), count);
    this.column -= beyond;
    for (let left = count - beyond; left > 0; left -= 1) this.back();
  }

  // `ESC [ n C`.
  right(count) {
    this.#go(this.column, count);
  }

  // `ESC [ n G`, n from 1.
  to(place) {
    this.#go(0, place - 1);
  }

  // To behind so many characters from there on.
  #go(from, count) {
    const edge = Math.max(this.#end, WIDEST);
    const to = Math.min(from + count, edge);
    this.column = PAIRED.test(this.text) ? Math.min(placeAfter(this.text, from, to - from), edge) : to;
  }

  // `ESC [ K` and its kind: 0 from here to the end, 1 from the beginning to here, 2 all of it.
  erase(kind) {
    const { length } = this.text;
    const beyond = Math.max(this.column - length, 0);
    const before = charactersIn(this.text.slice(0, this.column)) + beyond;
    if (kind === 1) {
      const to = beyond ? length : Math.min(placeAfter(this.text, this.column, 1), length);
      this.#replace(0, to, " ".repeat(charactersIn(this.text.slice(0, to))), PLAIN);
      this.column = before;
    } else if (kind === 2 || !this.column) {
      this.clear();
      this.column = Math.min(before, SHOWN_CHARACTERS);
    } else this.#cut(this.column);
  }

  clear() {
    if (this.text || this.omitted) this.rewritten += 1;
    this.text = "";
    this.styles = null;
    this.column = 0;
    this.omitted = 0;
  }
}

const PAIRED = /[\ud800-\udfff]/; // half of a character that takes two units

function charactersIn(text) {
  if (!PAIRED.test(text)) return text.length;
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}

// The place that so many characters follow behind `at`; beyond the end each counts as one.
function placeAfter(text, at, count) {
  for (; count > 0 && at < text.length; count -= 1) at += text.codePointAt(at) > 0xffff ? 2 : 1;
  return at + count;
}

// Line ends, carriage returns, escapes, and the other control characters, which are dropped.
const SPECIAL = /[\x00-\x08\x0a-\x1f\x7f-\x9f]/g;
const STRING_STARTERS = "]PX^_"; // ESC and one of these begin a text that ends with BEL or ESC \

// Characters that nobody sees and that reorder or hide the rest of a line: bidi marks and
// overrides, zero-width ones, separators, tags. They are shown by their number.
const HIDDEN = /[\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;
// A letter carries a few marks; a tower of them would be painted over other lines.
const TOWER = /(\p{M}{4})\p{M}+/gu;

function seen(text) {
  return text
    .replace(HIDDEN, (one) => `<U+${one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}>`)
    .replace(TOWER, "$1");
}

// Lines from number `first` (from 0) on; of the last ones no more than `most` are kept.
export class LogText {
  lines = [new Line()];
  dropped;
  changedFrom = 0; // the first line that changed since somebody looked
  #most;
  #at = 0;
  #isReceipt = false;
  // A byte order mark is a character like others here: shown, not swallowed.
  #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #style = PLAIN;
  #returned = false;
  #state = "text";
  #sequence = "";

  constructor(first = 0, most = Infinity) {
    this.dropped = first;
    this.#most = most;
  }

  get count() {
    const last = this.lines[this.lines.length - 1];
    return this.dropped + this.lines.length - (last.text || last.omitted ? 0 : 1);
  }

  push(bytes) {
    this.#write(this.#decoder.decode(bytes, { stream: true }));
    this.#forget();
  }

  // Lines that begin from here on are of that time.
  stamp(at, isReceipt) {
    this.#at = at;
    this.#isReceipt = isReceipt;
  }

  // Forget the lines so far, but not the colour that holds on.
  restart() {
    this.lines = [new Line()];
    this.#returned = false;
  }

  #write(text) {
    let at = 0;
    while (at < text.length) {
      if (this.#state !== "text") {
        at = this.#escaped(text, at);
        continue;
      }
      SPECIAL.lastIndex = at;
      const found = SPECIAL.exec(text);
      const end = found ? found.index : text.length;
      if (end > at) this.#print(text.slice(at, end));
      if (!found) return;
      this.#control(found[0]);
      at = end + 1;
    }
  }

  #print(text) {
    const line = this.#begun();
    if (this.#returned) line.clear();
    this.#returned = false;
    line.write(seen(text), this.#style);
    this.#changed();
  }

  #changed() {
    this.changedFrom = Math.min(this.changedFrom, this.lines.length - 1);
  }

  #begun() {
    const line = this.lines[this.lines.length - 1];
    if (!line.at) [line.at, line.isReceipt] = [this.#at, this.#isReceipt];
    return line;
  }

  #control(character) {
    if (character === "\n") {
      this.#begun();
      this.lines.push(new Line());
      this.#returned = false;
      this.changedFrom = Math.min(this.changedFrom, this.lines.length - 2);
    } else if (character === "\r") this.#return();
    else if (character === "\b") this.lines[this.lines.length - 1].back();
    else if (character === "\x1b") this.#state = "escape";
    else if (character === "\x9b") this.#begin("control");
  }

  // What is printed next is written over the whole line, as those who draw progress mean it.
  #return() {
    this.#returned = true;
    this.lines[this.lines.length - 1].column = 0;
  }

  #begin(state) {
    this.#state = state;
    this.#sequence = "";
  }

  // One step through an escape sequence; it may go on in the next piece.
  #escaped(text, at) {
    const character = text[at];
    if (this.#state === "escape") {
      if (character === "[") this.#begin("control");
      else if (STRING_STARTERS.includes(character)) this.#begin("string");
      else if (character < " " || character > "/") {
        this.#state = "text";
        // A control character inside a sequence is not part of it.
        if (character < " ") return at;
      }
      return at + 1;
    }
    return this.#state === "control" ? this.#controlSequence(character, at) : this.#string(text, at);
  }

  #controlSequence(character, at) {
    if (character >= "@" && character <= "~") {
      this.#obey(character, this.#sequence);
      this.#state = "text";
      return at + 1;
    }
    if (character < " " || character > "~" || this.#sequence.length > MAXIMUM_SEQUENCE) {
      this.#state = "text";
      return at;
    }
    this.#sequence += character;
    return at + 1;
  }

  #obey(character, parameters) {
    if (character === "m" && /^[0-9;:]*$/.test(parameters)) {
      this.#style = restyled(this.#style, parameters);
    } else if ("CDG".includes(character) && /^\d{0,9}$/.test(parameters)) {
      this.#move(character, Number(parameters) || 1);
    } else if ((character === "K" && /^[012]?$/.test(parameters)) || (character === "J" && /^0?$/.test(parameters))) {
      this.lines[this.lines.length - 1].erase(Number(parameters));
      this.#changed();
    }
  }

  #move(character, count) {
    const line = this.lines[this.lines.length - 1];
    if (character === "D") line.left(count);
    else if (character === "G" && count === 1) this.#return();
    else {
      this.#returned = false; // who goes on to a column means to leave what stands before it
      if (character === "C") line.right(count);
      else line.to(count);
    }
  }

  // Titles, links, images: all of it is dropped. A new line ends one that nobody closed.
  #string(text, at) {
    const end = /[\x07\x0a\x1b\x9c]/g;
    end.lastIndex = at;
    const found = end.exec(text);
    if (!found) return text.length;
    if (found[0] === "\x1b") {
      this.#state = "escape"; // ESC \ ends it; "\" then ends the escape
      return found.index + 1;
    }
    this.#state = "text";
    return found[0] === "\n" ? found.index : found.index + 1;
  }

  #forget() {
    const surplus = this.lines.length - this.#most;
    if (surplus <= 0) return;
    const gone = surplus + Math.ceil(this.#most / 10); // now and then many, not one each time
    this.lines.splice(0, gone);
    this.dropped += gone;
    this.changedFrom = Math.max(this.changedFrom - gone, 0);
  }
}
