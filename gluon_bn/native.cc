// Batch normalization as MXNet operators for the CPU, float32 and float64.
//
//   forward    mean = sum(X) / n,  var = sum((X - mean)^2) / n,  X_hat = (X - mean) / sqrt(var + eps)
//              Y = gamma * X_hat + beta
//   backward   dbeta = sum(dY),  dgamma = sum(dY * X_hat)
//              dX = gamma / sqrt(var + eps) * (dY - dbeta / n - X_hat * dgamma / n)
//
// The sums run over the n values of one channel. X is (m, d) or (m, c, h, w), seen here as (m, c, s) with
// s = h * w. gluon_bn/native.py compiles this file and hands the operators to `mx.library.load`.
#include <mxnet/lib_api.h>
#include <omp.h>
#include <pthread.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <sstream>

namespace {

using namespace mxnet::ext;
using std::int64_t;
using Attributes = std::unordered_map<std::string, std::string>;
using Tensors = std::vector<MXTensor>;
using Shapes = std::vector<std::vector<unsigned int>>;

// ---- Threads -------------------------------------------------------------------------------------------------

constexpr int64_t kParallel = 1 << 15;  // below so many values, waking a second thread costs more than it saves

// As many threads as MXNet has given to the calling one: OMP_NUM_THREADS, or half the cores. It is the same pool.
int threads_for(int64_t size) { return size < kParallel ? 1 : omp_get_max_threads(); }

// A forked child has one thread, and waiting for the others that its parent had would hang: here, and in operators
// of MXNet's own.
void after_fork_in_child() { omp_set_num_threads(1); }

// ---- One channel: what its values share ----------------------------------------------------------------------

// Sums over the channel of two quantities, in double whatever the type of X.
struct Sums {
  double first = 0, second = 0;
};

// Y = (x - center) * scale + shift. The center is the mean rounded to the type of X, so that x - center is exact
// where the mean is large; what the rounding left out goes into the shift.
template <typename T>
struct Affine {
  T center = 0, scale = 0, shift = 0;
  double std_inverse = 0, rest = 0;  // 1 / sqrt(var + eps), mean - center

  Affine() = default;
  Affine(double mean, double var, double eps, double gamma, double beta) {
    center = static_cast<T>(mean);
    rest = std::isfinite(mean) ? mean - center : 0;
    std_inverse = 1 / std::sqrt(var + eps);
    scale = static_cast<T>(gamma * std_inverse);
    shift = static_cast<T>(beta - rest * gamma * std_inverse);
  }
};

// dX = dY * scale - (x - center) * slope - offset, with sums = sum(dY), sum(dY * (x - center)).
template <typename T>
struct Gradient {
  T center = 0, scale = 0, slope = 0, offset = 0, dgamma = 0, dbeta = 0;

  Gradient() = default;
  Gradient(const Affine<T>& a, Sums sums, double gamma, double n, bool training) : center(a.center), scale(a.scale) {
    const double sum_dY_X_hat = (sums.second - a.rest * sums.first) * a.std_inverse;
    dbeta = static_cast<T>(sums.first);
    dgamma = static_cast<T>(sum_dY_X_hat);
    if (training) {  // in prediction mean and var are constants, and only the first term is left
      const double factor = gamma * a.std_inverse / n;
      slope = static_cast<T>(factor * sum_dY_X_hat * a.std_inverse);
      offset = static_cast<T>(factor * (sums.first - a.rest * sum_dY_X_hat * a.std_inverse));
    }
  }
};

// Mean and variance from the sums of d = x - x0 and d^2, where x0 is one of the channel's own values. That is as
// good as two passes: (x0 - mean)^2 <= n * var, so the subtraction loses at most a factor n of double's precision.
Sums moments(Sums sums, double x0, double n) {
  const double mean = sums.first / n;
  const double var = sums.second / n - mean * mean;
  return {x0 + mean, var < 0 ? 0 : var};  // a NaN stays a NaN
}

// ---- The loops over memory -----------------------------------------------------------------------------------

// (m, c, s), s > 1: a channel is m planes of s neighbouring values. A thread takes one whole channel at a time, and
// finds in its cache the second time what it read from memory the first time.
template <typename T>
struct Planes {
  static constexpr int64_t width = 1;  // channels a tile holds
  const int64_t m, c, s;

  void sums_of_X(const T* X, int64_t k, int64_t, const T* x0, Sums* out) const {
    double sum = 0, sum_squares = 0;
    const T zero = *x0;
    for (int64_t i = 0; i < m; ++i) {
      const T* x = X + (i * c + k) * s;
#pragma omp simd reduction(+ : sum, sum_squares)
      for (int64_t j = 0; j < s; ++j) {
        const double d = x[j] - zero;
        sum += d;
        sum_squares += d * d;
      }
    }
    *out = {sum, sum_squares};
  }

