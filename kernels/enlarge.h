// A picture stylized at a small size, enlarged with the edges of its full-size source.
//
//     small size, around every pixel:   styled = a * luma + b     (He and Sun 2015, "Fast guided filter")
//     full size, at every pixel:        out = a' * luma + b'      a', b' = a, b enlarged by cubic convolution
//
// b is exact at every small pixel, not fitted: what luma does not explain (brush strokes) stays, and an
// enlargement by 1 gives `styled` back.
//
// One thread, one pass. A small row is modelled and enlarged sideways when the first row that needs it
// comes, into a ring of four; each full row is then four rows of a and of b read once, straight through.
//
//     small rows  j-1 j j+1 j+2  --model, expand-->  ring (a, b: 4 rows of full width each)  --apply-->  out row y
//
// Scratch is a few rows; no buffer is as big as a plane.
#pragma once

#include <algorithm>
#include <vector>

#include "plane.h"
#include "rows.h"

namespace vidstyle {

// Where luma comes from.
enum class GuideKind {
  plain,  // one channel
  half,   // one channel of twice the size, averaged two by two (odd sizes rounded up, the edge repeated)
  rgb,    // three interleaved bytes, BT.601
};

// The luma of one row at a time, contiguous.
class Guide {
 public:
  Guide(const Source& source, GuideKind kind, const Rows& rows)
      : source_(source), kind_(kind), rows_(rows), row_(kind == GuideKind::plain ? 0 : static_cast<size_t>(width())) {}

  int height() const { return kind_ == GuideKind::half ? (source_.height + 1) / 2 : source_.height; }
  int width() const { return kind_ == GuideKind::half ? (source_.width + 1) / 2 : source_.width; }

  // Row y, valid until the next call.
  const std::uint8_t* operator()(int y) {
    if (kind_ == GuideKind::plain) return source_.at(y);
    if (kind_ == GuideKind::rgb) {
      rows_.luma(source_.at(y), source_.width, row_.data());
      return row_.data();
    }
    const std::uint8_t *upper = source_.at(2 * y), *lower = source_.at(std::min(2 * y + 1, source_.height - 1));
    const int pairs = source_.width / 2;
    rows_.halve(upper, lower, pairs, row_.data());
    if (source_.width % 2)
      row_[static_cast<size_t>(pairs)] = static_cast<std::uint8_t>((upper[2 * pairs] + lower[2 * pairs] + 1) >> 1);
    return row_.data();
  }

 private:
  Source source_;
  GuideKind kind_;
  Rows rows_;
  std::vector<std::uint8_t> row_;
};

// Enlarge the channels `styled` into `out`. All of `styled` have the size of `small_guide`, all of
// `out` that of `guide`, no size is 0; plain and rgb guides are
// contiguous within a row.
inline void enlarge(const std::vector<Source>& styled, Guide small_guide, Guide guide, const std::vector<Target>& out,
                    const Fit& fit, const Rows& rows) {
  const int small_height = small_guide.height(), small_width = small_guide.width();
  const int height = guide.height(), width = guide.width();
  const size_t channels = styled.size(), w = static_cast<size_t>(small_width), full = static_cast<size_t>(width);
  const Taps across(small_width, width), down(small_height, height);

  // The rows of the box: luma and every channel, contiguous, in rings of kSide rows by row number.
  const size_t planes = channels + 1, depth = static_cast<size_t>(kSide);
  std::vector<std::uint8_t> box(planes * depth * w);
  std::vector<int> boxed(depth, -1);
  const auto box_row = [&](size_t plane, int y) {
    return box.data() + (plane * depth + static_cast<size_t>(y) % depth) * w;
  };
  const auto fill_box = [&](int y) {
    int& held = boxed[static_cast<size_t>(y) % depth];
    if (held == y) return;
    held = y;
    std::copy_n(small_guide(y), w, box_row(0, y));
    for (size_t c = 0; c < channels; ++c) {
      const std::uint8_t* from = styled[c].at(y);
      std::uint8_t* to = box_row(c + 1, y);
      if (styled[c].step == 1) {
        std::copy_n(from, w, to);
      } else {
        for (size_t x = 0; x < w; ++x) to[x] = from[static_cast<std::ptrdiff_t>(x) * styled[c].step];
      }
    }
  };

  std::vector<std::int32_t> columns(w + 2 * kRadius), sum_l(w), sum_s(w), sum_ll(w), sum_ls(w);
  std::vector<float> slope(w + Taps::kBefore + Taps::kAfter), offset(slope.size());
  std::vector<float> ring(channels * 2 * 4 * full);
  const auto ring_row = [&](size_t channel, int quantity, int y) {
    return ring.data() + ((channel * 2 + static_cast<size_t>(quantity)) * 4 + static_cast<size_t>(y) % 4) * full;
  };
  int ringed[4] = {-1, -1, -1, -1};
  const auto fill_ring = [&](int y) {
    if (ringed[y % 4] == y) return;
    ringed[y % 4] = y;
    const std::uint8_t *luma[kSide], *channel[kSide];
    for (int k = 0; k < kSide; ++k) {
      const int row = clamped(y + k - kRadius, 0, small_height - 1);
      fill_box(row);
      luma[k] = box_row(0, row);
    }
    rows.box_sum(luma, small_width, columns.data(), sum_l.data());
    rows.box_product(luma, luma, small_width, columns.data(), sum_ll.data());
    for (size_t c = 0; c < channels; ++c) {
      for (int k = 0; k < kSide; ++k) channel[k] = box_row(c + 1, clamped(y + k - kRadius, 0, small_height - 1));
      rows.box_sum(channel, small_width, columns.data(), sum_s.data());
      rows.box_product(luma, channel, small_width, columns.data(), sum_ls.data());
      rows.model(luma[kRadius], channel[kRadius], {sum_l.data(), sum_s.data(), sum_ll.data(), sum_ls.data()},
                 small_width, fit, slope.data() + Taps::kBefore, offset.data() + Taps::kBefore);
      for (auto* row : {&slope, &offset}) {
        std::fill_n(row->begin(), Taps::kBefore, (*row)[Taps::kBefore]);
        std::fill_n(row->end() - Taps::kAfter, Taps::kAfter, (*row)[Taps::kBefore + w - 1]);
      }
      rows.expand(slope.data(), across, ring_row(c, 0, y));
      rows.expand(offset.data(), across, ring_row(c, 1, y));
    }
  };

  std::vector<std::uint8_t> line(full);
  for (int y = 0; y < height; ++y) {
    const auto i = static_cast<size_t>(y);
    int four[4];
    for (int k = 0; k < 4; ++k) {
      four[k] = clamped(down.first[i] - Taps::kBefore + k, 0, small_height - 1);
      fill_ring(four[k]);
    }
    const float weight[4] = {down.weight[0][i], down.weight[1][i], down.weight[2][i], down.weight[3][i]};
    const std::uint8_t* luma = guide(y);
    for (size_t c = 0; c < channels; ++c) {
      const float *a[4], *b[4];
      for (int k = 0; k < 4; ++k) a[k] = ring_row(c, 0, four[k]), b[k] = ring_row(c, 1, four[k]);
      std::uint8_t* to = out[c].at(y);
      if (out[c].step == 1) {
        rows.apply(a, b, weight, luma, width, to);
      } else {
        rows.apply(a, b, weight, luma, width, line.data());
        for (size_t x = 0; x < full; ++x) to[static_cast<std::ptrdiff_t>(x) * out[c].step] = line[x];
      }
    }
  }
}

}  // namespace vidstyle
