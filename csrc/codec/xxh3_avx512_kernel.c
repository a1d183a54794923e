#include "xxh3_kernel.h"

#if defined(__x86_64__)

/* The header's functions carry no target of their own; the intrinsics' header
 * comes first because its functions do. */
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f")
#endif

#define XXH_VECTOR 3 /* XXH_AVX512, a name that the header brings */
#include "xxh3_body.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const ts_xxh3 ts_xxh3_avx512 = {of, reset, add, value};

#else
typedef int ts_xxh3_avx512_is_for_x86;
#endif
