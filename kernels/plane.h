// One 8-bit channel of a picture, wherever it lies.
//
//   data        the top left pixel
//   row         bytes from one row to the next     (padded rows, upside-down pictures)
//   step        bytes from one pixel to the next   (1 in a plane; 2 or 3 in a channel of interleaved UV or RGB)
//
// No ownership, no exceptions, no library: this header is meant for host and device code alike.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vidstyle {

template <class Byte>
struct Channel {
  Byte* data;
  int height;
  int width;
  std::ptrdiff_t row;
  std::ptrdiff_t step;

  Byte* at(int y) const { return data + y * row; }
};

using Source = Channel<const std::uint8_t>;
using Target = Channel<std::uint8_t>;

inline int clamped(int value, int low, int high) { return value < low ? low : value > high ? high : value; }

}  // namespace vidstyle
