// The inner loops of warp.h, one row each; included once for every instruction set, like rows.inl, with
//
//   VS_AVX512   defined where AVX-512 (F, BW, DQ, VL) intrinsics may be used
//
// `update` reads the memory wherever the motion leads. Motion is smooth: the samples that a block of
// neighbouring pixels needs nearly always lie side by side in the same four rows, so a block loads a window
// of each row once and picks from it in registers. Pixels that do not fit the window of the first one
// get a window of their own, in another round.

namespace vidstyle {
namespace VS_LEVEL {

// A row of the small fields: x and y of the flow in pixels of the plane, and the weight.
VS_TARGET inline void prepare(const float* flow, const float* weight, int width, const FlowScale& scale,
                              float* VS_RESTRICT across, float* VS_RESTRICT down, float* VS_RESTRICT kept) {
  const float most_x = scale.most_x, most_y = scale.most_y, scale_x = scale.x, scale_y = scale.y;
  for (int x = 0; x < width; ++x) {
    across[x] = finite_flow(flow[2 * x], most_x) * scale_x;
    down[x] = finite_flow(flow[2 * x + 1], most_y) * scale_y;
    kept[x] = finite_weight(weight[x]);
  }
}

// A small row enlarged sideways.
VS_TARGET inline void stretch(const float* in, const Stretch& axis, float* VS_RESTRICT out) {
  const int size = axis.size();
  const std::int32_t *first = axis.first.data(), *second = axis.second.data();
  const float* t = axis.t.data();
  int x = 0;
#if defined(VS_AVX512)
  if (axis.spans_16) {
    for (; x + 16 <= size; x += 16) {
      const __m512 from = _mm512_loadu_ps(in + first[x]);
      const __m512i base = _mm512_set1_epi32(first[x]);
      const __m512 a = _mm512_permutexvar_ps(_mm512_sub_epi32(_mm512_loadu_si512(first + x), base), from);
      const __m512 b = _mm512_permutexvar_ps(_mm512_sub_epi32(_mm512_loadu_si512(second + x), base), from);
      _mm512_storeu_ps(out + x, _mm512_fmadd_ps(_mm512_loadu_ps(t + x), _mm512_sub_ps(b, a), a));
    }
  }
#elif defined(VS_AVX2)
  if (axis.spans_8) {
    for (; x + 8 <= size; x += 8) {
      const __m256 from = _mm256_loadu_ps(in + first[x]);
      const __m256i base = _mm256_set1_epi32(first[x]);
      const __m256i left = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(first + x));
      const __m256i right = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(second + x));
      const __m256 a = _mm256_permutevar8x32_ps(from, _mm256_sub_epi32(left, base));
      const __m256 b = _mm256_permutevar8x32_ps(from, _mm256_sub_epi32(right, base));
      _mm256_storeu_ps(out + x, _mm256_fmadd_ps(_mm256_loadu_ps(t + x), _mm256_sub_ps(b, a), a));
    }
  }
#endif
  for (; x < size; ++x) out[x] = linear(in[first[x]], in[second[x]], t[x]);
}

// The pixels from x on, one by one.
VS_TARGET inline void update_from(int x, const WarpRow& row) {
  for (; x < row.width; ++x) {
    const float weight = linear(row.weight[0][x], row.weight[1][x], row.t);
    row.kept[x] = weight;
    if (weight == 0.0F) {
      for (int c = 0; c < row.channels; ++c)
        row.updated[c][x] = static_cast<std::uint16_t>(row.fresh[c][x] * kMemoryScale);
      continue;
    }
    const Way across = way(linear(row.across[0][x], row.across[1][x], row.t));
    const Way down = way(linear(row.down[0][x], row.down[1][x], row.t));
    for (int c = 0; c < row.channels; ++c) {
      const Memory memory{row.memory[c], row.height, row.width, row.memory_row, 1};
      row.updated[c][x] = mixed(row.fresh[c][x], remembered(memory, x, row.y, across, down), weight);
    }
  }
}

