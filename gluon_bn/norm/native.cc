// Batch normalization as MXNet operators for the CPU, float32 and float64.
//
//   forward    mean = sum(X) / n,  var = sum((X - mean)^2) / n,  X_hat = (X - mean) / sqrt(var + eps)
//              Y = gamma * X_hat + beta, or the sigmoid of that
//   backward   dbeta = sum(dY),  dgamma = sum(dY * X_hat)
//              dX = gamma / sqrt(var + eps) * (dY - dbeta / n - X_hat * dgamma / n)
//              after a sigmoid, with dY * Y * (1 - Y) in place of dY
//
// The sums run over the n values of one channel. X is (m, d) or (m, c, h, w), treated here as (m, c, s) with
// s = h * w. native.py compiles this file and loads it by `mx.library.load`.

// MXNet's side of an extension; the path starts at its include folder. Three functions are replaced below.
#define _opCallMutateInputs replaced_opCallMutateInputs
#define _msgSize replaced_msgSize
#define _msgGet replaced_msgGet
#include "../src/lib_api.cc"
#undef _opCallMutateInputs
#undef _msgSize
#undef _msgGet

#include <pthread.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <numeric>
#include <sstream>

#include "kernels/columns.h"
#include "kernels/max_pool.h"
#include "kernels/planes.h"

