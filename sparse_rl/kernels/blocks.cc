// Products of block-sparse layers on a CPU, called from compiled programs (jax.ffi); built by __init__.py.
//
// As in blocks.py: feature-major and row-major, x [.., inputs, n], y [.., units, n], values
// [.., groups, room, reads], rows [.., groups, reads]: which inputs a group of units reads; places that
// hold no input are at `inputs`, a row of zeros. n is a multiple of LANES. Each group of each copy is one
// item of work; rows are read and written where they lie, without a shuffled copy.
#include <limits>
#include <utility>
#include <vector>

#include "kernels.h"

// A tile of sums, TALL rows of WIDE vectors, fills the registers of a core.
constexpr int TALL = 6, WIDE = LANES == 16 ? 4 : LANES == 8 ? 2 : 3;
constexpr int64_t PANEL = WIDE * LANES;

// Lanes of two vectors, by their places in both.
#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int32_t Places __attribute__((vector_size(LANES * sizeof(int32_t))));
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Places{__VA_ARGS__})
#endif

// What one item computes: y[r] = max(floor, bias[r] + Σ_k a[k][r · stride] · x[k]), where x[k] and y[r] are
// rows of n floats; what is not a number stays so.
struct Product {
  int64_t stride;
  const float* bias;
  float floor = -std::numeric_limits<float>::infinity();
  std::vector<const float*> a, x;
  std::vector<float*> y;
};

template <int ROWS, int VECTORS>
static inline void tile(const Product& p, int64_t r0, int64_t n0) {
  const float* const* const as = p.a.data();
  const float* const* const xs = p.x.data();
  const int64_t terms = p.x.size(), stride = p.stride;
  Vector sum[ROWS][VECTORS];
  UNROLL for (int r = 0; r < ROWS; ++r)
    UNROLL for (int v = 0; v < VECTORS; ++v) sum[r][v] = Vector{} + p.bias[r0 + r];
  for (int64_t k = 0; k < terms; ++k) {
    const float* const a = as[k] + r0 * stride;
    Vector x[VECTORS];
    UNROLL for (int v = 0; v < VECTORS; ++v) x[v] = load(xs[k] + n0 + v * LANES);
    UNROLL for (int r = 0; r < ROWS; ++r)
      UNROLL for (int v = 0; v < VECTORS; ++v) sum[r][v] += a[r * stride] * x[v];
  }
  const Vector floor = Vector{} + p.floor;
  UNROLL for (int r = 0; r < ROWS; ++r)
    UNROLL for (int v = 0; v < VECTORS; ++v)
      store(p.y[r0 + r] + n0 + v * LANES, sum[r][v] < floor ? floor : sum[r][v]);
}

template <int VECTORS>
static void panel(const Product& p, int64_t n0) {
  const int64_t rows = p.y.size();
  int64_t r = 0;
  for (; r + TALL <= rows; r += TALL) tile<TALL, VECTORS>(p, r, n0);
  switch (rows - r) {
    case 5: return tile<5, VECTORS>(p, r, n0);
    case 4: return tile<4, VECTORS>(p, r, n0);
    case 3: return tile<3, VECTORS>(p, r, n0);
    case 2: return tile<2, VECTORS>(p, r, n0);
    case 1: return tile<1, VECTORS>(p, r, n0);
  }
}

static void compute(const Product& p, int64_t n) {
  int64_t n0 = 0;
  for (; n0 + PANEL <= n; n0 += PANEL) panel<WIDE>(p, n0);
  switch ((n - n0) / LANES) {
    case 3: return panel<3>(p, n0);
    case 2: return panel<2>(p, n0);
    case 1: return panel<1>(p, n0);
  }
}

// The upper right quarters of two rows of a square ↔ the lower left ones.
template <int HALF, int... J>
static inline void exchange(Vector& first, Vector& second, std::integer_sequence<int, J...>) {
  const Vector a = first, b = second;
  first = SHUFFLE(a, b, (J & HALF ? J - HALF + LANES : J)...);
  second = SHUFFLE(a, b, (J & HALF ? J + LANES : J + HALF)...);
}

// v[i][j] → v[j][i], by exchanging ever smaller quarters.
template <int HALF>
static inline void turn(Vector (&v)[LANES]) {
  for (int i = 0; i < LANES; ++i)
    if (!(i & HALF)) exchange<HALF>(v[i], v[i + HALF], std::make_integer_sequence<int, LANES>{});
  if constexpr (HALF > 1) turn<HALF / 2>(v);
}

static float total(const float* x, int64_t n) {
  Vector sum{};
  for (int64_t i = 0; i < n; i += LANES) sum += load(x + i);
  float all = 0.0f;
  for (int l = 0; l < LANES; ++l) all += sum[l];
  return all;
}

// One or more layers of one form. An item is a group of one of them.
struct Layer {
  int64_t inputs, units, groups, room, reads, n, items;
  const int32_t* rows;
  std::vector<float> zeros;

  Layer(int64_t inputs, int64_t units, int64_t room, int64_t n, const Ints& rows)
      : inputs(inputs), units(units), groups(axis(rows, 2)), room(room), reads(axis(rows, 1)), n(n),
        items(rows.element_count() / reads), rows(rows.typed_data()), zeros(std::max({inputs, units, n})) {}

  // Of so many, those in group g; larger groups come first.
  static int64_t share(int64_t all, int64_t groups, int64_t g) { return all / groups + (g < all % groups); }
  int64_t units_of(int64_t item) const { return share(units, groups, item % groups); }

