// Tiles of surviving values made dense on a CPU, called from compiled programs (jax.ffi); built by __init__.py.
//
// As in compact.py: values and places [.., survivors], begin [.., tiles + 1], tile [..], dense [.., size].
#include "kernels.h"

constexpr int64_t PIECE = 1 << 16;  // floats of an item of work
constexpr int64_t NEAR = 1 << 13;   // floats that a core's first cache holds while they are written

// dense[place] = value for the survivors of one tile, zero elsewhere. Places rise, so each stretch of the
// tile is cleared and filled while it is near, and goes to memory once.
static ffi::Error dense_tile(ffi::ThreadPool pool, Floats values, Ints places, Ints begin, Ints tile,
                             ffi::Result<Floats> dense) {
  const int64_t survivors = axis(values, 1), bounds = axis(begin, 1), size = axis(*dense, 1);
  const int64_t pieces = (size + PIECE - 1) / PIECE;
  for_each(pool, dense->element_count() / size * pieces, [&](int64_t item) {
    const int64_t copy = item / pieces, first = item % pieces * PIECE, last = std::min(size, first + PIECE);
    const float* const value = values.typed_data() + copy * survivors;
    const int32_t* const place = places.typed_data() + copy * survivors;
    const int32_t* const bound = begin.typed_data() + copy * bounds + tile.typed_data()[copy];
    float* const out = dense->typed_data() + copy * size;
    int64_t i = std::lower_bound(place + bound[0], place + bound[1], first) - place;
    for (int64_t low = first; low < last; low += NEAR) {
      const int64_t high = std::min(last, low + NEAR);
      std::fill(out + low, out + high, 0.0f);
      for (; i < bound[1] && place[i] < high; ++i) out[place[i]] = value[i];
    }
  });
  return ffi::Error::Success();
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(compact_tile, dense_tile, ffi::Ffi::Bind().Ctx<ffi::ThreadPool>()
                              .Arg<Floats>().Arg<Ints>().Arg<Ints>().Arg<Ints>().Ret<Floats>());
