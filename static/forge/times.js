// Times in the reader's zone, kept current. The server wrote them in its own zone.
const SECOND = 1000;
const NEAR = 12 * 3600; // s, before now: the time of day alone cannot be mistaken
const SOON = 48 * 3600; // s, either way
const pad = (number) => String(number).padStart(2, "0");
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
export const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "your zone";

export function duration(seconds) {
  const whole = Math.max(Math.floor(seconds), 1);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${pad(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${pad(Math.floor((whole % 3600) / 60))} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

export const clock = (at) => `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;

const isSoon = (at, now) => Math.abs(now - at) / SECOND < SOON;

function moment(at, now) {
  const age = (now - at) / SECOND;
  if (age >= 0 && age < 60) return `${Math.floor(age)} s ago`;
  if (age >= 0 && age <= NEAR) return clock(at).slice(0, 5);
  if (at.toDateString() === now.toDateString() || isSoon(at, now)) return minute(at, now);
  if (at.getFullYear() === now.getFullYear()) return `${at.getDate()} ${MONTHS[at.getMonth()]}`;
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
}

// In a sentence: the time of day, with the day if it is another one, and a year that is not near.
function minute(at, now) {
  const time = clock(at).slice(0, 5);
  const day = `${at.getDate()} ${MONTHS[at.getMonth()]}`;
  const year = at.getFullYear() === now.getFullYear() || isSoon(at, now) ? "" : ` ${at.getFullYear()}`;
  return at.toDateString() === now.toDateString() ? time : `${day}${year} ${time}`;
}

const dateOf = (at) => `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;

export function exact(at) {
  const date = dateOf(at);
  return `${date} ${clock(at)}.${String(at.getMilliseconds()).padStart(3, "0")} ${zone}`;
}

// As the server words it in forge/pages/timeline.py.
function share(seconds, usual) {
  return seconds < usual ? `${Math.round((100 * seconds) / usual)} % of the usual time` : "longer than usual";
}

function write(element, now) {
  const at = new Date(element.dateTime);
  if (Number.isNaN(at.getTime())) return;
  const since = (now - at) / SECOND;
  const kinds = {
    moment, minute, clock,
    elapsed: () => duration(since),
    share: () => share(Math.max(since, 0), Number(element.dataset.usual)),
  };
  const text = kinds[element.dataset.time]?.(at, now);
  if (text !== undefined && element.textContent !== text) element.textContent = text;
  if (!element.dataset.titled) {
    const toTheMinute = element.dataset.time === "minute";
    element.title = toTheMinute ? `${dateOf(at)} ${clock(at).slice(0, 5)} ${zone}` : exact(at);
    element.dataset.titled = "1";
  }
}

export function writeTimes(root = document) {
  const now = new Date();
  for (const element of root.querySelectorAll("time[data-time]")) write(element, now);
  for (const element of root.querySelectorAll("[data-hour]")) {
    const text = clock(new Date(element.dataset.hour)).slice(0, 5);
    if (element.textContent !== text) element.textContent = text;
  }
  for (const element of root.querySelectorAll("[data-zone]")) {
    if (element.textContent !== zone) element.textContent = zone;
  }
}

writeTimes();
setInterval(writeTimes, SECOND);
