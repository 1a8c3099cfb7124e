// The network `fast` (vidstyle/models/architecture.py) as this page runs it: its weights in the order of the passes, how a
// style file becomes them, and the arithmetic of blends. Knows nothing of the graphics card.

const CHANNELS = 48;
const BLOCKS = 5;

/**
 * The convolutions in the order in which they run; see `convolution` of shaders.js. `inputs` and `outputs` are channels
 * of the file's weights, `upsample` the nearest upsampling before them; `adds` and `keeps` what they do with the skip
 * connection, `centers` which one takes the picture.
 */
export const CONVOLUTIONS = [
  { name: "stem", inputs: 48, outputs: CHANNELS, kernel: 3, upsample: 1, load: "body", store: "same", centers: true },
  ...[...Array(BLOCKS).keys()].flatMap((block) => [
    { name: `res${block + 1}.conv1`, adds: block > 0, keeps: true },
    { name: `res${block + 1}.conv2` },
  ]).map((conv) => ({ inputs: CHANNELS, outputs: CHANNELS, kernel: 3, upsample: 1, load: "body", store: "same", ...conv })),
  { name: "up", inputs: CHANNELS, outputs: 16, kernel: 3, upsample: 2, load: "body", store: "double", adds: true },
  { name: "out", inputs: 16, outputs: 3, kernel: 5, upsample: 2, load: "pixels", store: "picture" },
];
const COLORS = 3;

/** Outputs as the pass has them: those of an upsampling make the 2x2 pixels of a square. */
const outputsOf = (conv) => conv.outputs * conv.upsample ** 2;

/** Groups of four channels, as `convolution` counts them. */
export function groupsOf(index) {
  const conv = CONVOLUTIONS[index];
  const before = (index ? outputsOf(CONVOLUTIONS[index - 1]) : conv.inputs) / 4;
  return { inputs: conv.inputs / 4, outputs: outputsOf(conv) / 4, before };
}

/** Multiplications and additions of the convolutions for one pixel of the frame. */
export function flopsPerPixel() {
  const pixels = (conv) => (conv.name === "out" ? 4 : 16); // of the frame, for one of the pass
  return CONVOLUTIONS.reduce((sum, conv) => sum + (2 * 9 * conv.inputs * outputsOf(conv)) / pixels(conv), 0);
}

/** Numbers in a style: the weights in the order of the passes, the biases of `out`, the style vector. */
const sizeOf = (conv) => conv.outputs * conv.inputs * conv.kernel ** 2;
const WEIGHTS = CONVOLUTIONS.reduce((sum, conv) => sum + sizeOf(conv), 0);
const VECTOR = 2 * CONVOLUTIONS.slice(0, -1).reduce((sum, conv) => sum + conv.outputs, 0);

/** The tensors of a safetensors file, by name: `dtype` and `bytes`, a DataView. */
function tensorsOf(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  delete header.__metadata__;
  const tensor = ({ dtype, data_offsets: [begin, end] }) => {
    return { dtype, bytes: new DataView(buffer, 8 + length + begin, end - begin) };
  };
  return new Map(Object.entries(header).map(([name, entry]) => [name, tensor(entry)]));
}

function halves(tensors, name, count) {
  const { dtype, bytes } = tensors.get(name) ?? {};
  if (dtype !== "F16" || bytes.byteLength !== 2 * count) {
    throw new Error(`The file is damaged: it holds no ${name} of ${count} numbers.`);
  }
  return Float32Array.from({ length: count }, (_, i) => half(bytes.getUint16(2 * i, true)));
}

function half(bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const size = exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction;
  return bits & 0x8000 ? -size : size;
}

async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Int8Array(await new Response(stream).arrayBuffer());
}

/** The weights in the file of the network from which styles were adapted, in the order of the passes; then the biases. */
export function readStart(buffer) {
  const tensors = tensorsOf(buffer);
  const found = new Float32Array(WEIGHTS + COLORS);
  let at = 0;
  for (const conv of CONVOLUTIONS) {
    found.set(halves(tensors, `${conv.name}.weight`, sizeOf(conv)), at);
    at += sizeOf(conv);
  }
  found.set(halves(tensors, "out.bias", COLORS), WEIGHTS);
  return found;
}

/**
 * A style, ready for the passes, from a style file of vidstyle. Its weights are in FP16; or so many steps from those of
 * `start`, a step for each output channel (vidstyle/models/difference.py); or those of `start` where it holds none.
 */
