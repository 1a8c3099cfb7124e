// The passes of a frame in WGSL: reading the picture, one for every convolution, and showing the result.
//
// Activations are planes of four channels: element (group * height + row) * width + column is a vec4 of the channels
// 4 * group to 4 * group + 3. A workgroup makes a tile of pixels; a thread makes four pixels of a row and some groups of
// outputs, which it keeps in registers while the groups of inputs pass through workgroup memory.
//
// Instance norms cost no passes of their own: a convolution leaves the sums and sums of squares of each tile behind its
// outputs, and whatever reads these adds the tiles up, and applies norm, ReLU and skip connection to the pixels it loads.

/** Pixels of a tile, per side, and groups of outputs of a thread. Software takes long to compile many lines. */
export const TILINGS = { card: { side: 16, each: 4 }, software: { side: 8, each: 1 } };
export const CELL = 4; // pixels of the frame in one of a quarter of its size, per side
const ACROSS = 4; // pixels of a thread
const EPSILON = 1e-5; // as vidstyle.models.architecture has it
const range = (count) => [...Array(count).keys()];
/** WGSL for each of `count` indices: constant ones, so that arrays can be registers. */
const unrolled = (count, body) => range(count).map((i) => `{ ${body(`${i}u`)} }`).join("\n");

/** What a convolution of the body does with its input, besides the norm: bits of `Frame.load`. */
export const ADDS = 1; // what was kept, in place of the ReLU
export const KEEPS = 2; // the sum or what comes out of the ReLU, for the next one that adds
export const CENTERS = 4; // the picture: only its mean is taken away, of each color
const FRAME = `
const ADDS = ${ADDS}u;
const KEEPS = ${KEEPS}u;
const CENTERS = ${CENTERS}u;
struct Frame { width: u32, height: u32, tiles: u32, load: u32, bias: vec3f, strength: f32 }`;

/**
 * A 3x3 convolution with reflection by one pixel. `inputs`, `outputs` and `before` (the outputs of the pass before it)
 * count groups of four channels. `load` says what its input is made of: what the pass before it in the `body` left, as
 * `frame.load` says; or the `pixels` that `up` left, normalised, with ReLU. `store` takes its outputs: `same` (as they are), `double` (as 2x2 pixels each), `picture`
 * (through a sigmoid into a texture). `half`: FP16 is stored and multiplied. `tiling` is one of TILINGS.
 */
