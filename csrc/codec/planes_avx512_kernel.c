#include "planes_kernel.h"

#if defined(__x86_64__)

#include "planes_avx512.h"

enum { STEP = 64, MOST_WIDTH = 8 }; /* elements at a time, bytes of one */

/* Every second lane of two vectors, from the first or the second on. */
INLINE __m512i unzip8(int odd)
{
    __m512i i = count8();
    return _mm512_add_epi8(_mm512_add_epi8(i, i), _mm512_set1_epi8((char)odd));
}

INLINE __m512i unzip16(int odd)
{
    return _mm512_add_epi16(_mm512_slli_epi16(count16(), 1),
                            _mm512_set1_epi16((short)odd));
}

INLINE __m512i unzip32(int odd)
{
    return _mm512_add_epi32(_mm512_slli_epi32(count32(), 1),
                            _mm512_set1_epi32(odd));
}

/* ---- elements to planes ----------------------------------------------- */

/* The bytes of 64 words as two vectors of 64: upper, lower. */
INLINE two bytes_of(two words)
{
    return (two){_mm512_permutex2var_epi8(words.a, unzip8(1), words.b),
                 _mm512_permutex2var_epi8(words.a, unzip8(0), words.b)};
}

INLINE two rotated_left(two words, bool rotated)
{
    if (!rotated) return words;
    return (two){_mm512_shldi_epi16(words.a, words.a, 1),
                 _mm512_shldi_epi16(words.b, words.b, 1)};
}

/* 64 elements of 32 bits, four vectors, to their upper or lower words. */
INLINE two words_of(const __m512i *x, int odd)
{
    return (two){_mm512_permutex2var_epi16(x[0], unzip16(odd), x[1]),
                 _mm512_permutex2var_epi16(x[2], unzip16(odd), x[3])};
}

INLINE void store_bytes(two bytes, uint8_t *upper, uint8_t *lower)
{
    _mm512_storeu_si512(upper, bytes.a);
    _mm512_storeu_si512(lower, bytes.b);
}

INLINE void split2(const uint8_t *in, bool rotated, uint8_t *const *planes,
                   size_t at)
{
    two words = {_mm512_loadu_si512(in), _mm512_loadu_si512(in + 64)};
    store_bytes(bytes_of(rotated_left(words, rotated)), planes[0] + at,
                planes[1] + at);
}

INLINE void split4(const __m512i *x, bool rotated, uint8_t *const *planes,
                   size_t at)
{
    store_bytes(bytes_of(rotated_left(words_of(x, 1), rotated)),
                planes[0] + at, planes[1] + at);
    store_bytes(bytes_of(words_of(x, 0)), planes[2] + at, planes[3] + at);
}

INLINE void split8(const uint8_t *in, bool rotated, uint8_t *const *planes,
                   size_t at)
{
    __m512i high[4], low[4];
    for (int i = 0; i < 4; i++) {
        __m512i a = _mm512_loadu_si512(in + 128 * i);
        __m512i b = _mm512_loadu_si512(in + 128 * i + 64);
        high[i] = _mm512_permutex2var_epi32(a, unzip32(1), b);
        low[i] = _mm512_permutex2var_epi32(a, unzip32(0), b);
    }
    split4(high, rotated, planes, at);
    split4(low, false, planes + 4, at);
}

INLINE void split_step(const uint8_t *in, unsigned width, bool rotated,
                       uint8_t *const *planes, size_t at)
{
    __m512i x[4];
    switch (width) {
    case 1:
        x[0] = _mm512_loadu_si512(in);
        _mm512_storeu_si512(planes[0] + at,
                            rotated ? rotated8(x[0], 1) : x[0]);
        break;
    case 2: split2(in, rotated, planes, at); break;
    case 4:
        for (int i = 0; i < 4; i++) x[i] = _mm512_loadu_si512(in + 64 * i);
        split4(x, rotated, planes, at);
        break;
    default: split8(in, rotated, planes, at); break;
    }
}

INLINE void split_all(const uint8_t *in, size_t count, unsigned width,
                      bool rotated, uint8_t *const *planes)
{
    uint8_t *rest[MOST_WIDTH];
    size_t at = 0;

    for (; at + STEP <= count; at += STEP)
        split_step(in + at * width, width, rotated, planes, at);
    for (unsigned k = 0; k < width; k++) rest[k] = planes[k] + at;
    ts_planes_scalar.split(in + at * width, count - at, width, rotated, rest);
}

static AVX512 void split(const uint8_t *in, size_t count, unsigned width,
                         bool rotated, uint8_t *const *planes)
{
    switch (width) {
    case 1: split_all(in, count, 1, rotated, planes); break;
    case 2: split_all(in, count, 2, rotated, planes); break;
    case 4: split_all(in, count, 4, rotated, planes); break;
    default: split_all(in, count, 8, rotated, planes); break;
    }
}

/* ---- planes to elements ----------------------------------------------- */

INLINE void merge4(const uint8_t *const *planes, size_t at, bool rotated,
                   __m512i *x)
{
    two high = words_from(_mm512_loadu_si512(planes[0] + at),
                          _mm512_loadu_si512(planes[1] + at));
    two low = words_from(_mm512_loadu_si512(planes[2] + at),
                         _mm512_loadu_si512(planes[3] + at));
    zip_words(rotated_right(high, rotated), low, x);
}

