// The WebRTC connection to the server: pictures there, painted pictures back. Comes back by itself.

import { call } from "./api.js";

const GATHER_SECONDS = 2;
const LOST_SECONDS = 4; // "disconnected" often mends itself
const FIRST_PICTURE_SECONDS = 30; // the server may have to compile its network first
const PAUSES_SECONDS = [0.5, 1, 2, 4, 8]; // between tries
const START_KBPS = 1500; // else a browser begins at a third of it, with a small picture
const MOST_KBPS = 3000;

/**
 * Events: `state` (`connecting`, `live`, `again`, `failed`, `idle`; `words` say why), and `look-refused`.
 */
export class Link extends EventTarget {
  constructor(video, lookNow) {
    super();
    this.video = video;
    this.lookNow = lookNow;
    this.state = "idle";
    this.id = null;
    this.connection = null;
    this.stream = null;
    this.tries = 0;
    this.run = 0; // what belongs to an earlier start or try has another number
    this.timers = new Set();
    this.sending = false;
    this.unsent = false;
  }

  /** Paint `stream`, or the server's own source without one. */
  async start(stream) {
    this.drop();
    this.stream = stream;
    this.tries = 0;
    await this.connect();
  }

  /** End it, here and on the server. */
  stop() {
    this.drop();
    this.stream = null;
    this.enter("idle");
  }

  /** Put another camera's track in place of the one that is being sent. */
  async replace(stream) {
    this.stream = stream;
    const sender = this.connection?.getSenders().find((one) => one.track);
    if (sender) await sender.replaceTrack(stream.getVideoTracks()[0]);
  }

  /** Tell the server the look; while one is on its way, only the newest is kept. */
  async sendLook() {
    this.unsent = true;
    if (this.sending || !this.id) return;
    this.sending = true;
    while (this.unsent && this.id) {
      this.unsent = false;
      const id = this.id;
      try {
        await call("PATCH", `api/visitors/${id}`, this.lookNow());
        this.dispatchEvent(new CustomEvent("look-refused", { detail: null }));
      } catch (error) {
        this.refused(error, id);
        if (id === this.id) this.dispatchEvent(new CustomEvent("look-refused", { detail: error.message }));
      }
    }
    this.sending = false;
  }

  /** A visitor `id` whom the server does not know any more has to come anew; one whom it has ended hears why. */
  refused(error, id) {
    const isEnded = error.message.startsWith("This visit has ended");
    if (error.status === 404 && id === this.id) this.again(isEnded ? error.message : "The server has ended the connection.");
    return null;
  }

  async connect() {
    const run = ++this.run;
    this.enter("connecting");
    const connection = new RTCPeerConnection({ iceServers: [] });
    this.connection = connection;
    const current = () => run === this.run;
    connection.addEventListener("track", (event) => current() && this.show(event, run));
    connection.addEventListener("connectionstatechange", () => current() && this.watch(connection));
    try {
      if (this.stream) {
        const track = this.stream.getVideoTracks()[0];
        track.contentHint = "motion";
        connection.addTransceiver(track, {
          direction: "sendrecv",
          streams: [this.stream],
          sendEncodings: [{ maxBitrate: MOST_KBPS * 1000, maxFramerate: 30 }],
        });
      } else {
        connection.addTransceiver("video", { direction: "recvonly" });
      }
      await connection.setLocalDescription();
      await gathered(connection);
      if (!current()) return;
      const { type, sdp } = connection.localDescription;
      const answer = await call("POST", "api/visitors", { type, sdp, look: this.lookNow() });
      if (!current()) {
        leave(answer.id);
        return;
      }
      this.id = answer.id;
      await connection.setRemoteDescription({ type: answer.type, sdp: brisk(answer.sdp) });
      if (!current()) return;
      await this.keepSize();
      this.after(FIRST_PICTURE_SECONDS, () => this.state === "connecting" && this.again("No picture came back."));
      if (this.unsent) this.sendLook();
    } catch (error) {
      if (!current()) return;
      // What the server refuses with a reason it will refuse again; busy, gone and unknown may pass.
      if (error.status >= 400 && error.status < 500) this.fail(error.message);
      else this.again(error.message);
    }
  }

  /** A smaller picture would be compiled for anew and look different: rather fewer frames. */
  async keepSize() {
    const sender = this.connection.getSenders().find((one) => one.track);
    if (!sender) return;
    const parameters = sender.getParameters();
    parameters.degradationPreference = "maintain-resolution";
    await sender.setParameters(parameters).catch(() => {});
  }

  show(event, run) {
    const { receiver, track, streams } = event;
    // Show each picture as it comes; the browser's own cushion is against jitter that a short way does not have.
    if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
    if ("playoutDelayHint" in receiver) receiver.playoutDelayHint = 0;
    this.video.srcObject = streams[0] ?? new MediaStream([track]);
    this.video.play().catch(() => {});
    const shown = () => {
      if (run !== this.run) return;
      this.tries = 0;
      this.enter("live");
    };
    if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback(shown);
    else this.video.addEventListener("playing", shown, { once: true });
  }

  watch(connection) {
    if (connection.connectionState === "failed" || connection.connectionState === "closed") {
      this.again("The connection was lost.");
    } else if (connection.connectionState === "disconnected") {
      this.after(LOST_SECONDS, () => {
        if (connection === this.connection && connection.connectionState === "disconnected") {
          this.again("The connection was lost.");
        }
      });
    }
  }

  again(words) {
    this.drop();
    const run = this.run;
    const pause = PAUSES_SECONDS[this.tries];
    if (pause === undefined) {
      this.fail(`${words} It did not come back.`);
      return;
    }
    this.tries += 1;
    this.enter("again", words);
    this.after(pause, () => run === this.run && this.connect());
  }

  fail(words) {
    this.drop();
    this.enter("failed", words);
  }

  /** Close the connection, and tell the server so that it need not wait to notice. */
  drop() {
    this.run += 1;
    for (const timer of this.timers) clearTimeout(timer);
    this.timers.clear();
    this.connection?.close();
    this.connection = null;
    if (this.id) leave(this.id);
    this.id = null;
    this.video.srcObject = null;
  }

  after(seconds, act) {
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      act();
    }, seconds * 1000);
    this.timers.add(timer);
  }

  enter(state, words = "") {
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state, words } }));
  }
}

function leave(id) {
  call("DELETE", `api/visitors/${id}`, undefined, { keepalive: true }).catch(() => {});
}

/** All addresses are in the offer: there is one answer, and nothing follows it. */
function gathered(connection) {
  return new Promise((resolve) => {
    const done = () => connection.iceGatheringState === "complete" && resolve();
    connection.addEventListener("icegatheringstatechange", done);
    setTimeout(resolve, GATHER_SECONDS * 1000);
    done();
  });
}

/** Let Chromium send a whole picture from the start; others read over it. */
function brisk(sdp) {
  const lines = sdp.split("\r\n");
  const codecs = lines.flatMap((line) => /^a=rtpmap:(\d+) (?:VP8|VP9|H264|AV1)\//i.exec(line)?.[1] ?? []);
  const rate = `x-google-start-bitrate=${START_KBPS}`;
  for (const codec of codecs) {
    const place = lines.findIndex((line) => line.startsWith(`a=fmtp:${codec} `));
    if (place >= 0) lines[place] += `;${rate}`;
    else lines.splice(lines.findIndex((line) => line.startsWith(`a=rtpmap:${codec} `)) + 1, 0, `a=fmtp:${codec} ${rate}`);
  }
  return lines.join("\r\n");
}
