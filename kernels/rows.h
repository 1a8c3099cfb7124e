// The inner loops for every instruction set that this compiler can make, and which one to run.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "plane.h"
#include "warp_row.h"

#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
#define VS_X86 1
#include <immintrin.h>
#endif

#ifdef _MSC_VER
#define VS_RESTRICT __restrict
#else
#define VS_RESTRICT __restrict__
#endif

namespace vidstyle {

// The boxes of the models. The loops are written out for a radius of 2; 25^2 * 255^2 fits 32 bits.
constexpr int kRadius = 2;
constexpr int kSide = 2 * kRadius + 1;
constexpr int kArea = kSide * kSide;

// How the slopes are kept in check: `epsilon` (levels squared) is added to the luma's variance, and the
// slope is held between `low` and `high`.
struct Fit {
  float epsilon;
  float low;
  float high;
};

// One row of sums over boxes: of luma, of the styled channel, and of products.
struct BoxSums {
  const std::int32_t *l, *s, *ll, *ls;
};

// Where each pixel of an enlarged axis finds its four neighbours, and the cubic weights (Keys 1981,
// "Cubic convolution interpolation", with a = -3/4 as OpenCV has it) that they get. Pixel centers are at
// halves: pixel x of `to` lies at (x + 0.5) * from / to - 0.5. Indices count from two pixels before the
// first, so they start at 0.
struct Taps {
  std::vector<std::int32_t> first;
  std::array<std::vector<float>, 4> weight;
  bool narrow = true;  // any eight pixels in a row find their neighbours among eight

  static constexpr int kBefore = 2;  // copies of the first value that a padded row begins with
  static constexpr int kAfter = 8;   // ... and of the last one after it; `expand` loads eight at a time

  Taps(int from, int to) : first(static_cast<std::size_t>(to)) {
    for (auto& w : weight) w.resize(first.size());
    for (int x = 0; x < to; ++x) {
      const double position = (x + 0.5) * from / to - 0.5, floor = std::floor(position);
      const float t = static_cast<float>(position - floor);
      const auto i = static_cast<std::size_t>(x);
      first[i] = static_cast<std::int32_t>(floor) - 1 + kBefore;
      const float u = 1.0F - t;
      weight[0][i] = -0.75F * t * u * u;
      weight[1][i] = (1.25F * t - 2.25F) * t * t + 1.0F;
      weight[2][i] = (1.25F * u - 2.25F) * u * u + 1.0F;
      weight[3][i] = -0.75F * u * t * t;
      if (x % 8 == 7 && first[i] - first[i - 7] > 4) narrow = false;
    }
  }

  int size() const { return static_cast<int>(first.size()); }
};

// Winograd's convolutions: a tile's side, the sums that stand for a tile, and the channels taken at once, of
// which there are whole chunks.
constexpr int kTile = 4;
constexpr int kSums = (kTile + 2) * (kTile + 2);
constexpr int kChunk = 16;

struct Rows {
  const char* name;
  void (*box_sum)(const std::uint8_t* const*, int, std::int32_t*, std::int32_t*);
  void (*box_product)(const std::uint8_t* const*, const std::uint8_t* const*, int, std::int32_t*, std::int32_t*);
  void (*model)(const std::uint8_t*, const std::uint8_t*, const BoxSums&, int, const Fit&, float*, float*);
  void (*expand)(const float*, const Taps&, float*);
  void (*apply)(const float* const*, const float* const*, const float*, const std::uint8_t*, int, std::uint8_t*);
  void (*halve)(const std::uint8_t*, const std::uint8_t*, int, std::uint8_t*);
  void (*luma)(const std::uint8_t*, int, std::uint8_t*);
  void (*mix)(const std::uint8_t*, const std::uint8_t*, const std::uint8_t*, int, int, std::uint8_t*);
  WarpRows warp;
  void (*source_tile)(const float* const*, const float* const*, int, float*, std::ptrdiff_t);
  void (*result_tile)(const float*, std::ptrdiff_t, const float*, bool, int, float* const*);
  void (*spread_tile)(const float* const*, int, float*, std::ptrdiff_t);
};

}  // namespace vidstyle

#define VS_LEVEL baseline
#define VS_TARGET
#include "rows.inl"
#include "warp_rows.inl"
#include "winograd_tile.inl"
#undef VS_LEVEL
#undef VS_TARGET

#ifdef VS_X86
#define VS_LEVEL avx2
#define VS_TARGET __attribute__((target("avx2,fma")))
#define VS_AVX2
#include "rows.inl"
#include "warp_rows.inl"
#include "winograd_tile.inl"
#undef VS_LEVEL
#undef VS_TARGET

#define VS_LEVEL avx512
#define VS_TARGET __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")))
#define VS_AVX512
#include "rows.inl"
#include "warp_rows.inl"
#include "winograd_tile.inl"
#undef VS_LEVEL
#undef VS_TARGET
#undef VS_AVX2
#undef VS_AVX512
#endif

namespace vidstyle {

#define VS_ROWS(level)                                                                                            \
  {                                                                                                               \
    #level, level::box_sum, level::box_product, level::model, level::expand, level::apply, level::halve,           \
        level::luma, level::mix, {                                                                                \
      level::prepare, level::stretch, level::update, level::show, level::split2, level::split3, level::join2, level::join3        \
    }, level::source_tile, level::result_tile, level::spread_tile                                                 \
  }

// The copies that this processor can run, the best one last.
inline std::vector<Rows> runnable_rows() {
  std::vector<Rows> rows;
  rows.push_back(VS_ROWS(baseline));
#ifdef VS_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    rows.push_back(VS_ROWS(avx2));
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
      rows.push_back(VS_ROWS(avx512));
  }
#endif
  return rows;
}

#undef VS_ROWS

}  // namespace vidstyle
