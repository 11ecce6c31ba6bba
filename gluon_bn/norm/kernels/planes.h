// The loops over (m, c, h, w).
#pragma once

#include "channel.h"
#include "lanes.h"
#include "sigmoid.h"
#include "threads.h"

#include <algorithm>
#include <cstdint>
#include <numeric>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace {

using std::int64_t;

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

// (m, c, s), s > 1: a channel is m planes of s adjacent values. A thread takes a tile of adjacent channels at a time,
// small enough that the second pass finds in the cache what the first read from memory.
template <typename T>
struct Planes {
  static constexpr int64_t width = 16;  // maximum number of channels in a tile
  const int64_t m, c, s;

  int64_t tile() const {
    // The most values of a tile in each of X, dY, the result and, with a sigmoid, Y. Such a tile fills the last-level
    // cache: more channels give longer runs of adjacent memory, which save more time than a smaller, faster cache would.
    const int64_t kTile = (large() ? 256 << 10 : 4 << 20) / static_cast<int64_t>(sizeof(T));
    const int64_t threads = max_threads(), channels_per_thread = (c + threads - 1) / threads;
    return std::min({width, channels_per_thread, std::max<int64_t>(1, kTile / (m * s))});
  }
  bool large() const { return m * c * s * static_cast<int64_t>(sizeof(T)) >= kLarge; }

  // The mean of the first values of channel k is close to the mean of all.
  double origin(const T* X, int64_t k) const {
    const int64_t n = std::min(s, kBlock);
    return static_cast<T>(std::accumulate(X + k * s, X + k * s + n, 0.0) / n);
  }
  void sums_of_X(const T* X, int64_t k, int64_t n, const double* origin, Sums* out) const {
    const Upstream<T, false> none{X, X};
    m * s <= kBlock ? sums<false, double>(X, none, k, n, origin, out) : sums<false, T>(X, none, k, n, origin, out);
  }
  template <bool sigmoid>
  void sums_of_dY(const T* X, Upstream<T, sigmoid> dY, int64_t k, int64_t n, const double* origin, Sums* out) const {
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
  template <bool backward, typename A, bool sigmoid>
  void sums(const T* X, Upstream<T, sigmoid> dY, int64_t k, int64_t n, const double* origin, Sums* out) const {
    LaneSums lanes[width];
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t l = 0; l < n; ++l) {
        const int64_t plane = (i * c + k + l) * s;
        for (int64_t j = 0; j < s; j += kBlock) {
          const int64_t from = plane + j, count = std::min(kBlock, s - j);
          add_block<backward, A>(X + from, dY + from, count, static_cast<A>(origin[l]), &lanes[l]);
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

  template <bool backward, typename A, bool sigmoid>
  void add_block(const T* x, Upstream<T, sigmoid> dy, int64_t n, A origin, LaneSums* sums) const {
    using Doubles = typename Lanes<T>::Doubles;
    using Values = std::conditional_t<std::is_same<A, double>::value, Doubles, typename Lanes<T>::Values>;
    constexpr int64_t lanes = Lanes<T>::count, chains = 4;  // independent chains of additions hide the latency
    Values first[chains] = {}, second[chains] = {};
    int64_t j = 0;
    const auto add = [&](int64_t chain) {
      const Values d = __builtin_convertvector(Lanes<T>::load(x + j + chain * lanes), Values) - origin;
      const Values a = backward ? __builtin_convertvector(dy.load(j + chain * lanes), Values) : d;
      first[chain] += a;
      second[chain] += a * d;
    };
    for (; j + chains * lanes <= n; j += chains * lanes) {
      for (int64_t b = 0; b < chains * lanes; b += 64 / sizeof(T)) {  // a cache line
        __builtin_prefetch(x + j + b + c * s);  // the next plane is too far away for the hardware prefetcher
        if (backward) __builtin_prefetch(dy.dY + j + b + c * s);
        if (sigmoid) __builtin_prefetch(dy.Y + j + b + c * s);
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

  template <bool sigmoid>
  void write_Y(const T* X, T* Y, int64_t k, int64_t n, const Affine<T>* affine) const {
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t l = 0; l < n; ++l) {
        const Affine<T> a = affine[l];
        const int64_t plane = (i * c + k + l) * s;
        write_plane(Y + plane, s, large(), [&](T* y, int64_t from, int64_t count) {
          const T* x = X + plane + from;
#pragma omp simd
          for (int64_t j = 0; j < count; ++j) y[j] = activate<sigmoid>((x[j] - a.center) * a.scale + a.shift);
        });
      }
    }
  }

  template <bool sigmoid>
  void write_dX(const T* X, Upstream<T, sigmoid> dY, T* dX, int64_t k, int64_t n, const Gradient<T>* gradient) const {
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t l = 0; l < n; ++l) {
        const Gradient<T> g = gradient[l];
        const int64_t plane = (i * c + k + l) * s;
        write_plane(dX + plane, s, large(), [&](T* dx, int64_t from, int64_t count) {
          const T* x = X + plane + from;
          const auto dy = dY + (plane + from);
#pragma omp simd
          for (int64_t j = 0; j < count; ++j) dx[j] = dy[j] * g.scale - (x[j] - g.center) * g.slope - g.offset;
        });
      }
    }
  }
};

}  // namespace
