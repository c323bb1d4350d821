// One task's page: its log and its state come by one stream of events.
import { GONE, lookAgain } from "./anew.js";
import { LogView } from "./log.js";
import { LogOutline } from "./logoutline.js";
import { counted } from "./logrow.js";
import { LogRuler } from "./logruler.js";
import { bytesOf } from "./logstore.js";
import { LogTools } from "./logtools.js";
import { heard, showConnection, silence } from "./page.js";
import { LogSearch } from "./search.js";
import { say as tell } from "./say.js";
import { clock, writeTimes } from "./times.js";

const RETRY = 3000;
// The stream has a word every ten seconds: after this long nobody is there, whatever TCP believes.
const SILENT = 25000;
const PARTS = { html: "task-head", waiting: "task-waiting", side: "task-side", log_note: "task-log-note", nothing: "task-nothing" };

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
let refusal = ""; // why the stream is refused, in Forge's own words

const view = new LogView(find("lines"), find("canvas"), { fetch: (from, count) => ask("lines", { from, count }), onChange: drawn });
const ruler = new LogRuler(find("ruler"), view);
const outline = new LogOutline((after) => ask("outline", { after }), takeOutline);
new LogSearch(panel, view, () => bytes);
new LogTools(panel, view);

// A part of this attempt's log, which the stream does not send.
async function ask(name, parameters) {
  const address = new URL(panel.dataset[`${name}At`], location.href);
  // Of a log that has no byte yet nobody knows the attempt: the latest is meant.
  const wanted = attempt ? { ...parameters, attempt } : parameters;
  for (const [key, value] of Object.entries(wanted)) address.searchParams.set(key, value);
  const answer = await fetch(address, { headers: { Accept: "application/json" }, redirect: "manual" });
  if (answer.type === "opaqueredirect") lookAgain(); // signed out
  if (!answer.ok) throw new Error(answer.status);
  return answer.json();
}

function takeOutline({ marks, line, isFull, isAll, masked }) {
  view.outline(marks, isAll && !isFull && isEnded ? view.lineCount : line, !isEnded || isFull, isAll);
  const count = view.errors.count;
  const button = find("errors");
  button.hidden = count === 0;
  button.textContent = `${counted(count, "error")}${isFull ? " or more" : ""}`;
  find("masked").textContent = masked ? `${masked.toLocaleString("en")} masked` : "";
}

function drawn() {
  find("line-count").textContent = counted(view.lineCount, "line");
  find("nothing").hidden = bytes > 0;
  ruler.drawn();
  followButton.disabled = bytes === 0;
  followButton.setAttribute("aria-pressed", String(view.isFollowing && !isEnded));
  const fresh = view.newLines ? `, ${view.newLines.toLocaleString("en")} new` : "";
  followButton.querySelector("[data-follow-label]").textContent = isEnded ? "To the end" : `Follow${fresh}`;
}

// Without this script they would say what is not so.
for (const name of ["status", "line-count"]) find(name).hidden = false;

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

function takeLog(event) {
  heard();
  const { attempt: number, offset, data, times, line, cut } = JSON.parse(event.data);
  if (number !== attempt) {
    attempt = number;
    bytes = 0;
    view.clear();
    outline.clear();
  }
  if (line !== undefined) {
    // Far behind, or the log is long: from here on, and what is before when somebody looks there.
    bytes = offset;
    view.restart(line);
  }
  // After a reconnection the same bytes may come again; what is known is skipped.
  const piece = bytesOf(data).subarray(Math.max(bytes - offset, 0));
  position = event.lastEventId;
  if (!piece.length) return;
  const begin = bytes;
  bytes += piece.length;
  writtenAt = new Date(times.at(-1)?.[1] ?? Date.now());
  push(piece, begin, times, cut);
  outline.grew();
  find("byte-count").textContent = sizeOf(bytes);
  if (!isPlaced) isPlaced = view.select(location.hash);
}

// `times`: [offset in the log, milliseconds since 1970, whether Forge only received it then]
function push(piece, begin, times, cut) {
  let done = 0;
  for (const [index, [, at, isReceipt]] of times.entries()) {
    const next = times[index + 1]?.[0] ?? Infinity;
    const end = Math.min(next - begin, piece.length);
    if (end <= done) continue;
    view.stamp(at, isReceipt === 1);
    view.push(piece.subarray(done, end), done ? 0 : cut);
    done = end;
  }
  if (done < piece.length) view.push(piece.subarray(done), done ? 0 : cut);
}

// A swap keeps the focus where it was, on the element with the same id.
function takeState(event) {
  heard();
  const state = JSON.parse(event.data);
  const focused = document.activeElement?.id;
  for (const [name, id] of Object.entries(PARTS)) {
    const part = document.getElementById(id);
    const isOpen = part.querySelector("details")?.open;
    part.innerHTML = state[name]; // made by our own templates, which escape
    if (isOpen) part.querySelector("details").open = true;
    writeTimes(part);
  }
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  takeCounts(state.nav);
  const said = document.getElementById("task-said");
  if (said.dataset.state && said.dataset.state !== state.state) said.textContent = `The task is now: ${state.label}`;
  said.dataset.state = state.state;
  if (!isEnded) sayLive();
}

