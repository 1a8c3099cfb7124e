// Jobs on the server: paintings that become styles, videos that get painted. The server's list is the truth.

import { aboutFile, call, ofJob, sentence, send } from "./api.js";
import { lossCurve } from "./curve.js";
import { byId, clock, fileName, icon, make, problem, say } from "./dom.js";
import { titleOf } from "./drop.js";

const LOOK_MS = 1000;
const ACTIVE = ["queued", "running"];

/** Events: `jobs` (`detail` is the list), and `style` when one was made or has changed. */
export class Studio extends EventTarget {
  constructor(look) {
    super();
    this.look = look;
    this.list = byId("jobs");
    this.rows = new Map();
    this.uploads = 0;
    this.timer = null;
    this.states = new Map();
    document.addEventListener("visibilitychange", () => !document.hidden && this.refresh());
  }

  async adapt(file) {
    await this.upload("adapt", file, { title: titleOf(file.name), steps: byId("steps").value, painting: file });
  }

  async render(file) {
    const blend = JSON.stringify(this.look.blend);
    await this.upload("render", file, { blend, strength: String(this.look.strength), mask: this.look.mask, video: file });
  }

  async upload(kind, file, fields) {
    problem("studio-problem", null);
    const row = this.uploadRow(file.name, kind);
    this.list.prepend(row.item);
    this.uploads += 1;
    say(`Sending ${file.name}`);
    row.item.scrollIntoView({ block: "nearest" });
    try {
      await send(`api/jobs/${kind}`, fields, (share) => {
        row.progress.value = share;
        row.words.textContent = share < 1 ? `sending, ${Math.round(100 * share)} %` : "the server looks at it";
      });
      say(`${file.name} is in the studio`);
    } catch (error) {
      problem("studio-problem", aboutFile(file.name, error.words ?? error.message));
      say(`${file.name} was not taken`);
    }
    this.uploads -= 1;
    row.item.remove();
    await this.refresh();
  }

  uploadRow(name, kind) {
    const words = make("p", { class: "words" }, "sending");
    const progress = make("progress", { max: 1, value: 0, "aria-label": `Upload of ${name}` });
    const item = make("li", { class: "job" }, make("span", { class: "preview" }, icon(iconOf(kind))));
    item.append(make("div", { class: "facts" }, make("h3", {}, name), progress, words));
    return { item, words, progress };
  }

  /** Ask the server for its jobs; goes on by itself while one is under way. */
  async refresh() {
    clearTimeout(this.timer);
    this.timer = null;
    let jobs;
    try {
      jobs = await call("GET", "api/jobs");
    } catch (error) {
      problem("studio-problem", error.message);
      this.timer = setTimeout(() => this.refresh(), 5 * LOOK_MS);
      return;
    }
    this.show(jobs);
    clearTimeout(this.timer);
    if (jobs.some((job) => ACTIVE.includes(job.state)) && !document.hidden) {
      this.timer = setTimeout(() => this.refresh(), LOOK_MS);
    }
  }

  show(jobs) {
    const ids = new Set(jobs.map((job) => job.id));
    for (const [id, row] of this.rows) {
      if (ids.has(id)) continue;
      row.item.remove();
      this.rows.delete(id);
    }
    jobs.forEach((job, index) => {
      const row = this.rows.get(job.id) ?? this.row(job);
      const place = this.list.children[index + this.uploads];
      if (place !== row.item) this.list.insertBefore(row.item, place ?? null);
      this.fillIn(row, job);
    });
    this.announce(jobs);
    this.dispatchEvent(new CustomEvent("jobs", { detail: jobs }));
  }

  /** Say what has ended, and let the gallery know what is new in it. */
  announce(jobs) {
    let hasNewStyle = false;
    for (const job of jobs) {
      const now = `${job.state} ${job.style ?? ""} ${job.title} ${publishedOf(job)}`;
      const before = this.states.get(job.id);
      if (before !== undefined && before.split(" ")[0] !== job.state) {
        if (job.state === "done") say(`${job.title} is ready`);
        if (job.state === "failed") say(`${job.title} has failed`);
      }
      if (job.kind === "adapt" && before !== now) hasNewStyle = true;
      this.states.set(job.id, now);
    }
    if (hasNewStyle) this.dispatchEvent(new Event("style"));
  }

