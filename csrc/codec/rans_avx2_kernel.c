#include "rans_kernel.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,bmi2,popcnt")))
#define INLINE static inline __attribute__((always_inline)) AVX2

/* No table of 128 bytes fits a register here.  Instead the owner of a slot is
 * the number of owners that begin at or below it, less one: few comparisons
 * for the few owners there are, 32 slots at a time.  What belongs to an owner
 * is then one shuffle away.  With more owners the plain loop is faster. */
enum { VECTORS = TS_RANS_LANES / 32, FEW = 16 };

/* How the next bytes spread over 8 lanes, by the mask of those that take one:
 * the number of the lane's byte, 0x80 (which shuffles to zero) for none. */
#define LANE(mask, k)                                                         \
    ((uint64_t)((mask) >> (k) & 1                                             \
                    ? __builtin_popcount((mask) & ((1 << (k)) - 1))           \
                    : 0x80)                                                   \
     << 8 * (k))
#define MASK(m)                                                               \
    (LANE(m, 0) | LANE(m, 1) | LANE(m, 2) | LANE(m, 3) | LANE(m, 4)           \
     | LANE(m, 5) | LANE(m, 6) | LANE(m, 7))
#define MASKS4(m) MASK(m), MASK((m) + 1), MASK((m) + 2), MASK((m) + 3)
#define MASKS16(m)                                                            \
    MASKS4(m), MASKS4((m) + 4), MASKS4((m) + 8), MASKS4((m) + 12)
#define MASKS64(m)                                                            \
    MASKS16(m), MASKS16((m) + 16), MASKS16((m) + 32), MASKS16((m) + 48)

static const uint64_t spread[256] = {MASKS64(0), MASKS64(64), MASKS64(128),
                                     MASKS64(192)};

typedef struct {
    __m256i symbol, freq, first; /* of the owners, in both halves */
    __m256i begin[FEW];          /* the first slot of each, in all bytes */
    unsigned owners;
} tables;

INLINE __m256i both_halves(const uint8_t bytes[16])
{
    return _mm256_broadcastsi128_si256(
        _mm_loadu_si128((const __m128i *)bytes));
}

INLINE void load_tables(const ts_rans_slots *slots, tables *out)
{
    uint8_t symbol[16] = {0}, freq[16] = {0}, first[16] = {0};

    out->owners = slots->owners;
    for (unsigned i = 0; i < slots->owners; i++) {
        symbol[i] = slots->owner[i];
        first[i] = slots->first[i];
        freq[i] = slots->freq[slots->first[i]];
        /* greater-than, so one less; signed, so shifted by half the range */
        out->begin[i] = _mm256_set1_epi8((char)(first[i] - 1 - 128));
    }
    out->symbol = both_halves(symbol);
    out->freq = both_halves(freq);
    out->first = both_halves(first);
}

/* 16 states after freq and bias: those below 256 take the next byte. */
INLINE __m256i renewed(__m256i x, const uint8_t **at)
{
    __m256i high = _mm256_srli_epi16(x, 8);
    __m256i low = _mm256_cmpeq_epi16(high, _mm256_setzero_si256());
    /* one byte a lane, in order */
    __m128i packed = _mm_packs_epi16(_mm256_castsi256_si128(low),
                                     _mm256_extracti128_si256(low, 1));
    unsigned mask = (unsigned)_mm_movemask_epi8(packed);
    unsigned first = mask & 255, second = mask >> 8;
    const uint8_t *middle = *at + _mm_popcnt_u32(first);
    __m128i a = _mm_shuffle_epi8(
        _mm_loadl_epi64((const __m128i *)*at),
        _mm_cvtsi64_si128((long long)spread[first]));
    __m128i b = _mm_shuffle_epi8(
        _mm_loadl_epi64((const __m128i *)middle),
        _mm_cvtsi64_si128((long long)spread[second]));

    *at = middle + _mm_popcnt_u32(second);
    __m256i next = _mm256_cvtepu8_epi16(_mm_unpacklo_epi64(a, b));
    __m256i moved = _mm256_blendv_epi8(x, _mm256_slli_epi16(x, 8), low);
    return _mm256_or_si256(moved, next);
}

/* 16-bit lanes whose bytes are those of the low or high half of each 128-bit
 * lane: the inverse of what packus does, so that order is kept. */