#if defined(VS_AVX512)

struct Weights {
  __m512 w[4];
};

// The weights of `cubic`, over kTapOne. The two outer ones, and all four, have simple sums.
VS_TARGET inline Weights cubics(__m512 t) {
  constexpr float kOne = 1.0F / kTapOne;
  const __m512 u = _mm512_sub_ps(_mm512_set1_ps(1.0F), t), one = _mm512_set1_ps(kOne);
  const __m512 outer = _mm512_mul_ps(_mm512_mul_ps(t, _mm512_set1_ps(-0.75F * kOne)), u);
  const __m512 slope = _mm512_fmadd_ps(_mm512_set1_ps(1.25F * kOne), t, _mm512_set1_ps(-2.25F * kOne));
  const __m512 before = _mm512_mul_ps(outer, u), self = _mm512_fmadd_ps(slope, _mm512_mul_ps(t, t), one);
  return {{before, self, _mm512_sub_ps(_mm512_sub_ps(one, outer), self), _mm512_sub_ps(outer, before)}};
}

// The weights of `whole_cubic`, two and two.
struct Taps {
  __m512i first, second;
};

// The lower 16 bits of each number of both, those of `second` above those of `first`.
VS_TARGET inline __m512i pairs(__m512i first, __m512i second) {
  return _mm512_mask_mov_epi16(first, 0xAAAAAAAA, _mm512_slli_epi32(second, 16));
}

VS_TARGET inline Taps whole_cubics(__m512 t) {
  const __m512 u = _mm512_sub_ps(_mm512_set1_ps(1.0F), t), one = _mm512_set1_ps(kTapOne);
  const __m512 outer = _mm512_mul_ps(_mm512_mul_ps(t, _mm512_set1_ps(-0.75F * kTapOne)), u);
  const __m512 slope = _mm512_fmadd_ps(_mm512_set1_ps(1.25F * kTapOne), t, _mm512_set1_ps(-2.25F * kTapOne));
  const __m512i both = _mm512_cvtps_epi32(outer), before = _mm512_cvtps_epi32(_mm512_mul_ps(outer, u));
  const __m512i self = _mm512_cvtps_epi32(_mm512_fmadd_ps(slope, _mm512_mul_ps(t, t), one));
  const __m512i inner = _mm512_sub_epi32(_mm512_set1_epi32(kTapOne), both);
  return {pairs(before, self), pairs(_mm512_sub_epi32(inner, self), _mm512_sub_epi32(both, before))};
}

VS_TARGET inline __m512 linear_rows(const float* const* rows, int x, __m512 t) {
  const __m512 a = _mm512_loadu_ps(rows[0] + x), b = _mm512_loadu_ps(rows[1] + x);
  return _mm512_fmadd_ps(t, _mm512_sub_ps(b, a), a);
}

// `at` + k, held between 0 and `last`.
VS_TARGET inline __m512i held(__m512i at, int k, int last) {
  const __m512i moved = _mm512_add_epi32(at, _mm512_set1_epi32(k));
  return _mm512_min_epi32(_mm512_max_epi32(moved, _mm512_setzero_si512()), _mm512_set1_epi32(last));
}

// Mixes 16 pixels of what is remembered with the new ones.
VS_TARGET inline void mix(const WarpRow& row, int channel, int x, __mmask16 valid, __m512 there, __m512 weight) {
  const __m128i bytes = _mm_maskz_loadu_epi8(valid, row.fresh[channel] + x);
  const __m512 base = _mm512_cvtepi32_ps(_mm512_slli_epi32(_mm512_cvtepu8_epi32(bytes), 7));
  there = _mm512_min_ps(_mm512_max_ps(there, _mm512_setzero_ps()), _mm512_set1_ps(kMostMemory));
  const __m512 half_up = _mm512_add_ps(base, _mm512_set1_ps(0.5F));
  const __m512 sum = _mm512_fmadd_ps(weight, _mm512_sub_ps(there, base), half_up);
  _mm256_mask_storeu_epi16(row.updated[channel] + x, valid, _mm512_cvtepi32_epi16(_mm512_cvttps_epi32(sum)));
}