  row(job) {
    const isAdapt = job.kind === "adapt";
    const row = {
      preview: make("img", { class: "preview", alt: `Preview of ${job.title}`, hidden: true }),
      blank: make("span", { class: "preview" }, icon(iconOf(job.kind))),
      title: make("h3"),
      words: make("p", { class: "words" }),
      progress: make("progress", { max: 1, value: 0 }),
      curve: isAdapt ? lossCurve() : null,
      buttons: make("div", { class: "buttons" }),
      drawn: null,
      shape: null,
    };
    row.preview.addEventListener("error", () => {
      row.preview.hidden = true; // there is none yet
      row.blank.hidden = false;
    });
    row.preview.addEventListener("load", () => {
      row.preview.hidden = false;
      row.blank.hidden = true;
    });
    row.item = make("li", { class: "job", "data-job": job.id, "data-kind": job.kind });
    const facts = make("div", { class: "facts" }, row.title, row.progress, row.words, row.curve);
    row.item.append(row.preview, row.blank, facts, row.buttons);
    this.rows.set(job.id, row);
    return row;
  }

  fillIn(row, job) {
    const isActive = ACTIVE.includes(job.state);
    row.item.dataset.state = job.state;
    row.title.textContent = job.title;
    row.title.title = job.title;
    row.progress.hidden = !isActive;
    // A video that does not say how long it is has no share: a bar without a value says just that.
    if (job.state === "running" && job.kind === "render" && !job.steps) row.progress.removeAttribute("value");
    else row.progress.value = job.progress;
    row.progress.setAttribute("aria-label", `Progress of ${job.title}`);
    row.words.textContent = wordsFor(job);
    row.words.classList.toggle("wrong", job.state === "failed");
    row.curve?.draw(lossesOf(job), job.steps);
    const picture = previewOf(job);
    if (picture && row.drawn !== picture) {
      row.drawn = picture;
      row.preview.src = picture;
    }
    const shape = `${job.state} ${job.kept} ${job.style} ${job.result} ${job.title}`;
    if (row.shape !== shape) {
      row.shape = shape;
      row.buttons.replaceChildren(...this.buttons(job));
    }
  }

  buttons(job) {
    const act = (words, does, options = {}) => make("button", { type: "button", onclick: does, ...options }, words);
    const found = [];
    if (job.kind === "adapt" && job.style && job.state !== "failed") {
      found.push(act("Use", () => this.look.choose(job.style), { "aria-label": `Paint with ${job.title}` }));
    }
    if (job.result) {
      if (job.kind === "adapt" && job.kept === false) {
        found.push(act("Keep", () => this.order("POST", job, "keep"), { "aria-label": `Keep ${job.title} for good` }));
      }
      const name = `${fileName(titleOf(job.title))}${job.kind === "adapt" ? ".safetensors" : "-painted.mp4"}`;
      const link = make(
        "a",
        { class: "button", href: job.result, download: name, "aria-label": `Download ${job.title}` },
        icon("download"),
        "Download",
      );
      found.push(link);
    }
    const isActive = ACTIVE.includes(job.state);
    const end = isActive ? "Cancel" : "Remove";
    found.push(act(end, () => this.order("DELETE", job), { "aria-label": `${end} ${job.title}` }));
    return found;
  }

  async order(method, job, what = "") {
    try {
      await call(method, ofJob(job.id, what));
      problem("studio-problem", null);
    } catch (error) {
      problem("studio-problem", error.message);
    }
    await this.refresh();
    this.dispatchEvent(new Event("style"));
  }
}

/** The step that the newest style and preview are of: each comes with a point of the curve. */
function publishedOf(job) {
  return job.curve.at(-1)?.step ?? -1;
}

/** `[step, loss]` pairs, of the loss as a whole. */
function lossesOf(job) {
  return job.curve.map((point) => [point.step, point.total]);
}

function iconOf(kind) {
  return kind === "adapt" ? "painting" : "film";
}

function previewOf(job) {
  if (!job.preview) return null;
  const turn = job.kind === "adapt" ? publishedOf(job) : job.state;
  return `${job.preview}?turn=${turn}`; // the address changes with the picture, so that it is fetched
}

function wordsFor(job) {
  const took = clock(job.seconds);
  switch (job.state) {
    case "queued":
      return job.ahead ? `waits for ${job.ahead} other${job.ahead > 1 ? "s" : ""}` : "waits for its turn";
    case "running": {
      if (!job.step) return `starting, ${took}`; // what does the work takes its time to load
      const share = job.progress;
      const left = share > 0.02 && job.seconds > 2 ? `, about ${clock((job.seconds * (1 - share)) / share)} left` : "";
      const what = job.kind === "adapt" ? `step ${job.step}` : `frame ${job.step}`;
      const all = job.steps ? ` of ${job.steps}` : "";
      const losses = lossesOf(job);
      const loss = losses.length ? `, loss ${losses.at(-1)[1].toPrecision(3)}` : "";
      return `${what}${all}, ${took}${left}${loss}`;
    }
    case "done":
      return [job.kind === "adapt" ? `learned in ${took}` : `painted in ${took}`, job.message].filter(Boolean).join("; ");
    case "failed":
      return sentence(job.message || "it failed", job.title);
    case "cancelled":
      return "cancelled";
    default:
      return job.state;
  }
}
