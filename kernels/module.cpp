// vidstyle._kernels: the kernels as functions on buffers. Arguments are checked here, once, so that no
// call from Python can reach outside a buffer; the work runs without the GIL, on the caller's thread and,
// where asked for, on those of thread_pool.h.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "enlarge.h"
#include "mix.h"
#include "rows.h"
#include "warp_plane.h"
#include "winograd.h"

namespace {

using vidstyle::Channel;
using vidstyle::Fit;
using vidstyle::Guide;
using vidstyle::GuideKind;
using vidstyle::Rows;
using vidstyle::Source;
using vidstyle::Target;
using vidstyle::Warp;

constexpr Py_ssize_t kMaxSide = 1 << 20;
constexpr Py_ssize_t kMaxChannels = 4;

// A Python exception is set.
struct Raised {};

[[noreturn]] void raise(PyObject* type, const std::string& message) {
  PyErr_SetString(type, message.c_str());
  throw Raised{};
}

// A strided buffer of bytes, held as long as this lives.
class Buffer {
 public:
  Buffer(PyObject* object, bool writable, int dimensions, const char* what) {
    const int flags = PyBUF_STRIDES | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object, &view_, flags) != 0) throw Raised{};
    std::string wrong;
    if (view_.itemsize != 1 || (view_.format != nullptr && std::strcmp(view_.format, "B") != 0))
      wrong = "uint8";
    else if (view_.ndim != dimensions)
      wrong = "of " + std::to_string(dimensions) + " dimensions";
    else if (dimensions == 3 && (view_.shape[2] != 3 || view_.strides[2] != 1 || step() != 3))
      wrong = "interleaved RGB";
    for (int i = 0; wrong.empty() && i < dimensions; ++i) {
      if (view_.shape[i] < 1 || view_.shape[i] > kMaxSide) wrong = "at least 1 and at most 1048576 pixels long and wide";
    }
    if (wrong.empty()) return;
    PyBuffer_Release(&view_);
    raise(PyExc_ValueError, std::string(what) + " must be " + wrong);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { PyBuffer_Release(&view_); }

  template <class Byte>
  Channel<Byte> channel() const {
    return {static_cast<Byte*>(view_.buf), static_cast<int>(view_.shape[0]), static_cast<int>(view_.shape[1]),
            view_.strides[0], step()};
  }

 private:
  // The stride of an axis of length 1 says nothing, and NumPy leaves anything there.
  Py_ssize_t step() const { return view_.shape[1] > 1 ? view_.strides[1] : view_.ndim == 3 ? view_.shape[2] : 1; }

  Py_buffer view_{};
};

using Buffers = std::vector<std::unique_ptr<Buffer>>;

template <class Byte>
std::vector<Channel<Byte>> channels(PyObject* sequence, bool writable, const char* what, Buffers& held) {
  if (!PyTuple_Check(sequence) || PyTuple_Size(sequence) < 1 || PyTuple_Size(sequence) > kMaxChannels)
    raise(PyExc_TypeError, std::string(what) + " must be a tuple of 1 to 4 arrays");
  std::vector<Channel<Byte>> result;
  for (Py_ssize_t i = 0; i < PyTuple_Size(sequence); ++i) {
    held.push_back(std::make_unique<Buffer>(PyTuple_GetItem(sequence, i), writable, 2, what));
    result.push_back(held.back()->channel<Byte>());
  }
  return result;
}

GuideKind guide_kind(const std::string& name) {
  if (name == "plain") return GuideKind::plain;
  if (name == "half") return GuideKind::half;
  if (name == "rgb") return GuideKind::rgb;
  raise(PyExc_ValueError, "kind must be plain, half or rgb");
}

Rows rows_of_level(const char* level) {
  static const std::vector<Rows> runnable = vidstyle::runnable_rows();
  if (level == nullptr) return runnable.back();
  for (const Rows& rows : runnable) {
    if (std::strcmp(rows.name, level) == 0) return rows;
  }
  raise(PyExc_ValueError, "level must be one that levels() gives");
}

// The GIL is away while this lives.
class Unlocked {
 public:
  Unlocked() : state_(PyEval_SaveThread()) {}
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;
  ~Unlocked() { PyEval_RestoreThread(state_); }

