// The panel of the look: a slider for each style of the blend, the strength, and what is painted.

import { byId, fill, icon, make } from "./dom.js";

export class Mixer {
  constructor(look) {
    this.look = look;
    this.list = byId("blend");
    this.rows = new Map(); // by name of the style: kept, so that a slider stays under the finger
    this.strength = byId("strength");
    this.strength.addEventListener("input", () => look.set({ strength: this.strength.valueAsNumber / 100 }));
    this.mask = byId("mask"); // where the painter knows people
    this.mask?.addEventListener("change", () => look.set({ mask: this.mask.value }));
    look.addEventListener("change", () => this.show());
  }

  show() {
    const { look } = this;
    const names = look.parts.map((part) => part.style);
    for (const [name, row] of this.rows) {
      if (names.includes(name)) continue;
      const next = row.item.nextElementSibling ?? row.item.previousElementSibling;
      if (row.item.contains(document.activeElement)) next?.querySelector("button:not([hidden]), input")?.focus();
      row.item.remove();
      this.rows.delete(name);
    }
    names.forEach((name, index) => {
      const row = this.rows.get(name) ?? this.row(name);
      if (this.list.children[index] !== row.item) this.list.insertBefore(row.item, this.list.children[index] ?? null);
      this.fillIn(row, look.parts[index], names.length > 1);
    });
    byId("blend-hint").hidden = names.length > 1;
    const percent = Math.round(100 * look.strength);
    if (this.strength.valueAsNumber !== percent) this.strength.value = percent;
    fill(this.strength);
    if (this.mask) this.mask.value = look.mask;
    byId("strength-value").textContent = `${percent} %`;
  }

  fillIn(row, part, isBlend) {
    const style = this.look.styles.get(part.style);
    const title = style?.title ?? part.style;
    const share = `${Math.round(100 * this.look.share(part.style))} %`;
    row.title.textContent = title;
    row.painter.textContent = [style?.painter, style?.year].filter(Boolean).join(", ") || (style?.mine ? "a style of yours" : "a style made here");
    row.painter.hidden = isBlend;
    const picture = style?.thumbnail;
    if (picture && row.picture.getAttribute("src") !== picture) row.picture.src = picture;
    row.range.hidden = !isBlend;
    row.range.setAttribute("aria-label", `Weight of ${title}`);
    row.range.setAttribute("aria-valuetext", `${share} of the picture`);
    if (row.range.valueAsNumber !== part.weight) row.range.value = part.weight;
    fill(row.range);
    row.share.textContent = isBlend ? share : "";
    row.remove.hidden = !isBlend;
    row.remove.setAttribute("aria-label", `Take ${title} out of the blend`);
  }

  row(name) {
    const row = {
      picture: make("img", { alt: "", loading: "lazy" }),
      title: make("span", { class: "title" }),
      painter: make("span", { class: "painter" }),
      share: make("output"),
      range: make("input", {
        type: "range",
        min: 0,
        max: 100,
        step: 1,
        oninput: (event) => this.look.weigh(name, event.target.valueAsNumber),
      }),
      remove: make(
        "button",
        { type: "button", class: "bare", onclick: () => this.look.remove(name) },
        icon("close"),
      ),
    };
    row.item = make("li", {}, row.picture, row.title, row.share, row.range, row.painter, row.remove);
    this.rows.set(name, row);
    return row;
  }
}
