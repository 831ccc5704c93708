// A network of dense layers that learns from one sample at a time on a CPU, called from compiled programs
// (jax.ffi); built by native.py.
//
// As in agents/stream_layers.py: each layer is its values, where they are (places that rise in the flattened
// [inputs, units]; none of a dense layer) and a bias; the first ones are hidden and read each other, the
// others are heads that all read the last hidden one. Nothing but surviving weights is touched.
#include <cmath>
#include <vector>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "kernels.h"

constexpr float LEAK = 0.01f, EPSILON = 1e-5f;  // as in networks/streaming.py
typedef float Pair __attribute__((vector_size(8)));

// Two halves at a time: one lane after the other would wait for each sum.
static inline float total(Vector v) {
  float lanes[LANES];
  store(lanes, v);
  UNROLL for (int half = LANES / 2; half; half /= 2)
    UNROLL for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

static inline Vector size_of(Vector v) { return v < Vector{} ? -v : v; }

struct Layer {
  const float* values;
  const int32_t* place;  // none: dense
  int64_t kept, inputs, units;
};

static Layer layer_of(const Floats& values, const Ints& place, int64_t units) {
  const int64_t kept = place.element_count(), all = values.element_count();
  return {values.typed_data(), kept ? place.typed_data() : nullptr, kept ? kept : all, 0, units};
}

// y[r] += x[r] K for N rows of a dense kernel; some inputs at a time, so that y is read less often.
template <int N>
static void dense_product(const Layer& layer, const float* const* x, float* const* y) {
  constexpr int TALL = 4;
  const int64_t units = layer.units, whole = units / LANES * LANES;
  int64_t i = 0;
  for (; i + TALL <= layer.inputs; i += TALL) {
    const float* const k = layer.values + i * units;
    for (int64_t j = 0; j < whole; j += LANES) {
      Vector row[TALL];
      UNROLL for (int t = 0; t < TALL; ++t) row[t] = load(k + t * units + j);
      UNROLL for (int n = 0; n < N; ++n) {
        Vector sum = load(y[n] + j);
        UNROLL for (int t = 0; t < TALL; ++t) sum += x[n][i + t] * row[t];
        store(y[n] + j, sum);
      }
    }
    for (int64_t j = whole; j < units; ++j)
      for (int n = 0; n < N; ++n)
        for (int t = 0; t < TALL; ++t) y[n][j] += x[n][i + t] * k[t * units + j];
  }
  for (; i < layer.inputs; ++i)
    for (int n = 0; n < N; ++n)
      for (int64_t j = 0; j < units; ++j) y[n][j] += x[n][i] * layer.values[i * units + j];
}

// The same of surviving values alone; two rows as pairs, so that a place is looked up once.
static void kept_product(const Layer& layer, const float* const* x, float* const* y, int rows) {
  const int64_t units = layer.units;
  int64_t p = 0;
  if (rows == 1) {
    for (int64_t i = 0; i < layer.inputs; ++i) {
      const float given = x[0][i];
      const int64_t first = i * units, last = first + units;
      float* const out = y[0];
      for (; p < layer.kept && layer.place[p] < last; ++p)
        out[layer.place[p] - first] += given * layer.values[p];
    }
    return;
  }
  std::vector<Pair> both(units);
  for (int64_t i = 0; i < layer.inputs; ++i) {
    const Pair given{x[0][i], x[1][i]};
    const int64_t first = i * units, last = first + units;
    for (; p < layer.kept && layer.place[p] < last; ++p)
      both[layer.place[p] - first] += given * layer.values[p];
  }
  for (int64_t j = 0; j < units; ++j) {
    y[0][j] += both[j][0];
    y[1][j] += both[j][1];
  }
}

static void product(const Layer& layer, const float* const* x, float* const* y, int rows) {
  if (layer.place) return kept_product(layer, x, y, rows);
  if (rows == 1) return dense_product<1>(layer, x, y);
  return dense_product<2>(layer, x, y);
}

// Σ f(a[i], b[i]), by lanes.
template <typename F>
static float sum_of(int64_t n, const float* a, const float* b, const F& f) {
  Vector sums{};
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) sums += f(load(a + i), load(b + i));
  float found = total(sums);
  if (i < n) {
    Vector left{}, right{};
    for (int64_t k = i; k < n; ++k) left[k - i] = a[k], right[k - i] = b[k];
    const Vector last = f(left, right);
    for (int64_t k = i; k < n; ++k) found += last[k - i];
  }
  return found;
}

// Layer norm in place; the reciprocal of the deviation.
static float normed(float* x, int64_t n) {
  const float mean = sum_of(n, x, x, [](Vector a, Vector) { return a; }) / n;
  for (int64_t i = 0; i < n; ++i) x[i] -= mean;
  const float variance = sum_of(n, x, x, [](Vector a, Vector) { return a * a; }) / n;
  const float scale = 1.0f / std::sqrt(variance + EPSILON);
  for (int64_t i = 0; i < n; ++i) x[i] *= scale;
  return scale;
}

