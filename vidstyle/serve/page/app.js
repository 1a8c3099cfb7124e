// The page: brings the camera, the link to the server, the look, the gallery and the studio together.

import { call } from "./api.js";
import { cameras, openCamera, whyNoCamera } from "./camera.js";
import { keep, Recorder, snapshot } from "./capture.js";
import { Divider } from "./divider.js";
import { byId, problem, say } from "./dom.js";
import { takeFiles } from "./drop.js";
import { Gallery } from "./gallery.js";
import { Link } from "./link.js";
import { Look } from "./look.js";
import { Meter } from "./meter.js";
import { Mixer } from "./mixer.js";
import { Studio } from "./studio.js";

const REST_MS = 3000;
const stage = byId("stage");
const picture = byId("picture");
const painted = byId("painted");
const original = byId("original");

const look = new Look();
const link = new Link(painted, lookForServer);
const meter = new Meter(link, showNumbers);
const gallery = new Gallery(look);
const studio = new Studio(look);
const divider = new Divider(byId("divider"), picture);
const recorder = new Recorder((words) => (byId("recorded").textContent = words), recorded, (words) => stageProblem(words));
new Mixer(look);

let camera = null; // the stream
let server = {};
let noCamera = null; // why there can be none

/** The camera's picture is beside the painting in this page; the server's own only it can put there. */
function lookForServer() {
  const { blend, strength, mask, mirror, split } = look;
  return { blend, strength, mask, mirror, split: split && !link.stream };
}

// ---- the stage

async function startCamera(deviceId) {
  stageProblem(null);
  enterStage("connecting");
  say("Waiting for the camera");
  try {
    const stream = await openCamera(deviceId);
    closeCamera();
    camera = stream;
  } catch (error) {
    say("");
    enterStage("failed");
    const hint = server.source ? " Or let the server show its own video." : "";
    stageProblem(error.message + hint);
    return;
  }
  const [track] = camera.getVideoTracks();
  track.addEventListener("ended", () => {
    stop();
    stageProblem("The camera has gone. Plug it in, then start again.");
  });
  original.srcObject = camera;
  original.play().catch(() => {});
  showCameras(track.getSettings().deviceId);
  await link.start(camera);
}

async function startSource() {
  stageProblem(null);
  closeCamera();
  await link.start(null);
}

function stop() {
  recorder.stop();
  link.stop();
  closeCamera();
  say("");
  if (noCamera) stageProblem(noCamera);
}

function closeCamera() {
  for (const track of camera?.getTracks() ?? []) track.stop();
  camera = null;
  original.srcObject = null;
}

link.addEventListener("state", ({ detail: { state, words } }) => {
  enterStage(state);
  if (state === "connecting") say(link.tries ? "Connecting again" : "Connecting");
  if (state === "again") say(`${words} Trying again.`);
  if (state === "live") say(`Painting with ${look.title}`);
  if (state === "failed") {
    say("");
    recorder.stop();
    closeCamera();
    stageProblem(words);
  }
  if (state === "live") meter.start();
  else meter.stop();
});

link.addEventListener("look-refused", ({ detail }) => problem("look-problem", detail));

function enterStage(state) {
  stage.dataset.state = state;
  const isOff = state === "idle" || state === "failed";
  byId("welcome").hidden = !isOff;
  byId("waiting").hidden = isOff || state === "live";
  byId("stop").disabled = isOff;
  byId("snapshot").disabled = byId("record").disabled = state !== "live";
  byId("meter").hidden = state !== "live";
  if (state !== "live") byId("fps").textContent = byId("delay").textContent = "–";
  byId("delay-details").hidden = state !== "live";
  if (isOff) byId("camera-choice").hidden = true;
  showSplit();
}

function stageProblem(words) {
  problem("stage-problem", words);
  byId("welcome-words").hidden = Boolean(words);
}

function showSplit() {
  const isOn = look.split && stage.dataset.state === "live";
  const isHere = isOn && Boolean(link.stream);
  byId("split").setAttribute("aria-pressed", String(look.split));
  original.hidden = byId("divider").hidden = !isHere;
  original.classList.toggle("mirrored", look.mirror);
  for (const corner of document.querySelectorAll("[data-for=split]")) corner.hidden = !isOn;
}

painted.addEventListener("resize", () => {
  if (painted.videoWidth) picture.style.setProperty("--aspect", `${painted.videoWidth} / ${painted.videoHeight}`);
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
    await link.replace(camera);
  } catch (error) {
    stop();
    stageProblem(error.message);
  }
});