 private:
  PyThreadState* state_;
};

template <class Byte>
void check_size(const std::vector<Channel<Byte>>& planes, const Guide& guide, const char* what) {
  for (const auto& plane : planes) {
    if (plane.height != guide.height() || plane.width != guide.width())
      raise(PyExc_ValueError, std::string(what) + " must be as large as its guide");
  }
}

void enlarge_checked(PyObject* args, PyObject* kwargs) {
  static const char* names[] = {"styled", "small_guide", "guide", "out",  "kind",
                                "epsilon", "low",        "high",  "level", nullptr};
  PyObject *styled_object, *small_object, *guide_object, *out_object;
  const char *kind_name, *level = nullptr;
  double epsilon, low, high;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOsddd|z", const_cast<char**>(names), &styled_object,
                                   &small_object, &guide_object, &out_object, &kind_name, &epsilon, &low,
                                   &high, &level))
    throw Raised{};
  if (!(epsilon > 0 && epsilon <= 1e6)) raise(PyExc_ValueError, "epsilon must be above 0 and at most 1000000");
  if (!(std::fabs(low) <= 100 && std::fabs(high) <= 100 && low <= high))
    raise(PyExc_ValueError, "low and high must lie between -100 and 100, low first");
  const Fit fit{static_cast<float>(epsilon), static_cast<float>(low), static_cast<float>(high)};
  const GuideKind kind = guide_kind(kind_name);
  const Rows rows = rows_of_level(level);

  Buffers held;
  const int dimensions = kind == GuideKind::rgb ? 3 : 2;
  const auto styled = channels<const std::uint8_t>(styled_object, false, "styled", held);
  const auto out = channels<std::uint8_t>(out_object, true, "out", held);
  const Buffer small_buffer(small_object, false, dimensions, "small_guide");
  const Buffer guide_buffer(guide_object, false, dimensions, "guide");
  const auto small_source = small_buffer.channel<const std::uint8_t>();
  const auto source = guide_buffer.channel<const std::uint8_t>();
  if (kind != GuideKind::rgb && (small_source.step != 1 || source.step != 1))
    raise(PyExc_ValueError, "guides must be contiguous within a row");
  if (styled.size() != out.size()) raise(PyExc_ValueError, "styled and out must hold the same number of arrays");
  const Guide small_guide(small_source, kind, rows), guide(source, kind, rows);
  check_size(styled, small_guide, "styled");
  check_size(out, guide, "out");
  const Unlocked unlocked;
  vidstyle::enlarge(styled, small_guide, guide, out, fit, rows);
}

