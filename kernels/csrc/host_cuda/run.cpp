// A CUDA source, FGMCLIP_SOURCE, as a library for the host. FGMCLIP_KERNELS lists its kernels as
// X(name); fgmclip/kernels/cuda/host.py compiles and calls it.
#include FGMCLIP_SOURCE

#include "machine.h"

namespace fgmclip {
namespace host {
namespace {

Machine& machine() {
    static Machine* const one = new Machine;
    return *one;
}

void Machine::enter() { machine().run_thread(); }

using Launch = std::function<void()> (*)(void**);

template <class... Parameters, std::size_t... kIndex>
std::function<void()> bind_kernel(void (*kernel)(Parameters...), void** arguments,
                                  std::index_sequence<kIndex...>) {
    return [=] { kernel(*static_cast<Parameters*>(arguments[kIndex])...); };
}

template <class... Parameters>
std::function<void()> bind_kernel(void (*kernel)(Parameters...), void** arguments) {
    return bind_kernel(kernel, arguments, std::index_sequence_for<Parameters...>{});
}

struct Kernel {
    const char* name;
    Launch bind;
};

const Kernel kKernels[] = {
#define X(name) {#name, [](void** arguments) { return bind_kernel(&name, arguments); }},
    FGMCLIP_KERNELS
#undef X
};

}  // namespace

void barrier(const char* file, int line) { machine().barrier({file, line}); }

const std::uint32_t* gather(std::uint32_t mask, std::uint32_t bits, const char* file, int line) {
    return machine().gather(mask, bits, {file, line});
}

void* shared_memory() { return machine().shared(); }

void count_access(const void* address, std::size_t bytes, bool store) {
    machine().access(address, bytes, store);
}

}  // namespace host
}  // namespace fgmclip

// One thread of the caller at a time.
extern "C" {

void* fgmclip_host_allocate(std::size_t size) {
    void* memory = nullptr;
    // As a GPU aligns what it gives, and no byte more: a sanitizer sees the end.
    if (posix_memalign(&memory, 256, std::max<std::size_t>(size, 1)) != 0) {
        return nullptr;
    }
    std::memset(memory, fgmclip::host::kGlobalGarbage, size);
    fgmclip::host::machine().allocate(reinterpret_cast<std::uintptr_t>(memory), size);
    return memory;
}

void fgmclip_host_free(void* memory) {
    fgmclip::host::machine().release(reinterpret_cast<std::uintptr_t>(memory));
    std::free(memory);
}

// Null, or what went wrong. `counts` takes the bytes loaded and stored.
const char* fgmclip_host_launch(const char* name, const unsigned* grid, unsigned threads,
                                std::size_t shared, std::uint64_t seed, void** arguments,
                                std::int64_t* counts) {
    auto& machine = fgmclip::host::machine();
    for (const auto& kernel : fgmclip::host::kKernels) {
        if (std::strcmp(kernel.name, name) == 0) {
            const bool fine = machine.launch({grid[0], grid[1], grid[2]}, threads, shared, seed,
                                             kernel.bind(arguments));
            counts[0] = machine.counts.loaded;
            counts[1] = machine.counts.stored;
            return fine ? nullptr : machine.error.c_str();
        }
    }
    return "no kernel has that name";
}

// Leaves out the barrier at `site` (file:line) from now on; an empty one leaves out none.
void fgmclip_host_drop_barrier(const char* site) { fgmclip::host::machine().dropped = site; }

// The barriers that any launch met, one a line.
const char* fgmclip_host_barriers() {
    static std::string names;
    names.clear();
    for (const auto& site : fgmclip::host::machine().barriers) {
        names += site.name() + "\n";
    }
    return names.c_str();
}

}  // extern "C"
