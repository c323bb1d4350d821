// The log's text: bytes in, lines out.
//
// Nothing in a log can act: text reaches the page by textContent alone, colours by class names
// from a fixed table, and every escape sequence but those colours is dropped.
// tasks/log_search.py numbers and reads lines in the same way.

const SHOWN_CHARACTERS = 4000; // of one line; the file has all of it
const MAXIMUM_LINES = 1600000; // above, browsers run out of pixels for the scroll bar
const DROPPED_AT_ONCE = 50000;
const MAXIMUM_SEQUENCE = 256;

// ---- style of a stretch of text, as one number: colour in the low bits, then flags ----
const COLOUR_CLASSES = ["", "c-k", "c-r", "c-g", "c-y", "c-b", "c-m", "c-c", "c-w"];
const COLOUR = 15, BOLD = 16, DIM = 32, UNDERLINE = 64, ITALIC = 128;
const FLAG_CLASSES = [[BOLD, "bo"], [DIM, "c-d"], [UNDERLINE, "un"], [ITALIC, "it"]];
const FLAGS_SET = { 1: BOLD, 2: DIM, 3: ITALIC, 4: UNDERLINE };
const FLAGS_CLEARED = { 22: BOLD | DIM, 23: ITALIC, 24: UNDERLINE };

export function classesOf(style) {
  const names = FLAG_CLASSES.filter(([flag]) => style & flag).map(([, name]) => name);
  const colour = COLOUR_CLASSES[style & COLOUR];
  // Dim has a colour of its own; a colour that is also dim keeps the colour.
  return (colour ? [colour, ...names.filter((name) => name !== "c-d")] : names).join(" ");
}

// SGR, the sequence that sets colours: `ESC [ 1 ; 31 m`.
function restyled(style, parameters) {
  const codes = parameters === "" ? [0] : parameters.split(/[;:]/).map(Number);
  for (let at = 0; at < codes.length; at += 1) {
    const code = codes[at];
    if (code === 0) style = 0;
    else if (FLAGS_SET[code]) style |= FLAGS_SET[code];
    else if (FLAGS_CLEARED[code]) style &= ~FLAGS_CLEARED[code];
    else if (code >= 30 && code <= 37) style = (style & ~COLOUR) | (code - 29);
    else if (code >= 90 && code <= 97) style = (style & ~COLOUR) | (code - 89);
    else if (code === 39) style &= ~COLOUR;
    else if (code === 38 || code === 48) {
      // An extended colour takes the codes after it. Of 256, the first 16 are ours.
      const isIndexed = codes[at + 1] === 5;
      const index = codes[at + 2];
      if (code === 38) style &= ~COLOUR;
      if (code === 38 && isIndexed && index < 16) style |= (index % 8) + 1;
      at += isIndexed ? 2 : 4;
    }
  }
  return style;
}

// A line is its text and, only if something is styled, [from, style] stretches.
class Line {
  text = "";
  styles = null;
  omitted = 0;
  rewritten = 0;

  add(text, style) {
    const room = SHOWN_CHARACTERS - this.text.length;
    if (text.length > room) {
      this.omitted += text.length - Math.max(room, 0);
      text = text.slice(0, Math.max(room, 0));
    }
    if (!text) return;
    const last = this.styles ? this.styles[this.styles.length - 1] : 0;
    if (style !== last) (this.styles ??= [0, 0]).push(this.text.length, style);
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

export class LogText {
  lines = [new Line()];
  dropped = 0;
  changedFrom = 0; // the first line that changed since somebody looked
  // A byte order mark is a character like others here: shown, not swallowed.
  #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #style = 0;
  #returned = false;
  #state = "text";
  #sequence = "";

  get count() {
    const last = this.lines[this.lines.length - 1];
    return this.dropped + this.lines.length - (last.text || last.omitted ? 0 : 1);
  }

  push(bytes) {
    this.#write(this.#decoder.decode(bytes, { stream: true }));
    this.#forget();
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
    const line = this.lines[this.lines.length - 1];
    if (this.#returned) line.clear();
    this.#returned = false;
    line.add(seen(text), this.#style);
    this.changedFrom = Math.min(this.changedFrom, this.lines.length - 1);
  }

  #control(character) {
    if (character === "\n") {
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
    if (this.lines.length <= MAXIMUM_LINES) return;
    this.lines.splice(0, DROPPED_AT_ONCE);
    this.dropped += DROPPED_AT_ONCE;
    this.changedFrom = 0;
  }
}
