#include "check.h"

#include "codec/planes_kernel.h"
#include "codec/rans.h"
#include "core/cpu.h"

/* Every path against the scalar definition, on every tail length. */

enum { MOST = 400, ROOM = 8 * MOST + 64 };
static uint8_t bytes[ROOM];

static void fill(uint64_t seed)
{
    uint64_t x = seed;
    for (size_t i = 0; i < ROOM; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        bytes[i] = (uint8_t)(x >> 56);
    }
}

/* The paths that this machine has, without the definition. */
static size_t paths(const ts_planes **planes, const ts_rans **rans)
{
    size_t count = 0;
#if defined(__x86_64__)
    if (ts_cpu_simd() >= TS_SIMD_AVX2) {
        planes[count] = &ts_planes_avx2;
        rans[count++] = &ts_rans_avx2;
    }
    if (ts_cpu_simd() >= TS_SIMD_AVX512) {
        planes[count] = &ts_planes_avx512;
        rans[count++] = &ts_rans_avx512;
    }
#else
    (void)planes;
    (void)rans;
#endif
    return count;
}

static bool untouched(const uint8_t *from, const uint8_t *end)
{
    for (; from < end; from++)
        if (*from != 0xA5) return false;
    return true;
}

static void check_split(const ts_planes *with, size_t count, unsigned width,
                        bool rotated)
{
    static uint8_t want[8][MOST + 1], made[8][MOST + 1];
    _Alignas(64) static uint8_t back[ROOM];
    uint8_t *wanted[8], *splitted[8];
    const uint8_t *planes[8];

    memset(made, 0xA5, sizeof made);
    for (unsigned k = 0; k < 8; k++) {
        wanted[k] = want[k];
        splitted[k] = made[k];
        planes[k] = made[k];
    }
    ts_planes_scalar.split(bytes, count, width, rotated, wanted);
    with->split(bytes, count, width, rotated, splitted);
    for (unsigned k = 0; k < width; k++) {
        CHECK(memcmp(want[k], made[k], count) == 0, "%zu x %u", count, width);
        CHECK(untouched(made[k] + count, made[k] + MOST + 1));
    }
    for (int bypass = 0; bypass < 2; bypass++) {
        memset(back, 0xA5, sizeof back);
        with->merge(planes, count, width, rotated, back, bypass != 0);
        CHECK(memcmp(back, bytes, count * width) == 0, "%zu x %u", count,
              width);
        CHECK(untouched(back + count * width, back + ROOM));
    }
}

static void check_bits(const ts_planes *with, size_t count, unsigned bits)
{
    static uint8_t upper[MOST + 1], lower[MOST + 1], packed[MOST + 1];
    static uint8_t want[MOST + 1], back[MOST + 1];
    size_t size = (count * bits + 7) / 8;

    memset(upper, 0xA5, sizeof upper);
    memset(lower, 0xA5, sizeof lower);
    memset(packed, 0xA5, sizeof packed);
    memset(back, 0xA5, sizeof back);
    with->cut(bytes, count, bits, upper, lower);
    for (size_t i = 0; i < count; i++)
        CHECK(upper[i] == bytes[i] >> bits
              && lower[i] == (bytes[i] & ((1u << bits) - 1)));
    CHECK(untouched(upper + count, upper + MOST + 1));
    ts_planes_scalar.pack(lower, count, bits, want);
    with->pack(lower, count, bits, packed);
    CHECK(memcmp(want, packed, size) == 0, "%zu of %u bits", count, bits);
    CHECK(untouched(packed + size, packed + MOST + 1));
    uint8_t *tight = malloc(size + 1);
    memcpy(tight, packed, size);
    with->unpack(tight, count, bits, back);
    CHECK(memcmp(back, lower, count) == 0, "%zu of %u bits", count, bits);
    CHECK(untouched(back + count, back + MOST + 1));
    with->join(upper, back, count, bits, back);
    CHECK(memcmp(back, bytes, count) == 0);
    CHECK(untouched(back + count, back + MOST + 1));
    free(tight);
}

static void planes_on_every_path(void)
{
    const ts_planes *all[3] = {&ts_planes_scalar};
    const ts_rans *unused[2];
    size_t count = 1 + paths(all + 1, unused);

    fill(1);
    for (size_t path = 0; path < count; path++)
        for (size_t n = 0; n <= 264; n++) {
            for (unsigned width = 1; width <= 8; width *= 2)
                for (int rotated = 0; rotated < 2; rotated++)
                    check_split(all[path], n, width, rotated != 0);
            for (unsigned bits = 1; bits < 8; bits++)
                check_bits(all[path], n, bits);
        }
}

/* ---- rANS ------------------------------------------------------------- */

