// A loop shared by threads.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

namespace {

using std::int64_t;

constexpr int64_t kParallel = 1 << 17;  // with fewer values, waking a second thread costs more than it saves

int max_threads = 1;  // threads per loop, set when MXNet loads this library

// Calls work(0), ..., work(count - 1), each once. These are the threads that MXNet's own operators use: a second pool
// would compete with them for the cores, and in a net each would find its threads asleep. A thread that starts late
// finds less work.
template <typename Work>
void share(int64_t count, bool shared, const Work& work) {
  const int threads = shared ? static_cast<int>(std::min<int64_t>(max_threads, count)) : 1;
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
  for (int64_t i = 0; i < count; ++i) work(i);
}

// A forked child has only one thread. Waiting for its parent's others would hang, here and in MXNet's own operators.
void after_fork_in_child() {
  max_threads = 1;
  omp_set_num_threads(1);
}

}  // namespace
