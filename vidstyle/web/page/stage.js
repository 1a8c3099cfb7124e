// The stage: the picture with its bar, divider and keys. Knows neither where pictures come from nor who paints them.

import { keep, Recorder, snapshot } from "./capture.js";
import { Divider } from "./divider.js";
import { byId, problem, say } from "./dom.js";

const REST_MS = 3000;
const KEYS_LIVE = "sr"; // that need a picture

/**
 * `player` is what the stage plays: `stop()`; `surface`, the video or canvas that is shown; `stream()`, what a recording
 * records; `divides`, whether there is a divider; `beside`, the element that shows the picture itself left of it, or null
 * where the surface does; `draw()` draws the surface anew, so that it can be copied.
 */
export class Stage {
  constructor(look, gallery, player) {
    this.look = look;
    this.gallery = gallery;
    this.player = player;
    this.box = byId("stage");
    this.picture = byId("picture");
    this.divider = new Divider(byId("divider"), this.picture);
    this.recorder = new Recorder(
      (words) => (byId("recorded").textContent = words),
      (blob, ending) => this.recorded(blob, ending),
      (words) => this.problem(words),
    );
    this.rest = null;
    const press = (this.press = {
      stop: () => player.stop(),
      split: () => look.set({ split: !look.split }),
      mirror: () => look.set({ mirror: !look.mirror }),
      snapshot: () => this.snapshot(),
      record: () => this.record(),
      full: () => this.full(),
    });
    for (const [id, act] of Object.entries(press)) byId(id).addEventListener("click", act);
    byId("record").hidden = !Recorder.isPossible;
    for (const sign of ["pointermove", "pointerdown", "keydown"]) this.box.addEventListener(sign, () => this.wake());
    document.addEventListener("fullscreenchange", () => {
      byId("full").setAttribute("aria-pressed", String(Boolean(document.fullscreenElement)));
      this.wake();
    });
    // The keys of `vidstyle webcam`, while the picture has the focus: elsewhere they belong to the browser and to readers.
    this.keys = {
      n: () => gallery.step(1),
      p: () => gallery.step(-1),
      ArrowRight: () => gallery.step(1),
      ArrowLeft: () => gallery.step(-1),
      "+": () => this.strengthen(0.1),
      "=": () => this.strengthen(0.1),
      "-": () => this.strengthen(-0.1),
      o: press.split,
      m: press.mirror,
      s: press.snapshot,
      r: press.record,
      f: press.full,
    };
    this.picture.addEventListener("keydown", (event) => this.key(event));
    look.addEventListener("change", () => {
      byId("mirror").setAttribute("aria-pressed", String(look.mirror));
      this.showSplit();
      const first = look.styles.get(look.parts[0]?.style);
      if (first) byId("backdrop").style.backgroundImage = `url("${encodeURI(first.thumbnail)}")`;
    });
  }

  get isLive() {
    return this.box.dataset.state === "live";
  }

  /** Show the state: `idle`, `connecting`, `again`, `live` or `failed`. */
  enter(state) {
    this.box.dataset.state = state;
    const isOff = state === "idle" || state === "failed";
    byId("welcome").hidden = !isOff;
    byId("waiting").hidden = isOff || state === "live";
    byId("stop").disabled = isOff;
    byId("snapshot").disabled = byId("record").disabled = state !== "live";
    byId("meter").hidden = state !== "live";
    if (state !== "live") byId("fps").textContent = byId("delay").textContent = "–";
    if (isOff) {
      this.recorder.stop();
      byId("camera-choice").hidden = true;
    }
    this.showSplit();
  }

  problem(words) {
    problem("stage-problem", words);
    byId("welcome-words").hidden = Boolean(words);
  }

  setShape(width, height) {
    if (width) this.picture.style.setProperty("--aspect", `${width} / ${height}`);
  }

  showSplit() {
    const { beside } = this.player;
    const isOn = this.look.split && this.isLive;
    byId("split").setAttribute("aria-pressed", String(this.look.split));
    byId("divider").hidden = !(isOn && this.player.divides);
    const original = byId("original");
    if (original) {
      original.hidden = !(isOn && beside === original);
      original.classList.toggle("mirrored", this.look.mirror);
    }
    for (const corner of document.querySelectorAll("[data-for=split]")) corner.hidden = !isOn;
  }

  async snapshot() {
    const { surface, beside } = this.player;
    try {
      const original = this.look.split ? beside : null;
      this.player.draw();
      keep(await snapshot(surface, original, this.divider.percent / 100, this.look.mirror), this.look.title, "png");
      say("Snapshot saved");
    } catch (error) {
      say(error.message);
    }
  }

  record() {
    if (this.recorder.isRecording) {
      this.recorder.stop();
      return;
    }
    try {
      this.recorder.start(this.player.stream());
      this.showRecording(true);
    } catch (error) {
      say(`This browser cannot record it: ${error.message}`);
    }
  }

  showRecording(isOn) {
    byId("record").setAttribute("aria-pressed", String(isOn));
    byId("recording").hidden = !isOn;
    say(isOn ? "Recording" : "Recording saved");
  }

  recorded(blob, ending) {
    this.showRecording(false);
    if (blob) keep(blob, this.look.title, ending);
    else say("Nothing was recorded.");
  }

  async full() {
    try {
      if (document.fullscreenElement) await document.exitFullscreen();
      else if (this.box.requestFullscreen) await this.box.requestFullscreen({ navigationUI: "hide" });
      else this.player.surface.webkitEnterFullscreen?.(); // a phone that knows it for videos alone
    } catch {
      say("The browser does not allow full screen here.");
    }
  }

  wake() {
    this.box.classList.remove("resting");
    clearTimeout(this.rest);
    this.rest = setTimeout(() => this.box.classList.toggle("resting", Boolean(document.fullscreenElement)), REST_MS);
  }

  key(event) {
    if (event.target !== this.picture || event.ctrlKey || event.metaKey || event.altKey) return;
    const digit = /^\d$/.test(event.key);
    const act = digit ? () => this.gallery.pick((Number(event.key) + 9) % 10) : this.keys[event.key];
    if (!act || (!this.isLive && KEYS_LIVE.includes(event.key))) return;
    event.preventDefault();
    act();
  }

  strengthen(by) {
    this.look.set({ strength: Math.min(1, Math.max(0, Math.round(10 * (this.look.strength + by)) / 10)) });
  }
}

/** Frames a second, in few characters. */
export function rate(fps) {
  return fps === null ? "–" : fps.toFixed(fps < 9.95 ? 1 : 0);
}