// Which four of 32 numbers of a row each pixel takes, times what.
struct Window {
  __m512i pick01, pick23;
  Taps taps;
};

VS_TARGET inline __m512 taken(const std::uint16_t* line, const Window& window) {
  const __m512i numbers = _mm512_loadu_si512(line);
  const __m512i first = _mm512_madd_epi16(_mm512_permutexvar_epi16(window.pick01, numbers), window.taps.first);
  const __m512i second = _mm512_madd_epi16(_mm512_permutexvar_epi16(window.pick23, numbers), window.taps.second);
  return _mm512_cvtepi32_ps(_mm512_add_epi32(first, second));
}

VS_TARGET inline std::ptrdiff_t line_start(const WarpRow& row, int down) {
  return within(row.y + down, row.height - 1) * row.memory_row;
}

template <int kChannels>
VS_TARGET inline void update_channels(const WarpRow& row) {
  const int width = row.width, last = width - 1;
  const __m512 t = _mm512_set1_ps(row.t), zero = _mm512_setzero_ps();
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i before_border = _mm512_set1_epi32(width - 3);
  if (width < 32) return update_from(0, row);  // a window is not to end outside of a row
  for (int x = 0; x < width; x += 16) {
    const __mmask16 valid = width - x >= 16 ? static_cast<__mmask16>(0xFFFF)
                                            : static_cast<__mmask16>((1U << (width - x)) - 1);
    const __m512 weight = linear_rows(row.weight, x, t);
    _mm512_storeu_ps(row.kept + x, weight);
    if (_mm512_mask_cmp_ps_mask(valid, weight, zero, _CMP_NEQ_OQ) == 0) {
      for (int c = 0; c < kChannels; ++c) {
        const __m256i fresh = _mm256_cvtepu8_epi16(_mm_maskz_loadu_epi8(valid, row.fresh[c] + x));
        _mm256_mask_storeu_epi16(row.updated[c] + x, valid, _mm256_slli_epi16(fresh, 7));
      }
      continue;
    }
    const __m512 move_x = linear_rows(row.across, x, t), move_y = linear_rows(row.down, x, t);
    const __m512i moves = _mm512_castps_si512(_mm512_or_ps(move_x, move_y));
    if (_mm512_mask_test_epi32_mask(valid, moves, moves) == 0) {
      for (int c = 0; c < kChannels; ++c) {
        const __m256i here = _mm256_maskz_loadu_epi16(valid, row.memory[c] + row.y * row.memory_row + x);
        mix(row, c, x, valid, _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(here)), weight);
      }
      continue;
    }
    constexpr int kDown = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
    const __m512i whole_x = _mm512_cvt_roundps_epi32(move_x, kDown), down = _mm512_cvt_roundps_epi32(move_y, kDown);
    const Taps taps = whole_cubics(_mm512_sub_ps(move_x, _mm512_cvtepi32_ps(whole_x)));
    const Weights vertical = cubics(_mm512_sub_ps(move_y, _mm512_cvtepi32_ps(down)));

    const __m512i at = _mm512_add_epi32(whole_x, _mm512_add_epi32(lanes, _mm512_set1_epi32(x)));
    __m512i at0 = _mm512_add_epi32(at, _mm512_set1_epi32(-1)), at01, at23;
    if (_mm512_mask_cmp_epu32_mask(valid, at0, before_border, _MM_CMPINT_NLT) == 0) {
      at01 = pairs(at0, at);
      at23 = _mm512_add_epi16(at01, _mm512_set1_epi16(2));
    } else {
      at0 = held(at, -1, last);
      at01 = pairs(at0, held(at, 0, last)), at23 = pairs(held(at, 1, last), held(at, 2, last));
    }
    alignas(64) std::int32_t firsts[16], downs[16];
    _mm512_store_si512(firsts, at0);
    _mm512_store_si512(downs, down);

    __m512 there[kChannels];
    auto remaining = static_cast<unsigned>(valid);
    for (int c = 0; c < kChannels; ++c) there[c] = zero;
    do {
      const int lane = __builtin_ctz(remaining);
      // The window: 32 numbers, a few of them to the left of this pixel's. It holds this pixel's for sure.
      int base = firsts[lane] - 6;
      base = base > 0 ? base : 0;
      int most = 28;  // the last place in the window of the first of four
      if (base >= width - 32) base = width - 32, most = 31;  // for beyond the border the border repeats
      const __m512i places = _mm512_sub_epi32(at0, _mm512_set1_epi32(base));
      const auto asked = static_cast<__mmask16>(remaining);
      const __mmask16 near = _mm512_mask_cmp_epu32_mask(asked, places, _mm512_set1_epi32(most), _MM_CMPINT_LE);
      // Where the motion crosses from one row to the next, two neighbouring starts share a round of five rows.
      int start = downs[lane];
      __mmask16 fits = _mm512_mask_cmpeq_epi32_mask(near, down, _mm512_set1_epi32(start)), second = 0;
      if (fits != remaining) {
        second = _mm512_mask_cmpeq_epi32_mask(near, down, _mm512_set1_epi32(start - 1));
        if (second != 0) {
          --start;
          std::swap(fits, second);
        } else {
          second = _mm512_mask_cmpeq_epi32_mask(near, down, _mm512_set1_epi32(start + 1));
        }
      }
      // Only the lowest five bits of an index count, and those of a difference hang on nothing above them.
      const __m512i from_both = _mm512_set1_epi16(static_cast<short>(base));
      const Window window{_mm512_sub_epi16(at01, from_both), _mm512_sub_epi16(at23, from_both), taps};
      const __mmask16 taken_now = fits | second;
      for (int c = 0; c < kChannels; ++c) {
        const std::uint16_t* channel = row.memory[c] + base;
        __m512 sum = zero;
        if (second == 0) {
          for (int k = 0; k < 4; ++k)
            sum = _mm512_fmadd_ps(taken(channel + line_start(row, start - 1 + k), window), vertical.w[k], sum);
        } else {
          for (int k = 0; k < 5; ++k) {
            __m512 share = k < 4 ? vertical.w[k] : zero;
            share = _mm512_mask_mov_ps(share, second, k > 0 ? vertical.w[k - 1] : zero);
            sum = _mm512_fmadd_ps(taken(channel + line_start(row, start - 1 + k), window), share, sum);
          }
        }
        there[c] = _mm512_mask_mov_ps(there[c], taken_now, sum);
      }
      remaining &= ~static_cast<unsigned>(taken_now);
    } while (remaining != 0);
    for (int c = 0; c < kChannels; ++c) mix(row, c, x, valid, there[c], weight);
  }
}

