#include "rans_kernel.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,bmi,bmi2,popcnt")))
#define INLINE static inline __attribute__((always_inline)) AVX2

/* No table of 128 bytes fits a register here.  Of the few owners that most
 * tables have, that of a slot is the number of those that begin at or below
 * it, less one: 64 slots at a time, what belongs to an owner is then one
 * shuffle away.  With more owners a look-up is eight shuffles, of which the
 * upper bits of the slot choose one. */
enum { FEW = 16, PARTS = 8, HALVES = 2 };

/* How the next bytes spread over 8 lanes of 16 bits, by the mask of those that
 * take one: the number of the lane's byte, 0x80 (which shuffles to zero) for
 * none and for the upper half. */
#define TAKES(m, k)                                                           \
    ((uint64_t)((m) >> (k) & 1                                                \
                    ? 0x8000 + __builtin_popcount((m) & ((1 << (k)) - 1))     \
                    : 0x8080)                                                 \
     << 16 * ((k) % 4))
#define MASK(m)                                                               \
    {TAKES(m, 0) | TAKES(m, 1) | TAKES(m, 2) | TAKES(m, 3),                   \
     TAKES(m, 4) | TAKES(m, 5) | TAKES(m, 6) | TAKES(m, 7)}
#define MASKS4(m) MASK(m), MASK((m) + 1), MASK((m) + 2), MASK((m) + 3)
#define MASKS16(m)                                                            \
    MASKS4(m), MASKS4((m) + 4), MASKS4((m) + 8), MASKS4((m) + 12)
#define MASKS64(m)                                                            \
    MASKS16(m), MASKS16((m) + 16), MASKS16((m) + 32), MASKS16((m) + 48)

_Alignas(64) static const uint64_t spread[256][2] = {
    MASKS64(0), MASKS64(64), MASKS64(128), MASKS64(192)};

typedef struct {
    __m256i part[PARTS]; /* 16 entries each, in both halves */
} table;

typedef struct {
    __m256i symbol, freq, first; /* of few owners, in both halves */
    __m256i begin[FEW];          /* the first slot of each, in all bytes */
    unsigned owners;
    table symbols, freqs, biases; /* of more: by the slot */
} loaded;

/* Those of one stream: lanes 0 to 15, 16 to 31. */
typedef struct {
    __m256i x[HALVES];
} states;

INLINE __m256i both_halves(const uint8_t bytes[16])
{
    return _mm256_broadcastsi128_si256(
        _mm_loadu_si128((const __m128i *)bytes));
}

INLINE void load_few(const ts_rans_slots *slots, int bits, loaded *out)
{
    uint8_t symbol[16] = {0}, freq[16] = {0}, first[16] = {0};

    out->owners = slots->owners;
    for (unsigned i = 0; i < slots->owners; i++) {
        symbol[i] = slots->owner[i];
        first[i] = slots->first[i];
        freq[i] = slots->freq[slots->first[i]];
        /* greater-than, so one less; signed, so 256 are moved down */
        out->begin[i] = _mm256_set1_epi8(
            (char)(first[i] - 1 - (bits == 8 ? 128 : 0)));
    }
    out->symbol = both_halves(symbol);
    out->freq = both_halves(freq);
    out->first = both_halves(first);
}

INLINE table load_table(const uint8_t *bytes)
{
    table it;
    for (int i = 0; i < PARTS; i++) it.part[i] = both_halves(bytes + 16 * i);
    return it;
}

INLINE void load_many(const ts_rans_slots *slots, loaded *out)
{
    out->symbols = load_table(slots->symbol);
    out->freqs = load_table(slots->freq);
    out->biases = load_table(slots->bias);
}

/* ---- slots ------------------------------------------------------------ */

typedef struct {
    __m256i symbol, freq, bias; /* of 32 slots */
} found;

/* 64 slots at a time, so that each comparand is loaded once for two. */
INLINE void find_few(const loaded *with, const __m256i *slot, int bits,
                     found *out)
{
    __m256i top = _mm256_set1_epi8((char)(bits == 8 ? 0x80 : 0));
    __m256i a = _mm256_xor_si256(slot[0], top);
    __m256i b = _mm256_xor_si256(slot[1], top);
    __m256i owner[HALVES] = {_mm256_setzero_si256(), _mm256_setzero_si256()};

    for (unsigned i = 1; i < with->owners; i++) {
        __m256i begin = with->begin[i];
        owner[0] = _mm256_sub_epi8(owner[0], _mm256_cmpgt_epi8(a, begin));
        owner[1] = _mm256_sub_epi8(owner[1], _mm256_cmpgt_epi8(b, begin));
    }
    for (int h = 0; h < HALVES; h++) {
        __m256i first = _mm256_shuffle_epi8(with->first, owner[h]);
        out[h].symbol = _mm256_shuffle_epi8(with->symbol, owner[h]);
        out[h].freq = _mm256_shuffle_epi8(with->freq, owner[h]);
        out[h].bias = _mm256_sub_epi8(slot[h], first);
    }
}

