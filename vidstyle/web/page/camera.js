// The visitor's camera, and words for what keeps it away.

const WANTED = { width: { ideal: 640 }, height: { ideal: 360 }, frameRate: { ideal: 30, max: 30 } };

/** Why this page can have no camera at all, or null. */
export function whyNoCamera() {
  if (navigator.mediaDevices?.getUserMedia) return null;
  if (!window.isSecureContext) {
    const isHandheld = window.matchMedia("(pointer: coarse)").matches; // it has no server of its own
    const here = isHandheld ? "" : " At the server itself, open this page as http://localhost.";
    return `Browsers give a camera only to pages from https: ask whoever runs this server for such an address.${here}`;
  }
  return "This browser cannot give a page its camera.";
}

/** The camera's stream; an error has words for people. */
export async function openCamera(deviceId) {
  const missing = whyNoCamera();
  if (missing) throw new Error(missing);
  const which = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "user" };
  try {
    return await navigator.mediaDevices.getUserMedia({ video: { ...WANTED, ...which }, audio: false });
  } catch (error) {
    if (deviceId && error.name === "OverconstrainedError") return openCamera(); // it was unplugged
    throw new Error(wordsFor(error));
  }
}

/** The cameras: `{id, label}`. Browsers name them only once one was allowed. */
export async function cameras() {
  const devices = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  return devices
    .filter((device) => device.kind === "videoinput")
    .map((device, index) => ({ id: device.deviceId, label: device.label || `Camera ${index + 1}` }));
}

function wordsFor(error) {
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return "The browser was told not to give the camera to this page. Allow it in the address bar, then start again.";
    case "NotFoundError":
    case "OverconstrainedError":
      return "No camera was found on this device. Plug one in, then start again.";
    case "NotReadableError":
    case "AbortError":
      return "The camera does not start; another program may be using it. Close that program, then start again.";
    default:
      return `The camera does not start (${error.name}: ${error.message}).`;
  }
}
