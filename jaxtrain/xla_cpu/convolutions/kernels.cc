// Convolutions of float32 images and their gradients on a CPU, as two XLA custom calls.
//
// The forward kernel holds a tile of outputs in vector registers: several pixels by one or two vectors of output
// channels. For each tap of the kernel and each input channel, it loads a vector of weights once and multiplies it with
// the broadcast value of each pixel. This needs no matrix of patches. The image is first copied into a padded scratch
// buffer with channels in blocks, so the distance between pixels is a compile-time constant. The weight gradient
// instead holds several inputs of a window by one or two vectors of output channels, and loops over the pixels.
//
// Threads are XLA's own. The division of work depends only on shapes and the number of threads, so equal inputs give
// bitwise equal results.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

using Index = std::int64_t;

#if defined(__AVX512F__)
constexpr int kLanes = 16, kRegisters = 32;
#elif defined(__AVX__)
constexpr int kLanes = 8, kRegisters = 16;
#elif defined(__aarch64__)
constexpr int kLanes = 4, kRegisters = 32;
#else
constexpr int kLanes = 4, kRegisters = 16;
#endif

typedef float Vector __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

inline Vector Load(const float* from) { return *reinterpret_cast<const Vector*>(from); }
inline void Store(float* to, Vector value) { *reinterpret_cast<Vector*>(to) = value; }

// The greatest number of pixels in a tile with `vectors` accumulators per pixel; a few registers are left for operands.
constexpr int MostRows(int vectors) { return std::min((kRegisters - 2 - vectors) / vectors, vectors == 1 ? 16 : 12); }

// Runs pieces of work on a pool's threads and the calling thread; `Run` returns when all pieces are done.
class Work {
 public:
  static void Run(ffi::ThreadPool pool, Index pieces, std::function<void(Index)> piece) {
    auto work = std::make_shared<Work>(pieces, std::move(piece));
    const Index helpers = std::min<Index>(pool.num_threads(), pieces) - 1;
    for (Index i = 0; i < helpers; ++i) pool.Schedule([work] { work->Help(); });
    work->Help();
    std::unique_lock<std::mutex> lock(work->mutex_);
    work->finished_.wait(lock, [&] { return work->done_ == pieces; });
  }

  Work(Index pieces, std::function<void(Index)> piece) : pieces_(pieces), piece_(std::move(piece)) {}

 private:
  // A helper that starts late finds no piece left and touches nothing that belongs to the caller.
  void Help() {
    for (Index i; (i = next_.fetch_add(1)) < pieces_;) {
      piece_(i);
      std::lock_guard<std::mutex> lock(mutex_);
      if (++done_ == pieces_) finished_.notify_all();
    }
  }

  const Index pieces_;
  const std::function<void(Index)> piece_;
  std::atomic<Index> next_{0};
  Index done_ = 0;
  std::mutex mutex_;
  std::condition_variable finished_;
};

// A buffer of floats aligned to a cache line, because a vector that straddles two lines loads at half the speed.
class Floats {
 public:
  Floats() = default;
  Floats(const Floats&) = delete;
  Floats& operator=(const Floats&) = delete;
  ~Floats() { std::free(data_); }

  float* AtLeast(std::size_t size) {
    if (size_ < size) {
      std::free(data_);
      size_ = (size + 15) / 16 * 16;
      data_ = static_cast<float*>(std::aligned_alloc(64, size_ * sizeof(float)));
      if (data_ == nullptr) throw std::bad_alloc();
    }
    return data_;
  }
  const float* data() const { return data_; }
  float* data() { return data_; }

 private:
  float* data_ = nullptr;
  std::size_t size_ = 0;
};

// Returns a buffer that each thread keeps between calls.
float* Scratch(int which, std::size_t floats) {
  thread_local Floats buffers[2];
  return buffers[which].AtLeast(floats);
}

// Copies `rows` rows of `row` floats into rows of `wide` floats, with `before` zeros before them and zeros after them.
void CopyRows(const float* from, Index rows, Index row, float* to, Index wide, Index before) {
  for (Index r = 0; r < rows; ++r, from += row, to += wide) {
    std::fill(to, to + before, 0.0f);
    std::memcpy(to + before, from, row * sizeof(float));
    std::fill(to + before + row, to + wide, 0.0f);
  }
}

Index CeilDiv(Index a, Index b) { return (a + b - 1) / b; }

// ---------------------------------------------------------------------------------------------------- forward

// A position of the kernel with a block of input channels.
struct Tap {
  Index source;   // offset in the scratch, relative to the pixel's position
  Index weights;  // offset of its packed weights
  int channels;
};

