// Paints pictures on the graphics card of this device: what a canvas shows is made of a picture in PASSES passes.

import { CONVOLUTIONS, groupsOf, LAYOUT } from "./network.js";
import { ADDS, CELL, CENTERS, convolution, KEEPS, showing, TILINGS, unpacking } from "./shaders.js";

export const PASSES = CONVOLUTIONS.length + 2;
const SMALLEST_SIDE = 8; // as vidstyle.models.architecture has it
const CHANNELS = 48;
const MOST_TAPS = 4; // per side, of the points whose mean is a pixel: enough for four times the size

/** Why there is no WebGPU in this page, in words, or null. */
export function whyNoWebGPU() {
  if (navigator.gpu) return null;
  if (!window.isSecureContext) return "Browsers give WebGPU only to pages from https, or from this very device.";
  return (
    "This browser has no WebGPU. Current versions of Chrome, Edge, Safari and Firefox have it; " +
    "it may need to be switched on."
  );
}

/** An adapter, and whether it is one that a processor plays; an error has words for people. */
export async function findAdapter() {
  const missing = whyNoWebGPU();
  if (missing) throw new Error(missing);
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) throw new Error("This browser has WebGPU, but found no graphics card that it may use for it.");
  return adapter;
}

/** Calls `onLost(words)` when the graphics card was lost; then it paints no more, and a new one must be made. */
export class Painter {
  static async on(canvas, { onLost = () => {}, half = true } = {}) {
    const adapter = await findAdapter();
    const has = (name) => adapter.features.has(name);
    const isHalf = half && has("shader-f16");
    const wanted = [isHalf && "shader-f16", has("timestamp-query") && "timestamp-query"].filter(Boolean);
    const device = await adapter.requestDevice({ requiredFeatures: wanted });
    const painter = new Painter(canvas, adapter, device, isHalf);
    device.lost.then(({ message }) => painter.isClosed || onLost(message));
    await painter.compile();
    return painter;
  }

  constructor(canvas, adapter, device, half) {
    this.canvas = canvas;
    this.adapter = adapter;
    this.device = device;
    this.half = half;
    this.tiling = this.isSoftware ? TILINGS.software : TILINGS.card;
    this.isClosed = false;
    this.size = [0, 0];
    this.view = { strength: 1, mirror: false, divide: 0 };
    this.format = navigator.gpu.getPreferredCanvasFormat();
    this.context = canvas.getContext("webgpu");
    this.context.configure({ device, format: this.format, alphaMode: "opaque" });
    this.weights = this.buffer(4 * LAYOUT.floats);
    this.uniforms = {
      frame: this.buffer(32, GPUBufferUsage.UNIFORM),
      passes: CONVOLUTIONS.map(() => this.buffer(32, GPUBufferUsage.UNIFORM)),
      size: this.buffer(16, GPUBufferUsage.UNIFORM),
      view: this.buffer(16, GPUBufferUsage.UNIFORM),
    };
    this.sampler = device.createSampler({ magFilter: "linear", minFilter: "linear" });
    this.bias = [0, 0, 0];
    this.unread = [this.buffer(16), this.buffer(16)]; // for bindings of which a pass makes no use
    this.owned = []; // what belongs to the size
    this.picture = null; // the texture of a still picture
  }

  /** In words: whose graphics card it is. */
  get description() {
    const { vendor, architecture, description } = this.adapter.info ?? {};
    return description || [vendor, architecture].filter(Boolean).join(" ") || "WebGPU";
  }

  get isSoftware() {
    return Boolean(this.adapter.info?.isFallbackAdapter ?? this.adapter.isFallbackAdapter);
  }

  buffer(size, usage = GPUBufferUsage.STORAGE) {
    return this.device.createBuffer({ size, usage: usage | GPUBufferUsage.COPY_DST });
  }

