// Original beside painting. The original is the page's own camera, cut by CSS: it costs the server nothing.

const STEP = 2;
const LEAP = 10;

/** Call `onMove(percent)` when the divider is dragged, or moved by keys. */
export class Divider {
  constructor(handle, box, onMove) {
    this.handle = handle;
    this.box = box;
    this.onMove = onMove;
    this.percent = 50;
    handle.addEventListener("pointerdown", (event) => {
      handle.setPointerCapture(event.pointerId);
      handle.focus({ preventScroll: true });
      event.preventDefault();
    });
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const { left, width } = box.getBoundingClientRect();
      this.moveTo((100 * (event.clientX - left)) / width);
    });
    handle.addEventListener("keydown", (event) => {
      const to = {
        ArrowLeft: this.percent - STEP,
        ArrowDown: this.percent - STEP,
        ArrowRight: this.percent + STEP,
        ArrowUp: this.percent + STEP,
        PageDown: this.percent - LEAP,
        PageUp: this.percent + LEAP,
        Home: 0,
        End: 100,
      }[event.key];
      if (to === undefined) return;
      this.moveTo(to);
      event.preventDefault();
      event.stopPropagation();
    });
    this.moveTo(50);
  }

  moveTo(percent) {
    this.percent = Math.min(100, Math.max(0, percent));
    this.box.style.setProperty("--divide", `${this.percent}%`);
    this.handle.setAttribute("aria-valuenow", String(Math.round(this.percent)));
    this.handle.setAttribute("aria-valuetext", `${Math.round(this.percent)} % original`);
    this.onMove?.(this.percent);
  }
}
