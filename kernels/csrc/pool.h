// A few threads that wait for short loops; the caller is one of them.
#pragma once

#include <memory>

namespace fgmclip {

class Pool {
  public:
    explicit Pool(int threads);
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    int threads() const { return threads_; }

    // Calls task(index, thread) for each index below count, in any order, and returns when all are
    // done. A worker that has not come yet is not waited for: on a busy machine the caller does the
    // work. Not to be called from two threads at once. Tasks must not throw.
    template <class Task>
    void run(int count, const Task& task) {
        run(count, &task, [](const void* one, int index, int thread) {
            (*static_cast<const Task*>(one))(index, thread);
        });
    }

  private:
    struct Crew;

    // A plain pointer, where a std::function would allocate memory for every loop.
    using Call = void (*)(const void* task, int index, int thread);
    void run(int count, const void* task, Call call);

    int threads_;
    std::unique_ptr<Crew> crew_;
};

}  // namespace fgmclip
