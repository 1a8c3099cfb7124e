// What is painted and how: a blend of one to four styles, strength, mask, split, mirror. Knows no elements.

export const MOST_STYLES = 4;
const MASKS = ["none", "person", "background"];
const KEPT_AS = "vidstyle-look";

export class Look extends EventTarget {
  /** Begins as it was when the page was last left. */
  constructor() {
    super();
    this.parts = []; // [{style: name, weight: 0 to 100}]
    this.strength = 1;
    this.mask = "none";
    this.split = false;
    this.mirror = false;
    this.styles = new Map(); // by name, as the server lists them
    try {
      const kept = JSON.parse(localStorage.getItem(KEPT_AS) ?? "{}");
      if (Array.isArray(kept.parts)) {
        const usable = (part) => typeof part?.style === "string" && part.weight >= 0 && part.weight <= 100;
        this.parts = kept.parts.filter(usable).slice(0, MOST_STYLES);
      }
      if (kept.strength >= 0 && kept.strength <= 1) this.strength = kept.strength;
      if (MASKS.includes(kept.mask)) this.mask = kept.mask;
      this.mirror = kept.mirror === true;
      this.split = kept.split === true;
    } catch {
      // Storage is forbidden or holds something else: begin anew.
    }
  }

  /** The styles that there are; what the blend has of others goes. */
  offer(styles, first) {
    this.styles = new Map(styles.map((style) => [style.name, style]));
    const before = JSON.stringify(this.parts);
    this.parts = this.parts.filter((part) => this.styles.has(part.style));
    this.parts = this.parts.filter((part) => this.networkOf(part.style) === this.networkOf(this.parts[0].style));
    if (!this.parts.length && styles.length) {
      this.parts = [{ style: (this.styles.get(first) ?? styles[0]).name, weight: 100 }];
    }
    if (before !== JSON.stringify(this.parts)) this.changed();
  }

  networkOf(name) {
    return this.styles.get(name)?.network;
  }

  get network() {
    return this.parts.length ? this.networkOf(this.parts[0].style) : undefined;
  }

  has(name) {
    return this.parts.some((part) => part.style === name);
  }

  /** Paint with this style alone. */
  choose(name) {
    this.parts = [{ style: name, weight: 100 }];
    this.changed();
  }

  /** Whether `add` would take it. */
  takes(name) {
    return !this.has(name) && this.parts.length < MOST_STYLES && this.networkOf(name) === this.network;
  }

  /** Blend it in, with as much weight as the others have on average. */
  add(name) {
    if (!this.takes(name)) return;
    const mean = this.parts.reduce((sum, part) => sum + part.weight, 0) / this.parts.length;
    this.parts.push({ style: name, weight: Math.round(Math.max(mean, 10)) });
    this.changed();
  }

  remove(name) {
    if (this.parts.length < 2) return;
    this.parts = this.parts.filter((part) => part.style !== name);
    if (this.parts.length === 1) this.parts[0].weight = 100;
    this.changed();
  }

  weigh(name, weight) {
    const part = this.parts.find((one) => one.style === name);
    if (!part) return;
    part.weight = weight;
    this.changed();
  }

  set(changes) {
    Object.assign(this, changes);
    this.changed();
  }

  /** What part of the picture `name` has, 0 to 1. All weights at zero are as good as all alike. */
  share(name) {
    const sum = this.parts.reduce((all, part) => all + part.weight, 0);
    const part = this.parts.find((one) => one.style === name);
    if (!part) return 0;
    return sum > 0 ? part.weight / sum : 1 / this.parts.length;
  }

  /** The blend as the API takes it. */
  get blend() {
    return this.parts
      .map((part) => ({ style: part.style, weight: Number(this.share(part.style).toFixed(4)) }))
      .filter((part) => part.weight > 0);
  }

  /** For people and file names. */
  get title() {
    return this.parts.map((part) => this.styles.get(part.style)?.title ?? part.style).join(" + ");
  }

  changed() {
    try {
      const { parts, strength, mask, mirror, split } = this;
      localStorage.setItem(KEPT_AS, JSON.stringify({ parts, strength, mask, mirror, split }));
    } catch {
      // Then it is forgotten.
    }
    this.dispatchEvent(new Event("change"));
  }
}