// The log is live as long as its runner is heard, and not only Forge.
function sayLive() {
  if (document.getElementById("task-said").dataset.state === "unreachable") {
    say("Runner silent", "warn", "status-lost");
  } else say("Live", "run", "status-live");
}

// What the navigation counts, and what of Forge is away, outside of what is the task's.
function takeCounts(html) {
  const drawn = document.createElement("template");
  drawn.innerHTML = html;
  for (const count of drawn.content.querySelectorAll("[id]")) {
    const shown = document.getElementById(count.id);
    shown?.replaceChildren(...count.childNodes);
    if (shown) writeTimes(shown);
  }
}

// The address may name a line that the log does not have.
function tellIfBeyond() {
  const number = Number(/^#L(\d+)$/.exec(location.hash)?.[1] || 0);
  if (number <= view.lineCount) return;
  const line = `line ${number.toLocaleString("en")}`;
  const has = `the log has ${counted(view.lineCount, "line")}`;
  tell(isEnded ? `There is no ${line}: ${has}.` : `There is no ${line} yet: ${has} so far.`);
}

function end() {
  isEnded = true;
  if (!isPlaced) tellIfBeyond();
  outline.grew(true);
  source.close();
  showConnection(true);
  say("Ended", "mute", "status-ended");
  find("remark").textContent = "";
  drawn();
}

function lose() {
  say("Reconnecting", "warn", "status-lost");
  showConnection(false);
}

// Forge answers, and does not send this log now: its sentence says what to do.
function showRefusal(words) {
  if (refusal && !words) find("remark").textContent = "";
  refusal = words;
  if (!words) return lose();
  showConnection(true);
  say("Not live", "warn", "status-lost");
  find("remark").textContent = words;
}

// A browser opens six connections to one host, for all of its tabs together: one that nobody sees
// keeps none, or six watched tasks would leave no other page to be loaded.
const isSeen = () => document.visibilityState === "visible";

function connect() {
  if (!isSeen() || source?.readyState < EventSource.CLOSED) return;
  const address = new URL(panel.dataset.stream, location.href);
  address.searchParams.set("tail", "");
  if (position) address.searchParams.set("from", position);
  source = new EventSource(address);
  source.addEventListener("open", () => {
    if (refusal) find("remark").textContent = refusal = "";
    showConnection(true);
    sayLive();
  });
  source.addEventListener("log", takeLog);
  source.addEventListener("state", takeState);
  source.addEventListener("beat", heard);
  source.addEventListener("end", end);
  source.addEventListener("error", () => {
    const isRefused = source.readyState === EventSource.CLOSED;
    if (!isRefused || !refusal) lose();
    // The browser tries again by itself after a cut, and gives up after a refusal.
    if (isRefused) refused();
  });
}

// Why, an EventSource does not tell: the page itself does. Whoever signed out, or is no member any
// more, is shown no more of the task; whatever else it is passes.
async function refused() {
  const answer = await fetch(location.pathname, { method: "HEAD", redirect: "manual" }).catch(() => null);
  if (answer?.type === "opaqueredirect") lookAgain();
  else if (answer?.status === 403 || answer?.status === 404) lookAgain(GONE);
  else {
    const asked = source;
    const words = answer?.ok ? await wordsOfRefusal(asked.url) : "";
    if (source === asked) showRefusal(words);
    setTimeout(connect, RETRY);
  }
}

// Empty unless there are too many. Whatever else is answered is not waited for: it may have no end.
async function wordsOfRefusal(address) {
  const asking = new AbortController();
  try {
    const answer = await fetch(address, { signal: asking.signal, redirect: "manual" });
    return answer.status === 429 ? (await answer.text()).trim() : "";
  } catch {
    return "";
  } finally {
    asking.abort();
  }
}

// Seen again, it goes on where it was.
document.addEventListener("visibilitychange", () => {
  if (isEnded) return;
  if (isSeen()) return connect();
  source?.close();
  say("Connecting", "mute", "status-connecting");
});

window.addEventListener("hashchange", tellIfBeyond);
followButton.addEventListener("click", () => view.follow(isEnded || !view.isFollowing));

setInterval(() => {
  if (isEnded) return;
  if (source?.readyState === EventSource.OPEN && silence() > SILENT) {
    lose();
    source.close();
    setTimeout(connect, RETRY);
  }
  if (refusal || !writtenAt) return;
  const age = (Date.now() - writtenAt) / 1000;
  find("remark").textContent = age < 60 ? `last write ${Math.round(age)} s ago` : `last write ${clock(writtenAt)}`;
}, 1000);

// A finished task is read from its beginning, or from the line that the address names.
const isFinished = document.querySelector("#task-head .tl li:last-child")?.matches(".ok, .bad, .mute");
view.follow(!isFinished && isPlaced);
connect();
