// Registers of several adjacent values.
#pragma once

#include <cstdint>
#include <cstring>

namespace {

using std::int64_t;

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

}  // namespace
