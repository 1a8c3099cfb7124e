// The styles to choose from: those that ship and the visitor's own, also while they learn.

import { call, ofJob, ofStyle } from "./api.js";
import { byId, fileName, icon, make, problem, say } from "./dom.js";

const ABOUT_NETWORKS = {
  fast: "fast: for live video on any computer",
  paper: "paper: the network of the paper, nine times the work",
};

export class Gallery extends EventTarget {
  /** `list()` promises the styles that there are. */
  constructor(look, list = () => call("GET", "api/styles")) {
    super();
    this.listStyles = list;
    this.look = look;
    this.styles = [];
    this.jobs = new Map();
    this.network = null; // the one that is shown
    this.followed = null; // the one that the blend had last
    this.cards = new Map();
    this.list = byId("styles");
    look.addEventListener("change", () => {
      // Follow the blend to its network, but let the visitor look at the other one.
      if (look.network && look.network !== this.followed) this.network = this.followed = look.network;
      this.show();
    });
  }

  /** Ask for the styles anew; `first` is chosen where nothing was. */
  async refresh(first) {
    try {
      this.styles = await this.listStyles();
      problem("gallery-problem", null);
    } catch (error) {
      problem("gallery-problem", error.message);
      return;
    }
    this.look.offer(this.styles, first);
    this.network ??= this.look.network ?? this.styles[0]?.network ?? null;
    this.show();
  }

  /** The jobs that make own styles, by their id. */
  setJobs(jobs) {
    this.jobs = new Map(jobs.map((job) => [job.id, job]));
    this.show();
  }

  /** The styles of the network that is shown; own ones first, as they are what one has just made. */
  get shown() {
    const these = this.styles.filter((style) => style.network === this.network);
    return [...these.filter((style) => style.mine), ...these.filter((style) => !style.mine)];
  }

  /** Choose the style that is `step` places from the first of the blend. */
  step(step) {
    const names = this.shown.map((style) => style.name);
    const now = names.indexOf(this.look.parts[0]?.style);
    if (names.length) this.choose(names[(now + step + names.length) % names.length]);
  }

  /** Choose by place, from 0. */
  pick(index) {
    const style = this.shown[index];
    if (style) this.choose(style.name);
  }

  choose(name) {
    this.look.choose(name);
    say(`Painting with ${this.look.title}`);
  }

  show() {
    this.showNetworks();
    const shown = this.shown;
    const names = new Set(shown.map((style) => style.name));
    for (const [name, card] of this.cards) {
      if (names.has(name)) continue;
      card.item.remove();
      this.cards.delete(name);
    }
    shown.forEach((style, index) => {
      const card = this.cards.get(style.name) ?? this.card(style.name, style.mine);
      if (this.list.children[index] !== card.item) this.list.insertBefore(card.item, this.list.children[index] ?? null);
      this.fillIn(card, style);
    });
  }

  fillIn(card, style) {
    const { look } = this;
    const isIn = look.has(style.name);
    const isAlone = isIn && look.parts.length === 1;
    card.choose.setAttribute("aria-pressed", String(isIn));
    const picture = style.thumbnail;
    if (card.picture.getAttribute("src") !== picture) card.picture.src = picture;
    card.title.textContent = style.title;
    card.painter.textContent = [style.painter, style.year].filter(Boolean).join(", ");
    card.add.setAttribute("aria-pressed", String(isIn));
    card.add.setAttribute("aria-label", isIn ? `Take ${style.title} out of the blend` : `Blend with ${style.title}`);
    card.add.title = isIn ? "Take out of the blend" : "Blend with it";
    card.add.disabled = isIn ? isAlone : !look.takes(style.name);
    const sign = isIn ? "check" : "plus";
    if (card.add.dataset.sign !== sign) {
      card.add.dataset.sign = sign;
      card.add.replaceChildren(icon(sign));
    }
    if (style.mine) this.fillInOwn(card, style);
  }