  void write_Y(const T* X, T* Y, int64_t k, int64_t, const Affine<T>* affine) const {
    const Affine<T> a = *affine;
    for (int64_t i = 0; i < m; ++i) {
      const T* x = X + (i * c + k) * s;
      T* y = Y + (i * c + k) * s;
#pragma omp simd
      for (int64_t j = 0; j < s; ++j) y[j] = (x[j] - a.center) * a.scale + a.shift;
    }
  }

  void sums_of_dY(const T* X, const T* dY, int64_t k, int64_t, const Affine<T>* affine, Sums* out) const {
    double sum = 0, sum_products = 0;
    const T center = affine->center;
    for (int64_t i = 0; i < m; ++i) {
      const T *x = X + (i * c + k) * s, *dy = dY + (i * c + k) * s;
#pragma omp simd reduction(+ : sum, sum_products)
      for (int64_t j = 0; j < s; ++j) {
        sum += dy[j];
        sum_products += static_cast<double>(dy[j]) * (x[j] - center);
      }
    }
    *out = {sum, sum_products};
  }

  void write_dX(const T* X, const T* dY, T* dX, int64_t k, int64_t, const Gradient<T>* gradient) const {
    const Gradient<T> g = *gradient;
    for (int64_t i = 0; i < m; ++i) {
      const T *x = X + (i * c + k) * s, *dy = dY + (i * c + k) * s;
      T* dx = dX + (i * c + k) * s;
#pragma omp simd
      for (int64_t j = 0; j < s; ++j) dx[j] = dy[j] * g.scale - (x[j] - g.center) * g.slope - g.offset;
    }
  }
};

// (m, d): neighbours in memory are different channels, so the inner loop runs across `n` of them, beginning at k.
template <typename T>
struct Columns {
  static constexpr int64_t width = 32;
  const int64_t m, c, s;

  void sums_of_X(const T* X, int64_t k, int64_t n, const T* x0, Sums* out) const {
    double sum[width] = {}, sum_squares[width] = {};
    for (int64_t i = 0; i < m; ++i) {
      const T* x = X + i * c + k;
#pragma omp simd
      for (int64_t j = 0; j < n; ++j) {
        const double d = x[j] - x0[j];
        sum[j] += d;
        sum_squares[j] += d * d;
      }
    }
    for (int64_t j = 0; j < n; ++j) out[j] = {sum[j], sum_squares[j]};
  }

  void write_Y(const T* X, T* Y, int64_t k, int64_t n, const Affine<T>* a) const {
    T center[width], scale[width], shift[width];
    for (int64_t j = 0; j < n; ++j) center[j] = a[j].center, scale[j] = a[j].scale, shift[j] = a[j].shift;
    for (int64_t i = 0; i < m; ++i) {
      const T* x = X + i * c + k;
      T* y = Y + i * c + k;
#pragma omp simd
      for (int64_t j = 0; j < n; ++j) y[j] = (x[j] - center[j]) * scale[j] + shift[j];
    }
  }

  void sums_of_dY(const T* X, const T* dY, int64_t k, int64_t n, const Affine<T>* a, Sums* out) const {
    double sum[width] = {}, sum_products[width] = {};
    T center[width];
    for (int64_t j = 0; j < n; ++j) center[j] = a[j].center;
    for (int64_t i = 0; i < m; ++i) {
      const T *x = X + i * c + k, *dy = dY + i * c + k;
#pragma omp simd
      for (int64_t j = 0; j < n; ++j) {
        sum[j] += dy[j];
        sum_products[j] += static_cast<double>(dy[j]) * (x[j] - center[j]);
      }
    }
    for (int64_t j = 0; j < n; ++j) out[j] = {sum[j], sum_products[j]};
  }

