// Which instruction set runs: the best that the machine has, found once.
#include <cstring>

#include "flow_layout.h"
#include "operations.h"

namespace fgmclip {

extern const Operations operations_portable;
#ifdef FGMCLIP_X86
extern const Operations operations_avx2;
extern const Operations operations_avx512;
#endif

namespace {

struct Choice {
    const Operations* operations;
    bool here;
};

int choices(Choice* list) {
    int count = 0;
#ifdef FGMCLIP_X86
    __builtin_cpu_init();
    list[count++] = {&operations_avx512, __builtin_cpu_supports("avx512f") &&
                                             __builtin_cpu_supports("avx512bw") &&
                                             __builtin_cpu_supports("avx512dq") &&
                                             __builtin_cpu_supports("avx512cd") &&
                                             __builtin_cpu_supports("avx512vl")};
    list[count++] = {&operations_avx2,
                     __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                         __builtin_cpu_supports("bmi2")};
#endif
    list[count++] = {&operations_portable, true};
    return count;
}

}  // namespace

const Operations* operations(const char* name) {
    Choice list[3];
    const int count = choices(list);
    for (int i = 0; i < count; ++i) {
        if (list[i].here && (name == nullptr || std::strcmp(name, list[i].operations->name) == 0)) {
            return list[i].operations;
        }
    }
    return nullptr;
}

const Operations* operations() {
    static const Operations* const best = operations(nullptr);
    return best;
}

std::size_t flow_scratch(int side, const FlowParameters& parameters) {
    flow::Arena dry{nullptr};
    flow::lay_out(dry, side, parameters);
    return dry.used;
}

}  // namespace fgmclip