// An array of one plane or of its small fields, held as long as this lives. The strides of axes of length 1
// say nothing; here they are what they would be in memory without gaps.
class Array {
 public:
  Array(PyObject* object, bool writable, const char* format, std::size_t size, const char* what)
      : what_(what), size_(static_cast<Py_ssize_t>(size)) {
    const int flags = PyBUF_STRIDES | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object, &view_, flags) != 0) throw Raised{};
    const char* found = view_.format == nullptr ? "B" : view_.format;
    if (view_.itemsize != size_ || std::strcmp(found, format) != 0)
      fail("aligned and of type " + std::string(format));  // what is not aligned has another format
    if (view_.ndim != 2 && view_.ndim != 3) fail("of 2 or 3 dimensions");
    for (int i = 0; i < view_.ndim; ++i) {
      const Py_ssize_t most = i < 2 ? kMaxSide : kMaxChannels;
      if (view_.shape[i] < 1 || view_.shape[i] > most)
        fail("at least 1 and at most 1048576 pixels long and wide, of at most 4 channels");
      if (view_.strides[i] % size_ != 0) fail("aligned");
    }
    if (reinterpret_cast<std::uintptr_t>(view_.buf) % size != 0) fail("aligned");
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { release(); }

  int height() const { return static_cast<int>(view_.shape[0]); }
  int width() const { return static_cast<int>(view_.shape[1]); }
  int channels() const { return view_.ndim == 2 ? 1 : static_cast<int>(view_.shape[2]); }
  bool same_shape(const Array& other) const {
    return height() == other.height() && width() == other.width() && channels() == other.channels();
  }

  // Numbers from one pixel, channel and row to the next.
  Py_ssize_t channel() const { return channels() > 1 ? view_.strides[2] / size_ : 1; }
  Py_ssize_t step() const { return width() > 1 ? view_.strides[1] / size_ : channels(); }
  Py_ssize_t row() const { return height() > 1 ? view_.strides[0] / size_ : width() * channels(); }

  template <class Number>
  Channel<Number> first() const {
    return {static_cast<Number*>(view_.buf), height(), width(), row(), step()};
  }
  template <class Byte>
  vidstyle::Picture<Byte> picture() const {
    return {first<Byte>(), channels(), channel()};
  }
  template <class Number>
  vidstyle::Remembered<Number> remembered() const {
    if (width() > 1 && step() != 1) fail("side by side within a row of a channel");
    return {static_cast<Number*>(view_.buf), row(), channel()};
  }

  bool overlaps(const Array& other) const {
    const auto [begin, end] = extent();
    const auto [from, to] = other.extent();
    return begin < to && from < end;
  }

  // Not const: releases what is held, for a constructor that throws has no destructor.
  [[noreturn]] void fail(const std::string& wrong) {
    release();
    raise(PyExc_ValueError, std::string(what_) + " must be " + wrong);
  }
  [[noreturn]] void fail(const std::string& wrong) const {
    raise(PyExc_ValueError, std::string(what_) + " must be " + wrong);
  }

 private:
  void release() {
    if (view_.obj != nullptr) PyBuffer_Release(&view_);
  }
  std::pair<std::uintptr_t, std::uintptr_t> extent() const {
    auto begin = reinterpret_cast<std::uintptr_t>(view_.buf), end = begin + static_cast<std::uintptr_t>(size_);
    for (int i = 0; i < view_.ndim; ++i) {
      const Py_ssize_t length = (view_.shape[i] - 1) * view_.strides[i];
      (length < 0 ? begin : end) += static_cast<std::uintptr_t>(length);
    }
    return {begin, end};
  }

  const char* what_;
  Py_ssize_t size_;
  Py_buffer view_{};
};

void warp_blend_checked(PyObject* args, PyObject* kwargs) {
  static const char* names[] = {"new",     "memory",  "flow",  "weight", "gain", "shown",
                                "updated", "threads", "level", nullptr};
  PyObject *new_object, *memory_object, *flow_object, *weight_object, *shown_object, *updated_object;
  double gain;
  int threads = 1;
  const char* level = nullptr;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOdOO|iz", const_cast<char**>(names), &new_object,
                                   &memory_object, &flow_object, &weight_object, &gain, &shown_object,
                                   &updated_object, &threads, &level))
    throw Raised{};
  if (!(std::fabs(gain) <= 1000)) raise(PyExc_ValueError, "gain must lie between -1000 and 1000");
  if (threads < 1) raise(PyExc_ValueError, "threads must be at least 1");
  const Rows rows = rows_of_level(level);

  const Array fresh(new_object, false, "B", 1, "new"), memory(memory_object, false, "H", 2, "memory");
  const Array flow(flow_object, false, "f", 4, "flow"), weight(weight_object, false, "f", 4, "weight");
  const Array shown(shown_object, true, "B", 1, "shown"), updated(updated_object, true, "H", 2, "updated");
  for (const Array* array : {&memory, &shown, &updated}) {
    if (!array->same_shape(fresh)) array->fail("as large as new");
  }
  if (flow.channels() != 2 || flow.channel() != 1 || flow.step() != 2)
    flow.fail("of shape (h, w, 2), without gaps within a row");
  if (weight.channels() != 1 || weight.step() != 1) weight.fail("of shape (h, w), without gaps within a row");
  if (weight.height() != flow.height() || weight.width() != flow.width()) weight.fail("as large as flow");
  for (const Array* out : {&shown, &updated}) {
    for (const Array* other : {&fresh, &memory, &flow, &weight, &shown, &updated}) {
      if (other != out && out->overlaps(*other)) out->fail("apart from all other arrays");
    }
  }
  const Warp warp{fresh.picture<const std::uint8_t>(),
                  memory.remembered<const std::uint16_t>(),
                  flow.first<const float>(),
                  weight.first<const float>(),
                  static_cast<float>(gain),
                  shown.picture<std::uint8_t>(),
                  updated.remembered<std::uint16_t>()};
  const Unlocked unlocked;
  vidstyle::warp_plane(warp, threads, rows);
}

