#include "pool.h"

#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace fgmclip {

namespace {

// A stage follows the one before within microseconds: waiting awake that long beats a system call.
constexpr int kSpins = 4000;

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace

struct Pool::Crew {
    pid_t process = getpid();
    std::vector<std::thread> workers;
    std::mutex mutex;
    std::condition_variable wake;
    std::atomic<unsigned> round{0};
    std::atomic<int> next{0};
    std::atomic<int> inside{0};     // workers that may look at the task
    std::atomic<bool> open{false};  // whether they may
    std::atomic<bool> stop{false};
    int count = 0;
    const void* task = nullptr;
    Call call = nullptr;

    void drain(int thread) {
        for (int index = next++; index < count; index = next++) {
            call(task, index, thread);
        }
    }

    void work(int thread) {
        unsigned seen = 0;
        for (;;) {
            for (int spins = 0; spins < kSpins && round.load() == seen && !stop; ++spins) {
                pause();
            }
            if (round.load() == seen) {
                std::unique_lock<std::mutex> lock(mutex);
                wake.wait(lock, [&] { return round.load() != seen || stop; });
            }
            if (stop) {
                return;
            }
            seen = round.load();
            ++inside;
            if (open) {
                drain(thread);
            }
            --inside;
        }
    }
};

Pool::Pool(int threads) : threads_(threads), crew_(std::make_unique<Crew>()) {
    for (int thread = 1; thread < threads; ++thread) {
        crew_->workers.emplace_back([crew = crew_.get(), thread] { crew->work(thread); });
    }
}

Pool::~Pool() {
    // A forked process has the crew's memory without its threads: there is nobody to join, and
    // destroying what they wait for would wait for them.
    if (crew_->process != getpid()) {
        static_cast<void>(crew_.release());
        return;
    }
    {
        const std::lock_guard<std::mutex> lock(crew_->mutex);
        crew_->stop = true;
    }
    crew_->wake.notify_all();
    for (auto& worker : crew_->workers) {
        worker.join();
    }
}

void Pool::run(int count, const void* task, Call call) {
    if (threads_ == 1 || count <= 1) {
        for (int index = 0; index < count; ++index) {
            call(task, index, 0);
        }
        return;
    }
    Crew& crew = *crew_;
    crew.count = count;
    crew.task = task;
    crew.call = call;
    crew.next = 0;
    crew.open = true;
    {
        const std::lock_guard<std::mutex> lock(crew.mutex);
        ++crew.round;
    }
    crew.wake.notify_all();
    crew.drain(0);
    // A worker says that it is inside before it looks whether it may; so one that is not inside now
    // will find the door closed.
    crew.open = false;
    for (int spins = 0; crew.inside != 0; ++spins) {
        if (spins < kSpins) {
            pause();
        } else {
            std::this_thread::yield();
        }
    }
}

}  // namespace fgmclip