VS_TARGET inline void update(const WarpRow& row) {
  if (row.channels == 1) return update_channels<1>(row);
  if (row.channels == 2) return update_channels<2>(row);
  if (row.channels == 3) return update_channels<3>(row);
  update_channels<4>(row);
}

#elif defined(VS_AVX2)

struct Weights {
  __m256 w[4];
};

// The weights of `cubic`, over kTapOne. The two outer ones, and all four, have simple sums.
VS_TARGET inline Weights cubics(__m256 t) {
  constexpr float kOne = 1.0F / kTapOne;
  const __m256 u = _mm256_sub_ps(_mm256_set1_ps(1.0F), t), one = _mm256_set1_ps(kOne);
  const __m256 outer = _mm256_mul_ps(_mm256_mul_ps(t, _mm256_set1_ps(-0.75F * kOne)), u);
  const __m256 slope = _mm256_fmadd_ps(_mm256_set1_ps(1.25F * kOne), t, _mm256_set1_ps(-2.25F * kOne));
  const __m256 before = _mm256_mul_ps(outer, u), self = _mm256_fmadd_ps(slope, _mm256_mul_ps(t, t), one);
  return {{before, self, _mm256_sub_ps(_mm256_sub_ps(one, outer), self), _mm256_sub_ps(outer, before)}};
}

