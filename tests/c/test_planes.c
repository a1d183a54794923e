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

static void count_symbols(const uint8_t *symbols, size_t count, size_t step,
                          ts_sample *out)
{
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < count; i += step) out->seen[symbols[i]]++;
    out->total = (uint32_t)((count + step - 1) / step);
    out->whole = step == 1;
}

/* A stream that just fits its memory. */
static void check_stream(const uint8_t *symbols, size_t count, unsigned bits,
                         size_t step)
{
    static uint8_t spare[2 * SYMBOLS + 512];
    static uint8_t out[2 * SYMBOLS + 1024], rares[SYMBOLS + 256];
    static uint8_t back[SYMBOLS + 128];
    size_t groups = (count + 127) / 128;
    ts_rans_model model;
    ts_sample sample;
    ts_rans_reader *reader = aligned_alloc(64, sizeof *reader);

    count_symbols(symbols, count, step, &sample);
    if (ts_rans_fit(&sample, bits, &model) == UINT32_MAX) {
        free(reader);
        return;
    }
    size_t size =
        ts_rans_write(&model, symbols, count, (ts_rans_ahead){symbols, 3},
                      spare, out, sizeof out);
    CHECK(size > 0);
    uint8_t *tight = malloc(size);
    memcpy(tight, out, size);
    memset(back, 0xA5, sizeof back);
    CHECK_OK(ts_rans_open(reader, tight, size, tight + size, count, rares,
                          error));
    size_t first = groups / 2;
    CHECK_OK(ts_rans_read(reader, first, back, error));
    CHECK_OK(ts_rans_read(reader, groups - first, back + 128 * first, error));
    CHECK_OK(ts_rans_close(reader, error));
    CHECK(memcmp(back, symbols, count) == 0, "%zu symbols", count);
    CHECK(untouched(back + 128 * groups, back + sizeof back));
    free(tight);
    free(reader);
}

static void streams_of_every_length(void)
{
    static uint8_t symbols[SYMBOLS];
    for (unsigned bits = 7; bits <= 8; bits++)
        for (unsigned kinds = 1; kinds <= 20; kinds += 3) {
            draw_symbols(symbols, SYMBOLS, kinds, kinds % 2 ? 255 : 15);
            for (size_t count = 1; count <= 300; count++)
                check_stream(symbols, count, bits, 1);
            for (size_t count = 301; count <= SYMBOLS; count += 1999)
                check_stream(symbols, count, bits, 1 + count % 16);
        }
}

/* The same bytes, rare symbols and states from every path. */
static void check_kernel(const ts_rans *with, unsigned bits)
{
    enum { GROUPS = 40, COUNT = GROUPS * 128, ROOM_FOR = COUNT + 64 };
    static uint8_t symbols[COUNT], rares[2][ROOM_FOR], made[2][ROOM_FOR];
    uint16_t state[2][128];
    const ts_rans *both[2] = {&ts_rans_scalar, with};
    ts_rans_owners owners = {.bits = bits, .escape = 40};
    uint8_t *first[2], *rare[2];
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
        for (unsigned i = 0; i < 128; i++) state[k][i] = TS_RANS_START;
        rare[k] = rares[k] + ROOM_FOR;
        first[k] = both[k]->encode(&owners, symbols, GROUPS, state[k],
                                   made[k] + ROOM_FOR, &rare[k]);
    }
    CHECK(rare[0] - rares[0] == rare[1] - rares[1]);
    CHECK(memcmp(rare[0], rare[1], (size_t)(rares[0] + ROOM_FOR - rare[0]))
          == 0);
    CHECK(first[0] - made[0] == first[1] - made[1]);
    CHECK(memcmp(first[0], first[1], (size_t)(made[0] + ROOM_FOR - first[0]))
          == 0);
    CHECK(memcmp(state[0], state[1], sizeof state[0]) == 0);
}

/* Any bytes are states and renewal bytes of some stream. */
static void check_decode(const ts_rans *with, unsigned bits, unsigned owners)
{
    enum { GROUPS = 30 };
    static uint8_t out[2][GROUPS * 128], noise[GROUPS * 128 + 512];
    const ts_rans *both[2] = {&ts_rans_scalar, with};
    ts_rans_cursor cursor[2];
    ts_rans_slots *slots = aligned_alloc(64, sizeof *slots);
    size_t done[2];

    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = bytes[i * 7 % ROOM] ^ (uint8_t)(i >> 3);
    memset(slots, 0, sizeof *slots);
    slots->bits = bits;
    slots->escape = 200;
    for (unsigned i = 0, at = 0; i < owners; i++) {
        unsigned last = (1u << bits) - (owners - 1);
        unsigned freq = i + 1 < owners ? 1 : last;
        slots->first[i] = (uint8_t)at;
        slots->owner[i] = (uint8_t)(i + 1 < owners ? 3 * i : 200);
        for (unsigned k = 0; k < freq; k++, at++) {
            slots->symbol[at] = slots->owner[i];
            slots->freq[at] = (uint8_t)freq;
            slots->bias[at] = (uint8_t)k;
        }
    }
    slots->owners = owners;
    for (int k = 0; k < 2; k++) {
        memcpy(cursor[k].state, noise + 64, sizeof cursor[k].state);
        cursor[k].at = noise;
        cursor[k].safe = noise + GROUPS * 100;
        cursor[k].rare = noise + 5;
        cursor[k].rares = noise + 5 + GROUPS * 90;
        done[k] = both[k]->decode(slots, &cursor[k], GROUPS, out[k]);
    }
    CHECK(done[0] == done[1]);
    CHECK(memcmp(out[0], out[1], done[0] * 128) == 0, "%u bits, %u owners",
          bits, owners);
    CHECK(cursor[0].at == cursor[1].at && cursor[0].rare == cursor[1].rare);
    CHECK(memcmp(cursor[0].state, cursor[1].state, 256) == 0);
    free(slots);
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

/* Every table of two owners, and every way of saying something else. */
static void tables_are_checked(void)
{
    uint8_t stream[8 + 4 + 256] = {0}, rares[256 + 256];
    ts_rans_reader *reader = aligned_alloc(64, sizeof *reader);

    for (unsigned bits = 0; bits < 256; bits++)
        for (unsigned freq = 0; freq < 256; freq++) {
            stream[0] = (uint8_t)bits;
            stream[1] = 2;
            stream[9] = (uint8_t)freq;
            stream[8] = 1;
            stream[10] = 2;
            stream[11] = (uint8_t)((1u << (bits == 8 ? 8 : 7)) - freq);
            bool good = (bits == 7 || bits == 8) && freq > 0
                     && freq < 1u << bits;
            ts_error error = {0};
            ts_status status =
                ts_rans_open(reader, stream, sizeof stream,
                             stream + sizeof stream, 1, rares, &error);
            CHECK((status == TS_OK) == good, "bits %u, freq %u", bits, freq);
        }
    free(reader);
}

int main(void)
{
    RUN(planes_on_every_path);
    RUN(streams_of_every_length);
    RUN(rans_on_every_path);
    RUN(tables_are_checked);
    CHECK_END();
}
