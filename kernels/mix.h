// A painting laid on its source through a mask:
//
//     out = source + (painted - source) * mask / 255 * strength / 257        all 8 bits, rounded to the nearest
//
// A mask of 255 at full strength gives the painting, one of 0 the source, both exactly.
#pragma once

#include <vector>

#include "enlarge.h"
#include "plane.h"
#include "rows.h"

namespace vidstyle {

constexpr int kFullStrength = 257;  // 255 * 257 = 65535

// One plane of `channels` interleaved bytes a pixel, without gaps within a row; `mask` has its size.
inline void mix(const Source& source, const Source& painted, int channels, Guide mask, int strength, const Target& out,
                const Rows& rows) {
  const int bytes = source.width * channels;
  std::vector<std::uint8_t> wide(channels > 1 ? static_cast<size_t>(bytes) : 0);
  for (int y = 0; y < source.height; ++y) {
    const std::uint8_t* weight = mask(y);
    if (channels > 1) {
      std::uint8_t* to = wide.data();
      for (int x = 0; x < source.width; ++x) {
        for (int c = 0; c < channels; ++c) *to++ = weight[x];
      }
      weight = wide.data();
    }
    rows.mix(source.at(y), painted.at(y), weight, strength, bytes, out.at(y));
  }
}

}  // namespace vidstyle
