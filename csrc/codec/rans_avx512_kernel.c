#include "rans_kernel.h"

#if defined(__x86_64__)

#include "planes_avx512.h"

enum { VECTORS = TS_RANS_STREAMS, AHEAD = 2048, LINE = 64 };

INLINE const uint8_t *fetch(const uint8_t *at, unsigned lines)
{
    for (unsigned i = 0; i < lines; i++, at += 64)
        _mm_prefetch((const char *)at, _MM_HINT_T1);
    return at;
}

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

/* Each byte's low 7 or 8 bits looked up; where `keep` is 0, 0. */
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

/* The registers of a decoder between two groups. */
typedef struct {
    table symbol, freq, bias;
    __m512i escape, state[VECTORS];
    const uint8_t *at[VECTORS], *rare;
} decoder;

INLINE void use_table(decoder *it, const ts_rans_slots *slots)
{
    it->symbol = load_table(slots->symbol);
    it->freq = load_table(slots->freq);
    it->bias = load_table(slots->bias);
    it->escape = _mm512_set1_epi8((char)slots->escape);
}

INLINE void begin(decoder *it, const ts_rans_cursor *cursor)
{
    it->rare = cursor->rare;
    for (int v = 0; v < VECTORS; v++) {
        it->state[v] = _mm512_load_si512(cursor->state + 32 * v);
        it->at[v] = cursor->at[v];
        for (int i = 0; i < 4; i++) /* what a span will take of it */
            _mm_prefetch((const char *)cursor->at[v] + AHEAD / 4 + LINE * i,
                         _MM_HINT_T0);
    }
}

INLINE void end(const decoder *it, ts_rans_cursor *cursor, size_t groups)
{
    for (int v = 0; v < VECTORS; v++) {
        _mm512_store_si512(cursor->state + 32 * v, it->state[v]);
        cursor->at[v] = it->at[v];
    }
    cursor->rare = it->rare;
    cursor->group += groups;
}

/* One step of 32 states.  A state below 256 moves up by a byte: the next ones
 * of the stream are spread over the upper halves of those lanes, from where a
 * double shift takes them. */
INLINE void step(decoder *it, int v, unsigned bits)
{
    const __mmask64 even = 0x5555555555555555u;
    __m512i x = it->state[v];
    __m512i f = look_up(&it->freq, x, bits, even);
    __m512i b = look_up(&it->bias, x, bits, even);

    x = _mm512_add_epi16(_mm512_mullo_epi16(f, _mm512_srli_epi16(x, bits)), b);
    __mmask32 renew = _mm512_cmplt_epu16_mask(x, _mm512_set1_epi16(256));
    __mmask64 upper = _mm512_mask_testn_epi8_mask(
        ~even, x, _mm512_set1_epi8((char)0xFF));
    /* what the other bytes hold does not matter, and zeroing them costs */
    __m512i next = _mm512_mask_expand_epi8(
        b, upper,
        _mm512_castsi256_si512(
            _mm256_loadu_si256((const __m256i *)it->at[v])));

    it->at[v] += (unsigned)_mm_popcnt_u32(renew);
    it->state[v] = _mm512_mask_shldi_epi16(x, renew, x, next, 8);
}

/* 64 symbols: the even ones of stream v, the odd ones of v + 1; those of ESC
 * replaced. */
INLINE __m512i next64(decoder *it, int v, unsigned bits)
{
    __m512i odd = _mm512_slli_epi16(it->state[v + 1], 8);
    __m512i both = _mm512_ternarylogic_epi32(_mm512_set1_epi16(0xFF),
                                             it->state[v], odd, 0xCA);
    both = look_up(&it->symbol, both, bits, ~(__mmask64)0);
    __mmask64 rares = _mm512_cmpeq_epi8_mask(both, it->escape);
    __m512i listed = _mm512_loadu_si512(it->rare);

    step(it, v, bits);
    step(it, v + 1, bits);
    it->rare += (size_t)_mm_popcnt_u64(rares);
    return _mm512_mask_expand_epi8(both, rares, listed);
}

INLINE size_t decode_with(const ts_rans_tables *tables, ts_rans_cursor *cursor,
                          size_t groups, uint8_t *out, unsigned bits)
{
    size_t done = 0, some;
    decoder it;

    while ((some = ts_rans_ready(cursor, groups - done)) > 0) {
        begin(&it, cursor);
        use_table(&it, ts_rans_table(tables, cursor));
        for (size_t i = 0; i < some; i++, out += TS_RANS_LANES) {
            _mm512_storeu_si512(out, next64(&it, 0, bits));
            _mm512_storeu_si512(out + 64, next64(&it, 2, bits));
        }
        end(&it, cursor, some);
        done += some;
    }
    return done;
}

