// The search field of a log: Forge looks through all of it, this page goes from hit to hit.
import { lookAgain } from "./anew.js";

const counted = (number) => number.toLocaleString("en");

export class LogSearch {
  #field;
  #status;
  #buttons;
  #view;
  #size; // () => bytes that the page has; a log that grew is asked again
  #asked = "";
  #askedAt = -1;
  #lines = [];
  #total = 0;
  #first = 0; // how many hits stand before these
  #partly = 0; // lines that are too long to be looked through whole
  #asking = ""; // the text that Forge looks for now
  #meant = ""; // the text of the last Enter; its answer is the one that is shown
  #note;
  #at = 0;

  constructor(bar, view, size) {
    this.#field = bar.querySelector("[data-search]");
    this.#status = bar.querySelector("[data-hits]");
    this.#buttons = [...bar.querySelectorAll("[data-step]")];
    this.#note = bar.querySelector("[data-hits-note]");
    this.#view = view;
    this.#size = size;
    bar.querySelector("[data-search-form]").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#go(1);
    });
    this.#field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.shiftKey) {
        event.preventDefault();
        this.#go(-1);
      } else if (event.key === "Escape") this.#clear();
    });
    this.#field.addEventListener("input", () => {
      if (!this.#field.value) this.#clear();
      else if (!this.#asking && this.#meant) this.#count();
    });
    for (const button of this.#buttons) {
      button.addEventListener("click", () => this.#go(Number(button.dataset.step)));
    }
  }

  async #go(step) {
    const text = this.#field.value;
    if (!text.trim()) return this.#clear();
    this.#meant = text;
    if (this.#asking) return; // its answer goes on from where this was, or asks for the other text
    if (text === this.#asked && this.#size() === this.#askedAt) {
      return this.#jump(this.#first + this.#at + step);
    }
    const isSame = text === this.#asked;
    const before = isSame ? (this.#lines[this.#at] ?? 0) : 0;
    if (!(await this.#ask(text, { near: isSame ? before : this.#view.firstInView }))) return;
    if (isSame && step < 0) this.#at = this.#lines.findLastIndex((line) => line < before);
    else if (isSame) this.#at = this.#lines.findIndex((line) => line > before);
    else this.#at = this.#lines.findIndex((line) => line >= this.#view.firstInView);
    if (this.#at >= 0) return this.#show();
    return this.#jump(step < 0 ? this.#first - 1 : this.#first + this.#lines.length);
  }

  // To the hit of that number, of all; from the last on to the first, and back.
  async #jump(number) {
    if (!this.#total) return this.#show();
    const wanted = (number + this.#total) % this.#total;
    const size = this.#lines.length;
    if (wanted < this.#first || wanted >= this.#first + size) {
      const isBefore = wanted < this.#first || wanted === this.#total - 1;
      const skip = isBefore ? Math.max(wanted - size + 1, 0) : wanted;
      if (!(await this.#ask(this.#asked, { skip }))) return;
    }
    this.#at = Math.min(Math.max(wanted - this.#first, 0), Math.max(this.#lines.length - 1, 0));
    this.#show();
  }

  // `place`: {near: line} or {skip: number}, which hits are wanted if they are very many.
  async #ask(text, place) {
    const size = this.#size();
    const address = new URL(this.#field.form.action);
    address.searchParams.set("q", text);
    for (const [name, number] of Object.entries(place)) address.searchParams.set(name, number);
    this.#say("searching…");
    this.#asking = text;
    let refusal = "", found = null;
    try {
      const answer = await fetch(address, { headers: { Accept: "application/json" }, redirect: "manual" });
      if (answer.type === "opaqueredirect" || answer.status === 404) lookAgain(); // signed out
      if (answer.status === 429) refusal = (await answer.json()).message;
      if (!answer.ok) throw new Error(answer.status);
      found = await answer.json();
    } catch {
      found = null;
    }
    this.#asking = "";
    if (this.#meant !== text) {
      if (this.#meant) this.#go(1);
      return false;
    }
    if (!found) {
      this.#say(`${refusal ? "not searched" : "no answer"}; Enter tries again`);
      if (refusal) this.#note.textContent = refusal;
      this.#note.hidden = !refusal;
      this.#asked = "";
      return false;
    }
    ({ lines: this.#lines, total: this.#total, first: this.#first, partly: this.#partly } = found);
    [this.#asked, this.#askedAt] = [text, size];
    return true;
  }

  #show() {
    const line = this.#lines[this.#at] ?? 0;
    for (const button of this.#buttons) button.disabled = !line;
    this.#view.mark(this.#asked, line, this.#lines);
    this.#count();
    this.#tell();
  }

  // A count belongs to the text that was looked for, not to one that is typed since.
  #count() {
    if (this.#field.value !== this.#asked) this.#say("Enter searches");
    else if (!this.#lines[this.#at]) this.#say("no line");
    else this.#say(`${counted(this.#first + this.#at + 1)} of ${counted(this.#total)}`);
  }

  // Of very many hits only some are marked: which ones, and how to have fewer. And what a search
  // does not see.
  #tell() {
    const last = this.#first + this.#lines.length, notes = [];
    if (this.#lines.length < this.#total) {
      notes.push(
        `${counted(this.#total)} lines have it. The ruler and folded lines count hits ` +
        `${counted(this.#first + 1)} to ${counted(last)}; Enter goes on beyond. A longer text finds fewer.`,
      );
    }
    if (this.#partly) {
      const lines = this.#partly === 1 ? "1 line is" : `${counted(this.#partly)} lines are`;
      notes.push(`${lines} longer than 16 KB, and searched up to there. The download has all of it.`);
    }
    this.#note.hidden = !notes.length;
    this.#note.textContent = notes.join(" ");
  }

  #say(words) {
    this.#status.textContent = words;
  }

  #clear() {
    this.#asked = this.#meant = this.#field.value = "";
    this.#lines = [];
    this.#first = this.#total = this.#partly = 0;
    this.#tell();
    this.#say("");
    for (const button of this.#buttons) button.disabled = true;
    this.#view.mark("", 0);
  }
}