// The weights of `whole_cubic`, two and two.
struct Taps {
  __m256i first, second;
};

VS_TARGET inline __m256i pairs(__m256i first, __m256i second) {
  return _mm256_blend_epi16(first, _mm256_slli_epi32(second, 16), 0xAA);
}

VS_TARGET inline Taps whole_cubics(__m256 t) {
  const __m256 u = _mm256_sub_ps(_mm256_set1_ps(1.0F), t), one = _mm256_set1_ps(kTapOne);
  const __m256 outer = _mm256_mul_ps(_mm256_mul_ps(t, _mm256_set1_ps(-0.75F * kTapOne)), u);
  const __m256 slope = _mm256_fmadd_ps(_mm256_set1_ps(1.25F * kTapOne), t, _mm256_set1_ps(-2.25F * kTapOne));
  const __m256i both = _mm256_cvtps_epi32(outer), before = _mm256_cvtps_epi32(_mm256_mul_ps(outer, u));
  const __m256i self = _mm256_cvtps_epi32(_mm256_fmadd_ps(slope, _mm256_mul_ps(t, t), one));
  const __m256i inner = _mm256_sub_epi32(_mm256_set1_epi32(kTapOne), both);
  return {pairs(before, self), pairs(_mm256_sub_epi32(inner, self), _mm256_sub_epi32(both, before))};
}

VS_TARGET inline __m256 linear_rows(const float* const* rows, int x, __m256 t) {
  const __m256 a = _mm256_loadu_ps(rows[0] + x), b = _mm256_loadu_ps(rows[1] + x);
  return _mm256_fmadd_ps(t, _mm256_sub_ps(b, a), a);
}

VS_TARGET inline __m256i held(__m256i at, int k, int last) {
  const __m256i moved = _mm256_add_epi32(at, _mm256_set1_epi32(k));
  return _mm256_min_epi32(_mm256_max_epi32(moved, _mm256_setzero_si256()), _mm256_set1_epi32(last));
}

VS_TARGET inline __m128i load_16_bytes(const std::uint16_t* from) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}

// Mixes 8 pixels of what is remembered with the new ones.
VS_TARGET inline void mix(const WarpRow& row, int channel, int x, __m256 there, __m256 weight) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row.fresh[channel] + x));
  const __m256 base = _mm256_cvtepi32_ps(_mm256_slli_epi32(_mm256_cvtepu8_epi32(bytes), 7));
  there = _mm256_min_ps(_mm256_max_ps(there, _mm256_setzero_ps()), _mm256_set1_ps(kMostMemory));
  const __m256 half_up = _mm256_add_ps(base, _mm256_set1_ps(0.5F));
  const __m256i sum = _mm256_cvttps_epi32(_mm256_fmadd_ps(weight, _mm256_sub_ps(there, base), half_up));
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(row.updated[channel] + x), words);
}