  fillInOwn(card, style) {
    const job = this.jobs.get(style.job);
    const isLearning = job ? job.state === "running" || job.state === "queued" : false;
    card.learning.hidden = !isLearning;
    card.learning.textContent = isLearning ? `step ${job.step}` : "";
    card.keep.hidden = isLearning || !style.job || style.kept;
    card.keep.setAttribute("aria-label", `Keep ${style.title} in the gallery`);
    card.rename.setAttribute("aria-label", `Rename ${style.title}`);
    card.download.setAttribute("aria-label", `Download ${style.title}`);
    card.download.setAttribute("download", `${fileName(style.title)}.safetensors`);
    card.remove.setAttribute("aria-label", `Delete ${style.title}`);
  }

  card(name, isMine) {
    const card = {
      picture: make("img", { alt: "", loading: "lazy", decoding: "async" }),
      title: make("span", { class: "title" }),
      painter: make("span", { class: "painter" }),
      add: make("button", { type: "button", class: "add", onclick: () => this.toggle(name) }),
    };
    const frame = make("span", { class: "frame" }, card.picture);
    card.choose = make(
      "button",
      { type: "button", class: "choose", onclick: () => this.choose(name) },
      frame,
      card.title,
      card.painter,
    );
    card.item = make("li", { class: "style", "data-style": name }, card.choose, card.add);
    if (isMine) {
      card.learning = make("span", { class: "learning", hidden: true });
      frame.append(card.learning);
      const tool = (sign, words, onclick) =>
        make("button", { type: "button", class: "bare", title: words, onclick }, icon(sign));
      card.keep = tool("keep", "Keep for good", () => this.keep(name));
      card.rename = tool("pencil", "Rename", () => this.rename(name));
      card.remove = tool("bin", "Delete", () => this.remove(name));
      card.download = make("a", { class: "bare", title: "Download", href: ofStyle(name, "download") }, icon("download"));
      card.item.append(make("div", { class: "tools" }, card.keep, card.rename, card.download, card.remove));
    }
    this.cards.set(name, card);
    return card;
  }

  toggle(name) {
    if (this.look.has(name)) this.look.remove(name);
    else this.look.add(name);
    say(`Painting with ${this.look.title}`);
  }

  find(name) {
    return this.styles.find((style) => style.name === name);
  }

  async keep(name) {
    await this.change(() => call("POST", ofJob(this.find(name).job, "keep")), "The style stays in the gallery.");
  }

  async rename(name) {
    const field = byId("rename-to");
    field.value = this.find(name).title;
    if ((await ask("rename")) !== "ok" || !field.value.trim()) return;
    await this.change(() => call("PATCH", ofStyle(name), { title: field.value.trim() }), "Renamed.");
  }

  async remove(name) {
    byId("remove-words").textContent = `“${this.find(name).title}” is gone for good then.`;
    if ((await ask("remove")) !== "ok") return;
    await this.change(() => call("DELETE", ofStyle(name)), "Deleted.");
  }

  async change(act, words) {
    try {
      await act();
      say(words);
    } catch (error) {
      problem("gallery-problem", error.message);
      return;
    }
    await this.refresh();
    this.dispatchEvent(new Event("changed"));
  }

  showNetworks() {
    const place = byId("networks");
    const networks = [...new Set(this.styles.map((style) => style.network))];
    byId("networks-part").hidden = networks.length < 2;
    if (place.children.length !== networks.length) {
      place.replaceChildren(...networks.map((network) => this.segment(network)));
    }
    for (const input of place.querySelectorAll("input")) input.checked = input.value === this.network;
  }

  segment(network) {
    const input = make("input", {
      type: "radio",
      name: "network",
      value: network,
      onchange: () => {
        this.network = network;
        this.show();
      },
    });
    return make("label", { title: ABOUT_NETWORKS[network] ?? network }, input, make("span", {}, network));
  }
}

/** Open a dialog and wait for the word of the button that closed it. */
function ask(id) {
  const dialog = byId(id);
  dialog.returnValue = "cancel";
  dialog.querySelector("[data-cancel]").onclick = () => dialog.close("cancel");
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true }));
}
