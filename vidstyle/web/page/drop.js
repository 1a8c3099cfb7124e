// Files that are dropped on the page, or chosen: a painting becomes a style, a video gets painted.

import { byId } from "./dom.js";

const VIDEO_ENDINGS = /\.(mp4|m4v|mov|mkv|webm|avi|mpe?g|ts|wmv|flv|ogv|3gp)$/i;

/** Calls `onPainting(file)`, `onVideo(file)`, and `onOther(words)` for what is neither. */
export function takeFiles({ onPainting, onVideo, onOther }) {
  const veil = byId("drop");
  let depth = 0; // of elements that were entered and not left
  const bringsFiles = (event) => event.dataTransfer?.types?.includes("Files");

  const take = (files) => {
    const [file] = files;
    if (!file) return;
    if (files.length > 1) onOther(`${files.length} files were dropped; one at a time, please.`);
    else if (file.type.startsWith("image/")) onPainting(file);
    else if (file.type.startsWith("video/") || VIDEO_ENDINGS.test(file.name)) onVideo(file);
    else onOther(`“${file.name}” is neither a picture nor a video; drop a painting (JPEG, PNG, WebP) or a video.`);
  };

  window.addEventListener("dragenter", (event) => {
    if (!bringsFiles(event)) return;
    event.preventDefault();
    depth += 1;
    veil.hidden = false;
  });
  window.addEventListener("dragover", (event) => {
    if (bringsFiles(event)) event.preventDefault();
  });
  window.addEventListener("dragleave", (event) => {
    if (!bringsFiles(event)) return;
    depth = Math.max(0, depth - 1);
    veil.hidden = depth === 0;
  });
  window.addEventListener("drop", (event) => {
    if (!bringsFiles(event)) return;
    event.preventDefault();
    depth = 0;
    veil.hidden = true;
    take([...event.dataTransfer.files]);
  });
  for (const [id, what] of [["painting", onPainting], ["video", onVideo]]) {
    byId(id).addEventListener("change", (event) => {
      const [file] = event.target.files;
      if (file) what(file);
      event.target.value = ""; // so that the same file can be chosen again
    });
  }
}

/** `starry-night_(1889).jpg` as a title: `Starry night (1889)`. */
export function titleOf(name) {
  const words = name.replace(/\.[^.]*$/, "").replace(/[_-]+/g, " ").trim().slice(0, 80);
  return words ? words.charAt(0).toUpperCase() + words.slice(1) : "My painting";
}