INLINE __m256i half(__m256i bytes, int upper)
{
    __m256i zero = _mm256_setzero_si256();
    return upper ? _mm256_unpackhi_epi8(bytes, zero)
                 : _mm256_unpacklo_epi8(bytes, zero);
}

INLINE __m256i advance(__m256i x, __m256i freq, __m256i bias, int bits)
{
    return _mm256_add_epi16(
        _mm256_mullo_epi16(freq, _mm256_srli_epi16(x, bits)), bias);
}

/* 32 states in the order that packus leaves: lanes 0-7, 16-23 and 8-15, 24-31.
 * Returns their symbols in that order. */
INLINE __m256i step(__m256i *a, __m256i *b, const tables *with, int bits)
{
    __m256i mask = _mm256_set1_epi16((short)((1 << bits) - 1));
    __m256i slot = _mm256_packus_epi16(_mm256_and_si256(*a, mask),
                                       _mm256_and_si256(*b, mask));
    __m256i shifted = _mm256_xor_si256(slot, _mm256_set1_epi8((char)0x80));
    __m256i owner = _mm256_setzero_si256();

    for (unsigned i = 1; i < with->owners; i++)
        owner = _mm256_sub_epi8(owner,
                                _mm256_cmpgt_epi8(shifted, with->begin[i]));
    __m256i freq = _mm256_shuffle_epi8(with->freq, owner);
    __m256i bias =
        _mm256_sub_epi8(slot, _mm256_shuffle_epi8(with->first, owner));
    *a = advance(*a, half(freq, 0), half(bias, 0), bits);
    *b = advance(*b, half(freq, 1), half(bias, 1), bits);
    return _mm256_shuffle_epi8(with->symbol, owner);
}

/* Lanes 0-7, 16-23 | 8-15, 24-31 and back: swaps the two middle quarters. */
INLINE __m256i in_order(__m256i x)
{
    return _mm256_permute4x64_epi64(x, 0xD8);
}

/* The symbols of ESC, one after the other: there are few. */
INLINE const uint8_t *put_rares(uint8_t *out, uint32_t rares,
                                const uint8_t *rare)
{
    for (; rares != 0; rares &= rares - 1)
        out[__builtin_ctz(rares)] = *rare++;
    return rare;
}

INLINE size_t decode_with(const ts_rans_slots *slots, ts_rans_cursor *cursor,
                          size_t groups, uint8_t *out, int bits)
{
    __m256i escape = _mm256_set1_epi8((char)slots->escape);
    const uint8_t *at = cursor->at, *rare = cursor->rare;
    __m256i state[2 * VECTORS];
    size_t done = 0;
    tables with;

    load_tables(slots, &with);
    for (int v = 0; v < 2 * VECTORS; v++)
        state[v] = _mm256_loadu_si256((__m256i *)(cursor->state + 16 * v));
    for (; done < groups; done++) {
        if (at > cursor->safe || rare > cursor->rares) break;
        for (int v = 0; v < 2 * VECTORS; v += 2, out += 32) {
            __m256i symbols =
                in_order(step(&state[v], &state[v + 1], &with, bits));
            state[v] = renewed(state[v], &at);
            state[v + 1] = renewed(state[v + 1], &at);
            _mm256_storeu_si256((__m256i *)out, symbols);
            rare = put_rares(out,
                             (uint32_t)_mm256_movemask_epi8(
                                 _mm256_cmpeq_epi8(symbols, escape)),
                             rare);
        }
    }
    for (int v = 0; v < 2 * VECTORS; v++)
        _mm256_storeu_si256((__m256i *)(cursor->state + 16 * v), state[v]);
    cursor->at = at;
    cursor->rare = rare;
    return done;
}

static AVX2 size_t decode(const ts_rans_slots *slots, ts_rans_cursor *cursor,
                          size_t groups, uint8_t *out)
{
    if (slots->owners > FEW || slots->owners == 0)
        return ts_rans_scalar.decode(slots, cursor, groups, out);
    if (slots->bits == 7) return decode_with(slots, cursor, groups, out, 7);
    return decode_with(slots, cursor, groups, out, 8);
}

static uint8_t *encode(const ts_rans_owners *owners, const uint8_t *symbols,
                       size_t groups, uint16_t *state, uint8_t *end,
                       uint8_t **rares)
{
    return ts_rans_scalar.encode(owners, symbols, groups, state, end, rares);
}

const ts_rans ts_rans_avx2 = {decode, NULL, encode};

#else
typedef int ts_rans_avx2_is_for_x86;
#endif
