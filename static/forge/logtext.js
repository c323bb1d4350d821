// The log's text: bytes in, lines out.
//
// Nothing in a log can act: text reaches the page by textContent alone, colours as numbers that
// logcolours.js makes them from, and every escape sequence but those of colours is dropped.
// tasks/log_search.py numbers and reads lines in the same way.
import { PLAIN, restyled } from "./logstyle.js";

const SHOWN_CHARACTERS = 4000; // of one line; the file has all of it
const SHOWN_STRETCHES = 1000; // of one line; what follows looks like the last of them
const MAXIMUM_SEQUENCE = 256;

// A line is its text and, only if something is styled, [from, style] stretches.
class Line {
  text = "";
  styles = null;
  omitted = 0;
  rewritten = 0;
  at = 0; // milliseconds since 1970; 0: nobody told
  isReceipt = false; // it was received then; when it was written is not known

  add(text, style) {
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

  clear() {
    if (this.text || this.omitted) this.rewritten += 1;
    this.text = "";
    this.styles = null;
    this.omitted = 0;
  }
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
    line.add(seen(text), this.#style);
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
    } else if (character === "\r") this.#returned = true;
    else if (character === "\x1b") this.#state = "escape";
    else if (character === "\x9b") this.#begin("control");
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
      if (character === "m" && /^[0-9;:]*$/.test(this.#sequence)) {
        this.#style = restyled(this.#style, this.#sequence);
      }
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