enum { SYMBOLS = 20000 };

/* Symbols of `kinds` kinds, each half as frequent as the one before, with a
 * few of any kind between. */
static void draw_symbols(uint8_t *out, size_t count, unsigned kinds,
                         unsigned mask)
{
    uint64_t x = 7 + kinds;
    for (size_t i = 0; i < count; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        unsigned draw = (unsigned)(x >> 40) | 1u << 20;
        unsigned kind = (unsigned)__builtin_ctz(draw) % kinds;
        out[i] = (uint8_t)((kind * 37 + 5) & mask);
        if ((x >> 33) % 200 == 0) out[i] = (uint8_t)(x >> 50 & mask);
    }
}

/* The plan of a plane, from all of it or from a sixteenth; number takes a byte
 * a span. */
static bool plan_of(const uint8_t *symbols, size_t count, unsigned bits,
                    bool whole, uint8_t *number, ts_rans_plan *out)
{
    static uint64_t room[SYMBOLS / TS_SPAN * 2 + 16];
    ts_classes classes;

    ts_classes_find(symbols, count, whole ? TS_SAMPLE_RUN : 1024, room,
                    &classes);
    return ts_rans_plan_make(&classes, 0, bits, count, number, out)
        != UINT32_MAX;
}

/* A stream that just fits its memory, read in two parts. */
static unsigned check_stream(const uint8_t *symbols, size_t count,
                             unsigned bits, unsigned width, bool whole)
{
    static uint8_t spare[2 * SYMBOLS + 1024], out[2 * SYMBOLS + 4096];
    static uint8_t back[SYMBOLS + 128];
    uint8_t number[SYMBOLS / TS_SPAN + 1];
    const ts_planes *with = &ts_planes_scalar;
    size_t groups = (count + 127) / 128;
    ts_rans_plan plan;

    CHECK(ts_rans_spare(count) <= sizeof spare);
    if (!plan_of(symbols, count, bits, whole, number, &plan)) return 0;
    size_t size =
        ts_rans_write(&plan, with, symbols, count, width,
                      (ts_rans_ahead){symbols, 3}, spare, out, sizeof out);
    CHECK(size > 0);
    CHECK(ts_rans_write(&plan, with, symbols, count, width,
                        (ts_rans_ahead){0}, spare, out, size)
          == size);
    CHECK(ts_rans_write(&plan, with, symbols, count, width,
                        (ts_rans_ahead){0}, spare, out, size - 1)
          == 0);
    uint8_t *tight = malloc(size);
    uint8_t *lists = malloc(ts_rans_lists(out, size, count));
    ts_rans_reader *reader = aligned_alloc(64, sizeof *reader);
    memcpy(tight, out, size);
    memset(back, 0xA5, sizeof back);
    CHECK_OK(ts_rans_open(reader, with, tight, size, tight + size, count,
                          width, lists, error));
    size_t first = groups / 2;
    CHECK_OK(ts_rans_read(reader, first, back, error));
    CHECK_OK(ts_rans_read(reader, groups - first, back + 128 * first, error));
    CHECK_OK(ts_rans_close(reader, error));
    CHECK(memcmp(back, symbols, count) == 0, "%zu symbols", count);
    CHECK(untouched(back + 128 * groups, back + sizeof back));
    free(tight);
    free(lists);
    free(reader);
    return plan.tables;
}

static void streams_of_every_length(void)
{
    static uint8_t symbols[SYMBOLS];
    for (unsigned bits = 7; bits <= 8; bits++)
        for (unsigned kinds = 1; kinds <= 20; kinds += 3) {
            unsigned width = kinds % 2 ? 8 : 4;
            draw_symbols(symbols, SYMBOLS, kinds, kinds % 2 ? 255 : 15);
            for (size_t count = 1; count <= 300; count++)
                check_stream(symbols, count, bits, width, true);
            for (size_t count = 301; count <= SYMBOLS; count += 1999)
                check_stream(symbols, count, bits, width, count % 16 < 4);
        }
}

/* Spans that differ get tables of their own, four at most. */
static void spans_of_every_kind(void)
{
    enum { ALL = 8 * TS_SPAN };
    static uint8_t symbols[ALL];
    for (unsigned kinds = 1; kinds <= 7; kinds++) {
        draw_symbols(symbols, ALL, 12, 15);
        for (size_t i = 0; i < ALL; i++)
            symbols[i] =
                (uint8_t)(symbols[i] % 16 + 20 * (i / TS_SPAN % kinds));
        unsigned tables = check_stream(symbols, ALL, 7, 8, true);
        CHECK(tables == (kinds < 4 ? kinds : 4), "%u of %u", tables, kinds);
        check_stream(symbols, ALL - 1, 8, 8, true);
        check_stream(symbols, ALL, 7, 8, false);
    }
}

