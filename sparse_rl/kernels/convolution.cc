// Convolutions without padding on a CPU, called from compiled programs (jax.ffi); built by __init__.py.
//
// As in convolutions.py: pictures x [.., n, height, width, channels], y [.., n, rows, columns, units], kernel
// [.., size · size · channels, units]. A window's rows lie in the picture as runs of size · channels numbers:
// they are read there, and no patch is ever copied. Each picture is one item of work; of the kernel's gradient,
// some of its rows are.
#include <type_traits>
#include <vector>

#include "kernels.h"

// A tile of sums, TALL rows of WIDE vectors, fills most of a core's registers.
constexpr int TALL = LANES == 16 ? 12 : 6, WIDE = 2;

// work(n) with an n that the compiler knows, 1 ≤ n ≤ MOST.
template <int MOST, typename Work>
static inline void with_constant(int64_t n, const Work& work) {
  if (n == MOST) return work(std::integral_constant<int, MOST>{});
  if constexpr (MOST > 1) with_constant<MOST - 1>(n, work);
}

template <int ROWS, int VECTORS>
struct Tile {
  Vector sum[ROWS][VECTORS] = {};

  // sum[r] += Σ_t a[r · apart + t · step] · b[t · width], for whole vectors of b's rows
  inline __attribute__((always_inline)) void add(const float* a, int64_t apart, int64_t step, const float* b,
                                                 int64_t width, int64_t terms) {
    // Three rows are reached from one address: so addresses, too, stay in registers.
    const float* row[(ROWS + 2) / 3];
    UNROLL for (int r = 0; r < ROWS; r += 3) row[r / 3] = a + r * apart;
    for (int64_t t = 0; t < terms; ++t, b += width) {
      Vector v[VECTORS];
      UNROLL for (int c = 0; c < VECTORS; ++c) v[c] = load(b + c * LANES);
      UNROLL for (int r = 0; r < ROWS; ++r)
        UNROLL for (int c = 0; c < VECTORS; ++c) sum[r][c] += row[r / 3][r % 3 * apart] * v[c];
      UNROLL for (int r = 0; r < ROWS; r += 3) row[r / 3] += step;
    }
  }

  // to[r · apart] = sum[r], or += it: so many floats of a row at most
  template <bool ADDED>
  inline __attribute__((always_inline)) void put(float* to, int64_t apart, int64_t floats) const {
    const bool whole = VECTORS * LANES <= floats;
    UNROLL for (int r = 0; r < ROWS; ++r, to += apart) {
      float part[VECTORS * LANES];
      UNROLL for (int c = 0; c < VECTORS; ++c) {
        float* const at = to + c * LANES;
        if (whole)
          store(at, ADDED ? load(at) + sum[r][c] : sum[r][c]);
        else
          store(part + c * LANES, sum[r][c]);
      }
      if (!whole)
        for (int64_t l = 0; l < floats; ++l) to[l] = ADDED ? to[l] + part[l] : part[l];
    }
  }
};

// work(rows, vectors, r, f) for all tiles of an array of so many rows and floats: the size of a tile, which the
// compiler knows, and where it begins.
template <typename Work>
static inline void by_tiles(int64_t rows, int64_t floats, const Work& work) {
  // A tile of one row waits for each of its sums: where one would be left, all are of about the same height.
  const int64_t tiles = (rows + TALL - 1) / TALL, even = (rows + tiles - 1) / tiles;
  const int64_t height = rows % TALL == 1 ? even : TALL;
  for (int64_t f = 0; f < floats; f += WIDE * LANES)
    with_constant<WIDE>(std::min<int64_t>(WIDE, (floats - f + LANES - 1) / LANES), [&](auto vectors) {
      for (int64_t r = 0; r < rows; r += height)
        with_constant<TALL>(std::min(height, rows - r), [&](auto some) { work(some, vectors, r, f); });
    });
}

static int64_t whole_vectors(int64_t floats) { return (floats + LANES - 1) / LANES * LANES; }

// Rows of whole vectors: those given, or copies that end in zeros.
struct Rows {
  int64_t width;
  std::vector<float> copies;
  const float* data;

  Rows(const Floats& array, int64_t floats) : width(whole_vectors(floats)), data(array.typed_data()) {
    if (width == floats) return;
    const int64_t rows = array.element_count() / floats;
    copies.resize(rows * width);
    for (int64_t i = 0; i < rows; ++i) std::copy_n(data + i * floats, floats, copies.data() + i * width);
    data = copies.data();
  }
};

struct Form {
  int64_t size, stride, rows, columns, units;
  int64_t run, row, hop;      // floats of a window's row, of a picture's row, from a window to the next one
  int64_t picture, made;      // floats of x, of y
  int64_t pictures, copies;   // of all layers; layers