  void write_dX(const T* X, const T* dY, T* dX, int64_t k, int64_t n, const Gradient<T>* g) const {
    T center[width], scale[width], slope[width], offset[width];
    for (int64_t j = 0; j < n; ++j) {
      center[j] = g[j].center, scale[j] = g[j].scale, slope[j] = g[j].slope, offset[j] = g[j].offset;
    }
    for (int64_t i = 0; i < m; ++i) {
      const T *x = X + i * c + k, *dy = dY + i * c + k;
      T* dx = dX + i * c + k;
#pragma omp simd
      for (int64_t j = 0; j < n; ++j) dx[j] = dy[j] * scale[j] - (x[j] - center[j]) * slope[j] - offset[j];
    }
  }
};

// ---- Forward and backward, on either layout -------------------------------------------------------------------

// params holds gamma and then beta, statistics mean and then var, c of each.
template <typename T, template <typename> class Layout>
void forward(const Layout<T> layout, const T* X, const T* params, double eps, T* Y, double* statistics, bool training) {
  const int64_t m = layout.m, c = layout.c, s = layout.s;
#pragma omp parallel for num_threads(threads_for(m * c * s))
  for (int64_t k = 0; k < c; k += layout.width) {
    const int64_t n = std::min(layout.width, c - k);
    Affine<T> affine[Layout<T>::width];
    if (training) {
      Sums sums[Layout<T>::width];
      const T* x0 = X + k * s;  // the first value of each channel
      layout.sums_of_X(X, k, n, x0, sums);
      for (int64_t j = 0; j < n; ++j) {
        const Sums mean_var = moments(sums[j], x0[j], static_cast<double>(m * s));
        statistics[k + j] = mean_var.first;
        statistics[c + k + j] = mean_var.second;
      }
    }
    for (int64_t j = 0; j < n; ++j) {
      const int64_t l = k + j;
      affine[j] = Affine<T>(statistics[l], statistics[c + l], eps, params[l], params[c + l]);
    }
    layout.write_Y(X, Y, k, n, affine);
  }
}

template <typename T, template <typename> class Layout>
void backward(const Layout<T> layout, const T* dY, const T* X, const T* params, const double* statistics, double eps,
              T* dX, T* dparams, bool training) {
  const int64_t m = layout.m, c = layout.c, s = layout.s;
#pragma omp parallel for num_threads(threads_for(m * c * s))
  for (int64_t k = 0; k < c; k += layout.width) {
    const int64_t n = std::min(layout.width, c - k);
    Affine<T> affine[Layout<T>::width];
    Gradient<T> gradient[Layout<T>::width];
    Sums sums[Layout<T>::width];
    for (int64_t j = 0; j < n; ++j) {
      const int64_t l = k + j;
      affine[j] = Affine<T>(statistics[l], statistics[c + l], eps, params[l], params[c + l]);
    }
    layout.sums_of_dY(X, dY, k, n, affine, sums);
    for (int64_t j = 0; j < n; ++j) {
      gradient[j] = Gradient<T>(affine[j], sums[j], params[k + j], static_cast<double>(m * s), training);
      dparams[k + j] = gradient[j].dgamma;
      dparams[c + k + j] = gradient[j].dbeta;
    }
    layout.write_dX(X, dY, dX, k, n, gradient);
  }
}

// ---- The operators as MXNet sees them -------------------------------------------------------------------------

double number(const Attributes& attributes, const char* name) {
  double value;
  std::istringstream(attributes.at(name)) >> value;  // std::stod would follow the process's locale
  return value;
}

// Calls run(layout, T()) with the layout of X and its type.
template <typename Run>
MXReturnValue dispatch(const MXTensor& X, Run run) {
  const int64_t m = X.shape[0], c = X.shape[1], s = X.shape.size() == 4 ? X.shape[2] * X.shape[3] : 1;
  const auto layout_of = [&](auto type) {
    using T = decltype(type);
    if (s == 1) {
      run(Columns<T>{m, c, s}, type);
    } else {
      run(Planes<T>{m, c, s}, type);
    }
  };
  if (X.dtype == kFloat32) {
    layout_of(float());
  } else if (X.dtype == kFloat64) {
    layout_of(double());
  } else {
    MX_ERROR_MSG << "X must be float32 or float64" << std::endl;
    return MX_FAIL;
  }
  return MX_SUCCESS;
}

// Training: (X, params) -> (Y, statistics). The statistics are float64, so that backward starts where forward ended.
MXReturnValue train_forward(const Attributes& attributes, Tensors* in, Tensors* out, const OpResource&) {
  const double eps = number(attributes, "eps");
  return dispatch(in->at(0), [&](auto layout, auto type) {
    using T = decltype(type);
    forward(layout, in->at(0).data<T>(), in->at(1).data<T>(), eps, out->at(0).data<T>(), out->at(1).data<double>(), true);
  });
}

// In: the gradients of the outputs, the inputs, the outputs. Out: the gradients of the inputs.
MXReturnValue train_backward(const Attributes& attributes, Tensors* in, Tensors* out, const OpResource&) {
  const double eps = number(attributes, "eps");
  return dispatch(in->at(2), [&](auto layout, auto type) {
    using T = decltype(type);
    backward(layout, in->at(0).data<T>(), in->at(2).data<T>(), in->at(3).data<T>(), in->at(5).data<double>(), eps,
             out->at(0).data<T>(), out->at(1).data<T>(), true);
  });
}

// Prediction: (X, params, moving_mean, moving_var) -> Y
template <typename T>
std::vector<double> moving(const MXTensor& mean, const MXTensor& var) {
  std::vector<double> statistics(static_cast<T*>(mean.data_ptr), static_cast<T*>(mean.data_ptr) + mean.size());
  statistics.insert(statistics.end(), static_cast<T*>(var.data_ptr), static_cast<T*>(var.data_ptr) + var.size());
  return statistics;
}

MXReturnValue predict_forward(const Attributes& attributes, Tensors* in, Tensors* out, const OpResource&) {
  const double eps = number(attributes, "eps");
  return dispatch(in->at(0), [&](auto layout, auto type) {
    using T = decltype(type);
    std::vector<double> statistics = moving<T>(in->at(2), in->at(3));
    forward(layout, in->at(0).data<T>(), in->at(1).data<T>(), eps, out->at(0).data<T>(), statistics.data(), false);
  });
}

MXReturnValue predict_backward(const Attributes& attributes, Tensors* in, Tensors* out, const OpResource&) {
  const double eps = number(attributes, "eps");
  return dispatch(in->at(1), [&](auto layout, auto type) {
    using T = decltype(type);
    const std::vector<double> statistics = moving<T>(in->at(3), in->at(4));
    backward(layout, in->at(0).data<T>(), in->at(1).data<T>(), in->at(2).data<T>(), statistics.data(), eps,
             out->at(0).data<T>(), out->at(1).data<T>(), false);
    std::fill_n(out->at(2).data<T>(), out->at(2).size(), T(0));  // the moving statistics are constants
    std::fill_n(out->at(3).data<T>(), out->at(3).size(), T(0));
  });
}

// The moving average: (statistics, moving_mean, moving_var) -> (new moving_mean, new moving_var)
MXReturnValue blend(const Attributes& attributes, Tensors* in, Tensors* out, const OpResource&) {
  const double momentum = number(attributes, "momentum");
  const auto run = [&](auto type) {
    using T = decltype(type);
    const double* batch = in->at(0).data<double>();
    for (int i : {0, 1}) {
      const T* old = in->at(i + 1).data<T>();
      T* blended = out->at(i).data<T>();
      for (int64_t k = 0; k < out->at(i).size(); ++k) {
        blended[k] = static_cast<T>(momentum * old[k] + (1 - momentum) * *batch++);
      }
    }
  };
  if (in->at(1).dtype == kFloat32) run(float());
  else run(double());
  return MX_SUCCESS;
}

// Without one MXNet refuses to build the graph of a hybridized layer; the moving average is no part of the gradient.
MXReturnValue blend_backward(const Attributes&, Tensors* in, Tensors* out, const OpResource&) {
  for (MXTensor& gradient : *out) {
    std::memset(gradient.data_ptr, 0, gradient.size() * (gradient.dtype == kFloat32 ? sizeof(float) : sizeof(double)));
  }
  return MX_SUCCESS;
}

template <int inputs, int outputs>
MXReturnValue count(const Attributes&, int* num_in, int* num_out) {
  *num_in = inputs;
  *num_out = outputs;
  return MX_SUCCESS;
}

MXReturnValue normalize_types(const Attributes&, std::vector<int>* in, std::vector<int>* out) {
  out->at(0) = in->at(0);
  if (out->size() == 2) out->at(1) = kFloat64;
  return MX_SUCCESS;
}
MXReturnValue normalize_shapes(const Attributes&, Shapes* in, Shapes* out) {
  out->at(0) = in->at(0);
  if (out->size() == 2) out->at(1) = {2, in->at(0).at(1)};
  return MX_SUCCESS;
}
MXReturnValue blend_types(const Attributes&, std::vector<int>* in, std::vector<int>* out) {
  out->at(0) = out->at(1) = in->at(1);
  return MX_SUCCESS;
}
MXReturnValue blend_shapes(const Attributes&, Shapes* in, Shapes* out) {
  out->at(0) = out->at(1) = in->at(1);
  return MX_SUCCESS;
}

}  // namespace

REGISTER_OP(gluon_bn_train)
    .setForward(train_forward, "cpu").setBackward(train_backward, "cpu")
    .setParseAttrs(count<2, 2>).setInferType(normalize_types).setInferShape(normalize_shapes);

REGISTER_OP(gluon_bn_predict)
    .setForward(predict_forward, "cpu").setBackward(predict_backward, "cpu")
    .setParseAttrs(count<4, 1>).setInferType(normalize_types).setInferShape(normalize_shapes);

REGISTER_OP(gluon_bn_blend)
    .setForward(blend, "cpu").setBackward(blend_backward, "cpu")
    .setParseAttrs(count<3, 2>).setInferType(blend_types).setInferShape(blend_shapes);

MXReturnValue initialize(int) {
  pthread_atfork(nullptr, nullptr, after_fork_in_child);
  return MX_SUCCESS;
}