static void leaky(const float* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] > 0 ? x[i] : LEAK * x[i];
}

// x [rows, inputs], and of each layer values, place and bias → heads [rows, outputs], and of the first row
// what the gradient needs: normed sums and the scale of each hidden layer, [hidden, units + 1].
static ffi::Error look(ffi::RemainingArgs args, ffi::RemainingRets rets, int64_t hidden) {
  const Floats x = *args.get<Floats>(0);
  auto heads = *rets.get<Floats>(0), kept = *rets.get<Floats>(1);
  const int64_t layers = (args.size() - 1) / 3, outputs = axis(*heads, 1);
  const int rows = axis(*heads, 2);
  std::vector<float> now[2];
  const float* seen[2];
  for (int r = 0; r < rows; ++r) seen[r] = x.typed_data() + r * axis(x, 1);
  int64_t inputs = axis(x, 1), done = 0;
  for (int64_t l = 0; l < layers; ++l) {
    const Floats values = *args.get<Floats>(1 + 3 * l), bias = *args.get<Floats>(3 + 3 * l);
    Layer layer = layer_of(values, *args.get<Ints>(2 + 3 * l), bias.element_count());
    layer.inputs = inputs;
    std::vector<float> next[2];
    float* out[2];
    for (int r = 0; r < rows; ++r) {
      next[r].assign(bias.typed_data(), bias.typed_data() + layer.units);
      out[r] = next[r].data();
    }
    product(layer, seen, out, rows);
    if (l >= hidden) {
      for (int r = 0; r < rows; ++r)
        std::copy(next[r].begin(), next[r].end(), heads->typed_data() + r * outputs + done);
      done += layer.units;
      continue;
    }
    float* const keeps = kept->typed_data() + l * axis(*kept, 1);
    for (int r = 0; r < rows; ++r) {
      const float scale = normed(out[r], layer.units);
      if (r == 0) std::copy(next[0].begin(), next[0].end(), keeps), keeps[layer.units] = scale;
      leaky(out[r], out[r], layer.units);
      now[r].swap(next[r]);
      seen[r] = now[r].data();
    }
    inputs = layer.units;
  }
  return ffi::Error::Success();
}

// Over all weights of a network: lanes are added up now and then, in double.
struct Sums {
  double size = 0, square = 0, grad = 0;
  Vector sizes{}, squares{}, grads{};
  void add(Vector trace, Vector g) {
    sizes += size_of(trace), squares += trace * trace, grads += g * g;
  }
  void together() {
    size += total(sizes), square += total(squares), grad += total(grads);
    sizes = squares = grads = Vector{};
  }
};
constexpr int64_t ROWS_TOGETHER = 32;

// One row of a trace and of its dense kernel: z ← decay z + x dy, and dx = Σ k dy.
template <bool DX>
static float trace_row(float* z, const float* k, int64_t n, float decay, float x, const float* dy, Sums& sums) {
  Vector back{};
  int64_t j = 0;
  for (; j + LANES <= n; j += LANES) {
    const Vector d = load(dy + j), g = x * d, trace = decay * load(z + j) + g;
    store(z + j, trace);
    sums.add(trace, g);
    if (DX) back += load(k + j) * d;
  }
  float found = DX ? total(back) : 0.0f;
  for (; j < n; ++j) {
    const float g = x * dy[j], trace = decay * z[j] + g;
    z[j] = trace;
    sums.size += std::fabs(trace), sums.square += trace * trace, sums.grad += g * g;
    if (DX) found += k[j] * dy[j];
  }
  return found;
}

// The same of what survives of a row whose places begin at `first`, from the p-th value on; p goes on to the
// next row.
template <bool DX>
static float kept_row(const Layer& l, float* z, int64_t& p, int64_t first, float decay, float x,
                      const float* dy, Sums& sums) {
  const int64_t last = first + l.units;
#if defined(__AVX512F__)
  const __m512i begin = _mm512_set1_epi32((int32_t)first), end = _mm512_set1_epi32((int32_t)last);
  Vector back{};
  for (__mmask16 ours = 0xFFFF; ours == 0xFFFF;) {
    const int64_t left = l.kept - p;
    const __mmask16 there = left >= LANES ? 0xFFFF : (__mmask16)((1u << left) - 1);
    const __m512i at = _mm512_maskz_loadu_epi32(there, l.place + p);
    ours = _mm512_mask_cmplt_epi32_mask(there, at, end);
    const __m512i in_row = _mm512_sub_epi32(at, begin);
    const Vector d = (Vector)_mm512_mask_i32gather_ps(_mm512_setzero_ps(), ours, in_row, dy, 4);
    const Vector g = x * d, trace = decay * (Vector)_mm512_maskz_loadu_ps(ours, z + p) + g;
    _mm512_mask_storeu_ps(z + p, ours, (__m512)trace);
    sums.add(trace, g);
    if (DX) back += (Vector)_mm512_maskz_loadu_ps(ours, l.values + p) * d;
    p += __builtin_popcount(ours);
  }
  return DX ? total(back) : 0.0f;
#else
  float found = 0.0f;
  for (; p < l.kept && l.place[p] < last; ++p) {
    const float d = dy[l.place[p] - first], g = x * d, trace = decay * z[p] + g;
    z[p] = trace;
    sums.size += std::fabs(trace), sums.square += trace * trace, sums.grad += g * g;
    if (DX) found += l.values[p] * d;
  }
  return found;
#endif
}

