// What our kernels share: threads of the compiled program's pool, its arrays, and a core's vectors.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using std::int64_t;

// Does items 0 … n−1, on the caller's thread and on the pool's. The caller waits only for what has
// begun, so it may be a thread of the pool itself.
template <typename Work>
static void for_each(ffi::ThreadPool& pool, int64_t n, const Work& work) {
  struct Progress {
    std::atomic<int64_t> next{0};
    int64_t done = 0;
    std::mutex mutex;
    std::condition_variable all_done;
  };
  auto progress = std::make_shared<Progress>();
  auto take = [progress, n, &work] {
    int64_t mine = 0;
    for (int64_t i; (i = progress->next.fetch_add(1)) < n; ++mine) work(i);
    const std::lock_guard<std::mutex> lock(progress->mutex);
    progress->done += mine;
    if (mine && progress->done == n) progress->all_done.notify_all();
  };
  for (int64_t i = 1; i < std::min<int64_t>(pool.num_threads(), n); ++i) pool.Schedule([take] { take(); });
  take();
  std::unique_lock<std::mutex> lock(progress->mutex);
  progress->all_done.wait(lock, [&] { return progress->done == n; });
}

using Floats = ffi::Buffer<ffi::F32>;
using Ints = ffi::Buffer<ffi::S32>;

template <typename Array>
static int64_t axis(const Array& array, int from_last) {
  return array.dimensions()[array.dimensions().size() - from_last];
}

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
typedef float Vector __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));

// Sums stay in registers only if their loops are gone before arrays are placed.
#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

static inline Vector load(const float* from) { return *reinterpret_cast<const Vector*>(from); }
static inline void store(float* to, Vector v) { *reinterpret_cast<Vector*>(to) = v; }