template <int kChannels>
VS_TARGET inline void update_channels(const WarpRow& row) {
  const int width = row.width, last = width - 1;
  const __m256 t = _mm256_set1_ps(row.t), zero = _mm256_setzero_ps();
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  int x = 0;
  for (; x + 8 <= width; x += 8) {
    const __m256 weight = linear_rows(row.weight, x, t);
    _mm256_storeu_ps(row.kept + x, weight);
    if (_mm256_movemask_ps(_mm256_cmp_ps(weight, zero, _CMP_NEQ_OQ)) == 0) {
      for (int c = 0; c < kChannels; ++c) {
        const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row.fresh[c] + x));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(row.updated[c] + x), _mm_slli_epi16(_mm_cvtepu8_epi16(bytes), 7));
      }
      continue;
    }
    const __m256 move_x = linear_rows(row.across, x, t), move_y = linear_rows(row.down, x, t);
    const __m256 moves = _mm256_or_ps(_mm256_cmp_ps(move_x, zero, _CMP_NEQ_OQ),
                                      _mm256_cmp_ps(move_y, zero, _CMP_NEQ_OQ));
    if (_mm256_movemask_ps(moves) == 0) {
      for (int c = 0; c < kChannels; ++c) {
        const __m128i here = load_16_bytes(row.memory[c] + row.y * row.memory_row + x);
        mix(row, c, x, _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(here)), weight);
      }
      continue;
    }
    const __m256 floor_x = _mm256_floor_ps(move_x), floor_y = _mm256_floor_ps(move_y);
    const Taps taps = whole_cubics(_mm256_sub_ps(move_x, floor_x));
    const Weights vertical = cubics(_mm256_sub_ps(move_y, floor_y));

    const __m256i at = _mm256_add_epi32(_mm256_cvttps_epi32(floor_x), _mm256_add_epi32(lanes, _mm256_set1_epi32(x)));
    const __m256i at0 = held(at, -1, last), at1 = held(at, 0, last), at2 = held(at, 1, last), at3 = held(at, 2, last);
    const __m256i at01 = pairs(at0, at1), at23 = pairs(at2, at3);
    const __m256i down = _mm256_cvttps_epi32(floor_y);
    alignas(32) std::int32_t firsts[8], downs[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(firsts), at0);
    _mm256_store_si256(reinterpret_cast<__m256i*>(downs), down);

    __m256 there[kChannels];
    unsigned remaining = 0xFF;
    for (int c = 0; c < kChannels; ++c) there[c] = zero;
    do {
      // A window of 8 numbers for each half; it holds those of the half's first pixel for sure.
      const int left = __builtin_ctz(remaining | 8U), right = 4 + __builtin_ctz(remaining >> 4 | 8U);
      const int from_left = firsts[left] < width - 8 ? firsts[left] : width - 8;
      const int from_right = firsts[right] < width - 8 ? firsts[right] : width - 8;
      const __m256i from = _mm256_setr_m128i(_mm_set1_epi32(from_left), _mm_set1_epi32(from_right));
      const __m256i downs_of_halves = _mm256_setr_m128i(_mm_set1_epi32(downs[left]), _mm_set1_epi32(downs[right]));
      const __m256i ends = _mm256_or_si256(_mm256_sub_epi32(at0, from), _mm256_sub_epi32(at3, from));
      const __m256i inside = _mm256_cmpeq_epi32(_mm256_andnot_si256(_mm256_set1_epi32(7), ends), _mm256_setzero_si256());
      const __m256i fits = _mm256_and_si256(inside, _mm256_cmpeq_epi32(down, downs_of_halves));
      // From numbers to bytes: 2i, 2i + 1. What does not fit picks anything and is not taken.
      const __m256i from_both = pairs(from, from), to_bytes = _mm256_set1_epi16(0x0202), odd = _mm256_set1_epi16(0x0100);
      const __m256i seven = _mm256_set1_epi16(7);
      const __m256i pick01 = _mm256_add_epi16(
          _mm256_mullo_epi16(_mm256_and_si256(_mm256_sub_epi16(at01, from_both), seven), to_bytes), odd);
      const __m256i pick23 = _mm256_add_epi16(
          _mm256_mullo_epi16(_mm256_and_si256(_mm256_sub_epi16(at23, from_both), seven), to_bytes), odd);
      for (int c = 0; c < kChannels; ++c) {
        __m256 sum = zero;
        for (int k = 0; k < 4; ++k) {
          const std::uint16_t* upper =
              row.memory[c] + within(row.y + downs[left] - 1 + k, row.height - 1) * row.memory_row + from_left;
          const std::uint16_t* lower =
              row.memory[c] + within(row.y + downs[right] - 1 + k, row.height - 1) * row.memory_row + from_right;
          const __m256i window = _mm256_setr_m128i(load_16_bytes(upper), load_16_bytes(lower));
          const __m256i products = _mm256_add_epi32(_mm256_madd_epi16(_mm256_shuffle_epi8(window, pick01), taps.first),
                                                    _mm256_madd_epi16(_mm256_shuffle_epi8(window, pick23), taps.second));
          sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products), vertical.w[k], sum);
        }
        there[c] = _mm256_blendv_ps(there[c], sum, _mm256_castsi256_ps(fits));
      }
      remaining &= ~static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(fits)));
    } while (remaining != 0);
    for (int c = 0; c < kChannels; ++c) mix(row, c, x, there[c], weight);
  }
  update_from(x, row);
}