static AVX512 size_t decode(const ts_rans_tables *tables,
                            ts_rans_cursor *cursor, size_t groups,
                            uint8_t *out)
{
    if (tables->bits == 7) return decode_with(tables, cursor, groups, out, 7);
    return decode_with(tables, cursor, groups, out, 8);
}

/* ---- decoding to elements --------------------------------------------- */

/* What does not change while elements are put together.  Symbols come out of
 * their table where they belong in the top byte, single bytes rotated back
 * already; so do the bits below, of up to 6 of which a look-up takes care. */
typedef struct {
    spreading cut;
    __m512i below;
    const uint8_t *plane[4], *lower, *ahead;
    uint8_t *out;
    unsigned low, lines;
} merging;

/* A top byte's upper bits (or its lower, with low 0) in their place. */
INLINE __m512i placed(__m512i x, unsigned low, bool turned)
{
    __m512i kept = _mm512_and_si512(x, _mm512_set1_epi8((char)(0xFF >> low)));
    __m512i moved = _mm512_sll_epi16(kept, _mm_cvtsi32_si128((int)low));
    return turned ? rotated8(moved, 7) : moved;
}

INLINE merging begin_merging(const ts_rans_sink *sink, bool turned)
{
    __m512i mask = _mm512_set1_epi8((char)((1 << sink->low) - 1));
    merging it = {.lower = sink->lower,
                  .ahead = sink->ahead.at,
                  .out = sink->out,
                  .cut = spreading_of(sink->low),
                  .low = sink->low,
                  .lines = sink->ahead.at != NULL ? sink->ahead.lines : 0};

    it.below = placed(_mm512_and_si512(count8(), mask), 0, turned);
    for (int k = 0; k < 4; k++) it.plane[k] = sink->plane[k];
    return it;
}

/* ESC gets a byte that no placed symbol is: one with a lower bit. */
INLINE void place_symbols(decoder *it, unsigned low, bool turned)
{
    __m512i escape = it->escape;

    it->escape = placed(low > 0 ? _mm512_set1_epi8(1) : escape, 0, turned);
    for (int i = 0; i < 4; i++) {
        __mmask64 rare = _mm512_cmpeq_epi8_mask(it->symbol.part[i], escape);
        it->symbol.part[i] =
            _mm512_mask_mov_epi8(placed(it->symbol.part[i], low, turned), rare,
                                 it->escape);
    }
}

INLINE void merge_group(decoder *it, merging *to, unsigned bits,
                        unsigned width, bool rotated, bool bypass)
{
    to->ahead = fetch(to->ahead, to->lines);
#pragma GCC unroll 2
    for (int v = 0; v < VECTORS; v += 2) {
        __m512i top = next64(it, v, bits);
        if (to->low > 0) {
            __m512i below = spread_raw(&to->cut, to->lower);
            top = _mm512_or_si512(
                top, _mm512_permutexvar_epi8(below, to->below));
            to->lower += 8 * to->low;
        }
        for (unsigned k = 1; k < width; k++)
            _mm_prefetch((const char *)to->plane[k] + AHEAD, _MM_HINT_T0);
        put64(top, to->plane, 0, width, rotated && width > 1, to->out, bypass);
        for (unsigned k = 1; k < width; k++) to->plane[k] += 64;
        to->out += 64 * width;
    }
}

INLINE size_t into_with(const ts_rans_tables *tables, ts_rans_cursor *cursor,
                        size_t groups, const ts_rans_sink *sink, unsigned bits,
                        unsigned width, bool rotated, bool bypass)
{
    bool turned = rotated && width == 1;
    merging to = begin_merging(sink, turned);
    size_t done = 0, some;
    decoder it;

    while ((some = ts_rans_ready(cursor, groups - done)) > 0) {
        begin(&it, cursor);
        use_table(&it, ts_rans_table(tables, cursor));
        place_symbols(&it, sink->low, turned);
        for (size_t i = 0; i < some; i++)
            merge_group(&it, &to, bits, width, rotated, bypass);
        end(&it, cursor, some);
        done += some;
    }
    return done;
}

