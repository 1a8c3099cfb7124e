// The page: brings the camera, the link to the server, this device, the look, the gallery and the studio together.

import { call, ofStyle } from "./api.js";
import { cameras, openCamera, whyNoCamera } from "./camera.js";
import { Device, fetchFile } from "./device.js";
import { byId, problem, say } from "./dom.js";
import { takeFiles } from "./drop.js";
import { Gallery } from "./gallery.js";
import { Link } from "./link.js";
import { Look } from "./look.js";
import { Meter } from "./meter.js";
import { Mixer } from "./mixer.js";
import { findAdapter } from "./painter.js";
import { rate, Stage } from "./stage.js";
import { Studio } from "./studio.js";

const painted = byId("painted");
const canvas = byId("canvas");
const original = byId("original");

const look = new Look();
const link = new Link(painted, lookForServer);
const device = new Device(canvas, look, styleFile);
const meter = new Meter(link, showNumbers);
const gallery = new Gallery(look);
const studio = new Studio(look);
new Mixer(look);

let camera = null; // the stream
let server = {};
let noCamera = null; // why there can be none
let isHere = false; // painted on this device

const stage = new Stage(look, gallery, {
  stop,
  get surface() {
    return isHere ? canvas : painted;
  },
  // The server's own picture only the server can put beside the painting; this device draws the camera itself.
  get divides() {
    return isHere || Boolean(link.stream);
  },
  get beside() {
    return !isHere && link.stream ? original : null;
  },
  stream: () => (isHere ? canvas.captureStream() : painted.srcObject),
  draw: () => isHere && device.draw(),
});
stage.divider.onMove = (percent) => device.setDivide(percent / 100);
device.setDivide(stage.divider.percent / 100);

/** The camera's picture is beside the painting in this page; the server's own only it can put there. */
function lookForServer() {
  const { blend, strength, mask, mirror, split } = look;
  return { blend, strength, mask, mirror, split: split && !link.stream };
}

/** The file of a style for this device: a shipped one, or a visitor's own as far as it has learned. */
async function styleFile(name) {
  if (look.networkOf(name) !== "fast") {
    throw new Error("This device paints with styles of the network fast. Choose one of those, or let the server paint.");
  }
  return fetchFile(ofStyle(name, "weights"));
}

// ---- the stage

async function startCamera(deviceId) {
  stage.problem(null);
  stage.enter("connecting");
  say("Waiting for the camera");
  try {
    const stream = await openCamera(deviceId);
    closeCamera();
    camera = stream;
  } catch (error) {
    say("");
    stage.enter("failed");
    const hint = server.source ? " Or let the server show its own video." : "";
    stage.problem(error.message + hint);
    return;
  }
  const [track] = camera.getVideoTracks();
  track.addEventListener("ended", () => {
    stop();
    stage.problem("The camera has gone. Plug it in, then start again.");
  });
  original.srcObject = camera;
  original.play().catch(() => {});
  showCameras(track.getSettings().deviceId);
  await (isHere ? device.start(original) : link.start(camera));
}

async function startSource() {
  stage.problem(null);
  closeCamera();
  setPlace(false);
  await link.start(null);
}

function stop() {
  stage.recorder.stop();
  link.stop();
  device.stop();
  closeCamera();
  say("");
  if (noCamera) stage.problem(noCamera);
}

function closeCamera() {
  for (const track of camera?.getTracks() ?? []) track.stop();
  camera = null;
  original.srcObject = null;
}

for (const player of [link, device]) {
  player.addEventListener("state", ({ detail: { state, words } }) => {
    if (player !== (isHere ? device : link)) return;
    stage.enter(state);
    if (state === "connecting") say(link.tries ? "Connecting again" : "Connecting");
    if (state === "again") say(`${words} Trying again.`);
    if (state === "live") say(`Painting with ${look.title}`);
    if (state === "failed") {
      say("");
      closeCamera();
      stage.problem(words);
    }
    if (state === "live" && !isHere) meter.start();
    else meter.stop();
    byId("delay-details").hidden = isHere || state !== "live";
  });
  player.addEventListener("look-refused", ({ detail }) => problem("look-problem", detail));
}

painted.addEventListener("resize", () => stage.setShape(painted.videoWidth, painted.videoHeight));

// ---- who paints

