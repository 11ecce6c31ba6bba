// Batch normalization as MXNet operators for the CPU, float32 and float64.
//
//   forward    mean = sum(X) / n,  var = sum((X - mean)^2) / n,  X_hat = (X - mean) / sqrt(var + eps)
//              Y = gamma * X_hat + beta
//   backward   dbeta = sum(dY),  dgamma = sum(dY * X_hat)
//              dX = gamma / sqrt(var + eps) * (dY - dbeta / n - X_hat * dgamma / n)
//
// The sums run over the n values of one channel. X is (m, d) or (m, c, h, w), treated here as (m, c, s) with
// s = h * w. native.py compiles this file and loads it by `mx.library.load`.
#include <mxnet/lib_api.h>
#include <omp.h>
#include <pthread.h>
#include <strings.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <sstream>
#include <system_error>
#include <thread>

namespace {

using namespace mxnet::ext;
using std::int64_t;
using Attributes = std::unordered_map<std::string, std::string>;
using Tensors = std::vector<MXTensor>;
using Shapes = std::vector<std::vector<unsigned int>>;

// ---- Threads -------------------------------------------------------------------------------------------------

constexpr int64_t kParallel = 1 << 17;  // with fewer values, waking a second thread costs more than it saves

// Set when MXNet loads this library: threads per loop, and how long an idle helper spins before it sleeps.
std::atomic<int> max_threads{1};
std::chrono::milliseconds spin_time{5};

// Helper threads that share a loop. An OpenMP barrier waits for every thread of its team, which is expensive when
// Python or another program occupies the second core: here nobody waits for a helper that has not started. Waking a
// sleeping one costs up to half a layer, so it first spins until the next loop, yielding its core to whoever needs it.
class Pool {
 public:
  // Calls work(0), ..., work(count - 1), each once, on this thread and the helpers that start in time.
  template <typename Work>
  void run(int64_t count, bool shared, const Work& work) {
    std::unique_lock<std::mutex> alone(one_at_a_time, std::defer_lock);
    if (!shared || max_threads == 1 || count == 1 || !alone.try_lock()) {
      for (int64_t i = 0; i < count; ++i) work(i);
      return;
    }
    const std::function<void(int64_t)> loop(std::cref(work));
    if (count > size) taken.reset(new std::atomic<bool>[size = count]);
    for (int64_t i = 0; i < count; ++i) taken[i] = false;
    std::unique_lock<std::mutex> lock(mutex);
    try {
      for (; helpers < max_threads - 1; ++helpers) std::thread(&Pool::help, this, helpers + 1).detach();
    } catch (const std::system_error&) {
      max_threads = helpers + 1;  // the system grants no more threads: make do with these
    }
    current = &loop, end = left = count, ++loops;
    const bool wake = asleep > 0;
    lock.unlock();
    if (wake) called.notify_all();
    take(loop, 0);
    lock.lock();
    for (current = nullptr; inside > 0; lock.lock()) {
      lock.unlock();
      std::this_thread::yield();
    }
  }

 private:
  // Each thread starts at its own offset, so its cache still holds what it wrote in the previous layer.
  void take(const std::function<void(int64_t)>& loop, int64_t thread) {
    const int64_t begin = thread * end / max_threads;
    for (int64_t k = 0; k < end && left > 0; ++k) {
      const int64_t i = (begin + k) % end;
      if (taken[i].exchange(true)) continue;
      --left;
      loop(i);
    }
  }
  void help(int64_t thread) {
    for (int64_t seen = 0;;) {
      const auto begin = std::chrono::steady_clock::now();
      while (loops == seen && std::chrono::steady_clock::now() - begin < spin_time) std::this_thread::yield();
      std::unique_lock<std::mutex> lock(mutex);
      if (loops == seen) {
        ++asleep;
        called.wait(lock);
        --asleep;
      }
      seen = loops;
      if (!current || left == 0) continue;  // too late for this one
      const std::function<void(int64_t)>& loop = *current;
      ++inside;
      lock.unlock();
      take(loop, thread);
      lock.lock();
      --inside;
    }
  }

