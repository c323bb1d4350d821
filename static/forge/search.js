// The search field of a log: Forge looks through all of it, this page goes from hit to hit.

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
  #at = 0;
  #waitsFor = 0;

  constructor(bar, view, size) {
    this.#field = bar.querySelector("[data-search]");
    this.#status = bar.querySelector("[data-hits]");
    this.#buttons = [...bar.querySelectorAll("[data-step]")];
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
    this.#field.addEventListener("input", () => this.#field.value || this.#clear());
    for (const button of this.#buttons) {
      button.addEventListener("click", () => this.#go(Number(button.dataset.step)));
    }
  }

  // Called after each drawing: a hit further down than the log has come is shown when it comes.
  drawn() {
    if (this.#waitsFor && this.#view.lineCount >= this.#waitsFor) this.#show();
  }

  async #go(step) {
    const text = this.#field.value;
    if (!text.trim()) return this.#clear();
    if (text === this.#asked && this.#size() === this.#askedAt) {
      this.#at = (this.#at + step + this.#lines.length) % Math.max(this.#lines.length, 1);
      return this.#show();
    }
    const isSame = text === this.#asked;
    const before = isSame ? this.#lines[this.#at] : 0;
    if (!(await this.#ask(text))) return;
    if (isSame && step < 0) this.#at = this.#lines.findLastIndex((line) => line < before);
    else if (isSame) this.#at = this.#lines.findIndex((line) => line > before);
    else this.#at = this.#lines.findIndex((line) => line >= this.#view.firstInView);
    if (this.#at < 0) this.#at = step < 0 ? this.#lines.length - 1 : 0;
    this.#show();
  }

  async #ask(text) {
    const size = this.#size();
    const address = new URL(this.#field.form.action);
    address.searchParams.set("q", text);
    this.#say("searching…");
    try {
      const answer = await fetch(address, { headers: { Accept: "application/json" }, redirect: "manual" });
      if (answer.type === "opaqueredirect" || answer.status === 404) location.reload(); // signed out
      if (!answer.ok) throw new Error(answer.status);
      const found = await answer.json();
      [this.#lines, this.#total] = [found.lines, found.total];
    } catch {
      this.#say("no answer; Enter tries again");
      this.#asked = "";
      return false;
    }
    [this.#asked, this.#askedAt] = [text, size];
    return true;
  }

  #show() {
    const line = this.#lines[this.#at] ?? 0;
    for (const button of this.#buttons) button.disabled = !line;
    const isThere = this.#view.mark(this.#asked, line);
    this.#waitsFor = line && !isThere && line > this.#view.lineCount ? line : 0;
    if (!line) this.#say("no line");
    else this.#say(`${(this.#at + 1).toLocaleString("en")} of ${this.#total.toLocaleString("en")}`);
  }

  #say(words) {
    this.#status.textContent = words;
  }

  #clear() {
    this.#asked = this.#field.value = "";
    this.#lines = [];
    this.#waitsFor = 0;
    this.#say("");
    for (const button of this.#buttons) button.disabled = true;
    this.#view.mark("", 0);
  }
}