export function convolution({ inputs, outputs, before, load, store, half, tiling }) {
  const { side } = tiling;
  const halo = side + 2;
  const lanes = (side * side) / ACROSS; // threads that share a slice of the outputs
  const each = store === "picture" ? outputs : tiling.each;
  const threads = (lanes * outputs) / each;
  const stored = half ? "vec4<f16>" : "vec4f";
  const inKernel = !half && 2 * threads <= 36 * outputs; // then the sums may use the memory of the kernel
  const scratch = inKernel ? "kernel" : "scratch";
  const shape = { inputs, outputs, before, load, threads, scratch, each, lanes };

  // In FP16 the products of one group of inputs are summed, 36 of them; the groups in FP32.
  const sums = half ? "parts" : "outputs";
  const products = unrolled(each, (o) => `
        let at = (tap * ${outputs}u + slice * ${each}u + ${o}) * 4u;
        let k = array(kernel[at], kernel[at + 1u], kernel[at + 2u], kernel[at + 3u]);
        ${unrolled(ACROSS, (p) => `
          ${sums}[${p} * ${each}u + ${o}] += k[0] * x[${p}].x + k[1] * x[${p}].y + k[2] * x[${p}].z + k[3] * x[${p}].w;`)}`);
  const place = {
    same: (p, o) => `((slice * ${each}u + ${o}) * frame.height + y) * frame.width + x + ${p}`,
    double: (p, o) => {
      const output = `(slice * ${each}u + ${o})`; // four groups for each pixel of a square
      const row = `(${output} % 4u * frame.height + y) * 2u + ${output} / 8u`;
      return `(${row}) * 2u * frame.width + 2u * (x + ${p}) + ${output} / 4u % 2u`;
    },
  }[store];
  const written = unrolled(ACROSS, (p) => {
    const isWithin = `y < frame.height && x + ${p} < frame.width`;
    const color = (o) => `outputs[${p} * 3u + ${o}u]`;
    if (!place) return `if (${isWithin}) { show(x + ${p}, y, ${color(0)}, ${color(1)}, ${color(2)}); }`;
    return unrolled(each, (o) => {
      const output = `outputs[${p} * ${each}u + ${o}]`; // outside of the frame zero, so that the statistics leave it out
      return `if (${isWithin}) { result[${place(p, o)}] = ${stored}(${output}); } else { ${output} = vec4f(); }`;
    });
  });

  return `
${half ? "enable f16;" : ""}
${FRAME}
@group(0) @binding(0) var<uniform> frame: Frame;
@group(0) @binding(1) var<storage, read> source: array<${stored}>;
@group(0) @binding(2) var<storage, read> weights: array<vec4f>; // of (input group, row, column, output group, input)
@group(0) @binding(3) var<storage, read> sums: array<vec4f>; // of (tile, sum or sum of squares, group)
@group(0) @binding(4) var<storage, read> affine: array<vec4f>; // scales, then shifts
${load === "body" ? `@group(0) @binding(5) var<storage, read> kept: array<${stored}>;` : ""}
${load === "body" ? `@group(0) @binding(6) var<storage, read_write> keep: array<${stored}>;` : ""}
${
  place
    ? `@group(0) @binding(7) var<storage, read_write> result: array<${stored}>;
@group(0) @binding(8) var<storage, read_write> partial: array<vec4f>;`
    : `@group(0) @binding(7) var<storage, read> image: array<${stored}>;
@group(0) @binding(8) var painted: texture_storage_2d<rgba8unorm, write>;`
}
var<workgroup> tile: array<${stored}, ${halo * halo}>;
var<workgroup> kernel: array<${stored}, ${36 * outputs}>;
${inKernel ? "" : `var<workgroup> scratch: array<vec4f, ${2 * threads}>;`}
var<workgroup> gain: array<vec4f, ${inputs}>;
var<workgroup> offset: array<vec4f, ${inputs}>;
var<workgroup> rest: array<vec4f, ${inputs}>;

// Where reflection finds pixel i of a row or column of so many; of those that nobody uses, some pixel.
fn reflected(i: i32, size: i32) -> u32 { return u32(max(size - 1 - abs(size - 1 - abs(i)), 0)); }

fn loaded(g: u32, column: i32, row: i32) -> vec4f {
  let at = (g * frame.height + reflected(row, i32(frame.height))) * frame.width + reflected(column, i32(frame.width));
  let x = vec4f(source[at]) * gain[g] + offset[g];
  ${load === "body" ? "if ((frame.load & ADDS) != 0u) { return x + vec4f(kept[at]); }" : ""}
  if ((frame.load & CENTERS) != 0u) { return x; }
  return max(x, vec4f()) - rest[g];
}
${place ? "" : SHOW}
@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let slice = lane / ${lanes}u;
  let left = lane % ${side / ACROSS}u * ${ACROSS}u; // of the thread's pixels in the tile
  let top = lane % ${lanes}u / ${side / ACROSS}u;
  let x = group.x * ${side}u + left;
  let y = group.y * ${side}u + top;
  let place = group.y * groups.x + group.x;
${NORM(shape)}
  var outputs: array<vec4f, ${ACROSS * each}>;
  ${place ? "" : unrolled(ACROSS * each, (i) => `outputs[${i}] = vec4f(frame.bias[${i} % ${each}u]);`)}
  for (var g = 0u; g < ${inputs}u; g++) {
    workgroupBarrier();
    for (var i = lane; i < ${halo * halo}u; i += ${threads}u) {
      let column = i32(group.x * ${side}u + i % ${halo}u) - 1;
      let row = i32(group.y * ${side}u + i / ${halo}u) - 1;
      let pixel = ${stored}(loaded(g, column, row));
      tile[i] = pixel;
      ${load === "body" ? KEEP(halo) : ""}
    }
    for (var i = lane; i < ${36 * outputs}u; i += ${threads}u) { kernel[i] = ${stored}(weights[g * ${36 * outputs}u + i]); }
    workgroupBarrier();
    ${half ? `var parts = array<vec4<f16>, ${ACROSS * each}>();` : ""}
    for (var tap = 0u; tap < 9u; tap++) {
      let first = (top + tap / 3u) * ${halo}u + left + tap % 3u;
      let x = array(${range(ACROSS).map((p) => `tile[first + ${p}u]`).join(", ")});
      ${products}
    }
    ${half ? unrolled(ACROSS * each, (i) => `outputs[${i}] += vec4f(parts[${i}]);`) : ""}
  }
  ${written}
  ${place ? STATISTICS(shape) : ""}
}`;
}