// Outputs with the same taps: all outputs, or those of one residue of a dilated input.
struct Phase {
  std::vector<Tap> taps;
  Index row, column;      // of the first output
  Index rows, columns;    // counts
};

struct Tile {
  const Tap* taps;
  std::size_t count;
  const float* weights;
  Index out_step;  // distance between pixels of the result, in floats
  int out_channels;
};

// Computes `Pixels` neighbors, `Step` floats apart in the scratch, by `Vectors` vectors of output channels.
template <int Vectors, int Pixels, int Step>
void ComputeTile(const Tile& tile, const float* source, float* out) {
  Vector sums[Pixels][Vectors] = {};
  for (std::size_t t = 0; t < tile.count; ++t) {
    const float* x = source + tile.taps[t].source;
    const float* w = tile.weights + tile.taps[t].weights;
    for (int c = tile.taps[t].channels; c > 0; --c, ++x, w += Vectors * kLanes) {
      Vector weights[Vectors];
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) weights[v] = Load(w + v * kLanes);
#pragma GCC unroll 16
      for (int p = 0; p < Pixels; ++p) {
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) sums[p][v] += weights[v] * x[p * Step];
      }
    }
  }
#pragma GCC unroll 16
  for (int p = 0; p < Pixels; ++p) {
    float* to = out + p * tile.out_step;
    if (tile.out_channels == Vectors * kLanes) {
      for (int v = 0; v < Vectors; ++v) Store(to + v * kLanes, sums[p][v]);
    } else {
      alignas(64) float all[Vectors * kLanes];
      for (int v = 0; v < Vectors; ++v) Store(all + v * kLanes, sums[p][v]);
      std::memcpy(to, all, tile.out_channels * sizeof(float));
    }
  }
}

using TileFunction = void (*)(const Tile&, const float*, float*);

template <int Vectors, int Step, int... Pixels>
TileFunction ChooseAmong(Index pixels, std::integer_sequence<int, Pixels...>) {
  static constexpr TileFunction all[] = {ComputeTile<Vectors, Pixels + 1, Step>...};
  return all[pixels - 1];
}

template <int Step>
TileFunction ChooseTile(int vectors, Index pixels) {
  if (vectors == 1) return ChooseAmong<1, Step>(pixels, std::make_integer_sequence<int, MostRows(1)>());
  return ChooseAmong<2, Step>(pixels, std::make_integer_sequence<int, MostRows(2)>());
}

constexpr int kBlocks[] = {4, 16};  // channels per block in the scratch: for few channels, or for many

TileFunction ChooseTile(int vectors, Index pixels, int block, Index stride) {
  if (block == 4) return stride == 1 ? ChooseTile<4>(vectors, pixels) : ChooseTile<8>(vectors, pixels);
  return stride == 1 ? ChooseTile<16>(vectors, pixels) : ChooseTile<32>(vectors, pixels);
}

struct Forward {
  Index n, height, width, channels;              // of the input
  Index out_height, out_width, out_channels;
  Index kernel_height, kernel_width;
  Index stride, dilation;                        // of the windows, and of the input; one of them is 1
  Index pad_top, pad_left;
  bool swapped;                                  // whether the kernel is HWOI instead of HWIO

  int block, vectors;
  Index blocks, groups;                          // of input channels; of output channels
  Index top, left, rows, columns;                // of the scratch: zeros before the image, and its size
  std::vector<Phase> phases;
  Floats weights;

  void Plan();
  void Pack(const float* kernel);
  void Image(const float* input, float* out, Index band, Index bands) const;
  Index Group() const { return vectors * kLanes; }
  Index PixelsOf(Index columns) const {
    const Index most = vectors == 1 ? MostRows(1) : MostRows(2);
    return CeilDiv(columns, CeilDiv(columns, most));
  }
};

