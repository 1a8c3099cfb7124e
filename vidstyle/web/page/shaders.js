// The passes of a frame in WGSL: reading the picture, one for every convolution, and showing the result.
//
// Activations are planes of four channels: element (group * height + row) * width + column is a vec4 of the channels
// 4 * group to 4 * group + 3. A workgroup makes TILE x TILE pixels; a thread makes four pixels of a row and four groups
// of outputs, which it keeps in registers while the groups of inputs pass through workgroup memory.
//
// Instance norms cost no passes of their own: a convolution leaves the sums and sums of squares of each tile behind its
// outputs, and whatever reads these adds the tiles up, and applies norm, ReLU and skip connection to the pixels it loads.

export const TILE = 16;
export const CELL = 4; // pixels of the frame in one of a quarter of its size, per side
const HALO = TILE + 2;
const ACROSS = 4; // pixels of a thread
const LANES = (TILE * TILE) / ACROSS; // threads that share a slice of the outputs
const EPSILON = 1e-5; // as vidstyle.models.architecture has it
const range = (count) => [...Array(count).keys()];

/** What a convolution of the body does with its input, besides the norm: bits of `Frame.load`. */
export const ADDS = 1; // what was kept, in place of the ReLU
export const KEEPS = 2; // the sum or what comes out of the ReLU, for the next one that adds
const FRAME = `
const ADDS = ${ADDS}u;
const KEEPS = ${KEEPS}u;
struct Frame { width: u32, height: u32, tiles: u32, load: u32, bias: vec3f, strength: f32 }`;

/**
 * A 3x3 convolution with reflection by one pixel. `inputs`, `outputs` and `before` (the outputs of the pass before it)
 * count groups of four channels. `load` says what its input is made of: the `image`, less its mean; what a convolution of
 * the `body` left, normalised, with ReLU and skip connection where `frame.load` says so; or the pixels that `up` left,
 * normalised, with ReLU. `store` takes its outputs: `same` (as they are), `double` (as 2x2 pixels each), `picture`
 * (through a sigmoid into a texture). `half`: FP16 is stored and multiplied. `unrolled`: the innermost loops are written
 * out, which graphics cards like and adapters of software take long to compile.
 */