  Form(int64_t size, int64_t stride, const Floats& x, const Floats& y, const Floats& kernel)
      : size(size), stride(stride), rows(axis(y, 3)), columns(axis(y, 2)), units(axis(y, 1)),
        run(size * axis(x, 1)), row(axis(x, 2) * axis(x, 1)), hop(stride * axis(x, 1)), picture(axis(x, 3) * row),
        made(rows * columns * units), pictures(y.element_count() / made),
        copies(kernel.element_count() / (size * run * units)) {}

  int64_t layer(int64_t n) const { return n / (pictures / copies); }
  int64_t window(int64_t n, int64_t i, int64_t a) const { return n * picture + (i * stride + a) * row; }
  int64_t place(int64_t n, int64_t i) const { return (n * rows + i) * columns; }
};

// y = kernel ⋆ x
static ffi::Error outputs(ffi::ThreadPool pool, Floats x, Floats kernel, int64_t size, int64_t stride,
                          ffi::Result<Floats> y) {
  const Form f(size, stride, x, *y, kernel);
  const Rows wide(kernel, f.units);
  for_each(pool, f.pictures, [&](int64_t n) {
    const float* const k = wide.data + f.layer(n) * f.size * f.run * wide.width;
    for (int64_t i = 0; i < f.rows; ++i)
      by_tiles(f.columns, f.units, [&](auto places, auto vectors, int64_t j, int64_t u) {
        Tile<places, vectors> tile;
        for (int64_t a = 0; a < f.size; ++a)
          tile.add(x.typed_data() + f.window(n, i, a) + j * f.hop, f.hop, 1, k + a * f.run * wide.width + u,
                   wide.width, f.run);
        tile.template put<false>(y->typed_data() + (f.place(n, i) + j) * f.units + u, f.units, f.units - u);
      });
  });
  return ffi::Error::Success();
}

// dx: each dy adds its share to its window, from kernels turned to [.., size, units, run]
static ffi::Error inputs(ffi::ThreadPool pool, Floats kernel, Floats dy, int64_t size, int64_t stride,
                         ffi::Result<Floats> dx) {
  const Form f(size, stride, *dx, dy, kernel);
  const int64_t width = whole_vectors(f.run);
  std::vector<float> turned(f.copies * f.size * f.units * width);
  for (int64_t a = 0; a < f.copies * f.size; ++a)
    for (int64_t t = 0; t < f.run; ++t)
      for (int64_t u = 0; u < f.units; ++u)
        turned[(a * f.units + u) * width + t] = kernel.typed_data()[(a * f.run + t) * f.units + u];
  for_each(pool, f.pictures, [&](int64_t n) {
    std::fill_n(dx->typed_data() + n * f.picture, f.picture, 0.0f);
    for (int64_t i = 0; i < f.rows; ++i)
      for (int64_t a = 0; a < f.size; ++a)
        by_tiles(f.columns, f.run, [&](auto places, auto vectors, int64_t j, int64_t t) {
          Tile<places, vectors> tile;
          const float* const k = turned.data() + (f.layer(n) * f.size + a) * f.units * width + t;
          tile.add(dy.typed_data() + (f.place(n, i) + j) * f.units, f.units, 1, k, width, f.units);
          tile.template put<true>(dx->typed_data() + f.window(n, i, a) + j * f.hop + t, f.hop, f.run - t);
        });
  });
  return ffi::Error::Success();
}

// dkernel = Σ over pictures and places of x · dy; a row of windows is an item. Picture after picture, for one
// and its dy stay in a core's own cache while all tiles read them.
static ffi::Error gradients(ffi::ThreadPool pool, Floats x, Floats dy, int64_t size, int64_t stride,
                            ffi::Result<Floats> dkernel) {
  const Form f(size, stride, x, dy, *dkernel);
  const Rows wide(dy, f.units);
  const int64_t each = f.pictures / f.copies;
  for_each(pool, f.copies * f.size, [&](int64_t item) {
    const int64_t first = item / f.size * each, a = item % f.size;
    float* const sums = dkernel->typed_data() + item * f.run * f.units;
    std::fill_n(sums, f.run * f.units, 0.0f);
    for (int64_t n = first; n < first + each; ++n)
      by_tiles(f.run, f.units, [&](auto taps, auto vectors, int64_t t, int64_t u) {
        Tile<taps, vectors> tile;
        for (int64_t i = 0; i < f.rows; ++i)
          tile.add(x.typed_data() + f.window(n, i, a) + t, 1, f.hop, wide.data + f.place(n, i) * wide.width + u,
                   wide.width, f.columns);
        tile.template put<true>(sums + t * f.units + u, f.units, f.units - u);
      });
  });
  return ffi::Error::Success();
}

static auto binding() {
  return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Attr<int64_t>("size")
      .Attr<int64_t>("stride").Ret<Floats>();
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(convolution_outputs, outputs, binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(convolution_inputs, inputs, binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(convolution_gradients, gradients, binding());
