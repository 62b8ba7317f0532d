// Kernels that try the host layer itself: what it computes, and what it must refuse.
#include "../../../../kernels/csrc/cuda/device.cuh"

using namespace fgmclip::cuda;

extern "C" __global__ void halves(const float* from, std::int32_t count, __half* to) {
    const int at = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (at < count) {
        store_global(to + at, __float2half_rn(load_global(from + at)));
    }
}

// Each thread's number, turned round within the block, by way of shared memory; `plus` some, as
// what shared memory holds from the launch before may be right.
extern "C" __global__ void reversed(std::int32_t* to, std::int32_t plus) {
    __shared__ std::int32_t numbers[64];
    numbers[threadIdx.x] = static_cast<std::int32_t>(threadIdx.x) + plus;
    __syncthreads();
    store_global(to + threadIdx.x, numbers[63 - threadIdx.x]);
}

// The sum of each eight lanes, and in the upper half of the warps whether any lane is the 40th.
extern "C" __global__ void warps(float* sums, std::int32_t* found) {
    float value = static_cast<float>(threadIdx.x);
    for (int lanes = 4; lanes > 0; lanes /= 2) {
        value += __shfl_xor_sync(kAllLanes, value, lanes);
    }
    store_global(sums + threadIdx.x, value);
    store_global(found + threadIdx.x, __any_sync(kAllLanes, threadIdx.x == 40) ? 1 : 0);
}

extern "C" __global__ void some_wait(std::int32_t*) {
    if (threadIdx.x < 40) {
        __syncthreads();
    }
}

extern "C" __global__ void one_ends(std::int32_t*) {
    if (threadIdx.x == 7) {
        return;
    }
    __syncthreads();
}

extern "C" __global__ void two_places(std::int32_t*) {
    if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
}

extern "C" __global__ void half_a_warp(std::int32_t* to) {
    if (threadIdx.x % 32 < 16) {
        store_global(to, static_cast<std::int32_t>(__shfl_xor_sync(kAllLanes, 1.0f, 1)));
    }
}

extern "C" __global__ void outside(std::int32_t* to) {
    store_global(to + threadIdx.x + 1, static_cast<std::int32_t>(threadIdx.x));
}

// One word more than there is of shared memory; of that, a sanitizer alone takes notice.
extern "C" __global__ void past_shared(std::int32_t* to, std::int32_t words) {
    FGMCLIP_SHARED(shared);
    shared[words] = 1;
    store_global(to, shared[words]);
}

extern "C" __global__ void not_aligned(std::int32_t* to) {
    const char* bytes = reinterpret_cast<const char*>(to) + 2;
    store_global(to, load_global(reinterpret_cast<const std::int32_t*>(bytes)));
}