function showNumbers({ fps, delay, parts, isOwnCamera }) {
  byId("fps").textContent = fps === null ? "–" : fps.toFixed(fps < 9.95 ? 1 : 0);
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

// ---- the bar

const press = {
  stop,
  split: () => look.set({ split: !look.split }),
  mirror: () => look.set({ mirror: !look.mirror }),
  snapshot: async () => {
    const isHere = look.split && link.stream;
    try {
      const blob = await snapshot(painted, isHere ? original : null, divider.percent / 100, look.mirror);
      keep(blob, look.title, "png");
      say("Snapshot saved");
    } catch (error) {
      say(error.message);
    }
  },
  record: () => {
    if (recorder.isRecording) {
      recorder.stop();
      return;
    }
    try {
      recorder.start(painted.srcObject);
      showRecording(true);
    } catch (error) {
      say(`This browser cannot record it: ${error.message}`);
    }
  },
  full: async () => {
    try {
      if (document.fullscreenElement) await document.exitFullscreen();
      else if (stage.requestFullscreen) await stage.requestFullscreen({ navigationUI: "hide" });
      else painted.webkitEnterFullscreen?.(); // a phone that knows it for videos alone
    } catch {
      say("The browser does not allow full screen here.");
    }
  },
};
for (const [id, act] of Object.entries(press)) byId(id).addEventListener("click", act);
byId("record").hidden = !Recorder.isPossible;
byId("start").addEventListener("click", () => startCamera());
byId("start-source").addEventListener("click", startSource);

function showRecording(isOn) {
  byId("record").setAttribute("aria-pressed", String(isOn));
  byId("recording").hidden = !isOn;
  say(isOn ? "Recording" : "Recording saved");
}

function recorded(blob, ending) {
  showRecording(false);
  if (blob) keep(blob, look.title, ending);
  else say("Nothing was recorded.");
}

let rest = null;
function wake() {
  stage.classList.remove("resting");
  clearTimeout(rest);
  rest = setTimeout(() => stage.classList.toggle("resting", Boolean(document.fullscreenElement)), REST_MS);
}
for (const sign of ["pointermove", "pointerdown", "keydown"]) stage.addEventListener(sign, wake);
document.addEventListener("fullscreenchange", () => {
  byId("full").setAttribute("aria-pressed", String(Boolean(document.fullscreenElement)));
  wake();
});

// The keys of `vidstyle webcam`, while the picture has the focus: elsewhere they belong to the browser and to readers.
const KEYS = {
  n: () => gallery.step(1),
  p: () => gallery.step(-1),
  ArrowRight: () => gallery.step(1),
  ArrowLeft: () => gallery.step(-1),
  "+": () => strengthen(0.1),
  "=": () => strengthen(0.1),
  "-": () => strengthen(-0.1),
  o: press.split,
  m: press.mirror,
  s: press.snapshot,
  r: press.record,
  f: press.full,
};
picture.addEventListener("keydown", (event) => {
  if (event.target !== picture || event.ctrlKey || event.metaKey || event.altKey) return;
  const isLive = stage.dataset.state === "live";
  const act = /^\d$/.test(event.key) ? () => gallery.pick((Number(event.key) + 9) % 10) : KEYS[event.key];
  if (!act || (!isLive && "sr".includes(event.key))) return;
  event.preventDefault();
  act();
});

function strengthen(by) {
  look.set({ strength: Math.min(1, Math.max(0, Math.round(10 * (look.strength + by)) / 10)) });
}

// ---- the look

look.addEventListener("change", () => {
  byId("mirror").setAttribute("aria-pressed", String(look.mirror));
  showSplit();
  const first = look.styles.get(look.parts[0]?.style);
  if (first) byId("backdrop").style.backgroundImage = `url("${encodeURI(first.thumbnail)}")`;
  link.sendLook();
});

// ---- gallery and studio

studio.addEventListener("jobs", ({ detail }) => gallery.setJobs(detail));
studio.addEventListener("style", () => gallery.refresh());
gallery.addEventListener("changed", () => studio.refresh());
takeFiles({
  onPainting: (file) => studio.adapt(file),
  onVideo: (file) => studio.render(file),
  onOther: (words) => problem("studio-problem", words),
});

// ---- the beginning and the end

window.addEventListener("pagehide", () => link.stop());
window.addEventListener("pageshow", (event) => event.persisted && stop());

async function begin() {
  enterStage("idle");
  const missing = whyNoCamera();
  try {
    server = await call("GET", "api/state");
  } catch (error) {
    stageProblem(error.message);
    return;
  }
  byId("machine").textContent = [server.backend, server.version && `vidstyle ${server.version}`].filter(Boolean).join(" · ");
  byId("start-source").hidden = !server.source;
  byId("start").disabled = Boolean(missing);
  if (missing) noCamera = missing + (server.source ? " The server’s own video needs no camera." : "");
  if (noCamera) stageProblem(noCamera);
  await gallery.refresh("starry_night");
  look.changed();
  await studio.refresh();
}

begin();
