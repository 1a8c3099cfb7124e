// One tile of Winograd's convolution. Included by rows.h for every instruction set, see rows.inl.
//
// Channels are taken in chunks of kChunk, which the compiler makes vectors of.

namespace vidstyle {
namespace VS_LEVEL {

// B^T of the paper: six neighbors, `step` chunks apart, become the six sums of one axis, as far apart.
VS_TARGET inline void source_axis(const float* VS_RESTRICT d, int step, float* VS_RESTRICT v) {
  const int at = step * kChunk;
  for (int c = 0; c < kChunk; ++c) {
    const float d0 = d[c], d1 = d[c + at], d2 = d[c + 2 * at], d3 = d[c + 3 * at], d4 = d[c + 4 * at],
                d5 = d[c + 5 * at];
    const float even = d4 - 4 * d2, odd = d3 - 4 * d1, wide = d4 - d2, twice = 2 * (d3 - d1);
    v[c] = 4 * d0 - 5 * d2 + d4;
    v[c + at] = even + odd;
    v[c + 2 * at] = even - odd;
    v[c + 3 * at] = wide + twice;
    v[c + 4 * at] = wide - twice;
    v[c + 5 * at] = 4 * d1 - 5 * d3 + d5;
  }
}

// A^T of the paper: six products, `step` chunks apart, become four neighbors of the result, as far apart.
VS_TARGET inline void result_axis(const float* VS_RESTRICT m, int step, float* VS_RESTRICT y) {
  const int at = step * kChunk;
  for (int c = 0; c < kChunk; ++c) {
    const float m1 = m[c + at], m2 = m[c + 2 * at], m3 = m[c + 3 * at], m4 = m[c + 4 * at];
    const float near = m1 + m2, slope = m1 - m2, far = m3 + m4, steep = m3 - m4;
    y[c] = m[c] + near + far;
    y[c + at] = slope + 2 * steep;
    y[c + 2 * at] = near + 4 * far;
    y[c + 3 * at] = slope + 8 * steep + m[c + 5 * at];
  }
}

// A of the paper, the adjoint of that: four neighbors become six.
VS_TARGET inline void spread_axis(const float* VS_RESTRICT y, int step, float* VS_RESTRICT m) {
  const int at = step * kChunk;
  for (int c = 0; c < kChunk; ++c) {
    const float y0 = y[c], y1 = y[c + at], y2 = y[c + 2 * at], y3 = y[c + 3 * at];
    const float even = y0 + y2, odd = y1 + y3, wide = y0 + 4 * y2, steep = 2 * y1 + 8 * y3;
    m[c] = y0;
    m[c + at] = even + odd;
    m[c + 2 * at] = even - odd;
    m[c + 3 * at] = wide + steep;
    m[c + 4 * at] = wide - steep;
    m[c + 5 * at] = y3;
  }
}

// `pixels` and, unless null, `gate` point to the channels of 6 x 6 pixels; sum k goes to `to + k * matrix`.
VS_TARGET inline void source_tile(const float* const* pixels, const float* const* gate, int channels, float* to,
                                  std::ptrdiff_t matrix) {
  constexpr int side = kTile + 2;
  float tile[kSums * kChunk], half[kSums * kChunk];
  for (int from = 0; from < channels; from += kChunk) {
    for (int k = 0; k < kSums; ++k) {
      const float* VS_RESTRICT p = pixels[k] + from;
      float* VS_RESTRICT t = tile + k * kChunk;
      if (gate == nullptr) {
        for (int c = 0; c < kChunk; ++c) t[c] = p[c];
      } else {
        const float* VS_RESTRICT g = gate[k] + from;
        for (int c = 0; c < kChunk; ++c) {
          const float value = p[c];  // read in any case: a load that depends on the gate would not become a vector
          t[c] = g[c] <= 0 ? 0 : value;
        }
      }
    }
    for (int j = 0; j < side; ++j) source_axis(tile + j * kChunk, side, half + j * kChunk);
    for (int i = 0; i < side; ++i) source_axis(half + i * side * kChunk, 1, tile + i * side * kChunk);
    for (int k = 0; k < kSums; ++k) {
      float* VS_RESTRICT out = to + k * matrix + from;
      const float* VS_RESTRICT t = tile + k * kChunk;
      for (int c = 0; c < kChunk; ++c) out[c] = t[c];
    }
  }
}

// Product k is at `products + k * matrix`; `to` points to the channels of 4 x 4 pixels, null where there is none.
VS_TARGET inline void result_tile(const float* products, std::ptrdiff_t matrix, const float* bias, bool relu,
                                  int channels, float* const* to) {
  constexpr int side = kTile + 2;
  float tile[kSums * kChunk], half[kTile * side * kChunk];
  for (int from = 0; from < channels; from += kChunk) {
    for (int k = 0; k < kSums; ++k) {
      const float* VS_RESTRICT p = products + k * matrix + from;
      float* VS_RESTRICT t = tile + k * kChunk;
      for (int c = 0; c < kChunk; ++c) t[c] = p[c];
    }
    for (int j = 0; j < side; ++j) result_axis(tile + j * kChunk, side, half + j * kChunk);
    const float least = relu ? 0 : -HUGE_VALF;
    const float* VS_RESTRICT b = bias + from;
    for (int i = 0; i < kTile; ++i) {
      result_axis(half + i * side * kChunk, 1, tile);
      for (int j = 0; j < kTile; ++j) {
        if (to[i * kTile + j] == nullptr) continue;
        float* VS_RESTRICT out = to[i * kTile + j] + from;
        const float* VS_RESTRICT t = tile + j * kChunk;
        for (int c = 0; c < kChunk; ++c) {
          const float value = t[c] + b[c];
          out[c] = value < least ? least : value;  // what is no number stays none
        }
      }
    }
  }
}

// `pixels` point to the channels of 4 x 4 pixels; product k goes to `to + k * matrix`.
VS_TARGET inline void spread_tile(const float* const* pixels, int channels, float* to, std::ptrdiff_t matrix) {
  constexpr int side = kTile + 2;
  float tile[kSums * kChunk], half[kSums * kChunk];
  for (int from = 0; from < channels; from += kChunk) {
    for (int i = 0; i < kTile; ++i) {
      for (int j = 0; j < kTile; ++j) {
        const float* VS_RESTRICT p = pixels[i * kTile + j] + from;
        float* VS_RESTRICT t = tile + (i * side + j) * kChunk;
        for (int c = 0; c < kChunk; ++c) t[c] = p[c];
      }
    }
    for (int j = 0; j < kTile; ++j) spread_axis(tile + j * kChunk, side, half + j * kChunk);
    for (int i = 0; i < side; ++i) spread_axis(half + i * side * kChunk, 1, tile + i * side * kChunk);
    for (int k = 0; k < kSums; ++k) {
      float* VS_RESTRICT out = to + k * matrix + from;
      const float* VS_RESTRICT t = tile + k * kChunk;
      for (int c = 0; c < kChunk; ++c) out[c] = t[c];
    }
  }
}

}  // namespace VS_LEVEL
}  // namespace vidstyle
