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

#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,bmi2")))

/* 16 symbols from 2 * bits bytes: a 16-bit lane gets the two bytes that its
 * symbol begins in, a product moves it to the upper one. */
typedef struct {
    __m256i from, up, mask;
} spreading;

static AVX2 spreading spreading_of(unsigned bits)
{
    uint8_t from[32];
    uint16_t up[16];

    for (unsigned i = 0; i < 16; i++) {
        from[2 * i] = (uint8_t)(i * bits / 8);
        from[2 * i + 1] = (uint8_t)(i * bits / 8 + 1);
        up[i] = (uint16_t)(1u << (8 - i * bits % 8));
    }
    return (spreading){_mm256_loadu_si256((const __m256i *)from),
                       _mm256_loadu_si256((const __m256i *)up),
                       _mm256_set1_epi16((short)((1 << bits) - 1))};
}

static inline AVX2 __m256i spread16(const spreading *how, const uint8_t *in)
{
    __m256i x = _mm256_broadcastsi128_si256(
        _mm_loadu_si128((const __m128i *)in));
    x = _mm256_mullo_epi16(_mm256_shuffle_epi8(x, how->from), how->up);
    return _mm256_and_si256(_mm256_srli_epi16(x, 8), how->mask);
}

/* Loads are of 16 bytes, of which up to 14 are used: stop where the next would
 * end behind the last symbol. */
static AVX2 void unpack_lanes(const uint8_t *in, size_t count, unsigned bits,
                              uint8_t *out)
{
    spreading how = spreading_of(bits);
    size_t at = 0, size = (count * bits + 7) / 8, used = 0;

    for (; at + 32 <= count && used + 2 * bits + 16 <= size;
         at += 32, used += 4 * bits) {
        __m256i both = _mm256_packus_epi16(
            spread16(&how, in + used), spread16(&how, in + used + 2 * bits));
        _mm256_storeu_si256((__m256i *)(out + at),
                            _mm256_permute4x64_epi64(both, 0xD8));
    }
    unpack(in + used, count - at, bits, out + at);
}

const ts_planes ts_planes_avx2 = {split, merge, cut,
                                  join,  pack,  unpack_lanes};

#else
typedef int ts_planes_avx2_is_for_x86;
#endif
