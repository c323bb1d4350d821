// How a stretch of a log looks: what the sequences that set colours (SGR, `ESC [ 1 ; 31 m`) add up
// to. A style is one frozen object, shared by all stretches that have it.
//
// `fg`, `bg`: 0 for none, 1 to 256 for a colour of the palette, RGB and more for any other.
export const BOLD = 1, FAINT = 2, ITALIC = 4, UNDERLINE = 8, INVERSE = 16, STRUCK = 32;
export const RGB = 0x1000000;
export const PLAIN = Object.freeze({ flags: 0, fg: 0, bg: 0 });

const SET = { 1: BOLD, 2: FAINT, 3: ITALIC, 4: UNDERLINE, 7: INVERSE, 9: STRUCK, 21: UNDERLINE };
const CLEARED = { 22: BOLD | FAINT, 23: ITALIC, 24: UNDERLINE, 27: INVERSE, 29: STRUCK };
// What hides text (8) and what makes it blink (5, 6) stays away: a log is there to be read.

const isByte = (number) => Number.isInteger(number) && number >= 0 && number <= 255;

// The colour that mode 5 (of the palette) or 2 (red, green, blue) says; undefined: none that exists.
function extended(mode, numbers) {
  if (mode === 5) return isByte(numbers[0]) ? numbers[0] + 1 : undefined;
  const [red, green, blue] = numbers;
  if (![red, green, blue].every(isByte)) return undefined;
  return RGB + red * 65536 + green * 256 + blue;
}

// `38:5:9`, `38:2:1:2:3`, and `38:2::1:2:3` with a colour space, which nobody sets.
function extendedInOne(numbers) {
  const [, mode] = numbers;
  if (mode === 5) return extended(5, numbers.slice(2));
  if (mode === 2) return extended(2, numbers.slice(numbers.length > 5 ? 3 : 2));
  return undefined;
}

const numbersIn = (parameter) => parameter.split(":").map(Number);

// What a sequence makes of a style. What makes no sense in it changes nothing.
export function restyled(style, parameters) {
  let { flags, fg, bg } = style;
  const codes = parameters.split(";");
  for (let at = 0; at < codes.length; at += 1) {
    const numbers = numbersIn(codes[at]);
    const [code] = numbers;
    if (code === 0) flags = fg = bg = 0;
    else if (code === 38 || code === 48 || code === 58) {
      let colour;
      if (numbers.length > 1) colour = extendedInOne(numbers);
      else {
        const mode = Number(codes[at + 1] || NaN);
        const taken = { 5: 1, 2: 3 }[mode];
        if (!taken) break; // nobody knows how many of the rest belong to it
        colour = extended(mode, codes.slice(at + 2, at + 2 + taken).map(Number));
        at += 1 + taken;
      }
      if (code === 38) fg = colour ?? fg;
      else if (code === 48) bg = colour ?? bg; // 58 is the colour of underlines
    } else if (code === 4 && numbers[1] === 0) flags &= ~UNDERLINE;
    else if (SET[code]) flags |= SET[code];
    else if (CLEARED[code]) flags &= ~CLEARED[code];
    else if (code >= 30 && code <= 37) fg = code - 29;
    else if (code >= 40 && code <= 47) bg = code - 39;
    else if (code >= 90 && code <= 97) fg = code - 81;
    else if (code >= 100 && code <= 107) bg = code - 91;
    else if (code === 39) fg = 0;
    else if (code === 49) bg = 0;
  }
  if (!flags && !fg && !bg) return PLAIN;
  const isSame = flags === style.flags && fg === style.fg && bg === style.bg;
  return isSame ? style : Object.freeze({ flags, fg, bg });
}