function setPlace(onDevice) {
  isHere = onDevice;
  canvas.hidden = !isHere;
  painted.hidden = isHere;
  for (const input of document.querySelectorAll("[name=place]")) input.checked = (input.value === "device") === isHere;
  byId("welcome-privacy").textContent = isHere
    ? "The picture stays on this device."
    : "The picture goes to this server and back. Nothing of it is kept.";
  byId("mask").disabled = isHere; // only the server finds people
  byId("delay-word").textContent = isHere ? "a frame" : "delay";
}

for (const input of document.querySelectorAll("[name=place]")) {
  input.addEventListener("change", async () => {
    const stream = camera;
    const wasLive = Boolean(stream) && stage.box.dataset.state !== "idle";
    link.stop();
    device.stop();
    setPlace(input.value === "device");
    stage.enter("idle");
    if (!wasLive) return;
    stage.enter("connecting");
    await (isHere ? device.start(original) : link.start(stream));
  });
}

device.addEventListener("numbers", ({ detail: { fps, ms, size } }) => {
  stage.setShape(...size);
  byId("fps").textContent = rate(fps);
  byId("delay").textContent = `${Math.round(ms)} ms`;
  byId("delay-part").title = "From a picture of the camera until its painting is done";
});

async function showCameras(current) {
  const found = await cameras();
  byId("camera-choice").hidden = found.length < 2;
  byId("camera").replaceChildren(...found.map(({ id, label }) => new Option(label, id, false, id === current)));
}

byId("camera").addEventListener("change", async (event) => {
  try {
    const stream = await openCamera(event.target.value);
    closeCamera();
    camera = stream;
    original.srcObject = camera;
    original.play().catch(() => {});
    if (!isHere) await link.replace(camera);
  } catch (error) {
    stop();
    stage.problem(error.message);
  }
});

function showNumbers({ fps, delay, parts, isOwnCamera }) {
  byId("fps").textContent = rate(fps);
  byId("delay").textContent = delay === null ? "–" : `≥ ${Math.round(delay)} ms`;
  byId("delay-parts").replaceChildren(
    ...parts.map(([words, ms]) => {
      const row = document.createElement("div");
      row.innerHTML = "<dt></dt><dd></dd>";
      row.firstChild.textContent = words;
      row.lastChild.textContent = ms === null ? "not known" : `${Math.round(ms)} ms`;
      return row;
    }),
  );
  const from = isOwnCamera ? "this page has got a picture from the camera" : "the server has got a picture";
  byId("delay-note").textContent =
    `At least so much, from when ${from} until it is shown: the sum of what this browser and the server can measure. ` +
    "What the camera and the screen need, and the server to unpack and pack pictures, is not in it.";
  byId("delay-part").title = "At least: the sum of the parts that can be measured, listed below the picture";
}

// ---- the look

look.addEventListener("change", () => link.sendLook());

// ---- gallery and studio

studio.addEventListener("jobs", ({ detail }) => gallery.setJobs(detail));
studio.addEventListener("style", async () => {
  await gallery.refresh();
  for (const { name, mine } of gallery.styles) if (mine) device.forget(name); // it has learned on
  device.follow().catch((error) => problem("look-problem", error.message));
});
gallery.addEventListener("changed", () => studio.refresh());
takeFiles({
  onPainting: (file) => studio.adapt(file),
  onVideo: (file) => studio.render(file),
  onOther: (words) => problem("studio-problem", words),
});

// ---- the beginning and the end

byId("start").addEventListener("click", () => startCamera());
byId("start-source").addEventListener("click", startSource);
window.addEventListener("pagehide", () => link.stop());
window.addEventListener("pageshow", (event) => event.persisted && stop());

async function begin() {
  stage.enter("idle");
  const missing = whyNoCamera();
  try {
    server = await call("GET", "api/state");
  } catch (error) {
    stage.problem(error.message);
    return;
  }
  byId("machine").textContent = [server.backend, server.version && `vidstyle ${server.version}`].filter(Boolean).join(" · ");
  byId("start-source").hidden = !server.source;
  byId("start").disabled = Boolean(missing);
  if (missing) noCamera = missing + (server.source ? " The server’s own video needs no camera." : "");
  if (noCamera) stage.problem(noCamera);
  offerDevice();
  await gallery.refresh("starry_night");
  look.changed();
  await studio.refresh();
}

/** Let the visitor choose this device where its browser has a graphics card for it. */
async function offerDevice() {
  try {
    await findAdapter();
    byId("place").hidden = false;
  } catch {
    // The server paints, as for everybody without WebGPU.
  }
}

begin();

export { device, look }; // for a console