VS_TARGET inline void update(const WarpRow& row) {
  if (row.channels == 1) return update_channels<1>(row);
  if (row.channels == 2) return update_channels<2>(row);
  if (row.channels == 3) return update_channels<3>(row);
  update_channels<4>(row);
}

#else

VS_TARGET inline void update(const WarpRow& row) { update_from(0, row); }

#endif

// Three rows of the memory, sharpened to 8 bits. `columns` is scratch of width + 2 numbers.
VS_TARGET inline void show(const std::uint16_t* above, const std::uint16_t* row, const std::uint16_t* below,
                           const float* VS_RESTRICT kept, float gain, int width, std::int32_t* VS_RESTRICT columns,
                           std::uint8_t* VS_RESTRICT out) {
  if (gain == 0.0F) {
    for (int x = 0; x < width; ++x) {
      const unsigned level = (row[x] + kMemoryScale / 2U) / kMemoryScale;
      out[x] = static_cast<std::uint8_t>(level > 255 ? 255 : level);
    }
    return;
  }
  for (int x = 0; x < width; ++x) columns[x + 1] = above[x] + row[x] + below[x];
  columns[0] = columns[1];
  columns[width + 1] = columns[width];
  for (int x = 0; x < width; ++x)
    out[x] = sharpened(row[x], columns[x] + columns[x + 1] + columns[x + 2], gain * kept[x]);
}

// One row of a picture whose channels lie side by side, taken apart and put together.
VS_TARGET inline void split2(const std::uint8_t* in, int width, std::uint8_t* const* out) {
  std::uint8_t *VS_RESTRICT a = out[0], *VS_RESTRICT b = out[1];
  for (int x = 0; x < width; ++x) a[x] = in[2 * x], b[x] = in[2 * x + 1];
}
VS_TARGET inline void split3(const std::uint8_t* in, int width, std::uint8_t* const* out) {
  std::uint8_t *VS_RESTRICT a = out[0], *VS_RESTRICT b = out[1], *VS_RESTRICT c = out[2];
  for (int x = 0; x < width; ++x) a[x] = in[3 * x], b[x] = in[3 * x + 1], c[x] = in[3 * x + 2];
}
VS_TARGET inline void join2(const std::uint8_t* const* in, int width, std::uint8_t* VS_RESTRICT out) {
  const std::uint8_t *a = in[0], *b = in[1];
  for (int x = 0; x < width; ++x) out[2 * x] = a[x], out[2 * x + 1] = b[x];
}
VS_TARGET inline void join3(const std::uint8_t* const* in, int width, std::uint8_t* VS_RESTRICT out) {
  const std::uint8_t *a = in[0], *b = in[1], *c = in[2];
  for (int x = 0; x < width; ++x) out[3 * x] = a[x], out[3 * x + 1] = b[x], out[3 * x + 2] = c[x];
}

}  // namespace VS_LEVEL
}  // namespace vidstyle
