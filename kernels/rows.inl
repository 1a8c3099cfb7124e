// The inner loops, one row each. Included once for every instruction set by rows.h, which defines
//
//   VS_LEVEL    the namespace of this copy
//   VS_TARGET   the attribute that lets the compiler use the instruction set
//   VS_AVX2     defined where AVX2 intrinsics may be used
//   VS_RESTRICT the compiler's word for a pointer that nothing else overlaps
//
// The loops are written so that the compiler vectorizes them. Only `expand` needs a hand: a row is
// enlarged by picking neighbours at an uneven pace, for which compilers have nothing but slow gathers.

namespace vidstyle {
namespace VS_LEVEL {

// sum[x] = the sum of columns[x] ... columns[x + 2 * kRadius], whose ends are filled in first.
VS_TARGET inline void across(std::int32_t* VS_RESTRICT columns, int width, std::int32_t* VS_RESTRICT sum) {
  for (int x = 0; x < kRadius; ++x) {
    columns[x] = columns[kRadius];
    columns[kRadius + width + x] = columns[kRadius + width - 1];
  }
  for (int x = 0; x < width; ++x)
    sum[x] = columns[x] + columns[x + 1] + columns[x + 2] + columns[x + 3] + columns[x + 4];
}

// Sums over boxes of 2 * kRadius + 1 rows and columns, one row of them, exact in 32 bits.
//
// `p` points to the rows of the box, from the top, already clamped to the picture; columns outside the
// picture repeat the first and the last one. `columns` is scratch of width + 2 * kRadius numbers.
VS_TARGET inline void box_sum(const std::uint8_t* const* p, int width, std::int32_t* VS_RESTRICT columns,
                              std::int32_t* VS_RESTRICT sum) {
  const std::uint8_t *p0 = p[0], *p1 = p[1], *p2 = p[2], *p3 = p[3], *p4 = p[4];
  for (int x = 0; x < width; ++x) columns[kRadius + x] = p0[x] + p1[x] + p2[x] + p3[x] + p4[x];
  across(columns, width, sum);
}

// The same of the products of two pictures.
VS_TARGET inline void box_product(const std::uint8_t* const* p, const std::uint8_t* const* q, int width,
                                  std::int32_t* VS_RESTRICT columns, std::int32_t* VS_RESTRICT sum) {
  const std::uint8_t *p0 = p[0], *p1 = p[1], *p2 = p[2], *p3 = p[3], *p4 = p[4];
  const std::uint8_t *q0 = q[0], *q1 = q[1], *q2 = q[2], *q3 = q[3], *q4 = q[4];
  for (int x = 0; x < width; ++x)
    columns[kRadius + x] = p0[x] * q0[x] + p1[x] * q1[x] + p2[x] * q2[x] + p3[x] * q3[x] + p4[x] * q4[x];
  across(columns, width, sum);
}

// a[x] and b[x] of the model  styled = a * luma + b  around every pixel of one row, from box sums.
VS_TARGET inline void model(const std::uint8_t* l, const std::uint8_t* s, const BoxSums& sums, int width,
                            const Fit& fit, float* VS_RESTRICT a, float* VS_RESTRICT b) {
  const std::int32_t *sum_l = sums.l, *sum_s = sums.s, *sum_ll = sums.ll, *sum_ls = sums.ls;
  const float epsilon = fit.epsilon * kArea * kArea, low = fit.low, high = fit.high;
  for (int x = 0; x < width; ++x) {
    const float covariance = static_cast<float>(kArea * sum_ls[x] - sum_l[x] * sum_s[x]);
    const float variance = static_cast<float>(kArea * sum_ll[x] - sum_l[x] * sum_l[x]);
    float slope = covariance / (variance + epsilon);
    slope = slope < low ? low : slope;
    slope = slope > high ? high : slope;
    a[x] = slope;
    b[x] = static_cast<float>(s[x]) - slope * static_cast<float>(l[x]);
  }
}

// out[x] = the cubic of `taps` through in[first[x]] ... in[first[x] + 3].
VS_TARGET inline void expand(const float* in, const Taps& taps, float* out) {
  const int size = taps.size();
  const std::int32_t* first = taps.first.data();
  const float *w0 = taps.weight[0].data(), *w1 = taps.weight[1].data();
  const float *w2 = taps.weight[2].data(), *w3 = taps.weight[3].data();
  int x = 0;
#ifdef VS_AVX2
  if (taps.narrow) {
    const __m256i one = _mm256_set1_epi32(1);
    for (; x + 8 <= size; x += 8) {
      const __m256 from = _mm256_loadu_ps(in + first[x]);
      __m256i pick = _mm256_sub_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(first + x)),
                                      _mm256_set1_epi32(first[x]));
      __m256 sum = _mm256_mul_ps(_mm256_loadu_ps(w0 + x), _mm256_permutevar8x32_ps(from, pick));
      pick = _mm256_add_epi32(pick, one);
      sum = _mm256_fmadd_ps(_mm256_loadu_ps(w1 + x), _mm256_permutevar8x32_ps(from, pick), sum);
      pick = _mm256_add_epi32(pick, one);
      sum = _mm256_fmadd_ps(_mm256_loadu_ps(w2 + x), _mm256_permutevar8x32_ps(from, pick), sum);
      pick = _mm256_add_epi32(pick, one);
      sum = _mm256_fmadd_ps(_mm256_loadu_ps(w3 + x), _mm256_permutevar8x32_ps(from, pick), sum);
      _mm256_storeu_ps(out + x, sum);
    }
  }
#endif
  for (; x < size; ++x) {
    const float* from = in + first[x];
    out[x] = w0[x] * from[0] + w1[x] * from[1] + w2[x] * from[2] + w3[x] * from[3];
  }
}

