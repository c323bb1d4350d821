// What refreshes itself leaves the row under the pointer where it is: rows above it may have grown.
let at = null; // where the pointer is, in the window
let row = null; // the id in the row that it is on, and where that was

const note = (event) => (at = { x: event.clientX, y: event.clientY });
addEventListener("pointermove", note, { passive: true });
addEventListener("pointerdown", note, { passive: true });
document.documentElement.addEventListener("pointerleave", () => (at = null));

// Before a part is drawn anew. What is in no list, or has no id in it, may move.
export function holdPointed() {
  const found = at && document.elementFromPoint(at.x, at.y)?.closest("[data-live] :is(tr, li)");
  const named = found?.querySelector("[id]");
  row = named ? { id: named.id, top: named.getBoundingClientRect().top } : null;
}

// Afterwards, and once more when all that came with it is there.
export function keepPointed() {
  const now = row && document.getElementById(row.id)?.getBoundingClientRect().top;
  if (typeof now === "number" && now !== row.top) scrollBy({ top: now - row.top, behavior: "instant" });
}
