// Max pooling of 2 x 2 values with stride 2. Of equal values the first counts, row by row, as in MXNet's own operator.
#pragma once

#include <mxnet/lib_api.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "threads.h"

namespace {

using namespace mxnet::ext;
using std::int64_t;

// planes planes of h x w values, h and w even
template <typename T>
struct MaxPool {
  const int64_t planes, h, w;

  template <typename Work>
  void run(const Work& work) const {
    const int64_t chunk = 64, count = (planes + chunk - 1) / chunk;
    share(count, planes * h * w >= kParallel, [&](int64_t i) {
      for (int64_t row = i * chunk * h / 2; row < std::min(planes, (i + 1) * chunk) * h / 2; ++row) work(row);
    });
  }

  void forward(const T* X, T* Y) const {
    run([&](int64_t row) {
      const T *top = X + 2 * row * w, *bottom = top + w;
      T* y = Y + row * w / 2;
#pragma omp simd
      for (int64_t j = 0; j < w / 2; ++j) {
        y[j] = larger(larger(top[2 * j], top[2 * j + 1]), larger(bottom[2 * j], bottom[2 * j + 1]));
      }
    });
  }

  void backward(const T* dY, const T* X, T* dX) const {
    run([&](int64_t row) {
      const T *top = X + 2 * row * w, *bottom = top + w, *dy = dY + row * w / 2;
      T *dx_top = dX + 2 * row * w, *dx_bottom = dx_top + w;
#pragma omp simd
      for (int64_t j = 0; j < w / 2; ++j) {
        const T a = top[2 * j], b = top[2 * j + 1], c = bottom[2 * j], d = bottom[2 * j + 1];
        const bool lower = larger(c, d) > larger(a, b);
        const T up = lower ? 0 : dy[j], down = lower ? dy[j] : 0;
        dx_top[2 * j] = b > a ? 0 : up;
        dx_top[2 * j + 1] = b > a ? up : 0;
        dx_bottom[2 * j] = d > c ? 0 : down;
        dx_bottom[2 * j + 1] = d > c ? down : 0;
      }
    });
  }

 private:
  static T larger(T a, T b) { return b > a ? b : a; }
};

// Calls run(pool, T()) with the pooling of X and its type.
template <typename Run>
MXReturnValue pool_planes(const MXTensor& X, Run run) {
  const int64_t planes = X.shape[0] * X.shape[1], h = X.shape[2], w = X.shape[3];
  if (X.dtype == kFloat32) {
    run(MaxPool<float>{planes, h, w}, float());
  } else {
    run(MaxPool<double>{planes, h, w}, double());
  }
  return MX_SUCCESS;
}

using Texts = std::unordered_map<std::string, std::string>;
using Arrays = std::vector<MXTensor>;

// (X) -> (Y), the operator as MXNet sees it
struct MaxPoolOperator {
  static MXReturnValue forward(const Texts&, Arrays* in, Arrays* out, const OpResource&) {
    return pool_planes(in->at(0), [&](auto max_pool, auto type) {
      using T = decltype(type);
      max_pool.forward(in->at(0).data<T>(), out->at(0).data<T>());
    });
  }
  static MXReturnValue backward(const Texts&, Arrays* in, Arrays* out, const OpResource&) {
    return pool_planes(in->at(1), [&](auto max_pool, auto type) {  // in: dY, X, Y
      using T = decltype(type);
      max_pool.backward(in->at(0).data<T>(), in->at(1).data<T>(), out->at(0).data<T>());
    });
  }
  static MXReturnValue count(const Texts&, int* num_in, int* num_out) {
    *num_in = *num_out = 1;
    return MX_SUCCESS;
  }
  static MXReturnValue infer_types(const Texts&, std::vector<int>* in, std::vector<int>* out) {
    const int type = out->at(0) = in->at(0);
    const bool known = type == kFloat32 || type == kFloat64 || type == -1;
    return known ? MX_SUCCESS : MX_FAIL;
  }
  using Shapes = std::vector<std::vector<unsigned int>>;
  static MXReturnValue infer_shapes(const Texts&, Shapes* in, Shapes* out) {
    const std::vector<unsigned int>& X = in->at(0);
    if (X.empty()) return MX_SUCCESS;
    if (X.size() != 4 || X[2] % 2 || X[3] % 2) return MX_FAIL;
    out->at(0) = {X[0], X[1], X[2] / 2, X[3] / 2};
    return MX_SUCCESS;
  }
};

}  // namespace
