// What the values of one channel share.
#pragma once

#include <cmath>
#include <cstdint>

namespace {

using std::int64_t;

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

}  // namespace
