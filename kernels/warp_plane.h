// The warp of one plane: bands of rows, one thread each.
//
// A band runs through its rows once. Row y is updated, then row y - 1 is shown, while the three updated rows
// that it needs are in the cache. The rows next to a band belong to other threads: a band computes its
// own copy of them, so no thread waits for another, and every split into bands gives the same bytes.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>

#include "plane.h"
#include "rows.h"
#include "warp_row.h"

namespace vidstyle {

// A picture of 8 bits: `channel` bytes from one channel of a pixel to the next.
template <class Byte>
struct Picture {
  Channel<Byte> first;
  int channels;
  std::ptrdiff_t channel;

  // Whether the pixels lie side by side, and within them their channels.
  bool packed() const { return first.step == channels && (channels == 1 || channel == 1); }
};

// Remembered pixels: side by side in every channel; `row` and `channel` count numbers.
template <class Number>
struct Remembered {
  Number* data;
  std::ptrdiff_t row, channel;

  Number* at(int c, int y) const { return data + c * channel + y * row; }
};

struct Warp {
  Picture<const std::uint8_t> fresh;
  Remembered<const std::uint16_t> memory;
  Channel<const float> flow;    // x and y side by side; row and step count numbers
  Channel<const float> weight;
  float gain;
  Picture<std::uint8_t> shown;
  Remembered<std::uint16_t> updated;

  int height() const { return fresh.first.height; }
  int width() const { return fresh.first.width; }
};

// The rows from `begin` to `end` of a plane, and the memory needed for them.
class WarpBand {
 public:
  WarpBand(const Warp& warp, const Stretch& across, const Rows& rows, int begin, int end)
      : warp_(warp),
        across_(across),
        rows_(rows.warp),
        begin_(begin),
        end_(end),
        padded_(static_cast<std::size_t>(warp.width() + kWarpPadding)),
        small_(static_cast<std::size_t>(warp.flow.width + kWarpPadding)),
        fields_(6 * padded_),
        kept_(2 * padded_),
        columns_(padded_),
        bytes_(channels() * padded_),
        outside_(2 * channels() * padded_) {}

  void run() {
    const int height = warp_.height();
    for (int y = std::max(begin_ - 1, 0); y < std::min(end_ + 1, height); ++y) {
      update(y);
      if (y > begin_) show(y - 1);
    }
    if (end_ == height) show(height - 1);
  }

 private:
  std::size_t channels() const { return static_cast<std::size_t>(warp_.fresh.channels); }

  // The updated row y of a channel: in the plane, or where it belongs to another band, here.
  std::uint16_t* updated(int c, int y) {
    if (y >= begin_ && y < end_) return warp_.updated.at(c, y);
    return outside_.data() + (static_cast<std::size_t>(c) * 2 + (y < begin_ ? 0 : 1)) * padded_;
  }

  float* kept(int y) { return kept_.data() + static_cast<std::size_t>(y % 2) * padded_; }

  float* field(int quantity, int small_y) {
    return fields_.data() + static_cast<std::size_t>(quantity * 2 + small_y % 2) * padded_;
  }

  // The small row y of flow and weight, in pixels of the plane, enlarged sideways.
  void fill(int y) {
    int& held = held_[static_cast<std::size_t>(y % 2)];
    if (held == y) return;
    held = y;
    const int width = warp_.flow.width;
    const float *flow = warp_.flow.at(y), *weight = warp_.weight.at(y);
    const float scale[2] = {static_cast<float>(warp_.width()) / static_cast<float>(width),
                            static_cast<float>(warp_.height()) / static_cast<float>(warp_.flow.height)};
    for (int quantity = 0; quantity < 2; ++quantity) {
      for (int x = 0; x < width; ++x)
        small_[static_cast<std::size_t>(x)] = finite_flow(flow[2 * x + quantity]) * scale[quantity];
      rows_.stretch(small_.data(), across_, field(quantity, y));
    }
    for (int x = 0; x < width; ++x) small_[static_cast<std::size_t>(x)] = finite_weight(weight[x]);
    rows_.stretch(small_.data(), across_, field(2, y));
  }