  async compile() {
    const { device, half } = this;
    const { tiling } = this;
    const shared = new Map(); // passes of one shape are one program
    const compute = (code) => {
      if (!shared.has(code)) {
        const module = device.createShaderModule({ code });
        shared.set(code, device.createComputePipelineAsync({ layout: "auto", compute: { module, entryPoint: "main" } }));
      }
      return shared.get(code);
    };
    const module = device.createShaderModule({ code: showing({ half }) });
    // Not every browser lends the frames of a video to a program: then they are copied.
    this.canLend = Boolean(device.importExternalTexture);
    this.compileVideo = async () => {
      if (this.canLend) this.unpackVideo ??= await compute(unpacking({ isVideo: true, half, tiling }));
    };
    [this.unpackStill, this.show, ...this.convolutions] = await Promise.all([
      compute(unpacking({ isVideo: false, half, tiling })),
      device.createRenderPipelineAsync({
        layout: "auto",
        vertex: { module, entryPoint: "corner" },
        fragment: { module, entryPoint: "main", targets: [{ format: this.format }] },
      }),
      ...CONVOLUTIONS.map(({ load, store }, index) =>
        compute(convolution({ ...groupsOf(index), load, store, half, tiling })),
      ),
    ]);
  }

  /** Paint with these prepared weights (`blended` of network.js) from the next frame on. */
  setStyle(weights) {
    this.device.queue.writeBuffer(this.weights, 0, weights);
    this.bias = [...weights.subarray(LAYOUT.bias, LAYOUT.bias + 3)];
    if (this.size[0]) this.writeFrame();
  }

  /** `strength` from 0 to 1, `mirror`, and `divide`: the share of the width, from the left, that shows the picture. */
  setView(view) {
    Object.assign(this.view, view);
    if (this.size[0]) this.writeFrame();
  }

  /** Make everything for pictures of `width` x `height`, which become `columns` x `rows` ones. */
  resize(width, height, columns, rows) {
    const taps = Math.min(MOST_TAPS, Math.max(1, Math.round(height / rows)));
    if (String([columns, rows]) === String(this.size)) {
      this.device.queue.writeBuffer(this.uniforms.size, 0, new Uint32Array([columns, rows, taps, 0]));
      return;
    }
    for (const one of this.owned) one.destroy();
    this.size = [columns, rows];
    this.canvas.width = columns;
    this.canvas.height = rows;
    const cells = (side) => Math.max(SMALLEST_SIDE, side) / CELL;
    const [w, h] = (this.cells = [Math.ceil(cells(columns)), Math.ceil(cells(rows))]);
    const { side } = this.tiling;
    this.groups = [Math.ceil(w / side), Math.ceil(h / side)];
    this.doubleGroups = [Math.ceil((2 * w) / side), Math.ceil((2 * h) / side)];
    const bytes = w * h * (this.half ? 2 : 4);
    const sums = this.groups[0] * this.groups[1] * 2 * 64 * 4;
    const image = this.buffer(bytes * CHANNELS);
    const kept = [this.buffer(bytes * CHANNELS), this.buffer(bytes * CHANNELS)];
    const results = [this.buffer(bytes * CHANNELS), this.buffer(bytes * 64)];
    const partial = [this.buffer(sums), this.buffer(sums)];
    this.painted = this.device.createTexture({
      size: [columns, rows],
      format: "rgba8unorm",
      usage: GPUTextureUsage.STORAGE_BINDING | GPUTextureUsage.TEXTURE_BINDING | GPUTextureUsage.COPY_SRC,
    });
    this.owned = [image, ...kept, ...results, ...partial, this.painted];
    Object.assign(this, { image, partial });
    this.device.queue.writeBuffer(this.uniforms.size, 0, new Uint32Array([columns, rows, taps, 0]));
    this.writeFrame();
    this.bind({ image, kept, results, partial });
  }

