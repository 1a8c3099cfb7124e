// How the picture does: frames a second that were shown, and what a picture's way costs, part by part.

import { call } from "./api.js";

const EVERY_MS = 1000;
const RATE_SECONDS = 2;

/** Calls `onNumbers({fps, delay, parts})` each second; `parts` are `[words, ms]`, `delay` their sum or null. */
export class Meter {
  constructor(link, onNumbers) {
    this.link = link;
    this.onNumbers = onNumbers;
    this.timer = null;
    this.shown = []; // when pictures came, in ms
    this.waits = []; // from received to shown, in ms
    this.before = null;
  }

  start() {
    this.stop();
    this.shown = [];
    this.waits = [];
    this.before = null;
    const { video } = this.link;
    this.canCount = Boolean(video.requestVideoFrameCallback);
    if (this.canCount) {
      const run = (this.run = {});
      const note = (now, frame) => {
        if (run !== this.run) return;
        this.shown.push(now);
        if (frame.receiveTime) this.waits.push(frame.expectedDisplayTime - frame.receiveTime);
        video.requestVideoFrameCallback(note);
      };
      video.requestVideoFrameCallback(note);
    }
    this.timer = setInterval(() => this.look(), EVERY_MS);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.run = null;
  }

  async look() {
    const { connection, id, stream } = this.link;
    if (!connection || !id) return;
    const run = this.run;
    const [report, server] = await Promise.all([
      connection.getStats(),
      call("GET", `api/visitors/${id}`).catch((error) => this.link.refused(error, id)),
    ]);
    if (run !== this.run || this.timer === null) return;
    const now = performance.now();
    this.shown = this.shown.filter((at) => at > now - RATE_SECONDS * 1000);
    const stats = readStats(report);
    const before = this.before ?? stats;
    this.before = stats;

    const parts = [];
    if (stream) parts.push(["encoding here", mean(stats, before, "encodeMs", "encoded")]);
    parts.push(["network", stats.roundTripMs === null ? null : stats.roundTripMs / (stream ? 1 : 2)]);
    parts.push(["painting", server?.latency_ms ?? null]);
    const waited = this.waits.length ? median(this.waits) : mean(stats, before, "processMs", "decoded");
    this.waits = [];
    parts.push(["decoding and showing here", waited]);
    // A sum that lacks its largest part would be a lie.
    const whole = typeof server?.latency_ms === "number" && waited !== null;
    const delay = whole ? parts.reduce((sum, [, ms]) => sum + (ms ?? 0), 0) : null;
    const fps = this.canCount ? this.shown.length / RATE_SECONDS : stats.framesPerSecond;
    this.onNumbers({ fps, delay, parts, isOwnCamera: Boolean(stream) });
  }
}

function readStats(report) {
  const found = { encodeMs: 0, encoded: 0, processMs: 0, decoded: 0, roundTripMs: null, framesPerSecond: null };
  const pairs = new Map();
  let chosen = null;
  for (const part of report.values()) {
    if (part.type === "outbound-rtp" && part.kind === "video") {
      found.encodeMs = 1000 * (part.totalEncodeTime ?? 0);
      found.encoded = part.framesEncoded ?? 0;
    } else if (part.type === "inbound-rtp" && part.kind === "video") {
      found.processMs = 1000 * (part.totalProcessingDelay ?? (part.jitterBufferDelay ?? 0) + (part.totalDecodeTime ?? 0));
      found.decoded = part.framesDecoded ?? 0;
      found.framesPerSecond = part.framesPerSecond ?? null;
    } else if (part.type === "candidate-pair") {
      pairs.set(part.id, part);
      if (part.nominated && part.state === "succeeded") chosen ??= part;
    } else if (part.type === "transport" && part.selectedCandidatePairId) {
      found.pair = part.selectedCandidatePairId;
    }
  }
  const pair = pairs.get(found.pair) ?? chosen;
  if (pair?.currentRoundTripTime !== undefined) found.roundTripMs = 1000 * pair.currentRoundTripTime;
  return found;
}

function mean(now, before, sum, count) {
  const n = now[count] - before[count];
  return n > 0 ? (now[sum] - before[sum]) / n : null;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}
