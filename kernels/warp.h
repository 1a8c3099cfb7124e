// Temporal smoothing at one pixel, for processors and for CUDA: what is remembered follows the motion, the
// new picture is mixed in, the mixture is shown sharper than it is remembered.
//
//     small fields   flow (x, y), weight                    --linear-->   motion and w at every pixel
//     memory         4 x 4 samples around pixel + motion    --cubic-->    there
//     updated        (1 - w) * new + w * there                            remembered for the next frame
//     shown          updated + gain * w * (updated - mean of 3 x 3 updated)
//
// The memory holds 128 numbers to a level, so that it fits 16 bits with a sign: the four samples of a row
// are summed by 16-bit products, exactly, with weights in 1/16384 that add up to 1. All else is 32-bit float.
// Rounding is to the nearest, halves up. Beyond the border the border's pixels repeat.
//
// No library, no exceptions, no standard header: NVRTC compiles this file as it is.
#pragma once

#ifdef __CUDACC__
#define VS_BOTH __host__ __device__
#else
#define VS_BOTH
#endif

namespace vidstyle {

constexpr int kMemoryScale = 128;
constexpr float kMostMemory = 255.0F * kMemoryScale;
constexpr int kTapOne = 1 << 14;

// A place between two neighbours of a row or a column: first + t * (second - first).
struct Between {
  int first, second;
  float t;
};

// Where pixel x of an enlarged axis lies in the small one of `size`; `ratio` is small over large. Pixel
// centers are at halves.
VS_BOTH inline Between between(int x, float ratio, int size) {
  const float position = (static_cast<float>(x) + 0.5F) * ratio - 0.5F;
  if (!(position > 0.0F)) return {0, 0, 0.0F};
  const int first = static_cast<int>(position);
  if (first >= size - 1) return {size - 1, size - 1, 0.0F};
  return {first, first + 1, position - static_cast<float>(first)};
}

VS_BOTH inline float linear(float first, float second, float t) { return first + t * (second - first); }

// What is read from the fields, whatever is in them. A flow of more than `most`, one pixel more than the
// small picture has, leads from anywhere to beyond the border and is as good as one of `most`.
VS_BOTH inline float finite_flow(float value, float most) {
  const float held = value > -most ? (value < most ? value : most) : -most;
  return value == value ? held : 0.0F;
}
VS_BOTH inline float finite_weight(float value) {
  const float held = value > 0.0F ? value : 0.0F;  // NaN is not above 0
  return held < 1.0F ? held : 1.0F;
}

// A distance as whole pixels and the rest in [0, 1).
struct Way {
  int whole;
  float rest;
};

VS_BOTH inline Way way(float distance) {
  int whole = static_cast<int>(distance);
  if (static_cast<float>(whole) > distance) --whole;
  return {whole, distance - static_cast<float>(whole)};
}

// Weights of the neighbours -1, 0, 1, 2 at 0 + t (Keys 1981, "Cubic convolution interpolation", with
// a = -3/4 as OpenCV has it).
struct Cubic {
  float w[4];
};

VS_BOTH inline Cubic cubic(float t) {
  const float u = 1.0F - t;
  return {{-0.75F * t * u * u, (1.25F * t - 2.25F) * t * t + 1.0F, (1.25F * u - 2.25F) * u * u + 1.0F,
           -0.75F * u * t * t}};
}

// The same in 1/kTapOne. They add up to 1, so that a flat picture stays as it is.
struct WholeCubic {
  int w[4];
};

VS_BOTH inline WholeCubic whole_cubic(float t) {
  const Cubic exact = cubic(t);
  const int before = -static_cast<int>(0.5F - exact.w[0] * kTapOne);
  const int next = static_cast<int>(exact.w[2] * kTapOne + 0.5F);
  const int after = -static_cast<int>(0.5F - exact.w[3] * kTapOne);
  return {{before, kTapOne - before - next - after, next, after}};
}

VS_BOTH inline int within(int value, int last) { return value < 0 ? 0 : value > last ? last : value; }

// The memory of one channel: numbers from one row to the next, and from one pixel to the next.
struct Memory {
  const unsigned short* data;
  int height, width;
  long long row, step;
};

// The memory at (x, y) + motion.
VS_BOTH inline float remembered(const Memory& memory, int x, int y, Way across, Way down) {
  const WholeCubic horizontal = whole_cubic(across.rest);
  const Cubic vertical = cubic(down.rest);
  long long at[4];
  for (int k = 0; k < 4; ++k) at[k] = within(x + across.whole - 1 + k, memory.width - 1) * memory.step;
  float sum = 0.0F;
  for (int k = 0; k < 4; ++k) {
    const unsigned short* row = memory.data + within(y + down.whole - 1 + k, memory.height - 1) * memory.row;
    const int products = row[at[0]] * horizontal.w[0] + row[at[1]] * horizontal.w[1] + row[at[2]] * horizontal.w[2] +
                         row[at[3]] * horizontal.w[3];
    sum += vertical.w[k] * static_cast<float>(products);
  }
  return sum * (1.0F / kTapOne);
}

// The new picture's pixel and what is remembered of it; without weight the new one, exactly.
VS_BOTH inline unsigned short mixed(int fresh, float there, float weight) {
  const float base = static_cast<float>(fresh * kMemoryScale);
  there = there > 0.0F ? there : 0.0F;
  there = there < kMostMemory ? there : kMostMemory;
  return static_cast<unsigned short>(static_cast<int>(base + weight * (there - base) + 0.5F));
}

// `value` seen against the sum of the 3 x 3 numbers around it; `gain` is the frame's times the pixel's weight.
VS_BOTH inline unsigned char sharpened(int value, int sum, float gain) {
  constexpr float kLevel = 1.0F / kMemoryScale;
  const float detail = gain * (kLevel / 9.0F) * static_cast<float>(9 * value - sum);
  float level = static_cast<float>(value) * kLevel + detail + 0.5F;
  level = level > 0.0F ? level : 0.0F;
  level = level < 255.5F ? level : 255.5F;
  return static_cast<unsigned char>(static_cast<int>(level));
}

}  // namespace vidstyle