void mix_checked(PyObject* args, PyObject* kwargs) {
  static const char* names[] = {"source", "painted", "mask", "out", "half", "strength", "level", nullptr};
  PyObject *source_object, *painted_object, *mask_object, *out_object;
  int half, strength;
  const char* level = nullptr;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOpi|z", const_cast<char**>(names), &source_object,
                                   &painted_object, &mask_object, &out_object, &half, &strength, &level))
    throw Raised{};
  if (strength < 0 || strength > vidstyle::kFullStrength) raise(PyExc_ValueError, "strength must lie between 0 and 257");
  const Rows rows = rows_of_level(level);

  const Array source(source_object, false, "B", 1, "source"), painted(painted_object, false, "B", 1, "painted");
  const Array mask(mask_object, false, "B", 1, "mask"), out(out_object, true, "B", 1, "out");
  for (const Array* array : {&source, &painted, &out}) {
    if (!array->same_shape(source)) array->fail("as large as source");
    if (array->step() != array->channels() || array->channel() != 1) array->fail("without gaps within a row");
  }
  if (mask.channels() != 1 || mask.step() != 1) mask.fail("of one channel, without gaps within a row");
  const Guide weights(mask.first<const std::uint8_t>(), half ? GuideKind::half : GuideKind::plain, rows);
  if (weights.height() != source.height() || weights.width() != source.width()) mask.fail("of the size of source");
  for (const Array* other : {&source, &painted, &mask}) {
    if (out.overlaps(*other)) out.fail("apart from all other arrays");
  }
  const auto from = source.first<const std::uint8_t>(), over = painted.first<const std::uint8_t>();
  const auto to = out.first<std::uint8_t>();
  const Unlocked unlocked;
  vidstyle::mix(from, over, source.channels(), weights, strength, to, rows);
}

// An array of float32 without gaps, held as long as this lives; where it is optional, None is an empty one.
class Floats {
 public:
  Floats(PyObject* object, bool writable, int dimensions, const char* what, bool optional = false) : what_(what) {
    if (optional && object == Py_None) return;
    const int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object, &view_, flags) != 0) throw Raised{};
    std::string wrong;
    if (view_.format == nullptr || std::strcmp(view_.format, "f") != 0 ||
        reinterpret_cast<std::uintptr_t>(view_.buf) % sizeof(float) != 0)
      wrong = "aligned float32";
    else if (view_.ndim != dimensions)
      wrong = "of " + std::to_string(dimensions) + " dimensions";
    for (int i = 0; wrong.empty() && i < dimensions; ++i) {
      if (view_.shape[i] < 1 || view_.shape[i] > kMaxSide) wrong = "at least 1 and at most 1048576 long each way";
    }
    if (wrong.empty()) return;
    PyBuffer_Release(&view_);
    raise(PyExc_ValueError, std::string(what) + " must be " + wrong);
  }
  Floats(const Floats&) = delete;
  Floats& operator=(const Floats&) = delete;
  ~Floats() {
    if (view_.obj != nullptr) PyBuffer_Release(&view_);
  }

  float* data() const { return static_cast<float*>(view_.buf); }
  int side(int axis) const { return static_cast<int>(view_.shape[axis]); }
  void expect(bool right, const char* shape) const {
    if (!right) raise(PyExc_ValueError, std::string(what_) + " must be of shape " + shape);
  }

 private:
  const char* what_;
  Py_buffer view_{};
};

template <class Number>
vidstyle::Pictures<Number> pictures_of(const Floats& array) {
  if (array.side(3) % vidstyle::kChunk != 0) raise(PyExc_ValueError, "channels must be a multiple of 16");
  return {array.data(), array.side(0), array.side(1), array.side(2), array.side(3)};
}

