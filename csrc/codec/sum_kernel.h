/* sum_kernel.h -- the wrapping sum of little-endian 64-bit words. */
#ifndef TS_CODEC_SUM_KERNEL_H
#define TS_CODEC_SUM_KERNEL_H

#include <stddef.h>
#include <stdint.h>

/* count words, at any address. */
uint64_t ts_sum_scalar(const void *words, size_t count);
#if defined(__x86_64__)
uint64_t ts_sum_avx2(const void *words, size_t count);
uint64_t ts_sum_avx512(const void *words, size_t count);
#endif

#endif