export function convolution({ inputs, outputs, before, load, store, half, unrolled }) {
  const each = store === "picture" ? outputs : 4;
  const threads = (LANES * outputs) / each;
  const stored = half ? "vec4<f16>" : "vec4f";
  const inKernel = !half && 2 * threads <= 36 * outputs; // then the sums may use the memory of the kernel
  const scratch = inKernel ? "kernel" : "scratch";
  const loop = (name, count, body) =>
    unrolled
      ? range(count).map((i) => `{ ${body(`${i}u`)} }`).join("\n")
      : `for (var ${name} = 0u; ${name} < ${count}u; ${name}++) { ${body(name)} }`;
  const shape = { inputs, outputs, before, load, threads, scratch, each, loop };

  // In FP16 the products of one group of inputs are summed, 36 of them; the groups in FP32.
  const sums = half ? "parts" : "outputs";
  const products = loop("o", each, (o) => `
        let at = (tap * ${outputs}u + slice * ${each}u + ${o}) * 4u;
        let k = array(kernel[at], kernel[at + 1u], kernel[at + 2u], kernel[at + 3u]);
        ${loop("p", ACROSS, (p) => `
          ${sums}[${p} * ${each}u + ${o}] += k[0] * x[${p}].x + k[1] * x[${p}].y + k[2] * x[${p}].z + k[3] * x[${p}].w;`)}`);
  const place = {
    same: (p, o) => `((slice * 4u + ${o}) * frame.height + y) * frame.width + x + ${p}`,
    double: (p, o) => `((${o} * frame.height + y) * 2u + slice / 2u) * 2u * frame.width + 2u * (x + ${p}) + slice % 2u`,
  }[store];
  const written = loop("p", ACROSS, (p) => {
    const isWithin = `y < frame.height && x + ${p} < frame.width`;
    const color = (o) => `outputs[${p} * 3u + ${o}u]`;
    if (!place) return `if (${isWithin}) { show(x + ${p}, y, array(${color(0)}, ${color(1)}, ${color(2)})); }`;
    return loop("o", each, (o) => {
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
${load === "image" ? "" : "@group(0) @binding(4) var<storage, read> affine: array<vec4f>; // scales, then shifts"}
${load === "body" ? `@group(0) @binding(5) var<storage, read> kept: array<${stored}>;` : ""}
${load === "body" ? `@group(0) @binding(6) var<storage, read_write> keep: array<${stored}>;` : ""}
${
  place
    ? `@group(0) @binding(7) var<storage, read_write> result: array<${stored}>;
@group(0) @binding(8) var<storage, read_write> partial: array<vec4f>;`
    : `@group(0) @binding(7) var<storage, read> image: array<${stored}>;
@group(0) @binding(8) var painted: texture_storage_2d<rgba8unorm, write>;`
}
var<workgroup> tile: array<${stored}, ${HALO * HALO}>;
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
  return ${load === "image" ? "x" : "max(x, vec4f()) - rest[g]"};
}
${place ? "" : SHOW}
@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let slice = lane / ${LANES}u;
  let left = lane % ${TILE / ACROSS}u * ${ACROSS}u; // of the thread's pixels in the tile
  let top = lane % ${LANES}u / ${TILE / ACROSS}u;
  let x = group.x * ${TILE}u + left;
  let y = group.y * ${TILE}u + top;
  let place = group.y * groups.x + group.x;
${load === "image" ? MEAN(shape) : NORM(shape)}
  var outputs: array<vec4f, ${ACROSS * each}>;
  ${place ? "" : loop("i", ACROSS * each, (i) => `outputs[${i}] = vec4f(frame.bias[${i} % ${each}u]);`)}
  for (var g = 0u; g < ${inputs}u; g++) {
    workgroupBarrier();
    for (var i = lane; i < ${HALO * HALO}u; i += ${threads}u) {
      let column = i32(group.x * ${TILE}u + i % ${HALO}u) - 1;
      let row = i32(group.y * ${TILE}u + i / ${HALO}u) - 1;
      let pixel = ${stored}(loaded(g, column, row));
      tile[i] = pixel;
      ${load === "body" ? KEEP : ""}
    }
    for (var i = lane; i < ${36 * outputs}u; i += ${threads}u) { kernel[i] = ${stored}(weights[g * ${36 * outputs}u + i]); }
    workgroupBarrier();
    ${half ? `var parts = array<vec4<f16>, ${ACROSS * each}>();` : ""}
    for (var tap = 0u; tap < 9u; tap++) {
      let first = (top + tap / 3u) * ${HALO}u + left + tap % 3u;
      let x = array(${range(ACROSS).map((p) => `tile[first + ${p}u]`).join(", ")});
      ${products}
    }
    ${half ? loop("i", ACROSS * each, (i) => `outputs[${i}] += vec4f(parts[${i}]);`) : ""}
  }
  ${written}
  ${place ? STATISTICS(shape) : ""}
}`;
}

// The mean of each color, less which the picture goes into the network.
const MEAN = ({ inputs, threads, scratch }) => `
  var total = vec4f();
  for (var t = lane; t < frame.tiles; t += ${threads}u) { total += sums[t]; }
  ${scratch}[lane] = total;
  workgroupBarrier();
  if (lane < ${inputs}u) {
    total = vec4f();
    for (var i = 0u; i < ${threads}u; i++) { total += ${scratch}[i]; }
    gain[lane] = vec4f(1);
    offset[lane] = vec4f(-total[lane / ${CELL}u] / f32(${CELL * CELL}u * frame.width * frame.height));
  }`;

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
    let shift = select(affine[lane + ${inputs}u], vec4f(), (frame.load & ADDS) != 0u);
    gain[lane] = affine[lane] * inverseSqrt(variance + ${EPSILON});
    offset[lane] = shift - mean * gain[lane];
    rest[lane] = ${load === "body" ? "max(shift, vec4f())" : "vec4f()"};
  }`;
};

const KEEP = `
      let isWithin = column >= 0 && row >= 0 && column < i32(frame.width) && row < i32(frame.height);
      let isOwn = i % ${HALO}u % ${HALO - 1}u != 0u && i / ${HALO}u % ${HALO - 1}u != 0u;
      if (isWithin && isOwn && (frame.load & KEEPS) != 0u) {
        keep[(g * frame.height + u32(row)) * frame.width + u32(column)] = pixel;
      }`;

// Sum and sum of squares of the tile for every group of outputs.
const STATISTICS = ({ outputs, threads, scratch, each, loop }) => {
  const added = (o, power) =>
    range(ACROSS).map((p) => Array(power).fill(`outputs[${p * each}u + ${o}]`).join(" * ")).join(" + ");
  return loop("o", each, (o) => `
    workgroupBarrier();
    ${scratch}[lane] = ${added(o, 1)};
    ${scratch}[lane + ${threads}u] = ${added(o, 2)};
    for (var step = ${LANES / 2}u; step > 0u; step >>= 1u) {
      workgroupBarrier();
      if (lane % ${LANES}u < step) {
        ${scratch}[lane] += ${scratch}[lane + step];
        ${scratch}[lane + ${threads}u] += ${scratch}[lane + step + ${threads}u];
      }
    }
    if (lane % ${LANES}u == 0u) {
      let at = place * ${2 * outputs}u + slice * ${each}u + ${o};
      partial[at] = ${scratch}[lane];
      partial[at + ${outputs}u] = ${scratch}[lane + ${threads}u];
    }`);
};

// Write 2x2 pixels, given as red, green and blue of the four; with less strength, more of the picture shines through.
const SHOW = `
fn show(x: u32, y: u32, colors: array<vec4f, 3>) {
  let width = frame.width / 2u;
  let height = frame.height / 2u;
  var rgb: array<vec4f, 3>;
  for (var c = 0u; c < 3u; c++) { rgb[c] = 1 / (1 + exp(-colors[c])); }
  for (var i = 0u; i < 4u; i++) {
    let column = 2u * x + i % 2u;
    let row = 2u * y + i / 2u;
    var pixel = vec4f(rgb[0][i], rgb[1][i], rgb[2][i], 1);
    if (frame.strength < 1) {
      for (var c = 0u; c < 3u; c++) {
        let at = ((c * ${CELL}u + row % ${CELL}u) * height + row / ${CELL}u) * width + column / ${CELL}u;
        pixel[c] = mix(f32(image[at][column % ${CELL}u]), pixel[c], frame.strength);
      }
    }
    textureStore(painted, vec2u(column, row), pixel);
  }
}`;

/**
 * The first pass: scales the picture to the working size, pads it by its edge pixels to cells of CELL x CELL pixels, and
 * makes a pixel of 12 groups of channels of each (color, row; column). `isVideo`: read from a frame of a video where it is.
 */
export function unpacking({ isVideo, half }) {
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
var<workgroup> totals: array<vec4f, ${TILE * TILE}>;

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

@compute @workgroup_size(${TILE}, ${TILE})
fn main(
  @builtin(global_invocation_id) pixel: vec3u,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  var total = vec4f();
  if (pixel.x < frame.width && pixel.y < frame.height) {
    for (var row = 0u; row < ${CELL}u; row++) {
      var colors: array<vec4f, 3>;
      for (var i = 0u; i < ${CELL}u; i++) {
        let color = sampled(pixel.x * ${CELL}u + i, pixel.y * ${CELL}u + row);
        total += color;
        for (var c = 0u; c < 3u; c++) { colors[c][i] = color[c]; }
      }
      for (var c = 0u; c < 3u; c++) {
        result[((c * ${CELL}u + row) * frame.height + pixel.y) * frame.width + pixel.x] = ${stored}(colors[c]);
      }
    }
  }
  totals[lane] = total;
  for (var step = ${(TILE * TILE) / 2}u; step > 0u; step >>= 1u) {
    workgroupBarrier();
    if (lane < step) { totals[lane] += totals[lane + step]; }
  }
  if (lane == 0u) { partial[group.y * groups.x + group.x] = totals[0]; }
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
  var color = vec4f(0, 0, 0, 1);
  for (var c = 0u; c < 3u; c++) {
    let cell = ((c * ${CELL}u + at.y % ${CELL}u) * frame.height + at.y / ${CELL}u) * frame.width + at.x / ${CELL}u;
    color[c] = f32(image[cell][at.x % ${CELL}u]);
  }
  return color;
}`;
}
