// 3x3 convolutions of step 1 and a border of zeros in a quarter of the multiplications: Winograd's minimal filtering
// F(4 x 4, 3 x 3) as Lavin and Gray 2016 have it. A tile of 4 x 4 results comes from 6 x 6 pixels, and 36 sums of
// these take 36 products for each pair of channels, where the tile takes 144.
//
//   source_tiles    the sums of every tile, one matrix (tiles x channels) for each of the 36
//   result_tiles    from 36 matrices of products the results, with bias and ReLU
//   spread_tiles    the adjoint of that, without these: from a gradient of the results that of the products
//
// The products between them are 36 products of matrices, which are a library's.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "rows.h"
#include "thread_pool.h"

namespace vidstyle {

// Pictures with interleaved channels and no gaps: (count, height, width, channels).
template <class Number>
struct Pictures {
  Number* data;
  int count, height, width, channels;
};

// Some of the tiles of results `height` x `width`, numbered picture by picture and row by row; a row of each of
// the 36 matrices belongs to a tile.
struct TileRange {
  int height, width, first, count;

  int down() const { return (height + kTile - 1) / kTile; }
  int across() const { return (width + kTile - 1) / kTile; }
};

// Where the `side` x `side` pixels of a tile lie, from `border` pixels above and left of it; `outside` where there is
// no picture.
template <int side, class Number>
void tile_pixels(const Pictures<Number>& of, const TileRange& range, int tile, int border, Number* outside,
                 Number** pixels) {
  const int x = tile % range.across() * kTile - border, row = tile / range.across();
  const int y = row % range.down() * kTile - border;
  Number* picture = of.data + static_cast<std::ptrdiff_t>(row / range.down()) * of.height * of.width * of.channels;
  for (int i = 0; i < side; ++i) {
    for (int j = 0; j < side; ++j) {
      const bool inside = y + i >= 0 && y + i < of.height && x + j >= 0 && x + j < of.width;
      pixels[i * side + j] =
          inside ? picture + (static_cast<std::ptrdiff_t>(y + i) * of.width + x + j) * of.channels : outside;
    }
  }
}

// Calls `work(first, end)` for parts of `count` tiles on up to `threads` threads.
template <class Work>
void share_tiles(int count, int threads, Work work) {
  constexpr int kPiece = 16;
  struct Context {
    int count;
    Work& work;
  } context{count, work};
  const auto piece = [](void* pointer, int number, int) {
    const auto& shared = *static_cast<Context*>(pointer);
    if (number == Task::kEnd) return;
    const int first = number * kPiece;
    shared.work(first, first + kPiece < shared.count ? first + kPiece : shared.count);
  };
  const int pieces = (count + kPiece - 1) / kPiece;
  ThreadPool::shared().run(piece, &context, pieces, (threads < pieces ? threads : pieces) - 1);
}

// Pictures with `border` zeros around them. `gate` is null or of their shape: what lies where it is at most 0 counts as 0.
inline void source_tiles(const Pictures<const float>& from, const float* gate, int border, const TileRange& range,
                         float* sums, int threads, const Rows& rows) {
  const std::vector<float> zeros(static_cast<std::size_t>(from.channels));
  const Pictures<const float> gates{gate, from.count, from.height, from.width, from.channels};
  const std::ptrdiff_t matrix = static_cast<std::ptrdiff_t>(range.count) * from.channels;
  share_tiles(range.count, threads, [&](int first, int end) {
    std::array<const float*, kSums> pixels, open;
    for (int tile = first; tile < end; ++tile) {
      tile_pixels<kTile + 2>(from, range, range.first + tile, border, zeros.data(), pixels.data());
      if (gate != nullptr)
        tile_pixels<kTile + 2>(gates, range, range.first + tile, border, zeros.data(), open.data());
      rows.source_tile(pixels.data(), gate != nullptr ? open.data() : nullptr, from.channels,
                       sums + static_cast<std::ptrdiff_t>(tile) * from.channels, matrix);
    }
  });
}

// `bias` is null or has a number for each channel; with `relu` no result is below 0.
inline void result_tiles(const float* products, const float* bias, bool relu, const TileRange& range,
                         const Pictures<float>& to, int threads, const Rows& rows) {
  const std::vector<float> zeros(static_cast<std::size_t>(to.channels));
  const std::ptrdiff_t matrix = static_cast<std::ptrdiff_t>(range.count) * to.channels;
  share_tiles(range.count, threads, [&](int first, int end) {
    std::array<float*, kTile * kTile> pixels;
    for (int tile = first; tile < end; ++tile) {
      tile_pixels<kTile, float>(to, range, range.first + tile, 0, nullptr, pixels.data());
      rows.result_tile(products + static_cast<std::ptrdiff_t>(tile) * to.channels, matrix,
                       bias != nullptr ? bias : zeros.data(), relu, to.channels, pixels.data());
    }
  });
}

inline void spread_tiles(const Pictures<const float>& from, const TileRange& range, float* products, int threads,
                         const Rows& rows) {
  const std::vector<float> zeros(static_cast<std::size_t>(from.channels));
  const std::ptrdiff_t matrix = static_cast<std::ptrdiff_t>(range.count) * from.channels;
  share_tiles(range.count, threads, [&](int first, int end) {
    std::array<const float*, kTile * kTile> pixels;
    for (int tile = first; tile < end; ++tile) {
      tile_pixels<kTile>(from, range, range.first + tile, 0, zeros.data(), pixels.data());
      rows.spread_tile(pixels.data(), from.channels, products + static_cast<std::ptrdiff_t>(tile) * from.channels,
                       matrix);
    }
  });
}

}  // namespace vidstyle
