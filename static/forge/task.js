// One task's page: its log and its state come by one stream of events.
import { LogView } from "./log.js";
import { showConnection } from "./page.js";
import { LogSearch } from "./search.js";
import { clock, writeTimes } from "./times.js";

const RETRY = 3000;
const PARTS = { html: "task-head", waiting: "task-waiting", side: "task-side", log_note: "task-log-note" };

const panel = document.getElementById("log");
const find = (name) => panel.querySelector(`[data-${name}]`);
const followButton = find("follow");
const status = find("status");

let source = null;
let position = "";
let attempt = 0;
let bytes = 0;
let isEnded = false;
let isPlaced = !/^#L\d+$/.test(location.hash);
let writtenAt = null;

const view = new LogView(find("lines"), find("canvas"), drawn);
const search = new LogSearch(panel, view, () => bytes);

function drawn() {
  find("line-count").textContent = `${view.lineCount.toLocaleString("en")} line${view.lineCount === 1 ? "" : "s"}`;
  find("nothing").hidden = bytes > 0;
  search.drawn();
  followButton.disabled = bytes === 0;
  followButton.setAttribute("aria-pressed", String(view.isFollowing && !isEnded));
  const fresh = view.newLines ? `, ${view.newLines.toLocaleString("en")} new` : "";
  followButton.querySelector("[data-follow-label]").textContent = isEnded ? "To the end" : `Follow${fresh}`;
}

function say(word, look, drawing) {
  status.className = `st ${look} small`;
  find("status-word").textContent = word;
  const drawn = document.getElementById(drawing).content.querySelector("svg").cloneNode(true);
  status.querySelector("svg").replaceWith(drawn);
}

function sizeOf(count) {
  if (count < 1000) return `${count} byte${count === 1 ? "" : "s"}`;
  const units = ["KB", "MB", "GB"];
  let size = count / 1000;
  while (size >= 999.5 && units.length > 1) {
    size /= 1000;
    units.shift();
  }
  return `${size < 10 ? size.toFixed(1) : Math.round(size)} ${units[0]}`;
}

function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

function takeLog(event) {
  const { attempt: number, offset, data } = JSON.parse(event.data);
  if (number !== attempt) {
    attempt = number;
    bytes = 0;
    view.clear();
  }
  // After a reconnection the same bytes may come again; what is known is skipped.
  const piece = bytesOf(data).subarray(Math.max(bytes - offset, 0));
  position = event.lastEventId;
  if (!piece.length) return;
  bytes += piece.length;
  writtenAt = new Date();
  view.push(piece);
  find("byte-count").textContent = sizeOf(bytes);
  if (!isPlaced) isPlaced = view.select(location.hash);
}

// A swap keeps the focus where it was, on the element with the same id.
function takeState(event) {
  const state = JSON.parse(event.data);
  const focused = document.activeElement?.id;
  for (const [name, id] of Object.entries(PARTS)) {
    const part = document.getElementById(id);
    const isOpen = part.querySelector("details")?.open;
    part.innerHTML = state[name]; // made by our own templates, which escape
    if (isOpen) part.querySelector("details").open = true;
    writeTimes(part);
  }
  if (focused) document.getElementById(focused)?.focus();
  const said = document.getElementById("task-said");
  if (said.dataset.state && said.dataset.state !== state.state) said.textContent = `The task is now: ${state.label}`;
  said.dataset.state = state.state;
}

function end() {
  isEnded = true;
  source.close();
  showConnection(true);
  say("Ended", "mute", "status-ended");
  find("remark").textContent = "";
  drawn();
}

function connect() {
  const address = new URL(panel.dataset.stream, location.href);
  if (position) address.searchParams.set("from", position);
  source = new EventSource(address);
  source.addEventListener("open", () => {
    showConnection(true);
    say("Live", "run", "status-live");
  });
  source.addEventListener("log", takeLog);
  source.addEventListener("state", takeState);
  source.addEventListener("end", end);
  source.addEventListener("error", () => {
    say("Reconnecting", "warn", "status-lost");
    showConnection(false);
    // The browser tries again by itself after a cut, and gives up after a refusal.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, RETRY);
  });
}

followButton.addEventListener("click", () => view.follow(isEnded || !view.isFollowing));

setInterval(() => {
  if (isEnded || !writtenAt) return;
  const age = (Date.now() - writtenAt) / 1000;
  find("remark").textContent = age < 60 ? `last write ${Math.round(age)} s ago` : `last write ${clock(writtenAt)}`;
}, 1000);

// A finished task is read from its beginning, or from the line that the address names.
const isFinished = document.querySelector("#task-head .tl li:last-child")?.matches(".ok, .bad, .mute");
view.follow(!isFinished && isPlaced);
connect();