/* A cursor over noise. */
static void begin_noise(ts_rans_cursor *cursor, const uint8_t *noise,
                        size_t apart, size_t size)
{
    memset(cursor, 0, sizeof *cursor);
    memcpy(cursor->state, noise + 64, sizeof cursor->state);
    for (unsigned k = 0; k < TS_RANS_STREAMS; k++) {
        cursor->at[k] = noise + k * apart;
        cursor->safe[k] = noise + k * apart + size - k;
    }
    cursor->rare = noise + 5;
    cursor->rares = noise + 5 + size;
}

/* The same bytes, rare symbols and states from every path. */
static void check_kernel(const ts_rans *with, unsigned bits)
{
    enum { GROUPS = 40, COUNT = GROUPS * 128, ONE = GROUPS * 32 + 64 };
    static uint8_t symbols[COUNT], rares[2][COUNT + 64], made[2][4][ONE];
    static ts_rans_press press[2];
    const ts_rans *both[2] = {&ts_rans_scalar, with};
    ts_rans_owners owners = {.bits = bits, .escape = 40};
    unsigned slots = 1u << bits, start = 0;

    memset(owners.owner, 40, sizeof owners.owner);
    for (unsigned i = 0; i <= 40; i++) {
        unsigned freq = i == 0 ? slots - 40 : 1;
        if (i < 40) owners.owner[(i * 37 + 5) & 255] = (uint8_t)i;
        owners.freq[i] = (uint16_t)freq;
        owners.inverse[i] = freq == 1 ? 65535 : (uint16_t)(65536 / freq);
        owners.start[i] = (uint16_t)start;
        start += freq;
    }
    draw_symbols(symbols, COUNT, 17, 255);
    for (int k = 0; k < 2; k++) {
        for (unsigned i = 0; i < 128; i++) press[k].state[i] = TS_RANS_START;
        for (unsigned i = 0; i < 4; i++) press[k].end[i] = made[k][i] + ONE;
        press[k].rare = rares[k] + COUNT + 64;
        both[k]->encode(&owners, symbols + 128, GROUPS - 1, &press[k]);
        both[k]->encode(&owners, symbols, 1, &press[k]);
    }
    size_t rare = (size_t)(rares[0] + COUNT + 64 - press[0].rare);
    CHECK(press[0].rare - rares[0] == press[1].rare - rares[1]);
    CHECK(memcmp(press[0].rare, press[1].rare, rare) == 0);
    for (unsigned i = 0; i < 4; i++) {
        size_t size = (size_t)(made[0][i] + ONE - press[0].end[i]);
        CHECK(press[0].end[i] - made[0][i] == press[1].end[i] - made[1][i]);
        CHECK(memcmp(press[0].end[i], press[1].end[i], size) == 0);
    }
    CHECK(memcmp(press[0].state, press[1].state, sizeof press[0].state) == 0);
}

/* A table of so many owners, all but the last of one slot each. */
static void fill_table(ts_rans_slots *slots, unsigned bits, unsigned owners,
                       unsigned salt)
{
    memset(slots, 0, sizeof *slots);
    slots->owners = owners;
    slots->escape = 200;
    for (unsigned i = 0, at = 0; i < owners; i++) {
        unsigned last = (1u << bits) - (owners - 1);
        unsigned freq = i + 1 < owners ? 1 : last;
        slots->first[i] = (uint8_t)at;
        slots->owner[i] = (uint8_t)(i + 1 < owners ? 3 * i + salt : 200);
        for (unsigned k = 0; k < freq; k++, at++) {
            slots->symbol[at] = slots->owner[i];
            slots->freq[at] = (uint8_t)freq;
            slots->bias[at] = (uint8_t)k;
        }
    }
}

