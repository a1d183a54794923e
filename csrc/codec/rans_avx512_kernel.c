#include "rans_kernel.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define AVX512                                                                \
    __attribute__((target(                                                    \
        "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,bmi2,"     \
        "popcnt")))
#define INLINE static inline __attribute__((always_inline)) AVX512

enum { VECTORS = TS_RANS_LANES / 32, AHEAD = 2048 };

/* A table of 128 or 256 bytes in two or four registers. */
typedef struct {
    __m512i part[4];
} table;

INLINE table load_table(const uint8_t *bytes)
{
    table it;
    for (int i = 0; i < 4; i++) it.part[i] = _mm512_load_si512(bytes + 64 * i);
    return it;
}

/* The low byte of each 16-bit slot looked up; what its high byte finds is
 * cleared by `keep`. */
INLINE __m512i look_up(const table *it, __m512i slot, unsigned bits,
                       __mmask64 keep)
{
    __m512i low =
        _mm512_maskz_permutex2var_epi8(keep, it->part[0], slot, it->part[1]);
    if (bits == 7) return low;
    __m512i high =
        _mm512_maskz_permutex2var_epi8(keep, it->part[2], slot, it->part[3]);
    return _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(slot), high);
}

/* One step of 32 states; their symbols are the low bytes of what returns. */
INLINE __m512i step(__m512i *state, const uint8_t **at, const table *symbol,
                    const table *freq, const table *bias, unsigned bits)
{
    const __mmask64 even = 0x5555555555555555u;
    __m512i x = *state;
    __m512i slot =
        _mm512_and_si512(x, _mm512_set1_epi16((short)((1 << bits) - 1)));
    __m512i found = look_up(symbol, slot, bits, ~(__mmask64)0);
    __m512i f = look_up(freq, slot, bits, even);
    __m512i b = look_up(bias, slot, bits, even);

    x = _mm512_add_epi16(_mm512_mullo_epi16(f, _mm512_srli_epi16(x, bits)), b);
    __mmask32 renew = _mm512_cmplt_epu16_mask(x, _mm512_set1_epi16(256));
    __m512i next =
        _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)*at));
    *at += (unsigned)_mm_popcnt_u32(renew);
    next = _mm512_maskz_expand_epi16(renew, next);
    x = _mm512_mask_slli_epi16(x, renew, x, 8);
    *state = _mm512_or_si512(x, next);
    return found;
}

INLINE size_t decode_with(const ts_rans_slots *slots, ts_rans_cursor *cursor,
                          size_t groups, uint8_t *out, unsigned bits)
{
    table symbol = load_table(slots->symbol);
    table freq = load_table(slots->freq), bias = load_table(slots->bias);
    __m512i escape = _mm512_set1_epi8((char)slots->escape);
    __m512i state[VECTORS];
    const uint8_t *at = cursor->at, *rare = cursor->rare;
    size_t done = 0;

    for (int v = 0; v < VECTORS; v++)
        state[v] = _mm512_load_si512(cursor->state + 32 * v);
    for (; done < groups; done++) {
        if (at > cursor->safe || rare > cursor->rares) break;
        _mm_prefetch((const char *)at + AHEAD, _MM_HINT_T0);
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v += 2, out += 64) {
            __m512i a = step(&state[v], &at, &symbol, &freq, &bias, bits);
            __m512i b = step(&state[v + 1], &at, &symbol, &freq, &bias, bits);
            __m512i both = _mm512_inserti64x4(
                _mm512_castsi256_si512(_mm512_cvtepi16_epi8(a)),
                _mm512_cvtepi16_epi8(b), 1);
            __mmask64 rares = _mm512_cmpeq_epi8_mask(both, escape);
            both = _mm512_mask_expand_epi8(both, rares,
                                           _mm512_loadu_si512(rare));
            rare += (size_t)_mm_popcnt_u64(rares);
            _mm512_storeu_si512(out, both);
        }
    }
    for (int v = 0; v < VECTORS; v++)
        _mm512_store_si512(cursor->state + 32 * v, state[v]);
    cursor->at = at;
    cursor->rare = rare;
    return done;
}

static AVX512 size_t decode(const ts_rans_slots *slots, ts_rans_cursor *cursor,
                            size_t groups, uint8_t *out)
{
    if (slots->bits == 7) return decode_with(slots, cursor, groups, out, 7);
    return decode_with(slots, cursor, groups, out, 8);
}

/* ---- encoding --------------------------------------------------------- */

