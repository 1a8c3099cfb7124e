// The page without a server: paints a camera, a video or a picture on this device.

import { cameras, openCamera, whyNoCamera } from "./camera.js";
import { Device, fetchFile } from "./device.js";
import { byId, make, problem, say } from "./dom.js";
import { takeFiles } from "./drop.js";
import { Gallery } from "./gallery.js";
import { Look } from "./look.js";
import { Mixer } from "./mixer.js";
import { flopsPerPixel } from "./network.js";
import { findAdapter, PASSES } from "./painter.js";
import { rate, Stage } from "./stage.js";

const MOST_SIDE = 2160; // of a picture, in pixels: more is not painted anyway

const canvas = byId("canvas");
const video = make("video", { playsinline: true });
video.muted = video.loop = true;
const look = new Look();
const device = new Device(canvas, look, (name) => fetchFile(`styles/${name}.safetensors`));
const gallery = new Gallery(look, async () => (await site).styles);
new Mixer(look);
const stage = new Stage(look, gallery, {
  stop,
  surface: canvas,
  stream: () => canvas.captureStream(),
  divides: true,
  beside: null,
  draw: () => device.draw(),
});
stage.divider.onMove = (percent) => device.setDivide(percent / 100);
device.setDivide(stage.divider.percent / 100);

const site = fetchFile("site.json").then((buffer) => JSON.parse(new TextDecoder().decode(buffer)));
let camera = null; // the stream
let address = null; // of the video file

// ---- what is painted

function stop() {
  device.stop();
  letGo();
  say("");
}

function letGo() {
  for (const track of camera?.getTracks() ?? []) track.stop();
  camera = null;
  video.pause();
  video.srcObject = null;
  video.removeAttribute("src");
  if (address) URL.revokeObjectURL(address);
  address = null;
}

/** Let `open` bring something to paint; what it throws has words for people. */
async function show(open) {
  device.stop();
  letGo();
  stage.problem(null);
  stage.enter("connecting");
  say("");
  try {
    await findAdapter();
    const source = await open();
    if (source) await device.start(source);
  } catch (error) {
    stage.enter("failed");
    stage.problem(error.message);
  }
}

const showCamera = (id) =>
  show(async () => {
    const missing = whyNoCamera();
    if (missing) throw new Error(missing);
    say("Waiting for the camera");
    camera = await openCamera(id);
    const [track] = camera.getVideoTracks();
    track.addEventListener("ended", () => {
      stop();
      stage.problem("The camera has gone. Plug it in, then start again.");
    });
    video.srcObject = camera;
    await video.play();
    const found = await cameras();
    const current = track.getSettings().deviceId;
    byId("camera").replaceChildren(...found.map((one) => new Option(one.label, one.id, false, one.id === current)));
    byId("camera-choice").hidden = found.length < 2;
    return video;
  });

const showVideo = (file) =>
  show(async () => {
    video.src = address = URL.createObjectURL(file);
    await video.play().catch(() => {
      throw new Error(`This browser cannot play ${file.name}. MP4 with H.264 and WebM play nearly everywhere.`);
    });
    return video;
  });

const showPicture = (blob, name) =>
  show(async () => {
    try {
      const whole = await createImageBitmap(blob);
      const share = MOST_SIDE / Math.max(whole.width, whole.height);
      if (share >= 1) return whole;
      const [resizeWidth, resizeHeight] = [whole.width, whole.height].map((side) => Math.max(1, Math.round(side * share)));
      return await createImageBitmap(whole, { resizeWidth, resizeHeight, resizeQuality: "high" });
    } catch {
      throw new Error(`This browser cannot read ${name} as a picture.`);
    }
  });

async function showPhoto() {
  try {
    const { photo } = await site;
    await showPicture(new Blob([await fetchFile(photo)]), photo);
  } catch (error) {
    stage.enter("failed");
    stage.problem(error.message);
  }
}

byId("start").addEventListener("click", () => showCamera());
byId("photo").addEventListener("click", showPhoto);
byId("camera").addEventListener("change", (event) => showCamera(event.target.value));
byId("rows").addEventListener("change", (event) => device.setRows(Number(event.target.value)));
takeFiles({ onPainting: (file) => showPicture(file, file.name), onVideo: showVideo, onOther: (words) => say(words) });

// ---- how it does

device.addEventListener("state", ({ detail: { state, words } }) => {
  stage.enter(state);
  if (state === "live") {
    say(`Painting with ${look.title}`);
    byId("rows").value = device.rows;
    byId("machine").textContent = `${device.painter.description}${device.painter.half ? ", FP16" : ""}`;
  }
  if (state === "failed") {
    letGo();
    say("");
    stage.problem(words);
  }
});
device.addEventListener("numbers", ({ detail: { fps, ms, size } }) => {
  stage.setShape(...size);
  byId("fps").textContent = rate(fps);
  byId("delay").textContent = `${ms < 9.95 ? ms.toFixed(1) : Math.round(ms)} ms`;
});
device.addEventListener("look-refused", ({ detail }) => problem("look-problem", detail));

byId("measure").addEventListener("click", async () => {
  if (!stage.isLive) return;
  byId("measure").disabled = true;
  try {
    const { passes, whole, size } = await device.measure();
    const [width, height] = size;
    const gflops = (flopsPerPixel() * width * height) / whole / 1e6;
    byId("measured").textContent =
      `${width}x${height} in ${PASSES} passes: ${whole.toFixed(1)} ms, ${(1000 / whole).toFixed(0)} a second at most; ` +
      `${(flopsPerPixel() / 1000).toFixed(1)} kFLOP a pixel, ${gflops.toFixed(0)} GFLOP/s.` +
      (passes[0].ms === null ? " This browser does not tell the time of a pass." : "");
    const row = ({ name, ms }) => make("div", {}, make("dt", {}, name), make("dd", {}, `${ms.toFixed(2)} ms`));
    byId("passes").replaceChildren(...passes.filter(({ ms }) => ms !== null).map(row));
  } finally {
    byId("measure").disabled = false;
  }
});

window.addEventListener("pagehide", stop);

async function begin() {
  stage.enter("idle");
  device.prepare().catch(() => {}); // said where something is to be painted
  await gallery.refresh((await site.catch(() => ({}))).first);
  look.changed();
  await showPhoto();
}

begin();

export { device, look }; // for a console