  // The row of an array [.., units, row] that belongs to a group's unit u.
  template <typename Float>
  Float* unit(Float* array, int64_t item, int64_t u, int64_t row) const {
    const int64_t g = item % groups, first = g * (units / groups) + std::min(g, units % groups);
    return array + (item / groups * units + first + u) * row;
  }

  // The k-th row of x that a group reads.
  const float* read(const float* x, int64_t item, int64_t k) const {
    const int64_t row = rows[item * reads + k];
    return row < inputs ? x + (item / groups * inputs + row) * n : zeros.data();
  }
};

// y = values · x + bias, rectified if relu
static ffi::Error outputs(ffi::ThreadPool pool, Floats values, Ints rows, Floats x, Floats bias, bool relu,
                          ffi::Result<Floats> y) {
  const Layer layer(axis(x, 2), axis(*y, 2), axis(values, 2), axis(x, 1), rows);
  for_each(pool, layer.items, [&](int64_t item) {
    Product p{layer.reads, layer.unit(bias.typed_data(), item, 0, 1)};
    if (relu) p.floor = 0.0f;
    for (int64_t k = 0; k < layer.reads; ++k) {
      p.a.push_back(values.typed_data() + item * layer.room * layer.reads + k);
      p.x.push_back(layer.read(x.typed_data(), item, k));
    }
    for (int64_t u = 0; u < layer.units_of(item); ++u)
      p.y.push_back(layer.unit(y->typed_data(), item, u, layer.n));
    compute(p, layer.n);
  });
  return ffi::Error::Success();
}

// dx = valuesᵀ · dy: group h of the inputs is the r-th that group h − r of the units reads
static ffi::Error inputs(ffi::ThreadPool pool, Floats values, Ints rows, Floats dy, ffi::Result<Floats> dx) {
  const Layer layer(axis(*dx, 2), axis(dy, 2), axis(values, 2), axis(dy, 1), rows);
  const int64_t size = (layer.inputs + layer.groups - 1) / layer.groups;
  for_each(pool, layer.items, [&](int64_t item) {
    const int64_t copy = item / layer.groups, h = item % layer.groups;
    Product p{1, layer.zeros.data()};
    for (int64_t r = 0; r < layer.reads / size; ++r) {
      const int64_t reader = copy * layer.groups + (h - r + layer.groups) % layer.groups;
      for (int64_t u = 0; u < layer.units_of(reader); ++u) {
        p.a.push_back(values.typed_data() + (reader * layer.room + u) * layer.reads + r * size);
        p.x.push_back(layer.unit(dy.typed_data(), reader, u, layer.n));
      }
    }
    for (int64_t i = 0; i < Layer::share(layer.inputs, layer.groups, h); ++i)
      p.y.push_back(dx->typed_data() + (copy * layer.inputs + layer.rows[item * layer.reads + i]) * layer.n);
    compute(p, layer.n);
  });
  return ffi::Error::Success();
}

// dvalues = dy · xᵀ: a panel of the inputs that a group reads is turned to [n, inputs], then multiplied;
// dbias = Σ_n dy
static ffi::Error gradients(ffi::ThreadPool pool, Floats x, Ints rows, Floats dy, ffi::Result<Floats> dvalues,
                            ffi::Result<Floats> dbias) {
  const Layer layer(axis(x, 2), axis(dy, 2), axis(*dvalues, 2), axis(x, 1), rows);
  for_each(pool, layer.items, [&](int64_t item) {
    thread_local std::vector<float> turned, sums;
    turned.resize(layer.n * PANEL);
    sums.resize(layer.room * PANEL);
    const int64_t units = layer.units_of(item);
    const float* const d = layer.unit(dy.typed_data(), item, 0, layer.n);
    float* const db = layer.unit(dbias->typed_data(), item, 0, 1);
    float* const dv = dvalues->typed_data() + item * layer.room * layer.reads;
    Product p{layer.n, layer.zeros.data()};
    for (int64_t i = 0; i < layer.n; ++i) p.a.push_back(d + i), p.x.push_back(turned.data() + i * PANEL);
    for (int64_t u = 0; u < units; ++u) p.y.push_back(sums.data() + u * PANEL);
    for (int64_t k0 = 0; k0 < layer.reads; k0 += PANEL) {
      const int64_t some = std::min(PANEL, layer.reads - k0);
      int64_t k = 0;
      for (; k < some; k += LANES)
        for (int64_t i = 0; i < layer.n; i += LANES) {
          Vector v[LANES] = {};
          for (int l = 0; l < LANES && k + l < some; ++l)
            v[l] = load(layer.read(x.typed_data(), item, k0 + k + l) + i);
          turn<LANES / 2>(v);
          for (int l = 0; l < LANES; ++l) store(turned.data() + (i + l) * PANEL + k, v[l]);
        }
      compute(p, k);
      for (int64_t u = 0; u < units; ++u) std::copy_n(p.y[u], some, dv + u * layer.reads + k0);
    }
    std::fill(dv + units * layer.reads, dv + layer.room * layer.reads, 0.0f);
    for (int64_t u = 0; u < units; ++u) db[u] = total(d + u * layer.n, layer.n);
  });
  return ffi::Error::Success();
}

extern "C" const int lanes = LANES;

static auto binding() { return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Ints>().Arg<Floats>(); }

XLA_FFI_DEFINE_HANDLER_SYMBOL(block_outputs, outputs, binding().Arg<Floats>().Attr<bool>("relu").Ret<Floats>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(block_inputs, inputs, binding().Ret<Floats>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(block_gradients, gradients, binding().Ret<Floats>().Ret<Floats>());
