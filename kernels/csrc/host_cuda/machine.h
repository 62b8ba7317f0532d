// Runs a kernel's blocks one after the other. Each thread of a block is a fiber, which gives way at
// barriers and warp functions only.
//
// Between barriers, threads run in an order that a seed chooses: what needs a barrier that is not
// there comes out differently. A barrier that some threads do not reach is an error.
#pragma once

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#include "cuda.h"

fgmclip::host::Index threadIdx, blockIdx, blockDim, gridDim;

namespace fgmclip {
namespace host {
namespace {

constexpr std::size_t kStack = 256 * 1024;
// Memory begins with no defined content: with nothing that may be right by chance, or because it
// was before.
constexpr unsigned char kSharedGarbage = 0xa5, kGlobalGarbage = 0xff;

struct Counts {
    std::int64_t loaded, stored;  // bytes
};

// A place in the source where threads wait for each other.
struct Site {
    const char* file;
    int line;

    bool operator==(const Site& other) const {
        return line == other.line && std::strcmp(file, other.file) == 0;
    }
    std::string name() const {
        const char* base = std::strrchr(file, '/');
        return std::string(base == nullptr ? file : base + 1) + ":" + std::to_string(line);
    }
};

enum class State { ready, barrier, warp, done };

struct Fiber {
    ucontext_t context;
    char* stack;
    void* fake_stack;
    State state;
    Site site;
    unsigned gathers;
};

struct Warp {
    std::uint32_t values[2][kLanes];  // of two gatherings in turn: lanes may be one ahead
    unsigned waiting;
};

// Fibers' stacks, kept from launch to launch.
class Stacks {
  public:
    char* at(unsigned index) {
        while (stacks_.size() <= index) {
            void* stack = mmap(nullptr, kStack, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (stack == MAP_FAILED) {
                std::abort();
            }
            stacks_.push_back(static_cast<char*>(stack));
        }
        return stacks_[index];
    }

  private:
    std::vector<char*> stacks_;
};

class Machine {
  public:
    // Returns whether all threads of all blocks came to their end.
    bool launch(const unsigned (&grid)[3], unsigned threads, std::size_t shared,
                std::uint64_t seed, std::function<void()> body) {
        error.clear();
        counts = {};
        body_ = std::move(body);
        random_ = seed;
        ordered_ = seed == 0;
        gridDim = {grid[0], grid[1], grid[2]};
        blockDim = {threads, 1, 1};
        for (unsigned z = 0; z < grid[2]; ++z) {
            for (unsigned y = 0; y < grid[1]; ++y) {
                for (unsigned x = 0; x < grid[0]; ++x) {
                    blockIdx = {x, y, z};
                    run_block(threads, shared);
                    if (!error.empty()) {
                        return false;
                    }
                }
            }
        }
        return true;
    }

    void barrier(const Site& site) {
        if (std::find(barriers.begin(), barriers.end(), site) == barriers.end()) {
            barriers.push_back(site);
        }
        if (dropped.empty() || dropped != site.name()) {
            give_way(State::barrier, site);
        }
    }

    const std::uint32_t* gather(std::uint32_t mask, std::uint32_t bits, const Site& site) {
        const unsigned thread = threadIdx.x;
        if (mask != 0xffffffffu) {
            fail(site.name() + ": expected a mask of all lanes in a warp function");
        }
        Warp& warp = warps_[thread / kLanes];
        const unsigned turn = fibers_[thread].gathers++ % 2;
        warp.values[turn][thread % kLanes] = bits;
        give_way(State::warp, site);
        return warp.values[turn];
    }

    void* shared() { return shared_.get(); }

    void allocate(std::uintptr_t address, std::size_t size) { allocations_[address] = size; }
    void release(std::uintptr_t address) {
        allocations_.erase(address);
        last_ = {0, 0};
    }

    void access(const void* pointer, std::size_t bytes, bool store) {
        (store ? counts.stored : counts.loaded) += static_cast<std::int64_t>(bytes);
        const auto address = reinterpret_cast<std::uintptr_t>(pointer);
        if (address < last_.first || address + bytes > last_.first + last_.second) {
            auto after = allocations_.upper_bound(address);
            if (after != allocations_.begin()) {
                last_ = *--after;
            }
            if (address < last_.first || address + bytes > last_.first + last_.second) {
                fail(std::string(store ? "a store" : "a load") + " of " + std::to_string(bytes) +
                     " bytes lies outside of every allocation");
            }
        }
        if (address % bytes != 0) {
            fail("an access of " + std::to_string(bytes) + " bytes is not aligned to them");
        }
    }

    std::string error;
    std::string dropped;  // the barrier that is left out
    std::vector<Site> barriers;
    Counts counts{};