  void update(int y) {
    const float ratio = static_cast<float>(static_cast<double>(warp_.flow.height) / warp_.height());
    const Between place = between(y, ratio, warp_.flow.height);
    fill(place.first);
    fill(place.second);
    WarpRow row{};
    row.y = y, row.width = warp_.width(), row.height = warp_.height(), row.channels = warp_.fresh.channels;
    row.t = place.t;
    row.memory_row = warp_.memory.row;
    row.kept = kept(y);
    for (int k = 0; k < 2; ++k) {
      const int small_y = k == 0 ? place.first : place.second;
      row.across[k] = field(0, small_y), row.down[k] = field(1, small_y), row.weight[k] = field(2, small_y);
    }
    take_apart(y);
    for (int c = 0; c < row.channels; ++c) {
      row.fresh[c] = row.channels == 1 && warp_.fresh.packed() ? warp_.fresh.first.at(y) : bytes(c);
      row.memory[c] = warp_.memory.at(c, 0);
      row.updated[c] = updated(c, y);
    }
    rows_.update(row);
  }

  void show(int y) {
    const int last = warp_.height() - 1, width = warp_.width(), count = warp_.shown.channels;
    const bool direct = count == 1 && warp_.shown.packed();
    for (int c = 0; c < count; ++c) {
      rows_.show(updated(c, std::max(y - 1, 0)), updated(c, y), updated(c, std::min(y + 1, last)), kept(y), warp_.gain,
                 width, columns_.data(), direct ? warp_.shown.first.at(y) : bytes(c));
    }
    if (!direct) put_together(y);
  }

  std::uint8_t* bytes(int c) { return bytes_.data() + static_cast<std::size_t>(c) * padded_; }

  void take_apart(int y) {
    const auto& from = warp_.fresh;
    const std::uint8_t* row = from.first.at(y);
    std::uint8_t* const to[3] = {bytes(0), from.channels > 1 ? bytes(1) : nullptr,
                                 from.channels > 2 ? bytes(2) : nullptr};
    if (from.packed() && from.channels < 4) {
      if (from.channels == 2) rows_.split2(row, from.first.width, to);
      if (from.channels == 3) rows_.split3(row, from.first.width, to);
      return;
    }
    for (int c = 0; c < from.channels; ++c) {
      const std::uint8_t* pixel = row + c * from.channel;
      for (int x = 0; x < from.first.width; ++x, pixel += from.first.step) bytes(c)[x] = *pixel;
    }
  }

  void put_together(int y) {
    const auto& to = warp_.shown;
    std::uint8_t* row = to.first.at(y);
    const std::uint8_t* const from[3] = {bytes(0), to.channels > 1 ? bytes(1) : nullptr,
                                         to.channels > 2 ? bytes(2) : nullptr};
    if (to.packed() && (to.channels == 2 || to.channels == 3)) {
      (to.channels == 2 ? rows_.join2 : rows_.join3)(from, to.first.width, row);
      return;
    }
    for (int c = 0; c < to.channels; ++c) {
      std::uint8_t* pixel = row + c * to.channel;
      for (int x = 0; x < to.first.width; ++x, pixel += to.first.step) *pixel = bytes(c)[x];
    }
  }

  const Warp& warp_;
  const Stretch& across_;
  const WarpRows rows_;
  int begin_, end_;
  std::size_t padded_;
  std::vector<float> small_;
  std::vector<float> fields_, kept_;
  std::vector<std::int32_t> columns_;
  std::vector<std::uint8_t> bytes_;
  std::vector<std::uint16_t> outside_;
  std::array<int, 2> held_{-1, -1};
};

// `threads` bands at most, and none of fewer rows than pay for a thread.
inline void warp_plane(const Warp& warp, int threads, const Rows& rows) {
  constexpr long long kLeastPixels = 16 * 1024;
  const int height = warp.height();
  const long long worth = static_cast<long long>(height) * warp.width() * warp.fresh.channels / kLeastPixels;
  const int count = static_cast<int>(std::clamp<long long>(std::min<long long>(threads, worth), 1, height));
  const Stretch across(warp.flow.width, warp.width());
  std::vector<WarpBand> bands;
  bands.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) {
    const auto edge = [&](int k) { return static_cast<int>(static_cast<long long>(height) * k / count); };
    bands.emplace_back(warp, across, rows, edge(i), edge(i + 1));
  }
  std::vector<std::thread> others;
  others.reserve(bands.size());
  std::size_t started = 1;
  try {
    for (; started < bands.size(); ++started) others.emplace_back(&WarpBand::run, &bands[started]);
  } catch (const std::system_error&) {
    // No more threads to be had: the caller's own does the rest.
  }
  bands[0].run();
  for (std::size_t i = started; i < bands.size(); ++i) bands[i].run();
  for (std::thread& other : others) other.join();
}

}  // namespace vidstyle