void Forward::Plan() {
  block = channels <= kBlocks[0] ? kBlocks[0] : kBlocks[1];
  blocks = CeilDiv(channels, block);
  vectors = out_channels <= kLanes ? 1 : 2;
  groups = CeilDiv(out_channels, Group());
  Index before[2] = {0, 0}, after[2] = {0, 0};
  struct Offsets { std::vector<Index> kernel, source; };
  // along one axis: the kernel positions that the outputs of a residue use, and their source offsets
  auto offsets = [&](Index residue, Index size, Index pad) {
    Offsets found;
    for (Index k = 0; k < size; ++k) {
      const Index at = residue + k - pad;
      if (((at % dilation) + dilation) % dilation != 0) continue;
      const Index source = (at - ((at % dilation) + dilation) % dilation) / dilation;
      found.kernel.push_back(k);
      found.source.push_back(source);
    }
    return found;
  };
  struct Draft { Offsets down, across; Index row, column, rows, columns; };
  std::vector<Draft> drafts;
  for (Index r = 0; r < std::min(dilation, out_height); ++r) {
    for (Index c = 0; c < std::min(dilation, out_width); ++c) {
      Draft draft{offsets(r, kernel_height, pad_top), offsets(c, kernel_width, pad_left), r, c,
                  CeilDiv(out_height - r, dilation), CeilDiv(out_width - c, dilation)};
      for (Index s : draft.down.source) {
        before[0] = std::max(before[0], -s);
        after[0] = std::max(after[0], (draft.rows - 1) * stride + s + 1);
      }
      for (Index s : draft.across.source) {
        before[1] = std::max(before[1], -s);
        after[1] = std::max(after[1], (draft.columns - 1) * stride + s + 1);
      }
      drafts.push_back(std::move(draft));
    }
  }
  top = before[0], left = before[1];
  rows = top + std::max(after[0], height), columns = left + std::max(after[1], width);
  const Index each = kernel_height * kernel_width * channels * Group();
  weights.AtLeast(groups * each);
  for (const Draft& draft : drafts) {
    Phase phase{{}, draft.row, draft.column, draft.rows, draft.columns};
    for (std::size_t i = 0; i < draft.down.kernel.size(); ++i)
      for (Index b = 0; b < blocks; ++b)
        for (std::size_t j = 0; j < draft.across.kernel.size(); ++j)
          phase.taps.push_back(
              {((b * rows + draft.down.source[i]) * columns + draft.across.source[j]) * block,
               ((draft.down.kernel[i] * kernel_width + draft.across.kernel[j]) * channels + b * block) * Group(),
               static_cast<int>(std::min<Index>(block, channels - b * block))});
    phases.push_back(std::move(phase));
  }
}

// Packs the kernel as [group of outputs][row][column][input][output of the group], with zeros for missing outputs.
void Forward::Pack(const float* kernel) {
  const Index group = Group(), places = kernel_height * kernel_width;
  float* to = weights.data();
  for (Index g = 0; g < groups; ++g) {
    const Index many = std::min(group, out_channels - g * group);
    for (Index k = 0; k < places; ++k) {
      for (Index c = 0; c < channels; ++c, to += group) {
        if (!swapped) {
          std::memcpy(to, kernel + (k * channels + c) * out_channels + g * group, many * sizeof(float));
        } else {
          for (Index o = 0; o < many; ++o) to[o] = kernel[(k * out_channels + g * group + o) * channels + c];
        }
        std::fill(to + many, to + group, 0.0f);
      }
    }
  }
}

void Forward::Image(const float* input, float* out, Index band, Index bands) const {
  const std::size_t size = blocks * rows * columns * block;
  float* scratch = Scratch(0, size);
  for (Index b = 0; b < blocks; ++b) {
    const Index many = std::min<Index>(block, channels - b * block);
    float* plane = scratch + b * rows * columns * block;
    std::fill(plane, plane + top * columns * block, 0.0f);
    std::fill(plane + (top + height) * columns * block, plane + rows * columns * block, 0.0f);
    float* to = plane + top * columns * block;
    if (channels == block) {
      CopyRows(input, height, width * block, to, columns * block, left * block);
      continue;
    }
    const float* from = input + b * block;
    for (Index r = 0; r < height; ++r, to += columns * block) {
      std::fill(to, to + left * block, 0.0f);
      std::fill(to + (left + width) * block, to + columns * block, 0.0f);
      for (Index c = 0; c < width; ++c, from += channels) {
        float* pixel = to + (left + c) * block;
        if (many == block) {
          std::memcpy(pixel, from, block * sizeof(float));
        } else {
          for (Index i = 0; i < many; ++i) pixel[i] = from[i];
        }
      }
    }
  }
  const float* origin = scratch + (top * columns + left) * block;
  const Index group = Group(), packed = kernel_height * kernel_width * channels * group;
  for (Index g = 0; g < groups; ++g) {
    for (const Phase& phase : phases) {
      const Tile tile{phase.taps.data(), phase.taps.size(), weights.data() + g * packed, dilation * out_channels,
                      static_cast<int>(std::min(group, out_channels - g * group))};
      const Index pixels = PixelsOf(phase.columns);
      const TileFunction compute = ChooseTile(vectors, pixels, block, stride);
      for (Index r = phase.rows * band / bands; r < phase.rows * (band + 1) / bands; ++r) {
        const float* source = origin + r * stride * columns * block;
        float* to = out + ((r * dilation + phase.row) * out_width + phase.column) * out_channels + g * group;
        for (Index c = 0; c < phase.columns; c += pixels) {
          const Index at = std::min(c, phase.columns - pixels);  // the last tile overlaps the one before it
          compute(tile, source + at * stride * block, to + at * tile.out_step);
        }
      }
    }
  }
}

