#include "cpu.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const char *const names[TS_SIMD_LEVELS] = {"scalar", "avx2", "avx512"};

const char *ts_simd_name(ts_simd level) { return names[level]; }

#if defined(__x86_64__)
/* Leaf 1, ECX bit 29; not every compiler's __builtin_cpu_supports knows it. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c >> 29 & 1) != 0;
}
#endif

static ts_simd detect(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512dq")
        && __builtin_cpu_supports("avx512vl")
        && __builtin_cpu_supports("avx512vbmi")
        && __builtin_cpu_supports("avx512vbmi2"))
        return TS_SIMD_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
        && has_f16c() && __builtin_cpu_supports("bmi2"))
        return TS_SIMD_AVX2;
#endif
    return TS_SIMD_SCALAR;
}

static ts_simd masked(void)
{
    ts_simd level = detect();
    const char *mask = getenv("TENSORSTREAM_SIMD");
    for (int i = 0; mask != NULL && i < (int)level; i++)
        if (strcmp(mask, names[i]) == 0) return (ts_simd)i;
    return level;
}

ts_simd ts_cpu_simd(void)
{
    /* Every thread that races here computes the same value. */
    static atomic_int known = -1;
    int level = atomic_load_explicit(&known, memory_order_relaxed);
    if (level < 0) {
        level = (int)masked();
        atomic_store_explicit(&known, level, memory_order_relaxed);
    }
    return (ts_simd)level;
}

int ts_cpu_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int count = CPU_COUNT(&set);
    return count > 0 ? count : 1;
}
