// The sigmoid that may follow the affine map.
#pragma once

#include "lanes.h"

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

using std::int64_t;

inline double exponential(double x) { return std::exp(x); }

// exp(x) to within 2 units in the last place, for x clamped to [-87, 87]. Without branches, so that loops vectorize.
// exp(x) = 2^n * exp(r) with a whole n and |r| <= log(2) / 2; exp(r) is approximated by its Taylor series up to r^7.
inline float exponential(float x) {
  x = x < -87 ? -87 : x > 87 ? 87 : x;  // exp(x) and 1 / (1 + exp(x)) are normal numbers; a NaN stays a NaN
  constexpr float rounding = 3 << 22;   // 1.5 * 2^23: adding it rounds to a whole number, which its lowest bits hold
  const float shifted = x * 1.44269504f + rounding, n = shifted - rounding;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // log(2) in two parts; n times the first is exact
  constexpr float inverse[] = {1, 1, 1 / 2.f, 1 / 6.f, 1 / 24.f, 1 / 120.f, 1 / 720.f, 1 / 5040.f};  // 1 / k!
  float series = inverse[7];
  for (int k = 6; k >= 0; --k) series = series * r + inverse[k];
  uint32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 127) << 23;  // the exponent of 2^n
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return series * power;
}

// What the layer returns for z = gamma * X_hat + beta.
template <bool sigmoid, typename T>
T activate(T z) {
  return sigmoid ? 1 / (1 + exponential(-z)) : z;
}

// dL/dz at each index, where Y = activate(z) and dY = dL/dY.
template <typename T, bool sigmoid>
struct Upstream {
  const T *dY, *Y;

  Upstream operator+(int64_t j) const { return {dY + j, Y + j}; }
  T operator[](int64_t j) const { return sigmoid ? dY[j] * (Y[j] * (1 - Y[j])) : dY[j]; }
  typename Lanes<T>::Values load(int64_t j) const {
    const auto dy = Lanes<T>::load(dY + j);
    if (!sigmoid) return dy;
    const auto y = Lanes<T>::load(Y + j);
    return dy * (y * (1 - y));
  }
};

}  // namespace