// The instance norm as gain and offset of each channel. A channel of doubled pixels has a sum for each of the four. Behind
// a ReLU goes away what it makes of a flat frame; the last norm of a block has no shift, and the last one no such rest.
const NORM = ({ inputs, before, load, threads, scratch }) => {
  const segments = Math.floor(threads / inputs);
  const repeats = before / inputs;
  return `
  var total = vec4f();
  var squares = vec4f();
  if (lane < ${segments * inputs}u) {
    for (var t = lane / ${inputs}u; t < frame.tiles * ${repeats}u; t += ${segments}u) {
      let at = t / ${repeats}u * ${2 * before}u + t % ${repeats}u * ${inputs}u + lane % ${inputs}u;
      total += sums[at];
      squares += sums[at + ${before}u];
    }
  }
  ${scratch}[lane] = total;
  ${scratch}[lane + ${threads}u] = squares;
  workgroupBarrier();
  if (lane < ${inputs}u) {
    for (var i = lane + ${inputs}u; i < ${segments * inputs}u; i += ${inputs}u) {
      total += ${scratch}[i];
      squares += ${scratch}[i + ${threads}u];
    }
    let mean = total / f32(frame.width * frame.height);
    let variance = max(squares / f32(frame.width * frame.height) - mean * mean, vec4f());
    let shift = select(affine[lane + ${inputs}u], vec4f(), (frame.load & (ADDS | CENTERS)) != 0u);
    let normalising = affine[lane] * inverseSqrt(variance + ${EPSILON});
    gain[lane] = select(normalising, vec4f(1), (frame.load & CENTERS) != 0u);
    offset[lane] = shift - mean * gain[lane];
    rest[lane] = ${load === "body" ? "max(shift, vec4f())" : "vec4f()"};
  }`;
};

const KEEP = (halo) => `
      let isWithin = column >= 0 && row >= 0 && column < i32(frame.width) && row < i32(frame.height);
      let isOwn = i % ${halo}u % ${halo - 1}u != 0u && i / ${halo}u % ${halo - 1}u != 0u;
      if (isWithin && isOwn && (frame.load & KEEPS) != 0u) {
        keep[(g * frame.height + u32(row)) * frame.width + u32(column)] = pixel;
      }`;

// Sum and sum of squares of the tile for every group of outputs.
const STATISTICS = ({ outputs, threads, scratch, each, lanes }) => {
  const added = (o, power) =>
    range(ACROSS).map((p) => Array(power).fill(`outputs[${p * each}u + ${o}]`).join(" * ")).join(" + ");
  return unrolled(each, (o) => `
    workgroupBarrier();
    ${scratch}[lane] = ${added(o, 1)};
    ${scratch}[lane + ${threads}u] = ${added(o, 2)};
    for (var step = ${lanes / 2}u; step > 0u; step >>= 1u) {
      workgroupBarrier();
      if (lane % ${lanes}u < step) {
        ${scratch}[lane] += ${scratch}[lane + step];
        ${scratch}[lane + ${threads}u] += ${scratch}[lane + step + ${threads}u];
      }
    }
    if (lane % ${lanes}u == 0u) {
      let at = place * ${2 * outputs}u + slice * ${each}u + ${o};
      partial[at] = ${scratch}[lane];
      partial[at + ${outputs}u] = ${scratch}[lane + ${threads}u];
    }`);
};

// Write 2x2 pixels, given as red, green and blue of the four; with less strength, more of the picture shines through.
const SHOW = `
fn original(c: u32, column: u32, row: u32) -> f32 {
  let at = (c * ${CELL}u + row % ${CELL}u) * (frame.height / 2u) + row / ${CELL}u;
  return f32(image[at * (frame.width / 2u) + column / ${CELL}u][column % ${CELL}u]);
}

fn put(column: u32, row: u32, painted_: vec3f) {
  var color = painted_;
  if (frame.strength < 1) {
    let picture = vec3f(original(0u, column, row), original(1u, column, row), original(2u, column, row));
    color = mix(picture, color, frame.strength);
  }
  textureStore(painted, vec2u(column, row), vec4f(color, 1));
}

fn show(x: u32, y: u32, red: vec4f, green: vec4f, blue: vec4f) {
  let r = 1 / (1 + exp(-red));
  let g = 1 / (1 + exp(-green));
  let b = 1 / (1 + exp(-blue));
  put(2u * x, 2u * y, vec3f(r.x, g.x, b.x));
  put(2u * x + 1u, 2u * y, vec3f(r.y, g.y, b.y));
  put(2u * x, 2u * y + 1u, vec3f(r.z, g.z, b.z));
  put(2u * x + 1u, 2u * y + 1u, vec3f(r.w, g.w, b.w));
}`;

/**
 * The first pass: scales the picture to the working size, pads it by its edge pixels to cells of CELL x CELL pixels, and
 * makes a pixel of 12 groups of channels of each (color, row; column). `isVideo`: read from a frame of a video where it is.
 */