static AVX512 size_t number(const uint8_t index[256], uint8_t escape,
                            uint8_t *symbols, size_t count, uint8_t *rares)
{
    table it;
    __m512i wanted = _mm512_set1_epi8((char)escape);
    size_t found = 0;

    for (int i = 0; i < 4; i++) it.part[i] = _mm512_loadu_si512(index + 64 * i);
    for (size_t i = 0; i < count; i += 64) {
        size_t some = count - i < 64 ? count - i : 64;
        __mmask64 there = some < 64 ? (1ull << some) - 1 : ~0ull;
        __m512i x = _mm512_maskz_loadu_epi8(there, symbols + i);
        __m512i made = look_up(&it, x, 8, ~(__mmask64)0);
        __mmask64 rare = _mm512_mask_cmpeq_epi8_mask(there, made, wanted);
        _mm512_mask_storeu_epi8(symbols + i, there, made);
        if (rare == 0) continue;
        _mm512_storeu_si512(rares + found, _mm512_maskz_compress_epi8(rare, x));
        found += (size_t)_mm_popcnt_u64(rare);
    }
    return found;
}

typedef struct {
    __m512i low, high; /* 64 numbers of 16 bits */
} pair;

INLINE pair load_pair(const uint16_t *numbers)
{
    return (pair){_mm512_load_si512(numbers),
                  _mm512_load_si512(numbers + 32)};
}

INLINE __m512i of_pair(const pair *it, __m512i index)
{
    return _mm512_permutex2var_epi16(it->low, index, it->high);
}

INLINE __m512i put(__m512i x, __m512i index, const pair *freqs,
                   const pair *inverses, const pair *starts, unsigned bits,
                   uint8_t **end)
{
    __m512i freq = of_pair(freqs, index), start = of_pair(starts, index);
    __m512i inverse = of_pair(inverses, index);
    __mmask32 spill =
        _mm512_cmpge_epu16_mask(x, _mm512_slli_epi16(freq, 16 - bits));
    unsigned count = (unsigned)_mm_popcnt_u32(spill);

    *end -= count;
    _mm256_mask_storeu_epi8(
        *end, (__mmask32)_bzhi_u32(~0u, count),
        _mm512_cvtepi16_epi8(_mm512_maskz_compress_epi16(spill, x)));
    x = _mm512_mask_srli_epi16(x, spill, x, 8);
    __m512i quotient = _mm512_mulhi_epu16(x, inverse);
    __m512i rest = _mm512_sub_epi16(x, _mm512_mullo_epi16(quotient, freq));
    __mmask32 more = _mm512_cmpge_epu16_mask(rest, freq);
    quotient = _mm512_mask_add_epi16(quotient, more, quotient,
                                     _mm512_set1_epi16(1));
    rest = _mm512_mask_sub_epi16(rest, more, rest, freq);
    return _mm512_add_epi16(_mm512_slli_epi16(quotient, bits),
                            _mm512_add_epi16(rest, start));
}

INLINE uint8_t *encode_with(const ts_rans_owners *owners,
                            const uint8_t *symbols, size_t groups,
                            uint16_t *states, uint8_t *end, unsigned bits)
{
    pair freqs = load_pair(owners->freq), starts = load_pair(owners->start);
    pair inverses = load_pair(owners->inverse);
    __m512i state[VECTORS];

    for (int v = 0; v < VECTORS; v++)
        state[v] = _mm512_loadu_si512(states + 32 * v);
    while (groups-- > 0) {
        const uint8_t *from = symbols + groups * TS_RANS_LANES;
#pragma GCC unroll 4
        for (int v = VECTORS - 1; v >= 0; v--) {
            __m512i index = _mm512_cvtepu8_epi16(
                _mm256_loadu_si256((const __m256i *)(from + 32 * v)));
            state[v] = put(state[v], index, &freqs, &inverses, &starts, bits,
                           &end);
        }
    }
    for (int v = 0; v < VECTORS; v++)
        _mm512_storeu_si512(states + 32 * v, state[v]);
    return end;
}

static AVX512 uint8_t *encode(const ts_rans_owners *owners,
                              const uint8_t *symbols, size_t groups,
                              uint16_t *state, uint8_t *end)
{
    if (owners->bits == 7)
        return encode_with(owners, symbols, groups, state, end, 7);
    return encode_with(owners, symbols, groups, state, end, 8);
}

const ts_rans ts_rans_avx512 = {decode, number, encode};

#else
typedef int ts_rans_avx512_is_for_x86;
#endif
