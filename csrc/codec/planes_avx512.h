/* planes_avx512.h -- 64 elements put together from vectors of their bytes:
 * what the kernels that end in elements share. */
#ifndef TS_CODEC_PLANES_AVX512_H
#define TS_CODEC_PLANES_AVX512_H

#if defined(__x86_64__)

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

#define AVX512                                                                \
    __attribute__((target(                                                    \
        "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,bmi2,"     \
        "popcnt")))
#define INLINE static inline __attribute__((always_inline)) AVX512

/* ---- orders of lanes -------------------------------------------------- */

static const uint8_t counted[64] = {
    0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
    16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
    32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47,
    48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};

INLINE __m512i count8(void) { return _mm512_loadu_si512(counted); }

INLINE __m512i count16(void)
{
    return _mm512_cvtepu8_epi16(
        _mm256_loadu_si256((const __m256i *)counted));
}

INLINE __m512i count32(void)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)counted));
}

/* Two vectors' lanes in turns: 0, n, 1, n + 1 ...; the second half of them
 * begins n / 2 further on. */
INLINE __m512i zip8(int half)
{
    __m512i i = count8(), one = _mm512_set1_epi8(1);
    __m512i lane = _mm512_and_si512(_mm512_srli_epi16(i, 1),
                                    _mm512_set1_epi8(63));
    __m512i other = _mm512_slli_epi16(_mm512_and_si512(i, one), 6);
    return _mm512_add_epi8(_mm512_or_si512(lane, other),
                           _mm512_set1_epi8((char)(32 * half)));
}

INLINE __m512i zip16(int half)
{
    __m512i i = count16(), one = _mm512_set1_epi16(1);
    __m512i other = _mm512_slli_epi16(_mm512_and_si512(i, one), 5);
    return _mm512_add_epi16(_mm512_or_si512(_mm512_srli_epi16(i, 1), other),
                            _mm512_set1_epi16((short)(16 * half)));
}

INLINE __m512i zip32(int half)
{
    __m512i i = count32(), one = _mm512_set1_epi32(1);
    __m512i other = _mm512_slli_epi32(_mm512_and_si512(i, one), 4);
    return _mm512_add_epi32(_mm512_or_si512(_mm512_srli_epi32(i, 1), other),
                            _mm512_set1_epi32(8 * half));
}

/* ---- symbols of a few bits -------------------------------------------- */

/* How 64 symbols come out of 8 * bits bytes: each 64-bit lane gets the bytes
 * that hold its 8, each byte then the bits of one. */
typedef struct {
    __m512i from, shift, mask;
    __mmask64 used;
    unsigned bits;
} spreading;

INLINE spreading spreading_of(unsigned bits)
{
    __m512i seven = _mm512_set1_epi8(7), i = count8();
    __m512i in_lane = _mm512_and_si512(i, seven);
    __m512i lane = _mm512_and_si512(_mm512_srli_epi16(i, 3), seven);
    spreading it = {in_lane, _mm512_setzero_si512(),
                    _mm512_set1_epi8((char)((1 << bits) - 1)),
                    bits > 0 ? ~0ull >> (64 - 8 * bits) : 0, bits};

    for (unsigned k = 0; k < bits; k++) {
        it.shift = _mm512_add_epi8(it.shift, in_lane);
        it.from = _mm512_add_epi8(it.from, lane);
    }
    return it;
}

/* The bits above a symbol's are those of the next ones. */
INLINE __m512i spread_raw(const spreading *it, const uint8_t *packed)
{
    __m512i x = _mm512_maskz_loadu_epi8(it->used, packed);
    x = _mm512_permutexvar_epi8(it->from, x);
    return _mm512_multishift_epi64_epi8(it->shift, x);
}

INLINE __m512i spread64(const spreading *it, const uint8_t *packed)
{
    return _mm512_and_si512(spread_raw(it, packed), it->mask);
}

/* ---- elements --------------------------------------------------------- */

typedef struct {
    __m512i a, b; /* lanes 0 to 31, 32 to 63 */
} two;

INLINE two words_from(__m512i high, __m512i low)
{
    return (two){_mm512_permutex2var_epi8(low, zip8(0), high),
                 _mm512_permutex2var_epi8(low, zip8(1), high)};
}

INLINE two rotated_right(two words, bool rotated)
{
    if (!rotated) return words;
    return (two){_mm512_shrdi_epi16(words.a, words.a, 1),
                 _mm512_shrdi_epi16(words.b, words.b, 1)};
}

/* Every byte moved up by `left` places, what falls out comes in below. */
INLINE __m512i rotated8(__m512i x, int left)
{
    __m512i upper = _mm512_and_si512(_mm512_slli_epi16(x, (unsigned)left),
                                     _mm512_set1_epi8((char)(0xFF << left)));
    __m512i lower =
        _mm512_and_si512(_mm512_srli_epi16(x, (unsigned)(8 - left)),
                         _mm512_set1_epi8((char)(0xFF >> (8 - left))));
    return _mm512_or_si512(upper, lower);
}

INLINE void store(uint8_t *out, __m512i x, bool bypass)
{
    if (bypass)
        _mm512_stream_si512((__m512i *)out, x);
    else
        _mm512_storeu_si512(out, x);
}

/* 64 elements of 32 bits from their upper and lower words. */
INLINE void zip_words(two high, two low, __m512i *x)
{
    x[0] = _mm512_permutex2var_epi16(low.a, zip16(0), high.a);
    x[1] = _mm512_permutex2var_epi16(low.a, zip16(1), high.a);
    x[2] = _mm512_permutex2var_epi16(low.b, zip16(0), high.b);
    x[3] = _mm512_permutex2var_epi16(low.b, zip16(1), high.b);
}

/* 64 elements of 1, 2 or 4 bytes from the vector of their top bytes and the
 * planes of the others. */
INLINE void put64(__m512i top, const uint8_t *const *planes, size_t at,
                  unsigned width, bool rotated, uint8_t *out, bool bypass)
{
    __m512i x[4];

    if (width == 1) {
        store(out, rotated ? rotated8(top, 7) : top, bypass);
        return;
    }
    two high = rotated_right(
        words_from(top, _mm512_loadu_si512(planes[1] + at)), rotated);
    if (width == 2) {
        store(out, high.a, bypass);
        store(out + 64, high.b, bypass);
        return;
    }
    zip_words(high,
              words_from(_mm512_loadu_si512(planes[2] + at),
                         _mm512_loadu_si512(planes[3] + at)),
              x);
    for (int i = 0; i < 4; i++) store(out + 64 * i, x[i], bypass);
}

#endif

#endif