// ------------------------------------------------------------------------------------- gradient of the weights

struct Stretch {
  Index rows, columns;            // of outputs
  Index x_row, x_column;          // distances in the input, in floats
  Index dy_row, dy_column;        // distances in the gradient, in floats
};

// Adds x * dy over a stretch of pixels to sums[input of a window][output].
template <int Vectors, int Inputs>
void Accumulate(const Stretch& stretch, const float* x, const float* dy, float* sums) {
  Vector held[Inputs][Vectors];
#pragma GCC unroll 16
  for (int i = 0; i < Inputs; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) held[i][v] = Load(sums + (i * Vectors + v) * kLanes);
  for (Index r = 0; r < stretch.rows; ++r) {
    const float* from = x + r * stretch.x_row;
    const float* gradient = dy + r * stretch.dy_row;
    for (Index c = 0; c < stretch.columns; ++c, from += stretch.x_column, gradient += stretch.dy_column) {
      Vector given[Vectors];
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) given[v] = Load(gradient + v * kLanes);
#pragma GCC unroll 16
      for (int i = 0; i < Inputs; ++i) {
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) held[i][v] += given[v] * from[i];
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < Inputs; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) Store(sums + (i * Vectors + v) * kLanes, held[i][v]);
}

using AccumulateFunction = void (*)(const Stretch&, const float*, const float*, float*);

template <int Vectors, int... Inputs>
AccumulateFunction ChooseAccumulate(Index inputs, std::integer_sequence<int, Inputs...>) {
  static constexpr AccumulateFunction all[] = {Accumulate<Vectors, Inputs + 1>...};
  return all[inputs - 1];
}

struct WeightGradient {
  Index n, height, width, channels;
  Index out_height, out_width, out_channels;
  Index kernel_height, kernel_width;
  Index stride, pad_top, pad_left;

  int vectors;
  Index groups, padded;           // of output channels; number of output channels rounded up to full groups
  Index rows, columns;            // of the scratch
  Index inputs, cuts;             // of a window's row, contiguous: number per cut, number of cuts
  AccumulateFunction accumulate;

  void Plan();
  Index Group() const { return vectors * kLanes; }
  Index Size() const { return groups * kernel_height * cuts * inputs * Group(); }
  Index First(Index cut) const { return std::min(cut * inputs, kernel_width * channels - inputs); }
  void Image(const float* x, const float* dy, float* sums) const;
  void Unpack(const float* sums, Index parts, Index place, float* out) const;
};

void WeightGradient::Plan() {
  vectors = out_channels <= kLanes ? 1 : 2;
  groups = CeilDiv(out_channels, Group());
  padded = groups * Group();
  rows = std::max(pad_top + height, (out_height - 1) * stride + kernel_height);
  columns = std::max(pad_left + width, (out_width - 1) * stride + kernel_width);
  const Index across = kernel_width * channels, most = vectors == 1 ? MostRows(1) : MostRows(2);
  cuts = CeilDiv(across, most);
  inputs = CeilDiv(across, cuts);
  accumulate = vectors == 1 ? ChooseAccumulate<1>(inputs, std::make_integer_sequence<int, MostRows(1)>())
                            : ChooseAccumulate<2>(inputs, std::make_integer_sequence<int, MostRows(2)>());
}

void WeightGradient::Image(const float* x, const float* dy, float* sums) const {
  const bool whole = padded == out_channels;
  if (rows != height || columns != width) {
    const Index row = columns * channels;
    float* scratch = Scratch(0, rows * row);
    std::fill(scratch, scratch + pad_top * row, 0.0f);
    CopyRows(x, height, width * channels, scratch + pad_top * row, row, pad_left * channels);
    std::fill(scratch + (pad_top + height) * row, scratch + rows * row, 0.0f);
    x = scratch;
  }
  if (!whole) {
    float* filled = Scratch(1, out_height * out_width * padded);
    CopyRows(dy, out_height * out_width, out_channels, filled, padded, 0);
    dy = filled;
  }
  const Index band = std::max<Index>(1, 128 / out_width);  // rows whose gradient stays in the L1 cache
  for (Index first = 0; first < out_height; first += band) {
    const Stretch stretch{std::min(band, out_height - first), out_width,          stride * columns * channels,
                          stride * channels,                  out_width * padded, padded};
    float* to = sums;
    for (Index g = 0; g < groups; ++g)
      for (Index k = 0; k < kernel_height; ++k)
        for (Index cut = 0; cut < cuts; ++cut, to += inputs * Group())
          accumulate(stretch, x + (first * stride + k) * columns * channels + First(cut),
                     dy + first * out_width * padded + g * Group(), to);
  }
}

