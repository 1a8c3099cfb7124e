// Temporal smoothing on an NVIDIA GPU: warp.h at every pixel of a plane, one launch a plane. Compiled at run
// time by NVRTC for the GPU that is there; see vidstyle/warp_cuda.py.
//
//     new, shown        8 bit, any row pitch, step and channel distance
//     memory, updated   16 bit, pixels side by side, any row pitch and channel distance
//     flow, weight      float, (h, w, 2) and (h, w), pixels side by side, any row pitch
//
// A block owns 32 x 8 pixels of one channel and updates 34 x 10 of them into shared memory, for the 3 x 3
// means: what it needs of its neighbours it works out again, so one launch does all. Distances count elements.
//
//     +--34--+
//     |+-32-+|   thread (tx, ty) writes pixel (tx, ty); the first 84 threads also update the rim
//     || 8  ||   blockIdx.z is the channel
//     |+----+|
//     +------+
#include "warp.h"

namespace {

using namespace vidstyle;

constexpr int kAcross = 32, kDown = 8;
constexpr int kRimAcross = kAcross + 2, kRimDown = kDown + 2;
constexpr int kRim = kRimAcross * kRimDown - kAcross * kDown;

// Laid out as vidstyle/warp_cuda.py says.
struct Plane {
  const unsigned char* fresh;
  const unsigned short* memory;
  const float* flow;
  const float* weight;
  unsigned char* shown;
  unsigned short* updated;
  long long fresh_row, fresh_step, fresh_channel;
  long long memory_row, memory_channel;
  long long flow_row, weight_row;
  long long shown_row, shown_step, shown_channel;
  long long updated_row, updated_channel;
  int height, width, small_height, small_width;
  float gain;
  int unused;
};

struct Updated {
  unsigned short value;
  float weight;
};

__device__ Updated update(const Plane& plane, int channel, int x, int y) {
  const float ratio_x = static_cast<float>(plane.small_width) / static_cast<float>(plane.width);
  const float ratio_y = static_cast<float>(plane.small_height) / static_cast<float>(plane.height);
  const Between across = between(x, ratio_x, plane.small_width), down = between(y, ratio_y, plane.small_height);
  const int fresh = plane.fresh[y * plane.fresh_row + x * plane.fresh_step + channel * plane.fresh_channel];

  const float* upper = plane.weight + down.first * plane.weight_row;
  const float* lower = plane.weight + down.second * plane.weight_row;
  const float weight =
      linear(linear(finite_weight(upper[across.first]), finite_weight(upper[across.second]), across.t),
             linear(finite_weight(lower[across.first]), finite_weight(lower[across.second]), across.t), down.t);
  if (weight == 0.0F) return {static_cast<unsigned short>(fresh * kMemoryScale), 0.0F};

  float move[2];
  for (int k = 0; k < 2; ++k) {
    const float most = static_cast<float>((k == 0 ? plane.small_width : plane.small_height) + 1);
    upper = plane.flow + down.first * plane.flow_row + k;
    lower = plane.flow + down.second * plane.flow_row + k;
    const float scale = k == 0 ? static_cast<float>(plane.width) / static_cast<float>(plane.small_width)
                               : static_cast<float>(plane.height) / static_cast<float>(plane.small_height);
    move[k] = linear(linear(finite_flow(upper[2 * across.first], most) * scale,
                            finite_flow(upper[2 * across.second], most) * scale, across.t),
                     linear(finite_flow(lower[2 * across.first], most) * scale,
                            finite_flow(lower[2 * across.second], most) * scale, across.t),
                     down.t);
  }
  const Memory memory{plane.memory + channel * plane.memory_channel, plane.height, plane.width, plane.memory_row, 1};
  return {mixed(fresh, remembered(memory, x, y, way(move[0]), way(move[1])), weight), weight};
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kAcross* kDown) warp_blend(const Plane plane) {
  __shared__ unsigned short tile[kRimDown][kRimAcross];
  const int left = static_cast<int>(blockIdx.x) * kAcross, top = static_cast<int>(blockIdx.y) * kDown;
  const int channel = static_cast<int>(blockIdx.z);
  const int tx = static_cast<int>(threadIdx.x), ty = static_cast<int>(threadIdx.y);
  const int last_x = plane.width - 1, last_y = plane.height - 1;
  const int x = left + tx, y = top + ty;
  const bool inside = x <= last_x && y <= last_y;
  // Beyond the picture the tile repeats the border, which is the mean's border too.
  const Updated own = update(plane, channel, within(x, last_x), within(y, last_y));
  tile[ty + 1][tx + 1] = own.value;
  if (inside) plane.updated[y * plane.updated_row + channel * plane.updated_channel + x] = own.value;

  int sum = 0;
  if (plane.gain != 0.0F) {
    const int rim = ty * kAcross + tx;
    if (rim < kRim) {
      int rx, ry;
      if (rim < 2 * kRimAcross) {  // the rows above and below, then the columns beside
        rx = rim % kRimAcross, ry = rim < kRimAcross ? 0 : kRimDown - 1;
      } else {
        rx = rim % 2 == 0 ? 0 : kRimAcross - 1, ry = 1 + (rim - 2 * kRimAcross) / 2;
      }
      tile[ry][rx] = update(plane, channel, within(left + rx - 1, last_x), within(top + ry - 1, last_y)).value;
    }
    __syncthreads();
    for (int j = 0; j < 3; ++j)
      for (int i = 0; i < 3; ++i) sum += tile[ty + j][tx + i];
  }
  if (inside)
    plane.shown[y * plane.shown_row + x * plane.shown_step + channel * plane.shown_channel] =
        sharpened(own.value, sum, plane.gain * own.weight);
}