export async function readStyle(buffer, start) {
  const tensors = tensorsOf(buffer);
  const numbers = new Float32Array(WEIGHTS + COLORS + VECTOR);
  numbers.set(start);
  let at = 0;
  for (const conv of CONVOLUTIONS) {
    const name = `${conv.name}.weight`;
    const { dtype, bytes } = tensors.get(name) ?? {};
    if (dtype === "U8") {
      const steps = halves(tensors, `${name}.step`, conv.outputs);
      const codes = await inflated(bytes);
      if (codes.length !== sizeOf(conv)) throw new Error(`The file is damaged: ${name} has ${codes.length} numbers.`);
      const each = codes.length / conv.outputs;
      for (let i = 0; i < codes.length; i++) numbers[at + i] += steps[Math.floor(i / each)] * codes[i];
    } else if (dtype) {
      numbers.set(halves(tensors, name, sizeOf(conv)), at);
    }
    at += sizeOf(conv);
  }
  if (tensors.has("out.bias")) numbers.set(halves(tensors, "out.bias", COLORS), WEIGHTS);
  numbers.set(halves(tensors, "style.vector", VECTOR), WEIGHTS + COLORS);
  return prepared(numbers);
}

/** Where the weights of each pass begin, in floats, and those of its norm; a binding begins at a multiple of 64 of them. */
export const LAYOUT = (() => {
  let at = 0;
  const take = (count) => {
    const begin = at;
    at += Math.ceil(count / 64) * 64;
    return { offset: 4 * begin, size: 4 * count };
  };
  const passes = CONVOLUTIONS.map((conv) => ({
    weights: take(9 * conv.inputs * outputsOf(conv)),
    affine: conv.name === "out" ? null : take(2 * conv.outputs), // of the norm behind it
  }));
  return { passes, bias: take(COLORS).offset / 4, floats: at };
})();

/** Low-size tap (0 to 2) on which tap `u` of row or column `phase` of a square falls. */
const tapOf = (phase, u, { kernel, upsample }) => (upsample === 1 ? u : Math.floor((phase + u - (kernel >> 1)) / 2) + 1);

/**
 * The numbers of a file as the passes read them: kernels of (input group, tap, output, input), upsamplings folded into
 * kernels that make the pixels of a square as channels of their own. Linear, so blends of these are blends of styles.
 */
function prepared(numbers) {
  const found = new Float32Array(LAYOUT.floats);
  let at = 0;
  let vector = WEIGHTS + COLORS;
  CONVOLUTIONS.forEach((conv, index) => {
    const { weights, affine } = LAYOUT.passes[index];
    const { inputs, outputs, kernel, upsample } = conv;
    const all = outputsOf(conv);
    for (let o = 0; o < outputs; o++) {
      for (let i = 0; i < inputs; i++) {
        const begin = at + (o * inputs + i) * kernel ** 2;
        for (let phase = 0; phase < upsample ** 2; phase++) {
          const [r, c] = [Math.floor(phase / upsample), phase % upsample];
          // `out` has the four pixels of a color in one group; `up` the four pixels in four slices of the threads.
          const output = conv.store === "picture" ? 4 * o + phase : outputs * phase + o;
          const group = weights.offset / 4 + (i >> 2) * 9 * all * 4;
          const column = group + ((output >> 2) * 4 + (i & 3)) * 4 + (output & 3);
          for (let u = 0; u < kernel; u++) {
            for (let v = 0; v < kernel; v++) {
              const tap = 3 * tapOf(r, u, conv) + tapOf(c, v, conv);
              found[column + tap * all * 4] += numbers[begin + kernel * u + v];
            }
          }
        }
      }
    }
    at += sizeOf(conv);
    if (affine) {
      found.set(numbers.subarray(vector, vector + 2 * outputs), affine.offset / 4);
      vector += 2 * outputs;
    }
  });
  found.set(numbers.subarray(WEIGHTS, WEIGHTS + COLORS), LAYOUT.bias);
  return found;
}

/** The sum of prepared styles, each times its share. */
export function blended(parts) {
  if (parts.length === 1) return parts[0].style;
  const found = new Float32Array(LAYOUT.floats);
  for (const { style, share } of parts) {
    for (let i = 0; i < found.length; i++) found[i] += share * style[i];
  }
  return found;
}