// out[x] = a * guide[x] + b, where a and b are cubics down the columns of four rows each.
VS_TARGET inline void apply(const float* const* a, const float* const* b, const float* weight,
                            const std::uint8_t* guide, int width, std::uint8_t* VS_RESTRICT out) {
  const float *a0 = a[0], *a1 = a[1], *a2 = a[2], *a3 = a[3], *b0 = b[0], *b1 = b[1], *b2 = b[2], *b3 = b[3];
  const float w0 = weight[0], w1 = weight[1], w2 = weight[2], w3 = weight[3];
  for (int x = 0; x < width; ++x) {
    const float slope = w0 * a0[x] + w1 * a1[x] + w2 * a2[x] + w3 * a3[x];
    const float offset = w0 * b0[x] + w1 * b1[x] + w2 * b2[x] + w3 * b3[x] + 0.5F;
    // Truncation instead of floor is right here: the two differ below zero only, which becomes zero.
    std::int32_t value = static_cast<std::int32_t>(slope * static_cast<float>(guide[x]) + offset);
    value = value < 0 ? 0 : value;
    value = value > 255 ? 255 : value;
    out[x] = static_cast<std::uint8_t>(value);
  }
}

// out[x] = the rounded mean of two by two pixels.
VS_TARGET inline void halve(const std::uint8_t* upper, const std::uint8_t* lower, int pairs,
                            std::uint8_t* VS_RESTRICT out) {
  for (int x = 0; x < pairs; ++x) {
    const int sum = upper[2 * x] + upper[2 * x + 1] + lower[2 * x] + lower[2 * x + 1];
    out[x] = static_cast<std::uint8_t>((sum + 2) >> 2);
  }
}

// out[x] = BT.601 luma of interleaved RGB, full range.
VS_TARGET inline void luma(const std::uint8_t* rgb, int width, std::uint8_t* VS_RESTRICT out) {
  for (int x = 0; x < width; ++x) {
    const int sum = 77 * rgb[3 * x] + 150 * rgb[3 * x + 1] + 29 * rgb[3 * x + 2];
    out[x] = static_cast<std::uint8_t>((sum + 128) >> 8);
  }
}

// out[x] = source[x], moved towards painted[x] by mask[x] / 255 * strength / 257.
VS_TARGET inline void mix(const std::uint8_t* source, const std::uint8_t* painted, const std::uint8_t* mask,
                          int strength, int width, std::uint8_t* VS_RESTRICT out) {
  for (int x = 0; x < width; ++x) {
    std::int32_t weight = mask[x] * strength;
    weight += weight >> 15;  // 65535 to 65536
    const std::int32_t sum = source[x] * (65536 - weight) + painted[x] * weight;
    out[x] = static_cast<std::uint8_t>((sum + 32768) >> 16);
  }
}

}  // namespace VS_LEVEL
}  // namespace vidstyle
