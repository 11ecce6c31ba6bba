// A loop shared by threads.
#pragma once

#include <atomic>
#include <cstdint>

// libgomp's own interface, because clang++ compiles OpenMP's pragmas for another library, which has its own threads.
extern "C" {
void GOMP_parallel(void (*function)(void*), void* data, unsigned num_threads, unsigned flags);
int omp_get_max_threads(void);
void omp_set_num_threads(int);
}

namespace {

using std::int64_t;

constexpr int64_t kParallel = 1 << 17;  // with fewer values, waking a second thread costs more than it saves

bool forked = false;

// The number of threads that MXNet's own operators use when they are called on this thread.
int max_threads() { return forked ? 1 : omp_get_max_threads(); }

// Calls work(0), ..., work(count - 1), each once, on the threads of MXNet's own operators: a second pool would compete
// with them for the cores. All of them take part, even if count is smaller: otherwise libgomp would end the others, and
// the next operator would start them again. A thread that starts late finds less work.
template <typename Work>
void share(int64_t count, bool shared, const Work& work) {
  std::atomic<int64_t> next{0};
  auto take = [&] {
    for (int64_t i; (i = next++) < count;) work(i);
  };
  const int threads = shared && count > 1 ? max_threads() : 1;
  if (threads == 1) return take();
  GOMP_parallel([](void* data) { (*static_cast<decltype(take)*>(data))(); }, &take, threads, 0);
}

// A forked child has only one thread. Waiting for its parent's others would hang, here and in MXNet's own operators.
void after_fork_in_child() {
  forked = true;
  omp_set_num_threads(1);
}

}  // namespace