INLINE size_t into_how(const ts_rans_tables *tables, ts_rans_cursor *cursor,
                       size_t groups, const ts_rans_sink *sink, unsigned bits,
                       unsigned width)
{
    bool bypass = sink->bypass && ((uintptr_t)sink->out & 63) == 0;

    if (!sink->rotated)
        return into_with(tables, cursor, groups, sink, bits, width, false,
                         false);
    if (bypass)
        return into_with(tables, cursor, groups, sink, bits, width, true,
                         true);
    return into_with(tables, cursor, groups, sink, bits, width, true, false);
}

INLINE size_t into_bits(const ts_rans_tables *tables, ts_rans_cursor *cursor,
                        size_t groups, const ts_rans_sink *sink, unsigned bits)
{
    switch (sink->width) {
    case 1: return into_how(tables, cursor, groups, sink, bits, 1);
    case 2: return into_how(tables, cursor, groups, sink, bits, 2);
    default: return into_how(tables, cursor, groups, sink, bits, 4);
    }
}

static AVX512 size_t decode_into(const ts_rans_tables *tables,
                                 ts_rans_cursor *cursor, size_t groups,
                                 ts_rans_sink *sink)
{
    size_t done = tables->bits == 7
                      ? into_bits(tables, cursor, groups, sink, 7)
                      : into_bits(tables, cursor, groups, sink, 8);

    for (unsigned k = 1; k < sink->width; k++)
        sink->plane[k] += done * TS_RANS_LANES;
    if (sink->low > 0) sink->lower += done * (TS_RANS_LANES / 8) * sink->low;
    sink->out += done * TS_RANS_LANES * sink->width;
    return done;
}

/* ---- encoding --------------------------------------------------------- */

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

/* The owners of 64 symbols; rare ones go in front of those found before. */
INLINE __m512i owners_of(__m512i symbols, const table *owner, __m512i escape,
                         uint8_t **rares)
{
    __m512i found = look_up(owner, symbols, 8, ~(__mmask64)0);
    __mmask64 rare = _mm512_cmpeq_epi8_mask(found, escape);
    unsigned count = (unsigned)_mm_popcnt_u64(rare);

    *rares -= count;
    _mm512_mask_storeu_epi8(*rares, _bzhi_u64(~0ull, count),
                            _mm512_maskz_compress_epi8(rare, symbols));
    return found;
}

INLINE void encode_with(const ts_rans_owners *owners, const uint8_t *symbols,
                        size_t groups, ts_rans_press *press, unsigned bits)
{
    pair freqs = load_pair(owners->freq), starts = load_pair(owners->start);
    pair inverses = load_pair(owners->inverse);
    table owner = load_table(owners->owner);
    __m512i escape = _mm512_set1_epi8((char)owners->escape);
    __m512i low = _mm512_set1_epi16(0xFF), state[VECTORS];
    const uint8_t *ahead = press->ahead.at;
    unsigned lines = ahead != NULL ? press->ahead.lines : 0;
    uint8_t *rare = press->rare, *end[VECTORS];

    for (int v = 0; v < VECTORS; v++) {
        state[v] = _mm512_load_si512(press->state + 32 * v);
        end[v] = press->end[v];
    }
    while (groups-- > 0) {
        const uint8_t *from = symbols + groups * TS_RANS_LANES;
        ahead = fetch(ahead, lines);
#pragma GCC unroll 2
        for (int v = VECTORS - 2; v >= 0; v -= 2) {
            __m512i index = owners_of(_mm512_loadu_si512(from + 32 * v),
                                      &owner, escape, &rare);
            state[v + 1] = put(state[v + 1], _mm512_srli_epi16(index, 8),
                               &freqs, &inverses, &starts, bits, &end[v + 1]);
            state[v] = put(state[v], _mm512_and_si512(index, low), &freqs,
                           &inverses, &starts, bits, &end[v]);
        }
    }
    for (int v = 0; v < VECTORS; v++) {
        _mm512_store_si512(press->state + 32 * v, state[v]);
        press->end[v] = end[v];
    }
    press->rare = rare;
    if (ahead != NULL) press->ahead.at = ahead;
}

static AVX512 void encode(const ts_rans_owners *owners, const uint8_t *symbols,
                          size_t groups, ts_rans_press *press)
{
    if (owners->bits == 7)
        encode_with(owners, symbols, groups, press, 7);
    else
        encode_with(owners, symbols, groups, press, 8);
}

const ts_rans ts_rans_avx512 = {decode, decode_into, encode};

#else
typedef int ts_rans_avx512_is_for_x86;
#endif