  bind({ image, kept, results, partial }) {
    let blocks = 0; // of which the skip connection was kept
    const part = ({ offset, size }) => ({ buffer: this.weights, offset, size });
    this.bound = CONVOLUTIONS.map(({ load, store, adds, keeps }, index) => {
      const entries = {
        0: { buffer: this.uniforms.passes[index] },
        1: { buffer: index ? results[(index + 1) % 2] : image },
        2: part(LAYOUT.passes[index].weights),
        3: { buffer: partial[index % 2] },
        7: { buffer: store === "picture" ? image : results[index % 2] },
        8: store === "picture" ? this.painted.createView() : { buffer: partial[(index + 1) % 2] },
      };
      entries[4] = part(LAYOUT.passes[Math.max(index - 1, 0)].affine);
      if (load === "body") {
        entries[5] = { buffer: adds ? kept[(blocks + 1) % 2] : this.unread[0] };
        entries[6] = { buffer: keeps ? kept[blocks % 2] : this.unread[1] };
        blocks += Number(Boolean(keeps));
      }
      return this.group(this.convolutions[index], entries);
    });
    this.shown = this.group(this.show, {
      0: { buffer: this.uniforms.frame },
      1: { buffer: this.uniforms.view },
      2: this.painted.createView(),
      3: { buffer: image },
    });
  }

