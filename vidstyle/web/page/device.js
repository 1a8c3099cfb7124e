// This device as the painter: plays a camera, a video or a picture on a canvas, with the look that holds at the moment.

import { blended, readStart, readStyle } from "./network.js";
import { Painter } from "./painter.js";

const RATE_SECONDS = 2;
const NUMBERS_MS = 500;
const ROWS = 360;
const SOFTWARE_ROWS = 96; // a processor that plays graphics card takes long
const PATIENCE_MS = 40;
const KEPT_STYLES = 20; // a megabyte each

/** Events: `state` (`connecting`, `live`, `failed`, `idle`; `words` say why), `numbers` (`fps`, `ms`), `look-refused`. */
export class Device extends EventTarget {
  /** `fetchStyle(name)` promises the content of a style's file. */
  constructor(canvas, look, fetchStyle) {
    super();
    this.canvas = canvas;
    this.look = look;
    this.fetchStyle = fetchStyle;
    this.network = null; // from which styles were adapted, once it is needed
    this.rows = null; // as many as suit the adapter
    this.divide = 0;
    this.state = "idle";
    this.painter = null;
    this.opening = null;
    this.source = null; // a video element or an ImageBitmap
    this.run = 0; // what belongs to an earlier start has another number
    this.styles = new Map(); // prepared weights, by name, the one used last at the end
    this.blend = "";
    this.shown = []; // when frames were done, in ms
    look.addEventListener("change", () => this.follow().catch((error) => this.refuse(error.message)));
  }

  get isStill() {
    return this.source instanceof ImageBitmap;
  }

  /** The painter, whose programs take a moment to compile: ask for it before it is needed. */
  prepare() {
    this.opening ??= Painter.on(this.canvas, { onLost: () => this.lost() }).catch((error) => {
      this.opening = null;
      throw error;
    });
    return this.opening;
  }

  /** Paint `source`: a video element that plays, or an ImageBitmap. */
  async start(source) {
    this.stop();
    const run = this.run;
    this.enter("connecting");
    try {
      // Compiling and fetching take about as long.
      const [painter] = await Promise.all([
        this.prepare(),
        ...this.look.parts.map(({ style }) => this.style(style)),
      ]);
      this.painter = painter;
      this.rows ??= painter.isSoftware ? SOFTWARE_ROWS : ROWS;
      if (!(source instanceof ImageBitmap)) await painter.compileVideo();
      if (run !== this.run) return;
      this.source = source;
      if (this.isStill) painter.setPicture(source);
      this.blend = "";
      await this.follow();
    } catch (error) {
      if (run === this.run) this.fail(error.message);
      return;
    }
    if (run === this.run && !this.isStill) this.play(run);
  }

  stop() {
    this.run += 1;
    this.source = null;
    this.shown = [];
    this.enter("idle");
  }

  /** Paint with so many rows of pixels. */
  setRows(rows) {
    this.rows = rows;
    this.repaint();
  }

  /** Show the picture itself in this share of the width, from the left. */
  setDivide(divide) {
    this.divide = divide;
    if (!this.isStill || this.state !== "live") return;
    this.painter.setView(this.view);
    this.painter.present();
  }

  /** Do as the look says, from the next frame on. */
  async follow() {
    if (!this.painter) return;
    const parts = this.look.blend;
    const blend = JSON.stringify(parts);
    if (blend !== this.blend) {
      const styles = await Promise.all(parts.map(({ style }) => this.style(style)));
      if (JSON.stringify(this.look.blend) !== blend || !this.painter) return; // a newer look is on its way
      this.blend = blend;
      this.painter.setStyle(blended(parts.map(({ weight }, index) => ({ style: styles[index], share: weight }))));
      this.refuse(null);
    }
    this.repaint();
  }

  async load(name) {
    this.network ??= fetchFile("page/network.safetensors").then(readStart);
    this.network.catch(() => (this.network = null)); // so that it is fetched again
    const [start, buffer] = await Promise.all([this.network, this.fetchStyle(name)]);
    return readStyle(buffer, start);
  }

  async style(name) {
    const found = this.styles.get(name) ?? this.load(name);
    this.styles.delete(name);
    this.styles.set(name, found);
    if (this.styles.size > KEPT_STYLES) this.styles.delete(this.styles.keys().next().value);
    try {
      return await found;
    } catch (error) {
      this.styles.delete(name); // so that it is fetched again
      throw error;
    }
  }