// The tiles from `first` on that `matrices` (36, tiles, channels) have room for, of results that have `more` rows
// and columns than `pictures`.
template <class Number>
vidstyle::TileRange tile_range(const vidstyle::Pictures<Number>& pictures, int more, int first,
                               const Floats& matrices) {
  const vidstyle::TileRange range{pictures.height + more, pictures.width + more, first, matrices.side(1)};
  if (range.height < 1 || range.width < 1) raise(PyExc_ValueError, "pictures must be at least as large as the kernel");
  matrices.expect(matrices.side(0) == vidstyle::kSums && matrices.side(2) == pictures.channels,
                  "(36, tiles, channels)");
  const double tiles = double{1} * pictures.count * range.down() * range.across();
  if (first < 0 || double{1} * first + range.count > tiles || tiles > (1 << 30))
    raise(PyExc_ValueError, "first and the number of tiles must lie within the pictures");
  return range;
}

void source_tiles_checked(PyObject* args, PyObject* kwargs) {
  static const char* names[] = {"pictures", "gate", "border", "first", "sums", "threads", "level", nullptr};
  PyObject *pictures_object, *gate_object, *sums_object;
  int border, first, threads = 1;
  const char* level = nullptr;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOiiO|iz", const_cast<char**>(names), &pictures_object,
                                   &gate_object, &border, &first, &sums_object, &threads, &level))
    throw Raised{};
  if (threads < 1) raise(PyExc_ValueError, "threads must be at least 1");
  if (border < 0 || border > 2) raise(PyExc_ValueError, "border must be 0, 1 or 2");
  const Rows rows = rows_of_level(level);
  const Floats pictures(pictures_object, false, 4, "pictures"), gate(gate_object, false, 4, "gate", true);
  const Floats sums(sums_object, true, 3, "sums");
  const auto from = pictures_of<const float>(pictures);
  const vidstyle::TileRange range = tile_range(from, 2 * border - 2, first, sums);
  for (int axis = 0; axis < 4 && gate.data() != nullptr; ++axis)
    gate.expect(gate.side(axis) == pictures.side(axis), "of pictures");
  const Unlocked unlocked;
  vidstyle::source_tiles(from, gate.data(), border, range, sums.data(), threads, rows);
}

void result_tiles_checked(PyObject* args, PyObject* kwargs) {
  static const char* names[] = {"products", "bias", "relu", "first", "pictures", "threads", "level", nullptr};
  PyObject *products_object, *bias_object, *pictures_object;
  int relu, first, threads = 1;
  const char* level = nullptr;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOpiO|iz", const_cast<char**>(names), &products_object, &bias_object,
                                   &relu, &first, &pictures_object, &threads, &level))
    throw Raised{};
  if (threads < 1) raise(PyExc_ValueError, "threads must be at least 1");
  const Rows rows = rows_of_level(level);
  const Floats products(products_object, false, 3, "products"), bias(bias_object, false, 1, "bias", true);
  const Floats pictures(pictures_object, true, 4, "pictures");
  const auto to = pictures_of<float>(pictures);
  const vidstyle::TileRange range = tile_range(to, 0, first, products);
  if (bias.data() != nullptr) bias.expect(bias.side(0) == to.channels, "(channels,)");
  const Unlocked unlocked;
  vidstyle::result_tiles(products.data(), bias.data(), relu != 0, range, to, threads, rows);
}

void spread_tiles_checked(PyObject* args, PyObject* kwargs) {
  static const char* names[] = {"pictures", "first", "products", "threads", "level", nullptr};
  PyObject *pictures_object, *products_object;
  int first, threads = 1;
  const char* level = nullptr;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OiO|iz", const_cast<char**>(names), &pictures_object, &first,
                                   &products_object, &threads, &level))
    throw Raised{};
  if (threads < 1) raise(PyExc_ValueError, "threads must be at least 1");
  const Rows rows = rows_of_level(level);
  const Floats pictures(pictures_object, false, 4, "pictures"), products(products_object, true, 3, "products");
  const auto from = pictures_of<const float>(pictures);
  const vidstyle::TileRange range = tile_range(from, 0, first, products);
  const Unlocked unlocked;
  vidstyle::spread_tiles(from, range, products.data(), threads, rows);
}