  group(pipeline, entries) {
    return this.device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: Object.entries(entries).map(([binding, resource]) => ({ binding: Number(binding), resource })),
    });
  }

  writeFrame() {
    const { queue } = this.device;
    const [w, h] = this.cells;
    const write = (buffer, scale, load) => {
      const data = new ArrayBuffer(32);
      new Uint32Array(data, 0, 4).set([scale * w, scale * h, this.groups[0] * this.groups[1], load]);
      new Float32Array(data, 16, 4).set([...this.bias, this.view.strength]);
      queue.writeBuffer(buffer, 0, data);
    };
    write(this.uniforms.frame, 1, 0);
    CONVOLUTIONS.forEach(({ store, adds, keeps, centers }, index) => {
      const load = (adds ? ADDS : 0) | (keeps ? KEEPS : 0) | (centers ? CENTERS : 0);
      write(this.uniforms.passes[index], store === "picture" ? 2 : 1, load);
    });
    const view = new ArrayBuffer(16);
    new Float32Array(view, 0, 1)[0] = this.view.divide;
    new Uint32Array(view, 4, 1)[0] = Number(this.view.mirror);
    queue.writeBuffer(this.uniforms.view, 0, view);
  }

  /** Take a still picture (an ImageBitmap), which `paint` without a video paints. */
  setPicture(bitmap) {
    const { width, height } = bitmap;
    const context = new OffscreenCanvas(width, height).getContext("2d");
    context.drawImage(bitmap, 0, 0);
    const { data } = context.getImageData(0, 0, width, height);
    this.makePicture(width, height);
    this.device.queue.writeTexture({ texture: this.picture }, data, { bytesPerRow: 4 * width }, [width, height]);
  }

  makePicture(width, height) {
    if (this.picture?.width === width && this.picture.height === height) return;
    this.picture?.destroy();
    const { TEXTURE_BINDING, COPY_DST, RENDER_ATTACHMENT } = GPUTextureUsage; // what copies of videos need
    const usage = TEXTURE_BINDING | COPY_DST | RENDER_ATTACHMENT;
    this.picture = this.device.createTexture({ size: [width, height], format: "rgba8unorm", usage });
  }

  copyFrame(video) {
    const size = [video.videoWidth, video.videoHeight];
    this.makePicture(...size);
    this.device.queue.copyExternalImageToTexture({ source: video }, { texture: this.picture }, size);
  }

  /** The passes in order, each as `(encoder, timestampWrites) => void`. */
  passes(video) {
    const compute = (pipeline, bound, groups) => (encoder, timestampWrites) => {
      const pass = encoder.beginComputePass({ timestampWrites });
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, bound);
      pass.dispatchWorkgroups(...groups);
      pass.end();
    };
    const isLent = video && this.canLend;
    if (video && !isLent) this.copyFrame(video);
    const unpack = isLent ? this.unpackVideo : this.unpackStill;
    const entries = {
      0: { buffer: this.uniforms.frame },
      1: { buffer: this.uniforms.size },
      2: isLent ? this.device.importExternalTexture({ source: video }) : this.picture.createView(),
      3: this.sampler,
      4: { buffer: this.image },
      5: { buffer: this.partial[0] },
    };
    return [
      compute(unpack, this.group(unpack, entries), this.groups),
      ...this.bound.map((bound, index) =>
        compute(this.convolutions[index], bound, index === this.bound.length - 1 ? this.doubleGroups : this.groups),
      ),
      (encoder, timestampWrites) => this.showPass(encoder, timestampWrites),
    ];
  }

  showPass(encoder, timestampWrites) {
    const view = this.context.getCurrentTexture().createView();
    const colorAttachments = [{ view, loadOp: "clear", storeOp: "store" }];
    const pass = encoder.beginRenderPass({ colorAttachments, timestampWrites });
    pass.setPipeline(this.show);
    pass.setBindGroup(0, this.shown);
    pass.draw(3);
    pass.end();
  }

  /** Paint the frame that `video` shows, or the still picture; the promise is kept when it is done. */
  paint(video = null) {
    const encoder = this.device.createCommandEncoder();
    for (const pass of this.passes(video)) pass(encoder);
    this.device.queue.submit([encoder.finish()]);
    return this.device.queue.onSubmittedWorkDone();
  }

  /** Show the last painting anew, after `setView`. */
  present() {
    const encoder = this.device.createCommandEncoder();
    this.showPass(encoder);
    this.device.queue.submit([encoder.finish()]);
  }

  /** Paint once, and tell `{name, ms}` of each pass; `ms` of all but the whole are null where it cannot be measured. */
  async measure(video = null) {
    const names = ["unpack", ...CONVOLUTIONS.map(({ name }) => name), "show"];
    if (!this.device.features.has("timestamp-query")) return names.map((name) => ({ name, ms: null }));
    const count = 2 * PASSES;
    const set = this.device.createQuerySet({ type: "timestamp", count });
    const found = this.buffer(8 * count, GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC);
    const read = this.buffer(8 * count, GPUBufferUsage.MAP_READ);
    const encoder = this.device.createCommandEncoder();
    this.passes(video).forEach((pass, index) =>
      pass(encoder, { querySet: set, beginningOfPassWriteIndex: 2 * index, endOfPassWriteIndex: 2 * index + 1 }),
    );
    encoder.resolveQuerySet(set, 0, count, found, 0);
    encoder.copyBufferToBuffer(found, 0, read, 0, 8 * count);
    this.device.queue.submit([encoder.finish()]);
    await read.mapAsync(GPUMapMode.READ);
    const times = new BigUint64Array(read.getMappedRange());
    const passes = names.map((name, index) => ({ name, ms: Number(times[2 * index + 1] - times[2 * index]) / 1e6 }));
    for (const one of [set, found, read]) one.destroy();
    return passes;
  }

  /** The painting of the last `paint`, RGBA rows from the top, before it is mirrored and divided. */
  async pixels() {
    const [width, height] = this.size;
    const pitch = Math.ceil(width / 64) * 256;
    const read = this.buffer(pitch * height, GPUBufferUsage.MAP_READ);
    const encoder = this.device.createCommandEncoder();
    encoder.copyTextureToBuffer({ texture: this.painted }, { buffer: read, bytesPerRow: pitch }, [width, height]);
    this.device.queue.submit([encoder.finish()]);
    await read.mapAsync(GPUMapMode.READ);
    const rows = new Uint8Array(read.getMappedRange());
    const found = new Uint8ClampedArray(4 * width * height);
    for (let y = 0; y < height; y++) found.set(rows.subarray(y * pitch, y * pitch + 4 * width), 4 * y * width);
    read.destroy();
    return new ImageData(found, width, height);
  }

  close() {
    this.isClosed = true;
    this.device.destroy();
  }
}