/* Bits 4, 5 and 6 of each slot, where a blend looks: at bit 7. */
typedef struct {
    __m256i bit4, bit5, bit6;
} chosen;

INLINE __m256i look_up(const table *it, __m256i slot, chosen by)
{
    __m256i part[PARTS];

    for (int i = 0; i < PARTS; i++)
        part[i] = _mm256_shuffle_epi8(it->part[i], slot);
    for (int i = 0; i < 4; i++)
        part[i] = _mm256_blendv_epi8(part[2 * i], part[2 * i + 1], by.bit4);
    for (int i = 0; i < 2; i++)
        part[i] = _mm256_blendv_epi8(part[2 * i], part[2 * i + 1], by.bit5);
    return _mm256_blendv_epi8(part[0], part[1], by.bit6);
}

INLINE void find_many(const loaded *with, const __m256i *slot, found *out)
{
    for (int h = 0; h < HALVES; h++) {
        chosen by = {_mm256_slli_epi16(slot[h], 3),
                     _mm256_slli_epi16(slot[h], 2),
                     _mm256_slli_epi16(slot[h], 1)};
        out[h].symbol = look_up(&with->symbols, slot[h], by);
        out[h].freq = look_up(&with->freqs, slot[h], by);
        out[h].bias = look_up(&with->biases, slot[h], by);
    }
}

/* ---- states ----------------------------------------------------------- */

INLINE __m256i advance(__m256i x, __m256i freq, __m256i bias, int bits)
{
    return _mm256_add_epi16(
        _mm256_mullo_epi16(freq, _mm256_srli_epi16(x, bits)), bias);
}

/* The next bytes for 8 lanes. */
INLINE __m128i next8(const uint8_t **at, unsigned mask)
{
    __m128i bytes = _mm_loadl_epi64((const __m128i *)*at);
    *at += _mm_popcnt_u32(mask);
    return _mm_shuffle_epi8(bytes,
                            _mm_load_si128((const __m128i *)spread[mask]));
}

INLINE __m256i renewed16(__m256i x, __m256i low, unsigned first,
                         unsigned second, const uint8_t **at)
{
    __m128i a = next8(at, first), b = next8(at, second);
    __m256i next =
        _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
    __m256i moved = _mm256_blendv_epi8(x, _mm256_slli_epi16(x, 8), low);
    return _mm256_or_si256(moved, next);
}

/* Those below 256 take the next byte. */
INLINE void renew(states *it, const uint8_t **at)
{
    __m256i zero = _mm256_setzero_si256(), low[HALVES];

    for (int h = 0; h < HALVES; h++)
        low[h] = _mm256_cmpeq_epi16(_mm256_srli_epi16(it->x[h], 8), zero);
    /* lanes 0-7, 16-23, 8-15, 24-31 */
    uint32_t mask = (uint32_t)_mm256_movemask_epi8(
        _mm256_packs_epi16(low[0], low[1]));
    it->x[0] =
        renewed16(it->x[0], low[0], mask & 255, mask >> 16 & 255, at);
    it->x[1] = renewed16(it->x[1], low[1], mask >> 8 & 255, mask >> 24, at);
}

/* 64 symbols, the even ones of stream a, the odd ones of b. */
INLINE void next64(states *a, states *b, const uint8_t **at_a,
                   const uint8_t **at_b, const loaded *with, int bits,
                   bool few, __m256i *symbols)
{
    __m256i low = _mm256_set1_epi16(0xFF), slot[HALVES];
    __m256i mask = _mm256_set1_epi8((char)((1 << bits) - 1));
    found of[HALVES];

    for (int h = 0; h < HALVES; h++)
        slot[h] = _mm256_and_si256(
            mask, _mm256_or_si256(_mm256_and_si256(a->x[h], low),
                                  _mm256_slli_epi16(b->x[h], 8)));
    if (few)
        find_few(with, slot, bits, of);
    else
        find_many(with, slot, of);
    for (int h = 0; h < HALVES; h++) {
        a->x[h] = advance(a->x[h], _mm256_and_si256(of[h].freq, low),
                          _mm256_and_si256(of[h].bias, low), bits);
        b->x[h] = advance(b->x[h], _mm256_srli_epi16(of[h].freq, 8),
                          _mm256_srli_epi16(of[h].bias, 8), bits);
        symbols[h] = of[h].symbol;
    }
    renew(a, at_a);
    renew(b, at_b);
}

