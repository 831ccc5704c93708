// Threefry 2x32 with 20 rounds (Salmon et al. 2011), as jax draws with it, called from compiled programs.
//
// Keys and counters are uint32 of as many numbers as come out, or one number for all of them.
#include <cstdint>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using Words = ffi::Buffer<ffi::U32>;

constexpr int ROTATIONS[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};

static ffi::Error hash(Words key0, Words key1, Words count0, Words count1, ffi::Result<Words> bits0,
                       ffi::Result<Words> bits1) {
  const int64_t n = bits0->element_count();
  const auto of = [n](const Words& words, int64_t i) {
    return words.typed_data()[static_cast<int64_t>(words.element_count()) == n ? i : 0];
  };
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t a = of(key0, i), b = of(key1, i), keys[3] = {a, b, a ^ b ^ 0x1BD11BDAu};
    uint32_t x = of(count0, i) + a, y = of(count1, i) + b;
    for (int group = 0; group < 5; ++group) {
      for (const int left : ROTATIONS[group % 2]) {
        x += y;
        y = x ^ (y << left | y >> (32 - left));
      }
      x += keys[(group + 1) % 3];
      y += keys[(group + 2) % 3] + group + 1;
    }
    bits0->typed_data()[i] = x;
    bits1->typed_data()[i] = y;
  }
  return ffi::Error::Success();
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(suite_threefry, hash, ffi::Ffi::Bind().Arg<Words>().Arg<Words>().Arg<Words>()
                              .Arg<Words>().Ret<Words>().Ret<Words>());