namespace {

using namespace mxnet::ext;
using std::int64_t;
using Attributes = std::unordered_map<std::string, std::string>;
using Tensors = std::vector<MXTensor>;
using Shapes = std::vector<std::vector<unsigned int>>;

// ---- Forward and backward, on either layout -------------------------------------------------------------------

// statistics holds mean, then var, c values each.
template <bool sigmoid, typename T, template <typename> class Layout>
void forward(const Layout<T> layout, const T* X, const T* gamma, const T* beta, double eps, T* Y, double* statistics,
             bool training) {
  const int64_t m = layout.m, c = layout.c, s = layout.s, tile = layout.tile();
  share((c + tile - 1) / tile, m * c * s >= kParallel, [&](int64_t i) {
    const int64_t k = i * tile, n = std::min(tile, c - k);
    Affine<T> affine[Layout<T>::width];
    if (training) {
      Sums sums[Layout<T>::width];
      double origin[Layout<T>::width];
      for (int64_t j = 0; j < n; ++j) origin[j] = layout.origin(X, k + j);
      layout.sums_of_X(X, k, n, origin, sums);
      for (int64_t j = 0; j < n; ++j) {
        const Sums mean_var = moments(sums[j], origin[j], static_cast<double>(m * s));
        statistics[k + j] = mean_var.first;
        statistics[c + k + j] = mean_var.second;
      }
    }
    for (int64_t j = 0; j < n; ++j) {
      const int64_t l = k + j;
      affine[j] = Affine<T>(statistics[l], statistics[c + l], eps, gamma[l], beta[l]);
    }
    layout.template write_Y<sigmoid>(X, Y, k, n, affine);
  });
}

template <bool sigmoid, typename T, template <typename> class Layout>
void backward(const Layout<T> layout, Upstream<T, sigmoid> dY, const T* X, const T* gamma, const double* statistics,
              double eps, T* dX, T* dgamma, T* dbeta, bool training) {
  const int64_t m = layout.m, c = layout.c, s = layout.s, tile = layout.tile();
  share((c + tile - 1) / tile, m * c * s >= kParallel, [&](int64_t i) {
    const int64_t k = i * tile, n = std::min(tile, c - k);
    Affine<T> affine[Layout<T>::width];
    Gradient<T> gradient[Layout<T>::width];
    Sums sums[Layout<T>::width];
    double center[Layout<T>::width] = {};
    for (int64_t j = 0; j < n; ++j) {
      const int64_t l = k + j;
      affine[j] = Affine<T>(statistics[l], statistics[c + l], eps, gamma[l], 0);
      center[j] = affine[j].center;
    }
    layout.sums_of_dY(X, dY, k, n, center, sums);
    for (int64_t j = 0; j < n; ++j) {
      gradient[j] = Gradient<T>(affine[j], sums[j], gamma[k + j], static_cast<double>(m * s), training);
      dgamma[k + j] = gradient[j].dgamma;
      dbeta[k + j] = gradient[j].dbeta;
    }
    layout.write_dX(X, dY, dX, k, n, gradient);
  });
}

// ---- The operator as MXNet sees it -----------------------------------------------------------------------------
//
//   (X, gamma, beta, moving_mean, moving_var[, mode]) -> (Y, statistics)
//
// With the attribute sigmoid=1, Y is sigmoid(gamma * X_hat + beta). In training, the operator blends the minibatch's
// statistics into moving_mean and moving_var, in place. The statistics that it used are its second output, in float64,
// so that backward uses exactly these. MXNet does not tell an extension whether it is training. For a single call, the
// attribute `training` does; in a graph, the input `mode`, which is 1 in prediction only.

enum Input { kX, kGamma, kBeta, kMean, kVar, kMode };

double number(const Attributes& attributes, const char* name) {
  double value;
  std::istringstream(attributes.at(name)) >> value;  // std::stod would depend on the process's locale
  return value;
}

bool is_set(const Attributes& attributes, const char* name) {
  const auto found = attributes.find(name);
  return found != attributes.end() && found->second == "1";
}

bool is_training(const Attributes& attributes, Tensors* in, size_t first) {
  return attributes.count("training") ? is_set(attributes, "training") : *in->at(first + kMode).data<float>() != 1;
}

thread_local const char* failure = nullptr;  // why the last call on this thread failed, until MXNet reads it

MXReturnValue fail(const char* why) {
  failure = why;
  return MX_FAIL;
}

// Calls run(layout, T(), sigmoid) with the layout of X, its type, and whether a sigmoid follows.
template <typename Run>
MXReturnValue dispatch(const Attributes& attributes, const MXTensor& X, Run run) {
  const int64_t m = X.shape[0], c = X.shape[1], s = X.shape.size() == 4 ? X.shape[2] * X.shape[3] : 1;
  const auto layout_of = [&](auto type) {
    using T = decltype(type);
    const auto followed_by = [&](auto sigmoid) {
      if (s == 1) {
        run(Columns<T>{m, c, s}, type, sigmoid);
      } else {
        run(Planes<T>{m, c, s}, type, sigmoid);
      }
    };
    is_set(attributes, "sigmoid") ? followed_by(std::true_type()) : followed_by(std::false_type());
  };
  if (X.dtype == kFloat32) {
    layout_of(float());
  } else {
    layout_of(double());
  }
  return MX_SUCCESS;
}

MXReturnValue forward_operator(const Attributes& attributes, Tensors* in, Tensors* out, const OpResource&) {
  const double eps = number(attributes, "eps"), momentum = number(attributes, "momentum");
  const bool training = is_training(attributes, in, 0);
  MXTensor& X = in->at(kX);
  if (training && X.size() == X.shape[1]) return fail("X must hold more than one value per channel in training");
  return dispatch(attributes, X, [&](auto layout, auto type, auto sigmoid) {
    using T = decltype(type);
    T* const moving[] = {in->at(kMean).data<T>(), in->at(kVar).data<T>()};
    double* statistics = out->at(1).data<double>();
    const int64_t c = layout.c;
    if (!training) std::copy_n(moving[1], c, std::copy_n(moving[0], c, statistics));
    forward<decltype(sigmoid)::value>(layout, X.data<T>(), in->at(kGamma).data<T>(), in->at(kBeta).data<T>(), eps,
                                      out->at(0).data<T>(), statistics, training);
    for (int64_t k = 0; training && k < 2 * c; ++k) {
      T& old = moving[k / c][k % c];
      old = static_cast<T>(momentum * old + (1 - momentum) * statistics[k]);
    }
  });
}

// In: the gradients of the two outputs, the inputs, the outputs. Out: the gradients of the inputs; those of the moving
// statistics and the mode are 0.
MXReturnValue backward_operator(const Attributes& attributes, Tensors* in, Tensors* out, const OpResource&) {
  const double eps = number(attributes, "eps");
  const bool training = is_training(attributes, in, 2);
  return dispatch(attributes, in->at(2 + kX), [&](auto layout, auto type, auto sigmoid) {
    using T = decltype(type);
    const Upstream<T, decltype(sigmoid)::value> dY{in->at(0).data<T>(), in->rbegin()[1].data<T>()};
    backward(layout, dY, in->at(2 + kX).data<T>(), in->at(2 + kGamma).data<T>(),
             in->back().data<double>(), eps, out->at(kX).data<T>(), out->at(kGamma).data<T>(), out->at(kBeta).data<T>(),
             training);
    for (int i : {kMean, kVar}) std::fill_n(out->at(i).data<T>(), out->at(i).size(), T(0));
    if (out->size() > kMode) *out->at(kMode).data<float>() = 0;
  });
}

MXReturnValue count(const Attributes& attributes, int* num_in, int* num_out) {
  *num_in = attributes.count("training") ? kMode : kMode + 1;
  *num_out = 2;
  return MX_SUCCESS;
}

// Tells MXNet that this operator mutates inputs; _opCallMutateInputs says which.
MXReturnValue mutated(const Attributes&, std::vector<int>*) { return MX_SUCCESS; }

// These two see every call, before it runs, and refuse what the loops cannot use. In a graph, -1 is a type not yet
// known, and an empty shape one not yet known.
MXReturnValue infer_types(const Attributes&, std::vector<int>* in, std::vector<int>* out) {
  const int type = in->at(kX);
  if (type != kFloat32 && type != kFloat64 && type != -1) return fail("X must be float32 or float64");
  for (int i : {kGamma, kBeta, kMean, kVar}) {
    if (in->at(i) != type && in->at(i) != -1) return fail("all arrays must have the type of X");
    in->at(i) = type;
  }
  if (in->size() > kMode) in->at(kMode) = kFloat32;
  *out = {type, kFloat64};
  return MX_SUCCESS;
}

MXReturnValue infer_shapes(const Attributes& attributes, Shapes* in, Shapes* out) {
  const std::vector<unsigned int>& X = in->at(kX);
  if (X.empty()) return MX_SUCCESS;
  if (X.size() != 2 && X.size() != 4) return fail("X must be (m, d) or (m, c, h, w)");
  std::vector<unsigned int> one(X.size(), 1);
  one[1] = X[1];
  for (int i : {kGamma, kBeta, kMean, kVar}) {
    if (in->at(i) != one && !in->at(i).empty()) return fail("each parameter must hold one value per channel of X");
    in->at(i) = one;
  }
  const size_t values = std::accumulate(X.begin(), X.end(), size_t(1), std::multiplies<size_t>());
  if (values == 0 || (values == X[1] && is_set(attributes, "training"))) {
    return fail("X must hold more than one value per channel in training");
  }
  *out = {X, {2, X[1]}};
  return MX_SUCCESS;
}

}  // namespace

