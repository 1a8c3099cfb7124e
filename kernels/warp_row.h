// What the inner loops of the warp work on: one row, and the axes of the small fields.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "warp.h"

namespace vidstyle {

constexpr int kWarpChannels = 4;
constexpr int kWarpPadding = 16;  // numbers after the last of a row of the fields that may be read or written

// Where each pixel of an enlarged axis lies between two of the small one.
struct Stretch {
  std::vector<std::int32_t> first, second;
  std::vector<float> t;
  bool spans_8 = true, spans_16 = true;  // any so many pixels in a row find theirs among as many

  Stretch(int from, int to)
      : first(static_cast<std::size_t>(to)), second(first.size()), t(first.size()) {
    const float ratio = static_cast<float>(static_cast<double>(from) / to);
    for (int x = 0; x < to; ++x) {
      const auto i = static_cast<std::size_t>(x);
      const Between place = between(x, ratio, from);
      first[i] = place.first, second[i] = place.second, t[i] = place.t;
      if (x % 8 == 7 && second[i] - first[i - 7] > 7) spans_8 = false;
      if (x % 16 == 15 && second[i] - first[i - 15] > 15) spans_16 = false;
    }
  }

  int size() const { return static_cast<int>(first.size()); }
};

// From small pixels to pixels of the plane, and the longest flow that there is, in small pixels.
struct FlowScale {
  float x, y, most_x, most_y;
};

// One row of a plane. The fields are rows of the small picture, enlarged sideways: two of each, between
// which this row lies at `t`. They and `kept` have kWarpPadding numbers more than the row.
struct WarpRow {
  int y, width, height, channels;
  float t;
  const float *across[2], *down[2], *weight[2];  // pixels, pixels, 0 to 1
  const std::uint8_t* fresh[kWarpChannels];      // this row of the new picture
  const std::uint16_t* memory[kWarpChannels];    // the whole channel, rows `memory_row` numbers apart
  std::ptrdiff_t memory_row;
  std::uint16_t* updated[kWarpChannels];         // this row of it; written
  float* kept;                                   // this row's weights; written
};

struct WarpRows {
  void (*prepare)(const float*, const float*, int, const FlowScale&, float*, float*, float*);
  void (*stretch)(const float*, const Stretch&, float*);
  void (*update)(const WarpRow&);
  void (*show)(const std::uint16_t*, const std::uint16_t*, const std::uint16_t*, const float*, float, int,
               std::int32_t*, std::uint8_t*);
  void (*split2)(const std::uint8_t*, int, std::uint8_t* const*);
  void (*split3)(const std::uint8_t*, int, std::uint8_t* const*);
  void (*join2)(const std::uint8_t* const*, int, std::uint8_t*);
  void (*join3)(const std::uint8_t* const*, int, std::uint8_t*);
};

}  // namespace vidstyle