/* Any bytes are states and renewal bytes of some stream. */
static void check_decode(const ts_rans *with, unsigned bits, unsigned owners)
{
    enum { GROUPS = 40, APART = GROUPS * 20, NOISE = GROUPS * 128 * 2 };
    static uint8_t out[2][GROUPS * 128], noise[NOISE];
    static const uint8_t number[] = {1, 0, 1};
    const ts_rans *both[2] = {&ts_rans_scalar, with};
    static ts_rans_cursor cursor[2];
    static ts_rans_tables tables;
    size_t done[2];

    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = bytes[i * 7 % ROOM] ^ (uint8_t)(i >> 3);
    tables.bits = bits;
    tables.number = number;
    fill_table(&tables.table[0], bits, owners, 0);
    fill_table(&tables.table[1], bits, 66 - owners, 1);
    for (size_t size = 600; size < 900; size += 37) {
        for (int k = 0; k < 2; k++) {
            begin_noise(&cursor[k], noise, APART, size);
            done[k] = both[k]->decode(&tables, &cursor[k], 5, out[k]);
            done[k] += both[k]->decode(&tables, &cursor[k], GROUPS - done[k],
                                       out[k] + 128 * done[k]);
        }
        CHECK(done[0] == done[1] && done[0] > 0);
        CHECK(memcmp(out[0], out[1], done[0] * 128) == 0, "%u bits, %u owners",
              bits, owners);
        for (unsigned i = 0; i < 4; i++)
            CHECK(cursor[0].at[i] == cursor[1].at[i]);
        CHECK(cursor[0].rare == cursor[1].rare);
        CHECK(cursor[0].group == done[0] && cursor[1].group == done[0]);
        CHECK(memcmp(cursor[0].state, cursor[1].state, 256) == 0);
    }
}

static void rans_on_every_path(void)
{
    const ts_planes *unused[2];
    const ts_rans *rans[2];
    size_t count = paths(unused, rans);

    fill(3);
    for (size_t path = 0; path < count; path++)
        for (unsigned bits = 7; bits <= 8; bits++) {
            check_kernel(rans[path], bits);
            for (unsigned owners = 2; owners <= 64; owners++)
                check_decode(rans[path], bits, owners);
        }
}

/* ---- heads ------------------------------------------------------------ */

enum { HEAD = 24, TABLE = 5, NAMES = 2, STATES = 256 };

static ts_status opens(const uint8_t *stream, size_t size, size_t count)
{
    static uint8_t lists[1 << 14];
    ts_rans_reader *reader = aligned_alloc(64, sizeof *reader);
    ts_error ignored = {0};
    uint8_t *tight = malloc(size > 0 ? size : 1);

    memcpy(tight, stream, size);
    CHECK(ts_rans_lists(tight, size, count) <= sizeof lists);
    ts_status status =
        ts_rans_open(reader, &ts_planes_scalar, tight, size, tight + size,
                     count, 8, lists, &ignored);
    free(tight);
    free(reader);
    return status;
}

/* One table of two owners, names of one bit, no bytes and no rare symbols. */
static size_t put_stream(uint8_t *out)
{
    memset(out, 0, HEAD + TABLE + NAMES + STATES);
    out[0] = 7;
    out[1] = 1;
    out[2] = 1;
    out[HEAD] = 10;
    out[HEAD + 1] = 11;
    out[HEAD + 3] = 100;
    out[HEAD + 4] = 28;
    return HEAD + TABLE + NAMES + STATES;
}

/* Every table of two owners, and every way of saying something else. */
static void tables_are_checked(void)
{
    uint8_t stream[HEAD + TABLE + NAMES + STATES];
    size_t size = put_stream(stream);

    for (unsigned bits = 0; bits < 256; bits++)
        for (unsigned freq = 0; freq < 256; freq++) {
            stream[0] = (uint8_t)bits;
            stream[HEAD + 3] = (uint8_t)freq;
            stream[HEAD + 4] =
                (uint8_t)((1u << (bits == 8 ? 8 : 7)) - freq);
            bool good = (bits == 7 || bits == 8) && freq > 0
                     && freq < 1u << bits;
            CHECK((opens(stream, size, 1) == TS_OK) == good,
                  "bits %u, freq %u", bits, freq);
        }
}

static void heads_are_checked(void)
{
    static const struct {
        size_t at;
        uint8_t value;
    } wrong[] = {{1, 0},  {1, 2},  {1, 5},        {2, 0},        {2, 2},
                 {2, 9},  {3, 1},  {4, 1},        {5, 1},        {8, 1},
                 {15, 1}, {23, 1}, {HEAD + 1, 9}, {HEAD + 1, 12}, {HEAD, 11},
                 {HEAD + 2, 1}};
    uint8_t stream[HEAD + TABLE + NAMES + STATES];

    for (size_t i = 0; i < TS_COUNT_OF(wrong); i++) {
        size_t size = put_stream(stream);
        CHECK(opens(stream, size, 1) == TS_OK);
        for (size_t less = 1; less <= size; less++)
            CHECK(opens(stream, size - less, 1) == TS_FORMAT);
        stream[wrong[i].at] = wrong[i].value;
        CHECK(opens(stream, size, 1) == TS_FORMAT, "case %zu", i);
    }
}

int main(void)
{
    RUN(planes_on_every_path);
    RUN(streams_of_every_length);
    RUN(spans_of_every_kind);
    RUN(rans_on_every_path);
    RUN(tables_are_checked);
    RUN(heads_are_checked);
    CHECK_END();
}
