// Helper threads that share a loop.
#pragma once

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>

namespace {

using std::int64_t;

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

}  // namespace