// Runs `work` and turns what it throws into Python exceptions; None where it throws nothing.
template <class Work>
PyObject* guarded(Work work) {
  try {
    work();
    Py_RETURN_NONE;
  } catch (const Raised&) {
    return nullptr;
  } catch (const std::bad_alloc&) {
    return PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
    return nullptr;
  }
}

PyObject* enlarge(PyObject*, PyObject* args, PyObject* kwargs) {
  return guarded([&] { enlarge_checked(args, kwargs); });
}

PyObject* warp_blend(PyObject*, PyObject* args, PyObject* kwargs) {
  return guarded([&] { warp_blend_checked(args, kwargs); });
}

PyObject* mix(PyObject*, PyObject* args, PyObject* kwargs) {
  return guarded([&] { mix_checked(args, kwargs); });
}

PyObject* source_tiles(PyObject*, PyObject* args, PyObject* kwargs) {
  return guarded([&] { source_tiles_checked(args, kwargs); });
}

PyObject* result_tiles(PyObject*, PyObject* args, PyObject* kwargs) {
  return guarded([&] { result_tiles_checked(args, kwargs); });
}

PyObject* spread_tiles(PyObject*, PyObject* args, PyObject* kwargs) {
  return guarded([&] { spread_tiles_checked(args, kwargs); });
}

PyObject* levels(PyObject*, PyObject*) {
  const std::vector<Rows> runnable = vidstyle::runnable_rows();
  PyObject* result = PyTuple_New(static_cast<Py_ssize_t>(runnable.size()));
  if (result == nullptr) return nullptr;
  for (size_t i = 0; i < runnable.size(); ++i) {
    PyObject* name = PyUnicode_FromString(runnable[i].name);
    if (name == nullptr) {
      Py_DECREF(result);
      return nullptr;
    }
    PyTuple_SetItem(result, static_cast<Py_ssize_t>(i), name);
  }
  return result;
}

PyMethodDef methods[] = {
    {"enlarge", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(enlarge)), METH_VARARGS | METH_KEYWORDS,
     "enlarge(styled, small_guide, guide, out, kind, epsilon, low, high, level=None)\n--\n\n"
     "Write into the arrays `out` the arrays `styled`, enlarged under a guide; see vidstyle.ops.enlarge."},
    {"warp_blend", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(warp_blend)),
     METH_VARARGS | METH_KEYWORDS,
     "warp_blend(new, memory, flow, weight, gain, shown, updated, threads=1, level=None)\n--\n\n"
     "Write into `shown` and `updated`; see vidstyle.warp.warp_blend."},
    {"mix", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(mix)), METH_VARARGS | METH_KEYWORDS,
     "mix(source, painted, mask, out, half, strength, level=None)\n--\n\n"
     "Write into `out` the painting on its source, through a mask; see vidstyle.imaging.resample.mix."},
    {"source_tiles", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(source_tiles)),
     METH_VARARGS | METH_KEYWORDS,
     "source_tiles(pictures, gate, border, first, sums, threads=1, level=None)\n--\n\n"
     "Write into `sums` what a convolution multiplies; see vidstyle.models.winograd."},
    {"result_tiles", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(result_tiles)),
     METH_VARARGS | METH_KEYWORDS,
     "result_tiles(products, bias, relu, first, pictures, threads=1, level=None)\n--\n\n"
     "Write into `pictures` what `products` come to; see vidstyle.models.winograd."},
    {"spread_tiles", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(spread_tiles)),
     METH_VARARGS | METH_KEYWORDS,
     "spread_tiles(pictures, first, products, threads=1, level=None)\n--\n\n"
     "Write into `products` the gradient of the products from that of the results; see vidstyle.models.winograd."},
    {"levels", levels, METH_NOARGS,
     "levels()\n--\n\nInstruction sets that this processor can run, the one that is used last."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "vidstyle._kernels", "Kernels on 8-bit planes.", 0, methods,
                          nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__kernels(void) { return PyModuleDef_Init(&definition); }
