// What stands out in a log, asked for bit by bit: Forge looks through the log, not this page.

const PAUSE = 50; // ms between two steps through a long log
const LIVE_PAUSE = 1500;
const RETRY = 5000;

export class LogOutline {
  #ask; // (after) => promise of tasks/log_outline.py's answer
  #changed; // called with {marks, line, isFull, masked, isAll}
  #marks = [];
  #timer = 0;
  #isAsking = false;
  #hasGrown = true;
  #age = 0;

  constructor(ask, changed) {
    this.#ask = ask;
    this.#changed = changed;
  }

  // There is more of the log.
  grew(isEnded = false) {
    this.#hasGrown = true;
    if (!this.#isAsking) this.#in(isEnded ? 0 : LIVE_PAUSE, isEnded);
  }

  clear() {
    this.#age += 1;
    this.#marks = [];
    this.#hasGrown = true;
  }

  #in(pause, isSooner = false) {
    if (this.#timer && !isSooner) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#go(), pause);
  }

  async #go() {
    this.#timer = 0;
    // A tab that nobody sees asks for nothing.
    if (document.visibilityState !== "visible") return this.#in(LIVE_PAUSE);
    const age = this.#age;
    const kept = Math.max(this.#marks.length - 1, 0); // the last one may have grown
    this.#isAsking = true;
    this.#hasGrown = false;
    let pause = RETRY;
    try {
      const found = await this.#ask(kept);
      if (age === this.#age) {
        this.#marks = [...this.#marks.slice(0, kept), ...found.marks];
        this.#changed({ marks: this.#marks, line: found.line, isFull: found.is_full, masked: found.masked, isAll: found.is_all });
      }
      pause = found.is_all ? LIVE_PAUSE : PAUSE;
      this.#hasGrown ||= !found.is_all || age !== this.#age;
    } catch {
      this.#hasGrown = true;
    }
    this.#isAsking = false;
    if (this.#hasGrown) this.#in(pause);
  }
}
