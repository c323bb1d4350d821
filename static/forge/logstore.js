// The lines of a log: the last ones as they come, any others asked for where they are looked at.
import { LogText } from "./logtext.js";

const BLOCK = 500; // lines that are asked for together
const KEPT_BLOCKS = 24;
const AT_ONCE = 2; // requests
const RETRY = 2000;
export const KEPT_LINES = 10000; // of the last ones

export function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

// Some lines from anywhere; long ones come in several answers.
class Block {
  lines = [];
  isAsked = false;
  #text = new LogText();

  take({ lead, data, long, times, count }) {
    const text = this.#text;
    if (!this.lines.length) {
      text.push(bytesOf(lead));
      text.restart();
    }
    const before = text.lines.length - 1;
    text.push(bytesOf(data));
    for (const [place, omitted, rewritten] of long) {
      const line = text.lines[before + place];
      line.omitted += omitted;
      line.rewritten += rewritten;
    }
    let next = 0, now = [0, 0, 0];
    for (let place = 0; place < count; place += 1) {
      while (next < times.length && times[next][0] <= place) now = times[next++];
      const line = text.lines[before + place];
      line.at = now[1];
      line.isReceipt = now[2] === 1;
    }
    this.lines = text.lines.slice(0, before + count);
  }
}

export class LogStore {
  changedFrom = Infinity; // the number of the first line that changed since somebody looked
  #tail;
  #most;
  #blocks = new Map(); // number -> Block; who was looked at last is last
  #asking = 0;
  #fetch;
  #loaded;
  #age = 0; // another attempt, another log

  // `fetch(first, count)` promises what tasks/log_lines.py tells; `loaded()` is called afterwards.
  constructor(fetch, loaded, most = KEPT_LINES) {
    this.#fetch = fetch;
    this.#loaded = loaded;
    this.#most = most;
    this.#tail = new LogText(0, most);
  }

  get count() {
    return this.#tail.count;
  }

  // Another log, or the same with its last lines from number `first` on.
  clear() {
    this.#age += 1;
    this.#blocks.clear();
    this.restart(0);
  }

  restart(first) {
    this.#tail = new LogText(first, this.#most);
    this.changedFrom = 0;
  }

  // `cut` is how much is missing at the beginning of the first line.
  push(bytes, cut = 0) {
    const tail = this.#tail;
    tail.push(bytes);
    if (cut) tail.lines[0].omitted += cut;
    this.changedFrom = Math.min(this.changedFrom, tail.dropped + tail.changedFrom);
    tail.changedFrom = Infinity;
  }

  stamp(at, isReceipt) {
    this.#tail.stamp(at, isReceipt);
  }

  // The line with that number, from 0; undefined: it is not here yet.
  line(number) {
    const { dropped, lines } = this.#tail;
    if (number >= dropped) return lines[number - dropped];
    return this.#blocks.get(Math.floor(number / BLOCK))?.lines[number % BLOCK];
  }

  // Ask for what is missing of these lines.
  want(first, last) {
    const end = Math.min(last, this.#tail.dropped);
    for (let number = Math.floor(first / BLOCK); number * BLOCK < end; number += 1) {
      const block = this.#blocks.get(number) ?? new Block();
      this.#blocks.delete(number);
      this.#blocks.set(number, block);
      const upto = Math.min(end - number * BLOCK, BLOCK);
      if (block.lines.length < upto && !block.isAsked && this.#asking < AT_ONCE) this.#ask(number, block);
    }
    for (const number of this.#blocks.keys()) {
      if (this.#blocks.size <= KEPT_BLOCKS) break;
      this.#blocks.delete(number);
    }
  }

  async #ask(number, block) {
    const age = this.#age;
    block.isAsked = true;
    this.#asking += 1;
    const have = block.lines.length;
    let isRead = false;
    try {
      const answer = await this.#fetch(number * BLOCK + have, BLOCK - have);
      isRead = answer.count > 0;
      if (age === this.#age) block.take(answer);
    } catch {
      isRead = false;
    }
    this.#asking -= 1;
    const done = () => {
      block.isAsked = false;
      this.#loaded();
    };
    if (isRead) done();
    else setTimeout(done, RETRY);
  }
}
