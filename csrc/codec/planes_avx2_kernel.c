#include "planes_kernel.h"

#if defined(__x86_64__)

/* The definition itself, with wider registers to put it in. */
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,bmi2"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,bmi2")
#endif

#include "planes_body.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const ts_planes ts_planes_avx2 = {split, merge, cut, join, pack, unpack};

#else
typedef int ts_planes_avx2_is_for_x86;
#endif