  /** Forget a style that has changed. */
  forget(name) {
    this.styles.delete(name);
    if (this.look.has(name)) this.blend = "";
  }

  /** Draw again what the canvas shows, so that it can be copied in the same task. */
  draw() {
    this.painter?.present();
  }

  /** Paint a still picture anew; while it is being painted, only the newest wish is kept. */
  async repaint() {
    this.isStale = true;
    if (this.isPainting || !this.isStill || !this.blend) return;
    this.isPainting = true;
    const { run } = this;
    try {
      while (this.isStale && run === this.run) {
        this.isStale = false;
        await this.paint(run);
      }
    } catch (error) {
      if (run === this.run) this.fail(error.message);
    } finally {
      this.isPainting = false;
    }
    if (this.isStale && run !== this.run) this.repaint(); // another picture came meanwhile
  }

  get view() {
    const { strength, mirror, split } = this.look;
    return { strength, mirror, divide: split ? this.divide : 0 };
  }

  /** Paint the source as it is now; tells the milliseconds that it took. */
  async paint(run) {
    const { painter, source } = this;
    const [width, height] = this.isStill ? [source.width, source.height] : [source.videoWidth, source.videoHeight];
    const rows = Math.min(this.rows, height);
    painter.resize(width, height, Math.max(1, Math.round((width * rows) / height)), rows);
    painter.setView(this.view);
    const began = performance.now();
    await painter.paint(this.isStill ? null : source);
    const now = performance.now();
    if (run !== this.run || painter !== this.painter) return;
    const recent = this.shown.filter((at) => at > now - RATE_SECONDS * 1000);
    this.shown = [...(recent.length ? recent : this.shown.slice(-1)), now];
    if (this.state !== "live") this.enter("live");
    this.tell(now, now - began);
  }

  /** Frames one after the other: the newest that the video shows when the one before is done. */
  async play(run) {
    const { source } = this;
    while (run === this.run) {
      if (source.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA && source.videoWidth) {
        try {
          await this.paint(run);
        } catch (error) {
          if (run === this.run) this.fail(error.message);
          return;
        }
      }
      await nextFrame(source);
    }
  }

  tell(now, ms) {
    if (this.told > now - NUMBERS_MS && !this.isStill) return;
    this.told = now;
    const intervals = this.shown.length - 1;
    const fps = this.isStill || !intervals ? null : (1000 * intervals) / (now - this.shown[0]);
    this.dispatchEvent(new CustomEvent("numbers", { detail: { fps, ms, size: this.painter.size } }));
  }

  /** Paint for about so many seconds, and tell `{name, ms}` of every pass at its best, and the `whole` of a frame. */
  async measure(seconds = 2) {
    const { painter, source } = this;
    const video = this.isStill ? null : source;
    let passes = [];
    let whole = Infinity;
    const end = performance.now() + 1000 * seconds;
    while (whole === Infinity || performance.now() < end) {
      const began = performance.now();
      await painter.paint(video);
      whole = Math.min(whole, performance.now() - began);
      const found = await painter.measure(video);
      const best = (ms, index) => (ms === null ? null : Math.min(ms, passes[index]?.ms ?? ms));
      passes = found.map(({ name, ms }, index) => ({ name, ms: best(ms, index) }));
    }
    return { passes, whole, size: painter.size };
  }

  lost() {
    this.painter = this.opening = null;
    this.fail("The graphics card was taken away from this page (its driver began anew, or the device slept). Start again.");
  }

  fail(words) {
    this.run += 1;
    this.source = null;
    this.enter("failed", words);
  }

  refuse(words) {
    this.dispatchEvent(new CustomEvent("look-refused", { detail: words }));
  }

  enter(state, words = "") {
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state, words } }));
  }
}

/** What is at `path`; an error has words for people. */
export async function fetchFile(path) {
  const response = await fetch(path).catch(() => null);
  if (response?.ok) return response.arrayBuffer();
  const words = (await response?.json().catch(() => null))?.error;
  throw new Error(words ? `${words}.` : `There is no ${path}, or its web server does not answer. Load the page again.`);
}

/** Until `video` shows another frame, or the browser draws; both stop while nobody sees the page. */
function nextFrame(video) {
  return new Promise((resolve) => {
    if (video.requestVideoFrameCallback && !video.paused) video.requestVideoFrameCallback(resolve);
    // A video that is not shown itself need not be told of its frames.
    setTimeout(() => requestAnimationFrame(resolve), PATIENCE_MS);
  });
}