  private:
    void run_block(unsigned threads, std::size_t shared) {
        shared_.reset(static_cast<unsigned char*>(
            std::aligned_alloc(16, std::max<std::size_t>((shared + 15) / 16 * 16, 16))));
        std::memset(shared_.get(), kSharedGarbage, shared);
        if (fibers_.size() < threads) {
            fibers_ = std::vector<Fiber>(threads);
        }
        warps_.assign((threads + kLanes - 1) / kLanes, {});
        ready_.clear();
        for (unsigned i = 0; i < threads; ++i) {
            Fiber& fiber = fibers_[i];
            fiber.stack = stacks_.at(i);
            fiber.fake_stack = nullptr;
            fiber.gathers = 0;
            getcontext(&fiber.context);
            fiber.context.uc_stack.ss_sp = fiber.stack;
            fiber.context.uc_stack.ss_size = kStack;
            fiber.context.uc_link = nullptr;
            makecontext(&fiber.context, &Machine::enter, 0);
        }
        threads_ = threads;
        make_ready(0, threads);
        unsigned left = threads;
        while (left > 0 && error.empty()) {
            if (ready_.empty() && !release_barrier()) {
                return;
            }
            const unsigned thread = next();
            threadIdx = {thread, 0, 0};
            switch_to_fiber(fibers_[thread]);
            left -= fibers_[thread].state == State::done ? 1 : 0;
        }
    }

    static void enter();

    void run_thread() {
        arrive(fibers_[threadIdx.x]);
        body_();
        fibers_[threadIdx.x].state = State::done;
        switch_to_main(fibers_[threadIdx.x]);
    }

    // Which of the ready threads goes on: the first, or one by chance.
    unsigned next() {
        std::size_t index = ready_.size() - 1;
        if (!ordered_) {
            random_ = random_ * 6364136223846793005u + 1442695040888963407u;
            index = static_cast<std::size_t>((random_ >> 33) % ready_.size());
        }
        std::swap(ready_[index], ready_.back());
        const unsigned thread = ready_.back();
        ready_.pop_back();
        return thread;
    }

    void make_ready(unsigned begin, unsigned end) {
        for (unsigned i = end; i > begin; --i) {
            fibers_[i - 1].state = State::ready;
            ready_.push_back(i - 1);
        }
    }

    void give_way(State state, const Site& site) {
        const unsigned thread = threadIdx.x;
        Fiber& fiber = fibers_[thread];
        fiber.state = state;
        fiber.site = site;
        if (state == State::warp) {
            Warp& warp = warps_[thread / kLanes];
            const unsigned first = thread / kLanes * kLanes;
            if (++warp.waiting == kLanes) {
                warp.waiting = 0;
                for (unsigned i = first; i < first + kLanes; ++i) {
                    if (!(fibers_[i].site == site)) {
                        fail("warp divergence: lanes wait at " + site.name() + " and at " +
                             fibers_[i].site.name());
                    }
                }
                make_ready(first, first + kLanes);
            }
        }
        switch_to_main(fiber);
    }

    // Nobody can go on: all wait at one barrier, or something is wrong.
    bool release_barrier() {
        const Fiber& first = fibers_[0];
        for (unsigned i = 1; i < threads_; ++i) {
            // Ended threads were nowhere last.
            const bool together = fibers_[i].state == first.state &&
                                  (first.state == State::done || fibers_[i].site == first.site);
            if (!together) {
                error = "barrier divergence in block (" + std::to_string(blockIdx.x) + ", " +
                        std::to_string(blockIdx.y) + ", " + std::to_string(blockIdx.z) +
                        "): thread 0 " + whereabouts(first) + ", thread " + std::to_string(i) +
                        " " + whereabouts(fibers_[i]);
                return false;
            }
        }
        make_ready(0, threads_);
        return true;
    }

    static std::string whereabouts(const Fiber& fiber) {
        if (fiber.state == State::done) {
            return "has ended";
        }
        const char* what = fiber.state == State::barrier ? "the barrier at " : "its warp at ";
        return std::string("waits for ") + what + fiber.site.name();
    }

    // Leaves the kernel where it is.
    void fail(const std::string& message) {
        if (error.empty()) {
            error = message + ", in thread " + std::to_string(threadIdx.x) + " of block (" +
                    std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ", " +
                    std::to_string(blockIdx.z) + ")";
        }
        switch_to_main(fibers_[threadIdx.x]);
    }

    void switch_to_fiber(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
        void* fake_stack = nullptr;
        __sanitizer_start_switch_fiber(&fake_stack, fiber.stack, kStack);
#endif
        swapcontext(&main_, &fiber.context);
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
    }

    void switch_to_main(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
        const bool over = fiber.state == State::done;
        __sanitizer_start_switch_fiber(over ? nullptr : &fiber.fake_stack, main_stack_,
                                       main_stack_size_);
#endif
        swapcontext(&fiber.context, &main_);
        arrive(fiber);
    }

    // Tells the sanitizer which stack this is, and hears where the one before lies.
    void arrive(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_finish_switch_fiber(fiber.fake_stack, &main_stack_, &main_stack_size_);
#else
        static_cast<void>(fiber);
#endif
    }

    struct Free {
        void operator()(unsigned char* memory) const { std::free(memory); }
    };

    std::function<void()> body_;
    std::vector<Fiber> fibers_;
    std::vector<Warp> warps_;
    std::vector<unsigned> ready_;
    std::map<std::uintptr_t, std::size_t> allocations_;
    std::pair<std::uintptr_t, std::size_t> last_{0, 0};
    std::unique_ptr<unsigned char, Free> shared_;
    Stacks stacks_;
    ucontext_t main_{};
    const void* main_stack_ = nullptr;
    std::size_t main_stack_size_ = 0;
    std::uint64_t random_ = 0;
    bool ordered_ = true;
    unsigned threads_ = 0;
};

}  // namespace
}  // namespace host
}  // namespace fgmclip
