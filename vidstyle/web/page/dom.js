// Making and finding elements.

export const byId = (id) => document.getElementById(id);

/** An element with attributes (`on...` are listeners, null leaves one out) and children. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `page/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/** Show `words` in the alert `id`; without words it goes away. */
export function problem(id, words) {
  const place = byId(id);
  place.textContent = words ?? "";
  place.hidden = !words;
}

/** Say `words` in the status line, which screen readers read out. */
export function say(words) {
  byId("status").textContent = words;
}

/** Offer `href` as a file called `name`. */
export function download(href, name) {
  const link = make("a", { href, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}

/** `12:05`, or `1:02:05`. */
export function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n) => String(n).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** The part of a range's track that is filled. */
export function fill(range) {
  const share = (range.value - range.min) / (range.max - range.min);
  range.style.setProperty("--filled", `${100 * share}%`);
}

/** A name that every file system takes. */
export function fileName(title) {
  return title.normalize("NFKD").replace(/[^\w -]+/g, "").trim().replace(/\s+/g, "_").toLowerCase() || "vidstyle";
}