// MXNet asks several times per step which inputs gluon_bn, the only operator here that does, mutates. It never frees the
// answer, and its own version of this function allocates a new one each time: 100 bytes per layer and step.
extern "C" MX_INT_RET _opCallMutateInputs(mutateInputs_t, const char* const*, const char* const*, int, int** indices,
                                          int* size) {
  static int mutated_inputs[] = {kMean, kVar};
  *indices = mutated_inputs;
  *size = 2;
  return MX_SUCCESS;
}

// MXNet reads the messages after every call. Its own versions of these functions would return each message, newly
// allocated, after all later calls, too: after one bad input, every step would be slower and lose 13 KB per layer.
extern "C" MX_INT_RET _msgSize() { return failure != nullptr; }

extern "C" MX_VOID_RET _msgGet(int, const char** message) {
  *message = failure;
  failure = nullptr;
}

REGISTER_OP(gluon_bn)
    .setForward(forward_operator, "cpu").setBackward(backward_operator, "cpu").setParseAttrs(count)
    .setMutateInputs(mutated).setInferType(infer_types).setInferShape(infer_shapes);

REGISTER_OP(gluon_bn_max_pool)
    .setForward(MaxPoolOperator::forward, "cpu").setBackward(MaxPoolOperator::backward, "cpu")
    .setParseAttrs(MaxPoolOperator::count).setInferType(MaxPoolOperator::infer_types)
    .setInferShape(MaxPoolOperator::infer_shapes);

MXReturnValue initialize(int) {
  pthread_atfork(nullptr, nullptr, after_fork_in_child);
  return MX_SUCCESS;
}