/* The symbols of ESC among 64: mostly none or one, which needs no branch. */
INLINE const uint8_t *put_rares(uint8_t *out, uint64_t rares,
                                const uint8_t *rare)
{
    uint8_t none;
    uint8_t *first = rares != 0 ? out + _tzcnt_u64(rares) : &none;

    *first = *rare;
    rare += rares != 0;
    for (rares = _blsr_u64(rares); rares != 0; rares = _blsr_u64(rares))
        out[_tzcnt_u64(rares)] = *rare++;
    return rare;
}

INLINE void store64(uint8_t *out, const __m256i *symbols, __m256i escape,
                    const uint8_t **rare)
{
    uint64_t rares = 0;

    for (int h = 0; h < HALVES; h++) {
        _mm256_storeu_si256((__m256i *)(out + 32 * h), symbols[h]);
        uint32_t mask = (uint32_t)_mm256_movemask_epi8(
            _mm256_cmpeq_epi8(symbols[h], escape));
        rares |= (uint64_t)mask << 32 * h;
    }
    *rare = put_rares(out, rares, *rare);
}

/* ---- decoding --------------------------------------------------------- */

INLINE void run(const ts_rans_slots *slots, ts_rans_cursor *cursor,
                size_t groups, uint8_t *out, int bits, bool few)
{
    __m256i escape = _mm256_set1_epi8((char)slots->escape), symbols[HALVES];
    const uint8_t *rare = cursor->rare, *at[TS_RANS_STREAMS];
    states state[TS_RANS_STREAMS];
    loaded with;

    if (few)
        load_few(slots, bits, &with);
    else
        load_many(slots, &with);
    for (int k = 0; k < TS_RANS_STREAMS; k++) {
        const __m256i *from = (const __m256i *)(cursor->state + 32 * k);
        at[k] = cursor->at[k];
        for (int h = 0; h < HALVES; h++)
            state[k].x[h] = _mm256_load_si256(from + h);
    }
    for (; groups > 0; groups--)
        for (int k = 0; k < TS_RANS_STREAMS; k += 2, out += 64) {
            next64(&state[k], &state[k + 1], &at[k], &at[k + 1], &with, bits,
                   few, symbols);
            store64(out, symbols, escape, &rare);
        }
    for (int k = 0; k < TS_RANS_STREAMS; k++) {
        __m256i *to = (__m256i *)(cursor->state + 32 * k);
        cursor->at[k] = at[k];
        for (int h = 0; h < HALVES; h++)
            _mm256_store_si256(to + h, state[k].x[h]);
    }
    cursor->rare = rare;
}

/* A table at a time; what has too many owners for 256 slots goes the plain
 * way. */
static AVX2 size_t decode(const ts_rans_tables *tables, ts_rans_cursor *cursor,
                          size_t groups, uint8_t *out)
{
    size_t done = 0, some;

    while ((some = ts_rans_ready(cursor, groups - done)) > 0) {
        const ts_rans_slots *slots = ts_rans_table(tables, cursor);
        uint8_t *to = out + done * TS_RANS_LANES;
        done += some;
        if (slots->owners > FEW && tables->bits == 8) {
            ts_rans_scalar.decode(tables, cursor, some, to);
            continue;
        }
        if (tables->bits == 8)
            run(slots, cursor, some, to, 8, true);
        else if (slots->owners <= FEW)
            run(slots, cursor, some, to, 7, true);
        else
            run(slots, cursor, some, to, 7, false);
        cursor->group += some;
    }
    return done;
}

static void encode(const ts_rans_owners *owners, const uint8_t *symbols,
                   size_t groups, ts_rans_press *press)
{
    ts_rans_scalar.encode(owners, symbols, groups, press);
}

const ts_rans ts_rans_avx2 = {decode, NULL, encode};

#else
typedef int ts_rans_avx2_is_for_x86;
#endif
