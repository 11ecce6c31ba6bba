// The loops over (m, d).
#pragma once

#include "channel.h"
#include "sigmoid.h"

#include <cstdint>

namespace {

using std::int64_t;

// (m, d): adjacent values in memory belong to different channels, so the inner loop runs over n of them, starting at k.
template <typename T>
struct Columns {
  static constexpr int64_t width = 32;
  const int64_t m, c, s;
  int64_t tile() const { return width; }

  // One of the channel's own values will do, because these sums are in double: (x0 - mean)^2 <= n * var.
  double origin(const T* X, int64_t k) const { return X[k]; }

  void sums_of_X(const T* X, int64_t k, int64_t n, const double* origin, Sums* out) const {
    double sum[width] = {}, sum_squares[width] = {};
    for (int64_t i = 0; i < m; ++i) {
      const T* x = X + i * c + k;
#pragma omp simd
      for (int64_t j = 0; j < n; ++j) {
        const double d = x[j] - origin[j];
        sum[j] += d;
        sum_squares[j] += d * d;
      }
    }
    for (int64_t j = 0; j < n; ++j) out[j] = {sum[j], sum_squares[j]};
  }

  template <bool sigmoid>
  void write_Y(const T* X, T* Y, int64_t k, int64_t n, const Affine<T>* a) const {
    T center[width], scale[width], shift[width];
    for (int64_t j = 0; j < n; ++j) center[j] = a[j].center, scale[j] = a[j].scale, shift[j] = a[j].shift;
    for (int64_t i = 0; i < m; ++i) {
      const T* x = X + i * c + k;
      T* y = Y + i * c + k;
#pragma omp simd
      for (int64_t j = 0; j < n; ++j) y[j] = activate<sigmoid>((x[j] - center[j]) * scale[j] + shift[j]);
    }
  }

  template <bool sigmoid>
  void sums_of_dY(const T* X, Upstream<T, sigmoid> dY, int64_t k, int64_t n, const double* origin, Sums* out) const {
    double sum[width] = {}, sum_products[width] = {};
    for (int64_t i = 0; i < m; ++i) {
      const T* x = X + i * c + k;
      const auto dy = dY + (i * c + k);
#pragma omp simd
      for (int64_t j = 0; j < n; ++j) {
        const T upstream = dy[j];
        sum[j] += upstream;
        sum_products[j] += upstream * (x[j] - origin[j]);
      }
    }
    for (int64_t j = 0; j < n; ++j) out[j] = {sum[j], sum_products[j]};
  }

  template <bool sigmoid>
  void write_dX(const T* X, Upstream<T, sigmoid> dY, T* dX, int64_t k, int64_t n, const Gradient<T>* g) const {
    T center[width], scale[width], slope[width], offset[width];
    for (int64_t j = 0; j < n; ++j) {
      center[j] = g[j].center, scale[j] = g[j].scale, slope[j] = g[j].slope, offset[j] = g[j].offset;
    }
    for (int64_t i = 0; i < m; ++i) {
      const T* x = X + i * c + k;
      const auto dy = dY + (i * c + k);
      T* dx = dX + i * c + k;
#pragma omp simd
      for (int64_t j = 0; j < n; ++j) dx[j] = dy[j] * scale[j] - (x[j] - center[j]) * slope[j] - offset[j];
    }
  }
};

}  // namespace
