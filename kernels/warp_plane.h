// The warp of one plane: bands of rows, shared out among threads.
//
// Rows are gone through once. Row y is updated, then the row before it is shown, while the three updated rows
// that it needs are in the cache. The first thread goes down from the top, the others up from the bottom, band
// by band. Where a band does not follow on the thread's last one, the rows next to it belong to others: the thread
// computes its own copy of them, so nobody waits for anybody, and every split into bands gives the same bytes.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "plane.h"
#include "rows.h"
#include "thread_pool.h"
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

// One thread's memory for the bands that it does, one after the other.
class WarpBand {
 public:
  WarpBand(const Warp& warp, const Stretch& across, const Rows& rows)
      : warp_(warp),
        across_(across),
        rows_(rows.warp),
        padded_(static_cast<std::size_t>(warp.width() + kWarpPadding)),
        scale_{static_cast<float>(warp.width()) / static_cast<float>(warp.flow.width),
               static_cast<float>(warp.height()) / static_cast<float>(warp.flow.height),
               static_cast<float>(warp.flow.width + 1), static_cast<float>(warp.flow.height + 1)},
        small_(3 * static_cast<std::size_t>(warp.flow.width + kWarpPadding)),
        fields_(6 * padded_),
        kept_(2 * padded_),
        columns_(padded_),
        bytes_(channels() * padded_),
        outside_(2 * channels() * padded_) {}

  // The rows from `begin` to `end`; all is shown but the row that needs one of the next band.
  void run(int begin, int end, bool downwards) {
    if (pending_ && downwards && begin == end_) {
      end_ = end;
    } else if (pending_ && !downwards && end == begin_) {
      begin_ = begin;
    } else {
      finish(downwards);
      begin_ = begin, end_ = end, pending_ = true;
      if (downwards && begin > 0) update(begin - 1);
      if (!downwards && end < warp_.height()) update(end);
      update(downwards ? begin++ : --end);
    }
    while (begin < end) {
      const int y = downwards ? begin++ : --end;
      update(y);
      show(downwards ? y - 1 : y + 1);
    }
  }

  void finish(bool downwards) {
    if (!pending_) return;
    pending_ = false;
    if (downwards && end_ < warp_.height()) update(end_);
    if (!downwards && begin_ > 0) update(begin_ - 1);
    show(downwards ? end_ - 1 : begin_);
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

  float* small(int quantity) {
    return small_.data() + static_cast<std::size_t>(quantity) * (small_.size() / 3);
  }

  // The small row y of flow and weight, in pixels of the plane, enlarged sideways.
  void fill(int y) {
    int& held = held_[static_cast<std::size_t>(y % 2)];
    if (held == y) return;
    held = y;
    rows_.prepare(warp_.flow.at(y), warp_.weight.at(y), warp_.flow.width, scale_, small(0), small(1), small(2));
    for (int quantity = 0; quantity < 3; ++quantity) rows_.stretch(small(quantity), across_, field(quantity, y));
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
  int begin_ = 0, end_ = 0;
  bool pending_ = false;
  std::size_t padded_;
  FlowScale scale_;
  std::vector<float> small_;
  std::vector<float> fields_, kept_;
  std::vector<std::int32_t> columns_;
  std::vector<std::uint8_t> bytes_;
  std::vector<std::uint16_t> outside_;
  std::array<int, 2> held_{-1, -1};
};

// Several bands a thread, so that one which is late or slow does fewer of them; none so small that it
// does not pay.
inline void warp_plane(const Warp& warp, int threads, const Rows& rows) {
  constexpr long long kLeastPixels = 8 * 1024;
  constexpr int kBandsPerThread = 16;
  const int height = warp.height();
  const long long worth = static_cast<long long>(height) * warp.width() * warp.fresh.channels / kLeastPixels;
  threads = std::min(threads, ThreadPool::size());
  const int count = threads == 1 ? 1 : static_cast<int>(std::clamp<long long>(
                                           std::min<long long>(threads * kBandsPerThread, worth), 1, height));
  threads = std::min(threads, count);
  const Stretch across(warp.flow.width, warp.width());
  struct Shared {
    std::vector<WarpBand> members;
    int height, count;
    int edge(int k) const { return static_cast<int>(static_cast<long long>(height) * k / count); }
  } shared{{}, height, count};
  shared.members.reserve(static_cast<std::size_t>(threads));
  for (int i = 0; i < threads; ++i) shared.members.emplace_back(warp, across, rows);
  const auto work = [](void* context, int piece, int member) {
    auto& all = *static_cast<Shared*>(context);
    WarpBand& band = all.members[static_cast<std::size_t>(member)];
    if (piece == Task::kEnd)
      band.finish(member == 0);
    else
      band.run(all.edge(piece), all.edge(piece + 1), member == 0);
  };
  if (count == 1)
    work(&shared, 0, 0), work(&shared, Task::kEnd, 0);
  else
    ThreadPool::shared().run(work, &shared, count, threads - 1);
}

}  // namespace vidstyle
