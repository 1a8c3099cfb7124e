// Threads that wait for work, for kernels too short to start threads of their own: starting one takes as
// long as a kernel runs, waking one a hundredth of that.
//
// The threads are started when first needed and never end: they sleep, own nothing and know nothing of
// Python, and the process ends without asking them. After a fork the child has none of them and starts its own.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>

#ifndef _WIN32
#include <pthread.h>
#endif

namespace vidstyle {

// Pieces of work numbered from 0, done by whoever comes. The caller begins at the front, the others at the
// back, so that with two threads each sees about the same pieces of every frame, which its cache may still hold,
// and one after the other. Who comes late finds nothing left: nobody waits for a thread that has not begun.
class Task {
 public:
  // Called for each piece, and once more with `kEnd` by each member that did one.
  using Work = void (*)(void* context, int piece, int member);
  static constexpr int kEnd = -1;

  Task(Work work, void* context, int pieces)
      : work_(work), context_(context), pieces_(pieces), open_(static_cast<std::uint64_t>(pieces)) {}

  // Do pieces until none is left. The caller is member 0, the others are numbered as they come.
  void help(bool caller) {
    const int member = caller ? 0 : members_.fetch_add(1);
    int piece, mine = 0;
    for (; claim(caller, piece); ++mine) work_(context_, piece, member);
    if (mine == 0) return;
    work_(context_, kEnd, member);
    if (done_.fetch_add(mine) + mine == pieces_) {
      const std::lock_guard<std::mutex> lock(mutex_);
      finished_.notify_all();
    }
  }

  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    finished_.wait(lock, [this] { return done_.load() == pieces_; });
  }

 private:
  // What is open is from the upper half of `open_` up to the lower half.
  bool claim(bool front, int& piece) {
    std::uint64_t open = open_.load();
    for (;;) {
      const auto begin = static_cast<std::uint32_t>(open >> 32), end = static_cast<std::uint32_t>(open);
      if (begin >= end) return false;
      const std::uint64_t rest = front ? (static_cast<std::uint64_t>(begin + 1) << 32) | end : open - 1;
      if (!open_.compare_exchange_weak(open, rest)) continue;
      piece = static_cast<int>(front ? begin : end - 1);
      return true;
    }
  }

  Work work_;
  void* context_;
  int pieces_;
  std::atomic<std::uint64_t> open_;
  std::atomic<int> members_{1}, done_{0};
  std::mutex mutex_;
  std::condition_variable finished_;
};

class ThreadPool {
 public:
  // The pool of this process.
  static ThreadPool& shared() {
    ThreadPool* pool = pointer().load();
    if (pool != nullptr) return *pool;
    auto* fresh = new ThreadPool;
    if (pointer().compare_exchange_strong(pool, fresh)) {
#ifndef _WIN32
      static std::once_flag once;
      std::call_once(once, [] { pthread_atfork(nullptr, nullptr, [] { pointer().store(nullptr); }); });
#endif
      return *fresh;
    }
    delete fresh;
    return *pool;
  }

  // How many threads are worth having: one a processor, the caller's own among them.
  static int size() { return static_cast<int>(std::max(1U, std::thread::hardware_concurrency())); }

  // Do `pieces` pieces on this thread and on up to `others` more, and come back when all are done. `work`
  // must not throw; its members are numbered from 0 to `others`.
  void run(Task::Work work, void* context, int pieces, int others) {
    const auto task = std::make_shared<Task>(work, context, pieces);
    if (others > 0) ask(task, others);
    task->help(true);
    task->wait();
  }

 private:
  static std::atomic<ThreadPool*>& pointer() {
    static std::atomic<ThreadPool*> pool{nullptr};
    return pool;
  }

  void ask(const std::shared_ptr<Task>& task, int others) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      try {
        for (; threads_ < others; ++threads_) std::thread([this] { serve(); }).detach();
      } catch (const std::system_error&) {
        // The system starts no more threads: those that are there, and the caller, do the work.
      }
      tasks_.insert(tasks_.end(), static_cast<std::size_t>(std::min(others, threads_)), task);
    }
    if (others == 1)
      wanted_.notify_one();
    else
      wanted_.notify_all();
  }

  void serve() {
    for (;;) {
      std::unique_lock<std::mutex> lock(mutex_);
      wanted_.wait(lock, [this] { return !tasks_.empty(); });
      const std::shared_ptr<Task> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task->help(false);
    }
  }

  std::mutex mutex_;
  std::condition_variable wanted_;
  std::deque<std::shared_ptr<Task>> tasks_;
  int threads_ = 0;
};

}  // namespace vidstyle
