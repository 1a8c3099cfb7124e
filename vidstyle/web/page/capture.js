// Keeping what is on the stage: a picture, or a recording of the painted track.

import { clock, download, fileName } from "./dom.js";

const KINDS = [
  ["video/mp4;codecs=avc1.42E01F", "mp4"],
  ["video/webm;codecs=vp9", "webm"],
  ["video/webm;codecs=vp8", "webm"],
  ["video/webm", "webm"],
  ["video/mp4", "mp4"],
];
const BITS_PER_SECOND = 6_000_000;
const SLICE_MS = 1000;

/** A PNG of what a video or canvas shows, as a Blob. With `original`, its left `share` is that of the camera. */
export function snapshot(painted, original, share, mirrored) {
  const canvas = document.createElement("canvas");
  const width = (canvas.width = painted.videoWidth ?? painted.width);
  const height = (canvas.height = painted.videoHeight ?? painted.height);
  if (!width) return Promise.reject(new Error("There is no picture yet."));
  const context = canvas.getContext("2d");
  context.drawImage(painted, 0, 0, width, height);
  if (original?.videoWidth) {
    const cut = Math.round(width * share);
    context.save();
    context.beginPath();
    context.rect(0, 0, cut, height);
    context.clip();
    if (mirrored) context.setTransform(-1, 0, 0, 1, width, 0);
    context.drawImage(original, 0, 0, width, height);
    context.restore();
    context.fillStyle = "#fff";
    context.fillRect(cut - 1, 0, 2, height);
  }
  return new Promise((resolve, reject) =>
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The browser made no picture."))), "image/png"),
  );
}

/** Give `blob` to the visitor as a file named after the look and the moment. */
export function keep(blob, title, ending) {
  const moment = new Date(Date.now() - 60_000 * new Date().getTimezoneOffset()).toISOString().slice(0, 19);
  const address = URL.createObjectURL(blob);
  download(address, `vidstyle-${fileName(title)}-${moment.replace(/[:T]/g, "-")}.${ending}`);
  setTimeout(() => URL.revokeObjectURL(address), 60_000); // some browsers read it later
}

export class Recorder {
  /** `onTime(words)` is called each second while it records, `onEnd(blob, ending)` with the whole. */
  constructor(onTime, onEnd, onError) {
    this.onTime = onTime;
    this.onEnd = onEnd;
    this.onError = onError;
    this.recorder = null;
  }

  static get isPossible() {
    return typeof MediaRecorder !== "undefined";
  }

  get isRecording() {
    return this.recorder !== null;
  }

  start(stream) {
    const [mimeType, ending] = KINDS.find(([kind]) => MediaRecorder.isTypeSupported(kind)) ?? ["", "webm"];
    const slices = [];
    // Its own stream: it goes on until it is stopped, and then the tracks of the stage are left alone.
    const recorder = new MediaRecorder(new MediaStream(stream.getVideoTracks()), {
      ...(mimeType && { mimeType }),
      videoBitsPerSecond: BITS_PER_SECOND,
    });
    const began = performance.now();
    const timer = setInterval(() => this.onTime(clock((performance.now() - began) / 1000)), 500);
    recorder.addEventListener("dataavailable", (event) => event.data.size && slices.push(event.data));
    recorder.addEventListener("error", (event) => this.onError(event.error?.message ?? "The recording broke off."));
    recorder.addEventListener("stop", () => {
      clearInterval(timer);
      this.recorder = null;
      this.onEnd(slices.length ? new Blob(slices, { type: recorder.mimeType }) : null, ending);
    });
    recorder.start(SLICE_MS);
    this.recorder = recorder;
    this.onTime(clock(0));
  }

  stop() {
    if (this.recorder?.state !== "inactive") this.recorder?.stop();
  }
}
