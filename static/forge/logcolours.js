// The colours of a log, so that they can be read in light and in dark.
//
// Eight colours have names and come from the theme by classes. All others are worked out here:
// the colour that the program asked for, moved towards black or white until it stands out enough.
// The policy forbids styles in markup; what a script sets on an element it allows.
import { BOLD, FAINT, INVERSE, ITALIC, RGB, STRUCK, UNDERLINE } from "./logstyle.js";

const NAMES = ["", "c-k", "c-r", "c-g", "c-y", "c-b", "c-m", "c-c", "c-w"];
const MARKS = [[BOLD, "bo"], [UNDERLINE, "un"], [ITALIC, "it"], [STRUCK, "struck"]];
const NAMED = 16; // the palette's first: eight, and eight brighter ones
// They as grounds, or under another colour; the same in both themes.
const BASE = [
  "1c1b19", "b0241c", "196a39", "b98600", "2d4cc8", "8b2f8f", "0d6670", "d6d2ca",
  "6b675f", "e5635a", "3fa866", "f0c14b", "7f93ea", "c77fcb", "4cb0bd", "ffffff",
].map((digits) => parseInt(digits, 16));
const STEPS = [0, 95, 135, 175, 215, 255];
// What text stands on: forge.css, --surface. And what it is if nobody says: --ink.
const GROUNDS = [0xffffff, 0x1b1b19];
const INKS = [0x1c1b19, 0xedebe6];
const BLACK = 0x1c1b19, WHITE = 0xffffff;
const ENOUGH = 5.2; // on the page's ground; on a selected line still more than 4.5
const FAINTER = 0.35;
const REMEMBERED = 4096;

const parts = (rgb) => [(rgb >> 16) & 255, (rgb >> 8) & 255, rgb & 255];
const text = (rgb) => `#${rgb.toString(16).padStart(6, "0")}`;

function rgbOf(colour) {
  if (colour >= RGB) return colour - RGB;
  const index = colour - 1;
  if (index < NAMED) return BASE[index];
  if (index >= 232) return (8 + (index - 232) * 10) * 0x10101;
  const at = index - NAMED;
  return STEPS[Math.floor(at / 36)] * 65536 + STEPS[Math.floor(at / 6) % 6] * 256 + STEPS[at % 6];
}

function mixed(one, other, share) {
  const others = parts(other);
  return parts(one).reduce((sum, part, at) => sum * 256 + Math.round(part + (others[at] - part) * share), 0);
}

// As WCAG defines them.
function luminance(rgb) {
  const [red, green, blue] = parts(rgb).map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one, other) {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

const farthest = (ground) => (contrast(WHITE, ground) >= contrast(0, ground) ? WHITE : 0);

// The colour, or the nearest one on its way to black or white that can be read on that ground.
export function legible(rgb, ground, enough = ENOUGH) {
  if (contrast(rgb, ground) >= enough) return rgb;
  const end = farthest(ground);
  let low = 0, high = 1;
  for (let step = 0; step < 8; step += 1) {
    const middle = (low + high) / 2;
    if (contrast(mixed(rgb, end, middle), ground) >= enough) high = middle;
    else low = middle;
  }
  return mixed(rgb, end, high);
}

const inBoth = (light, dark) => (light === dark ? text(light) : `light-dark(${text(light)}, ${text(dark)})`);

// Text of a colour on the page's own ground.
function onPage(colour, isFaint) {
  const [light, dark] = GROUNDS.map((ground) => {
    const rgb = rgbOf(colour);
    return legible(isFaint ? mixed(rgb, ground, FAINTER) : rgb, ground);
  });
  return inBoth(light, dark);
}

function onGround(fg, bg, isFaint) {
  const ground = rgbOf(bg);
  const plain = contrast(BLACK, ground) >= contrast(WHITE, ground) ? BLACK : WHITE;
  const rgb = fg ? rgbOf(fg) : plain;
  return text(legible(isFaint ? mixed(rgb, ground, FAINTER) : rgb, ground, 4.5));
}

// With both and inverse and no colour of its own, the ground is what text is otherwise.
function onInk(bg) {
  return inBoth(...INKS.map((ink) => legible(rgbOf(bg), ink, 4.5)));
}

const marksOf = (flags) => MARKS.filter(([flag]) => flags & flag).map(([, name]) => name);

// {names, color, ground} of a style; "" where the page's own holds.
function workedOut({ flags, fg, bg }) {
  const isFaint = (flags & FAINT) !== 0, isInverse = (flags & INVERSE) !== 0;
  const names = marksOf(flags);
  let color = "", ground = "";
  if (bg && isInverse) [color, ground] = fg ? [onGround(bg, fg, isFaint), text(rgbOf(fg))] : [onInk(bg), "var(--ink)"];
  else if (bg) [color, ground] = [onGround(fg, bg, isFaint), text(rgbOf(bg))];
  else {
    if (isInverse) names.push("inv");
    if (!fg && isFaint) names.unshift("c-d");
    else if (fg && fg <= NAMED && !isFaint) names.unshift(NAMES[((fg - 1) % 8) + 1]);
    else if (fg) color = onPage(fg, isFaint);
  }
  if (ground) names.push("gr");
  return { names: names.join(" "), color, ground };
}

const remembered = new Map();

function lookOf(style) {
  const key = `${style.flags},${style.fg},${style.bg}`;
  let look = remembered.get(key);
  if (!look) {
    if (remembered.size >= REMEMBERED) remembered.clear();
    remembered.set(key, (look = workedOut(style)));
  }
  return look;
}

// Have the element look like that. A search hit has colours of its own.
export function dress(element, style, isHit) {
  const { names, color, ground } = isHit ? { names: marksOf(style.flags).join(" ") } : lookOf(style);
  if (names || isHit) element.className = names;
  if (color) element.style.color = color;
  if (ground) element.style.backgroundColor = ground;
}