// Sums the parts in order for one group of outputs and one row of the kernel; the result is HWIO.
void WeightGradient::Unpack(const float* sums, Index parts, Index place, float* out) const {
  const Index g = place / kernel_height, k = place % kernel_height, group = Group();
  const Index many = std::min(group, out_channels - g * group);
  for (Index cut = 0; cut < cuts; ++cut) {
    const float* from = sums + (place * cuts + cut) * inputs * group;
    for (Index i = 0; i < inputs; ++i) {
      float* to = out + (k * kernel_width * channels + First(cut) + i) * out_channels + g * group;
      for (Index o = 0; o < many; ++o) {
        float total = 0.0f;
        for (Index part = 0; part < parts; ++part) total += from[part * Size() + i * group + o];
        to[o] = total;
      }
    }
  }
}

// ------------------------------------------------------------------------------------------------------- calls

ffi::Error ForwardCall(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> input, ffi::Buffer<ffi::F32> kernel,
                       ffi::ResultBuffer<ffi::F32> result, std::int64_t stride, std::int64_t dilation,
                       std::int64_t pad_top, std::int64_t pad_left, bool swapped) {
  const auto in = input.dimensions(), weights = kernel.dimensions(), out = result->dimensions();
  Forward job{in[0], in[1], in[2], in[3], out[1], out[2], out[3], weights[0], weights[1]};
  job.stride = stride, job.dilation = dilation, job.pad_top = pad_top, job.pad_left = pad_left, job.swapped = swapped;
  job.Plan();
  job.Pack(kernel.typed_data());
  const Index bands = std::clamp<Index>(CeilDiv(4 * pool.num_threads(), job.n), 1, CeilDiv(job.out_height, 4));
  const Index in_size = job.height * job.width * job.channels;
  const Index out_size = job.out_height * job.out_width * job.out_channels;
  Work::Run(pool, job.n * bands, [&](Index i) {
    job.Image(input.typed_data() + i / bands * in_size, result->typed_data() + i / bands * out_size, i % bands, bands);
  });
  return ffi::Error::Success();
}

ffi::Error WeightGradientCall(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> input, ffi::Buffer<ffi::F32> gradient,
                              ffi::ResultBuffer<ffi::F32> result, std::int64_t stride, std::int64_t pad_top,
                              std::int64_t pad_left) {
  const auto in = input.dimensions(), dy = gradient.dimensions(), out = result->dimensions();
  WeightGradient job{in[0], in[1], in[2], in[3], dy[1], dy[2], dy[3], out[0], out[1], stride, pad_top, pad_left};
  job.Plan();
  const Index parts = std::clamp<Index>(2 * pool.num_threads(), 1, job.n);
  Floats buffer;
  float* sums = buffer.AtLeast(parts * job.Size());
  std::fill(sums, sums + parts * job.Size(), 0.0f);
  const Index x_size = job.height * job.width * job.channels;
  const Index dy_size = job.out_height * job.out_width * job.out_channels;
  Work::Run(pool, parts, [&](Index part) {
    for (Index i = job.n * part / parts; i < job.n * (part + 1) / parts; ++i)
      job.Image(input.typed_data() + i * x_size, gradient.typed_data() + i * dy_size, sums + part * job.Size());
  });
  Work::Run(pool, job.groups * job.kernel_height,
            [&](Index place) { job.Unpack(sums, parts, place, result->typed_data()); });
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(JaxtrainForward, ForwardCall,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<std::int64_t>("stride")
                                  .Attr<std::int64_t>("dilation")
                                  .Attr<std::int64_t>("pad_top")
                                  .Attr<std::int64_t>("pad_left")
                                  .Attr<bool>("swapped"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(JaxtrainWeightGradient, WeightGradientCall,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<std::int64_t>("stride")
                                  .Attr<std::int64_t>("pad_top")
                                  .Attr<std::int64_t>("pad_left"));