  std::mutex one_at_a_time;  // a second caller, for example on another device, runs its loop alone
  std::mutex mutex;          // guards current, asleep and inside
  std::condition_variable called;
  const std::function<void(int64_t)>* current = nullptr;
  std::unique_ptr<std::atomic<bool>[]> taken;  // which iterations have been claimed
  std::atomic<int64_t> left{0}, loops{0};      // iterations not yet claimed; number of loops so far
  int64_t end = 0, size = 0;
  int helpers = 0, asleep = 0, inside = 0;
};

Pool& pool = *new Pool;  // never destroyed: its helpers sleep in it until the process ends

// A forked child has only one thread. Waiting for its parent's others would hang, here and in MXNet's own operators.
void after_fork_in_child() {
  max_threads = 1;
  omp_set_num_threads(1);
}

// ---- Large arrays --------------------------------------------------------------------------------------------

constexpr int64_t kLarge = 16 << 20;  // bytes: too large to stay in the cache until the next operator reads it

// Runs write(to, j, n) for the pieces of a plane of s values. If the plane is part of a large array, each piece is
// written to a small buffer and streamed from there to memory: a plain store would first read the cache line
// that it is about to replace.
template <typename T, typename Write>
void write_plane(T* plane, int64_t s, bool large, Write write) {
#ifdef __SSE2__
  if (large) {
    constexpr int64_t kPiece = 1024, step = 16 / sizeof(T);
    alignas(64) T buffer[kPiece];
    for (int64_t j = 0; j < s; j += kPiece) {
      const int64_t n = std::min(kPiece, s - j);
      write(buffer, j, n);
      int64_t i = 0;
      for (; i < n && reinterpret_cast<uintptr_t>(plane + j + i) % 16; ++i) plane[j + i] = buffer[i];
      for (; i + step <= n; i += step) {
        _mm_stream_si128(reinterpret_cast<__m128i*>(plane + j + i),
                         _mm_loadu_si128(reinterpret_cast<const __m128i*>(buffer + i)));
      }
      for (; i < n; ++i) plane[j + i] = buffer[i];
    }
    _mm_sfence();
    return;
  }
#endif
  write(plane, 0, s);
}

// ---- One channel: what its values share ----------------------------------------------------------------------

// Sums of two quantities over the channel, always in double.
struct Sums {
  double first = 0, second = 0;
};

// Y = (x - center) * scale + shift. The center is the mean rounded to the type of X, so that x - center is exact
// even if the mean is large; the rounding error goes into the shift.
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
    if (training) {  // in prediction, mean and var are constants, and only the first term remains
      const double factor = gamma * a.std_inverse / n;
      slope = static_cast<T>(factor * sum_dY_X_hat * a.std_inverse);
      offset = static_cast<T>(factor * (sums.first - a.rest * sum_dY_X_hat * a.std_inverse));
    }
  }
};

// Mean and variance from the sums of d = x - origin and d^2. The origin must be close to the mean, in units of the
// standard deviation: otherwise the subtraction cancels.
Sums moments(Sums sums, double origin, double n) {
  const double mean = sums.first / n;
  const double var = sums.second / n - mean * mean;
  return {origin + mean, var < 0 ? 0 : var};  // a NaN stays a NaN
}

// As many adjacent values as one register of the processor holds.
template <typename T>
struct Lanes {
#if defined(__AVX512F__)
  static constexpr int64_t count = 64 / sizeof(T);
#elif defined(__AVX__)
  static constexpr int64_t count = 32 / sizeof(T);
#else
  static constexpr int64_t count = 16 / sizeof(T);
#endif
  typedef T Values __attribute__((vector_size(count * sizeof(T))));
  typedef double Doubles __attribute__((vector_size(count * sizeof(double))));

  static Values load(const T* from) {
    Values values;
    std::memcpy(&values, from, sizeof values);
    return values;
  }
};

// ---- The loops over memory -----------------------------------------------------------------------------------

// (m, c, s), s > 1: a channel is m planes of s adjacent values. A thread takes a tile of adjacent channels at a time,
// small enough that the second pass finds in the cache what the first read from memory.
template <typename T>
struct Planes {
  static constexpr int64_t width = 16;  // maximum number of channels in a tile
  const int64_t m, c, s;

  int64_t tile() const {
    // Values for each of X, dY and the result. A tile fills the last-level cache: more channels give longer runs of
    // adjacent memory, which save more time than a smaller, faster cache would.
    const int64_t kTile = (large() ? 256 << 10 : 4 << 20) / static_cast<int64_t>(sizeof(T));
    const int64_t share = (c + max_threads - 1) / max_threads;
    return std::min({width, share, std::max<int64_t>(1, kTile / (m * s))});
  }
  bool large() const { return m * c * s * static_cast<int64_t>(sizeof(T)) >= kLarge; }