template <bool DX>
static void trace_layer(const Layer& l, float* z, float decay, const float* x, const float* dy, float* dx,
                        Sums& sums) {
  int64_t p = 0;
  for (int64_t i = 0; i < l.inputs; ++i) {
    const int64_t first = i * l.units;
    const float back = l.place ? kept_row<DX>(l, z, p, first, decay, x[i], dy, sums)
                               : trace_row<DX>(z + first, l.values + first, l.units, decay, x[i], dy, sums);
    if (DX) dx[i] += back;
    if (i % ROWS_TOGETHER == 0) sums.together();
  }
  sums.together();
}

// x [1, inputs], what look kept, dheads [outputs], decay [], and of each layer values, place and the traces
// of values and bias → these traces after the gradient, and Σ|z|, Σz², Σ∇².
static ffi::Error trace(ffi::RemainingArgs args, ffi::RemainingRets rets, int64_t hidden) {
  const Floats seen = *args.get<Floats>(0), kept = *args.get<Floats>(1), given = *args.get<Floats>(2);
  const float decay = *(*args.get<Floats>(3)).typed_data();
  const int64_t layers = (args.size() - 4) / 4;
  Sums sums;
  std::vector<Layer> all;
  int64_t inputs = axis(seen, 1);
  for (int64_t l = 0; l < layers; ++l) {
    const int64_t units = (*args.get<Floats>(7 + 4 * l)).element_count();
    all.push_back(layer_of(*args.get<Floats>(4 + 4 * l), *args.get<Ints>(5 + 4 * l), units));
    all.back().inputs = inputs;
    if (l < hidden) inputs = units;
  }
  auto add = [&](int64_t l, const float* x, const float* dy, float* dx) {
    float* const z = (*rets.get<Floats>(2 * l))->typed_data();
    float* const zb = (*rets.get<Floats>(2 * l + 1))->typed_data();
    dx ? trace_layer<true>(all[l], z, decay, x, dy, dx, sums)
       : trace_layer<false>(all[l], z, decay, x, dy, dx, sums);
    trace_row<false>(zb, nullptr, all[l].units, decay, 1.0f, dy, sums);
    sums.together();
  };
  auto keeps = [&](int64_t l) { return kept.typed_data() + l * axis(kept, 1); };
  std::vector<float> h(inputs), dh(inputs, 0.0f);
  leaky(keeps(hidden - 1), h.data(), inputs);
  const float* dy = given.typed_data();
  for (int64_t l = hidden; l < layers; dy += all[l++].units) add(l, h.data(), dy, dh.data());
  for (int64_t l = hidden - 1; l >= 0; --l) {
    const int64_t n = all[l].units;
    const float* const normal = keeps(l);
    for (int64_t i = 0; i < n; ++i) dh[i] *= normal[i] > 0 ? 1.0f : LEAK;
    const float mean = sum_of(n, dh.data(), dh.data(), [](Vector a, Vector) { return a; }) / n;
    const float along = sum_of(n, dh.data(), normal, [](Vector a, Vector b) { return a * b; }) / n;
    for (int64_t i = 0; i < n; ++i) dh[i] = normal[n] * (dh[i] - mean - normal[i] * along);
    if (l == 0) {
      add(0, seen.typed_data(), dh.data(), nullptr);
      break;
    }
    std::vector<float> before(all[l].inputs, 0.0f);
    h.resize(all[l].inputs);
    leaky(keeps(l - 1), h.data(), all[l].inputs);
    add(l, h.data(), dh.data(), before.data());
    dh.swap(before);
  }
  float* const out = (*rets.get<Floats>(2 * layers))->typed_data();
  out[0] = sums.size, out[1] = sums.square, out[2] = sums.grad;
  return ffi::Error::Success();
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(stream_look, look,
                              ffi::Ffi::Bind().RemainingArgs().RemainingRets().Attr<int64_t>("hidden"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(stream_trace, trace,
                              ffi::Ffi::Bind().RemainingArgs().RemainingRets().Attr<int64_t>("hidden"));