INLINE void merge8(const uint8_t *const *planes, size_t at, bool rotated,
                   uint8_t *out, bool bypass)
{
    __m512i high[4], low[4];
    merge4(planes, at, rotated, high);
    merge4(planes + 4, at, false, low);
    for (int i = 0; i < 4; i++) {
        store(out + 128 * i,
              _mm512_permutex2var_epi32(low[i], zip32(0), high[i]), bypass);
        store(out + 128 * i + 64,
              _mm512_permutex2var_epi32(low[i], zip32(1), high[i]), bypass);
    }
}

INLINE void merge_step(const uint8_t *const *planes, size_t at, unsigned width,
                       bool rotated, uint8_t *out, bool bypass)
{
    if (width == 8)
        merge8(planes, at, rotated, out, bypass);
    else
        put64(_mm512_loadu_si512(planes[0] + at), planes, at, width, rotated,
              out, bypass);
}

INLINE void merge_all(const uint8_t *const *planes, size_t count,
                      unsigned width, bool rotated, uint8_t *out, bool bypass)
{
    const uint8_t *rest[MOST_WIDTH];
    size_t at = 0;

    for (; at + STEP <= count; at += STEP) {
        /* One line ahead of what a raw plane's own prefetcher would see. */
        for (unsigned k = 1; k < width; k++)
            _mm_prefetch((const char *)planes[k] + at + 2048, _MM_HINT_T0);
        merge_step(planes, at, width, rotated, out + at * width, bypass);
    }
    for (unsigned k = 0; k < width; k++) rest[k] = planes[k] + at;
    ts_planes_scalar.merge(rest, count - at, width, rotated, out + at * width,
                           false);
}

INLINE void merge_how(const uint8_t *const *planes, size_t count,
                      unsigned width, bool rotated, uint8_t *out, bool bypass)
{
    if (bypass && ((uintptr_t)out & 63) == 0)
        merge_all(planes, count, width, rotated, out, true);
    else
        merge_all(planes, count, width, rotated, out, false);
}

static AVX512 void merge(const uint8_t *const *planes, size_t count,
                         unsigned width, bool rotated, uint8_t *out,
                         bool bypass)
{
    switch (width) {
    case 1: merge_how(planes, count, 1, rotated, out, bypass); break;
    case 2: merge_how(planes, count, 2, rotated, out, bypass); break;
    case 4: merge_how(planes, count, 4, rotated, out, bypass); break;
    default: merge_how(planes, count, 8, rotated, out, bypass); break;
    }
}

/* ---- bits ------------------------------------------------------------- */

static AVX512 void cut(const uint8_t *in, size_t count, unsigned low,
                       uint8_t *upper, uint8_t *lower)
{
    __m512i mask = _mm512_set1_epi8((char)((1 << low) - 1));
    __m128i by = _mm_cvtsi32_si128((int)low);
    __m512i kept = _mm512_set1_epi8((char)(0xFF >> low));
    size_t i = 0;

    for (; i + STEP <= count; i += STEP) {
        __m512i x = _mm512_loadu_si512(in + i);
        _mm512_storeu_si512(upper + i, _mm512_and_si512(
                                           _mm512_srl_epi16(x, by), kept));
        _mm512_storeu_si512(lower + i, _mm512_and_si512(x, mask));
    }
    ts_planes_scalar.cut(in + i, count - i, low, upper + i, lower + i);
}

static AVX512 void join(const uint8_t *upper, const uint8_t *lower,
                        size_t count, unsigned low, uint8_t *out)
{
    __m128i by = _mm_cvtsi32_si128((int)low);
    __m512i kept = _mm512_set1_epi8((char)(0xFF >> low));
    size_t i = 0;

    for (; i + STEP <= count; i += STEP) {
        __m512i x = _mm512_and_si512(_mm512_loadu_si512(upper + i), kept);
        _mm512_storeu_si512(
            out + i, _mm512_or_si512(_mm512_sll_epi16(x, by),
                                     _mm512_loadu_si512(lower + i)));
    }
    ts_planes_scalar.join(upper + i, lower + i, count - i, low, out + i);
}

static AVX512 void pack(const uint8_t *in, size_t count, unsigned bits,
                        uint8_t *out)
{
    uint64_t mask = 0x0101010101010101u * ((1u << bits) - 1);
    size_t i = 0;

    /* Each store writes 8 bytes, of which the next overwrites 8 - bits. */
    for (; i + STEP <= count; i += 8, out += bits) {
        uint64_t x, word;
        __builtin_memcpy(&x, in + i, sizeof x);
        word = _pext_u64(x, mask);
        __builtin_memcpy(out, &word, sizeof word);
    }
    ts_planes_scalar.pack(in + i, count - i, bits, out);
}

static AVX512 void unpack(const uint8_t *in, size_t count, unsigned bits,
                          uint8_t *out)
{
    spreading how = spreading_of(bits);
    size_t at = 0;

    for (; at + STEP <= count; at += STEP, in += 8 * bits)
        _mm512_storeu_si512(out + at, spread64(&how, in));
    ts_planes_scalar.unpack(in, count - at, bits, out + at);
}

const ts_planes ts_planes_avx512 = {split, merge, cut, join, pack, unpack};

#else
typedef int ts_planes_avx512_is_for_x86;
#endif