  // The mean of the first values of channel k is close to the mean of all.
  double origin(const T* X, int64_t k) const {
    const int64_t n = std::min(s, kBlock);
    return static_cast<T>(std::accumulate(X + k * s, X + k * s + n, 0.0) / n);
  }
  void sums_of_X(const T* X, int64_t k, int64_t n, const double* origin, Sums* out) const {
    m * s <= kBlock ? sums<false, double>(X, X, k, n, origin, out) : sums<false, T>(X, X, k, n, origin, out);
  }
  void sums_of_dY(const T* X, const T* dY, int64_t k, int64_t n, const double* origin, Sums* out) const {
    m * s <= kBlock ? sums<true, double>(X, dY, k, n, origin, out) : sums<true, T>(X, dY, k, n, origin, out);
  }

  // Long sums in T lose accuracy, and sums in double take twice as long. So the values of a block are added in T, and
  // the blocks in double. With a single block there is nothing to gain.
  static constexpr int64_t kBlock = 2048;
  struct LaneSums {
    typename Lanes<T>::Doubles first = {}, second = {};
  };

  // For the n channels starting at k: sum(a) and sum(a * d), where d = x - origin, and a is dY in backward,
  // d in forward. Blocks are added in the type A.
  template <bool backward, typename A>
  void sums(const T* X, const T* dY, int64_t k, int64_t n, const double* origin, Sums* out) const {
    LaneSums lanes[width];
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t l = 0; l < n; ++l) {
        const int64_t plane = (i * c + k + l) * s;
        for (int64_t j = 0; j < s; j += kBlock) {
          add_block<backward, A>(X + plane + j, dY + plane + j, std::min(kBlock, s - j), static_cast<A>(origin[l]), &lanes[l]);
        }
      }
    }
    for (int64_t l = 0; l < n; ++l) {
      out[l] = {};
      for (int64_t lane = 0; lane < Lanes<T>::count; ++lane) {
        out[l].first += lanes[l].first[lane];
        out[l].second += lanes[l].second[lane];
      }
    }
  }

  template <bool backward, typename A>
  void add_block(const T* x, const T* dy, int64_t n, A origin, LaneSums* sums) const {
    using Doubles = typename Lanes<T>::Doubles;
    using Values = std::conditional_t<std::is_same<A, double>::value, Doubles, typename Lanes<T>::Values>;
    constexpr int64_t lanes = Lanes<T>::count, chains = 4;  // independent chains of additions hide the latency
    Values first[chains] = {}, second[chains] = {};
    int64_t j = 0;
    const auto add = [&](int64_t chain) {
      const Values d = __builtin_convertvector(Lanes<T>::load(x + j + chain * lanes), Values) - origin;
      const Values a = backward ? __builtin_convertvector(Lanes<T>::load(dy + j + chain * lanes), Values) : d;
      first[chain] += a;
      second[chain] += a * d;
    };
    for (; j + chains * lanes <= n; j += chains * lanes) {
      for (int64_t b = 0; b < chains * lanes; b += 64 / sizeof(T)) {  // a cache line
        __builtin_prefetch(x + j + b + c * s);  // the next plane is too far away for the hardware prefetcher
        if (backward) __builtin_prefetch(dy + j + b + c * s);
      }
      for (int64_t chain = 0; chain < chains; ++chain) add(chain);
    }
    for (; j + lanes <= n; j += lanes) add(0);
    A last = 0, last_product = 0;
    for (; j < n; ++j) {
      const A d = x[j] - origin, a = backward ? dy[j] : d;
      last += a;
      last_product += a * d;
    }
    first[0][0] += last;
    second[0][0] += last_product;
    sums->first += __builtin_convertvector((first[0] + first[1]) + (first[2] + first[3]), Doubles);
    sums->second += __builtin_convertvector((second[0] + second[1]) + (second[2] + second[3]), Doubles);
  }

  void write_Y(const T* X, T* Y, int64_t k, int64_t n, const Affine<T>* affine) const {
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t l = 0; l < n; ++l) {
        const Affine<T> a = affine[l];
        const int64_t plane = (i * c + k + l) * s;
        write_plane(Y + plane, s, large(), [&](T* y, int64_t from, int64_t count) {
          const T* x = X + plane + from;
#pragma omp simd
          for (int64_t j = 0; j < count; ++j) y[j] = (x[j] - a.center) * a.scale + a.shift;
        });
      }
    }
  }

  void write_dX(const T* X, const T* dY, T* dX, int64_t k, int64_t n, const Gradient<T>* gradient) const {
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t l = 0; l < n; ++l) {
        const Gradient<T> g = gradient[l];
        const int64_t plane = (i * c + k + l) * s;
        write_plane(dX + plane, s, large(), [&](T* dx, int64_t from, int64_t count) {
          const T *x = X + plane + from, *dy = dY + plane + from;
#pragma omp simd
          for (int64_t j = 0; j < count; ++j) dx[j] = dy[j] * g.scale - (x[j] - g.center) * g.slope - g.offset;
        });
      }
    }
  }
};

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

  void sums_of_dY(const T* X, const T* dY, int64_t k, int64_t n, const double* origin, Sums* out) const {
    double sum[width] = {}, sum_products[width] = {};
    for (int64_t i = 0; i < m; ++i) {
      const T *x = X + i * c + k, *dy = dY + i * c + k;
#pragma omp simd
      for (int64_t j = 0; j < n; ++j) {
        sum[j] += dy[j];
        sum_products[j] += dy[j] * (x[j] - origin[j]);
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

// statistics holds mean, then var, c values each.
template <typename T, template <typename> class Layout>
void forward(const Layout<T> layout, const T* X, const T* gamma, const T* beta, double eps, T* Y, double* statistics,
             bool training) {
  const int64_t m = layout.m, c = layout.c, s = layout.s, tile = layout.tile();
  pool.run((c + tile - 1) / tile, m * c * s >= kParallel, [&](int64_t i) {
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
    layout.write_Y(X, Y, k, n, affine);
  });
}

template <typename T, template <typename> class Layout>
void backward(const Layout<T> layout, const T* dY, const T* X, const T* gamma, const double* statistics, double eps,
              T* dX, T* dgamma, T* dbeta, bool training) {
  const int64_t m = layout.m, c = layout.c, s = layout.s, tile = layout.tile();
  pool.run((c + tile - 1) / tile, m * c * s >= kParallel, [&](int64_t i) {
    const int64_t k = i * tile, n = std::min(tile, c - k);
    Affine<T> affine[Layout<T>::width];
    Gradient<T> gradient[Layout<T>::width];
    Sums sums[Layout<T>::width];
    double center[Layout<T>::width];
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
// In training it blends the minibatch's statistics into moving_mean and moving_var, in place. The statistics that it
// used are its second output, in float64, so that backward uses exactly these. MXNet does not tell an extension
// whether it is training. For a single call, the attribute `training` does; in a graph, the input `mode`, which is 1 in
// prediction only.

enum Input { kX, kGamma, kBeta, kMean, kVar, kMode };

double number(const Attributes& attributes, const char* name) {
  double value;
  std::istringstream(attributes.at(name)) >> value;  // std::stod would depend on the process's locale
  return value;
}

bool is_training(const Attributes& attributes, Tensors* in, size_t first) {
  const auto training = attributes.find("training");
  return training != attributes.end() ? training->second == "1" : *in->at(first + kMode).data<float>() != 1;
}

MXReturnValue fail(const char* why) {
  MX_ERROR_MSG << why << std::endl;
  return MX_FAIL;
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
  return dispatch(X, [&](auto layout, auto type) {
    using T = decltype(type);
    T* const moving[] = {in->at(kMean).data<T>(), in->at(kVar).data<T>()};
    double* statistics = out->at(1).data<double>();
    const int64_t c = layout.c;
    if (!training) std::copy_n(moving[1], c, std::copy_n(moving[0], c, statistics));
    forward(layout, X.data<T>(), in->at(kGamma).data<T>(), in->at(kBeta).data<T>(), eps, out->at(0).data<T>(),
            statistics, training);
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
  return dispatch(in->at(2 + kX), [&](auto layout, auto type) {
    using T = decltype(type);
    backward(layout, in->at(0).data<T>(), in->at(2 + kX).data<T>(), in->at(2 + kGamma).data<T>(),
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

MXReturnValue mutated(const Attributes&, std::vector<int>* inputs) {
  *inputs = {kMean, kVar};
  return MX_SUCCESS;
}

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
  const auto training = attributes.find("training");
  if (values == 0 || (values == X[1] && training != attributes.end() && training->second == "1")) {
    return fail("X must hold more than one value per channel in training");
  }
  *out = {X, {2, X[1]}};
  return MX_SUCCESS;
}

}  // namespace

REGISTER_OP(gluon_bn)
    .setForward(forward_operator, "cpu").setBackward(backward_operator, "cpu").setParseAttrs(count)
    .setMutateInputs(mutated).setInferType(infer_types).setInferShape(infer_shapes);

// Without OMP_NUM_THREADS, MXNet itself uses half the cores; these loops benefit from all of them.
MXReturnValue initialize(int) {
  max_threads = std::getenv("OMP_NUM_THREADS") ? omp_get_max_threads() : omp_get_num_procs();
  const char* policy = std::getenv("OMP_WAIT_POLICY");
  if (policy && strcasecmp(policy, "passive") == 0) spin_time = spin_time.zero();
  pthread_atfork(nullptr, nullptr, after_fork_in_child);
  return MX_SUCCESS;
}