export function unpacking({ isVideo, half, tiling }) {
  const { side } = tiling;
  const stored = half ? "vec4<f16>" : "vec4f";
  return `
${half ? "enable f16;" : ""}
${FRAME}
struct Size { width: u32, height: u32, taps: u32 }
@group(0) @binding(0) var<uniform> frame: Frame;
@group(0) @binding(1) var<uniform> size: Size;
@group(0) @binding(2) var picture: ${isVideo ? "texture_external" : "texture_2d<f32>"};
@group(0) @binding(3) var smooth_: sampler;
@group(0) @binding(4) var<storage, read_write> result: array<${stored}>;
@group(0) @binding(5) var<storage, read_write> partial: array<vec4f>;
var<workgroup> totals: array<vec4f, ${side * side}>;

// The mean of taps x taps points of a pixel: the picture may be several times as large.
fn sampled(column: u32, row: u32) -> vec4f {
  let corner = vec2f(f32(min(column, size.width - 1u)), f32(min(row, size.height - 1u)));
  let taps = f32(size.taps);
  var color = vec4f();
  for (var j = 0u; j < size.taps; j++) {
    for (var i = 0u; i < size.taps; i++) {
      let at = (corner + (vec2f(f32(i), f32(j)) + 0.5) / taps) / vec2f(f32(size.width), f32(size.height));
      color += textureSampleBaseClampToEdge(picture, smooth_, at);
    }
  }
  return color / (taps * taps);
}

@compute @workgroup_size(${side}, ${side})
fn main(
  @builtin(global_invocation_id) pixel: vec3u,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  var total = vec4f();
  if (pixel.x < frame.width && pixel.y < frame.height) {
    for (var row = 0u; row < ${CELL}u; row++) {
      ${range(CELL).map((i) => `let p${i} = sampled(pixel.x * ${CELL}u + ${i}u, pixel.y * ${CELL}u + row);`).join(" ")}
      total += ${range(CELL).map((i) => `p${i}`).join(" + ")};
      let at = (row * frame.height + pixel.y) * frame.width + pixel.x;
      let next = ${CELL}u * frame.height * frame.width;
      result[at] = ${stored}(vec4f(p0.r, p1.r, p2.r, p3.r));
      result[at + next] = ${stored}(vec4f(p0.g, p1.g, p2.g, p3.g));
      result[at + 2u * next] = ${stored}(vec4f(p0.b, p1.b, p2.b, p3.b));
    }
  }
  totals[lane] = total;
  for (var step = ${(side * side) / 2}u; step > 0u; step >>= 1u) {
    workgroupBarrier();
    if (lane < step) { totals[lane] += totals[lane + step]; }
  }
  workgroupBarrier();
  // As a convolution would leave it, were all channels of a color alike: what is taken away is the mean of the color.
  if (lane < 12u) {
    let place = (group.y * groups.x + group.x) * 24u;
    partial[place + lane] = vec4f(totals[0][lane / ${CELL}u] / ${CELL * CELL});
    partial[place + lane + 12u] = vec4f();
  }
}`;
}

/** The last pass: draws the painting, mirrored or not, and left of the divider the picture itself. */
export function showing({ half }) {
  return `
${half ? "enable f16;" : ""}
${FRAME}
struct View { divide: f32, mirror: u32 }
@group(0) @binding(0) var<uniform> frame: Frame;
@group(0) @binding(1) var<uniform> view: View;
@group(0) @binding(2) var painted: texture_2d<f32>;
@group(0) @binding(3) var<storage, read> image: array<${half ? "vec4<f16>" : "vec4f"}>;

@vertex fn corner(@builtin(vertex_index) i: u32) -> @builtin(position) vec4f {
  return vec4f(f32(i % 2u * 4u) - 1, f32(i / 2u * 4u) - 1, 0, 1); // a triangle that holds the whole canvas
}

@fragment fn main(@builtin(position) position: vec4f) -> @location(0) vec4f {
  let size = textureDimensions(painted);
  var at = vec2u(position.xy);
  let isOriginal = position.x < view.divide * f32(size.x);
  if (view.mirror == 1u) { at.x = size.x - 1u - at.x; }
  if (!isOriginal) { return textureLoad(painted, at, 0); }
  let cell = (at.y % ${CELL}u * frame.height + at.y / ${CELL}u) * frame.width + at.x / ${CELL}u;
  let next = ${CELL}u * frame.height * frame.width;
  let i = at.x % ${CELL}u;
  return vec4f(f32(image[cell][i]), f32(image[cell + next][i]), f32(image[cell + 2u * next][i]), 1);
}`;
}
