/* crc_kernel.h -- cyclic redundancy checks of 32 bits, bits reflected.
 *
 * All take and give the raw register: the caller inverts before the first
 * piece and after the last.  One set of loops serves every polynomial; what
 * differs is the table. */
#ifndef TS_CODEC_CRC_KERNEL_H
#define TS_CODEC_CRC_KERNEL_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t polynomial; /* reflected */
    /* slice[k][b]: the register after byte b and k bytes of zero. */
    uint32_t slice[8][256];
    /* Moving 16 bytes to the 16 that lie this many bytes further on:
     * x^(8n+32) and x^(8n-32) mod P, reflected, times x. */
    uint64_t by_16[2], by_64[2], by_256[2];
} ts_crc;

extern const ts_crc ts_crc32, ts_crc32c;

uint32_t ts_crc_scalar(const ts_crc *crc, uint32_t value, const void *bytes,
                       size_t size);

#if defined(__x86_64__)
/* Needs PCLMULQDQ, which the AVX2 level does not promise: ask. */
uint32_t ts_crc_avx2(const ts_crc *crc, uint32_t value, const void *bytes,
                     size_t size);
/* Needs VPCLMULQDQ: ask. */
uint32_t ts_crc_avx512(const ts_crc *crc, uint32_t value, const void *bytes,
                       size_t size);
#endif

/* The register of a + b from those of a and of b (inverted at both ends, as
 * files carry them), and the size of b. */
uint32_t ts_crc_combine(const ts_crc *crc, uint32_t first, uint32_t second,
                        uint64_t second_size);

#endif
