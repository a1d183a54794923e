#include "check.h"

#include "codec/codec.h"
#include "codec/crc_kernel.h"
#include "core/cpu.h"

enum { LARGEST = 1000003 };
static uint8_t bytes[LARGEST + 64];

static const ts_checksum_kind kinds[] = {
    TS_CHECKSUM_NONE, TS_CHECKSUM_CRC32, TS_CHECKSUM_CRC32C, TS_CHECKSUM_XXH3,
    TS_CHECKSUM_SUM64};

static void fill(void)
{
    uint64_t x = 1;
    for (size_t i = 0; i < LARGEST; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        bytes[i] = (uint8_t)(x >> 56);
    }
}

/* Of the first `size` bytes above: zlib.crc32 and xxhash.xxh3_64_intdigest of
 * Python, and a CRC-32C and a sum written there from their definitions. */
static const struct {
    size_t size;
    uint64_t crc32, crc32c, xxh3, sum64;
} known[] = {
    {0, 0x00000000, 0x00000000,
     0x2d06800538d394c2, 0x0000000000000000},
    {1, 0x9606c2fe, 0x7ef80fe3,
     0xc00f9d4f580c0c3a, 0x000000000000006c},
    {3, 0x118546f8, 0xabf629c5,
     0xe92112d1e602af4a, 0x0000000000a5826c},
    {4, 0xc2c91091, 0x24577435,
     0x9008de7e100606d1, 0x0000000062a5826c},
    {8, 0x842fb1d3, 0x88623ca7,
     0xcca6ee6f8e080c52, 0x108d80cb62a5826c},
    {9, 0xa2ec34b3, 0xd106e663,
     0x568f9d2e69ad8bd0, 0x108d80cb62a58342},
    {16, 0x7e0a173b, 0x101cc190,
     0x600a07a4f5a9911c, 0xcfcbd293ec63b542},
    {17, 0x277321cd, 0xec40ef35,
     0xdeab0265f35dfc24, 0xcfcbd293ec63b5ae},
    {128, 0x6dcdf760, 0x3b3784de,
     0x410bd3b4d8d84f51, 0x7529629a0bf4a177},
    {129, 0xaa68ebd8, 0x8789ec48,
     0x55964eec39625032, 0x7529629a0bf4a19f},
    {240, 0xe580773a, 0x83f44b9f,
     0x977b659bdc81fdb1, 0x9167ee5344b94ab5},
    {241, 0x5aef351c, 0x9c4ebfc4,
     0x2cb1ed4a30c8bded, 0x9167ee5344b94b97},
    {256, 0xbc7c2f39, 0x19a4b36a,
     0x7fd97c6450f19383, 0xae9aefe598b6eb3e},
    {257, 0x2fdc6ad8, 0x6bad3192,
     0x42c723a93a4c46b9, 0xae9aefe598b6eb61},
    {1024, 0xe0c0b947, 0xcac7e44c,
     0x5ec111a1e5a293ae, 0x0ded03091c746f11},
    {1025, 0x948b914d, 0x3766b60c,
     0x5ea0264528a903fc, 0x0ded03091c746ff9},
    {4097, 0xa7a71fee, 0xe36e6cf9,
     0x9dde02683ba48d0e, 0x269c1df272c83479},
    {65543, 0xc4f1db1b, 0xd8069a5a,
     0xa0ffc77324e8061c, 0xde290faa66b7eb85},
    {1000003, 0xd275dcfd, 0xf0ccbf75,
     0x376625740ebf95e0, 0xb064ba83923986af},
};

static void values_are_those_of_other_programs(void)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        size_t n = known[i].size;
        CHECK(ts_checksum_of(TS_CHECKSUM_CRC32, bytes, n) == known[i].crc32,
              "%zu bytes", n);
        CHECK(ts_checksum_of(TS_CHECKSUM_CRC32C, bytes, n) == known[i].crc32c,
              "%zu bytes", n);
        CHECK(ts_checksum_of(TS_CHECKSUM_XXH3, bytes, n) == known[i].xxh3,
              "%zu bytes", n);
        CHECK(ts_checksum_of(TS_CHECKSUM_SUM64, bytes, n) == known[i].sum64,
              "%zu bytes", n);
    }
    CHECK(ts_checksum_of(TS_CHECKSUM_CRC32, "123456789", 9) == 0xcbf43926);
    CHECK(ts_checksum_of(TS_CHECKSUM_CRC32C, "123456789", 9) == 0xe3069283);
    CHECK(ts_checksum_of(TS_CHECKSUM_NONE, bytes, 100) == 0);
}

static uint32_t crc_by_definition(uint32_t polynomial, const uint8_t *at,
                                  size_t size)
{
    uint32_t value = UINT32_MAX;
    for (size_t i = 0; i < size; i++) {
        value ^= at[i];
        for (int bit = 0; bit < 8; bit++)
            value = value >> 1 ^ ((0u - (value & 1)) & polynomial);
    }
    return ~value;
}

static uint64_t sum_by_definition(const uint8_t *at, size_t size)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < size; i++) sum += (uint64_t)at[i] << 8 * (i % 8);
    return sum;
}

/* The bytes end where their allocation ends, so that a read too far shows. */
static void every_length_agrees_with_the_definition(void)
{
    for (size_t size = 0; size <= 1100; size++) {
        size_t shift = size % 5;
        uint8_t *room = malloc(shift + size + 1), *at = room + 1 + shift;
        memcpy(at, bytes + size, size);
        CHECK(ts_checksum_of(TS_CHECKSUM_CRC32, at, size)
                  == crc_by_definition(0xedb88320, at, size),
              "%zu bytes", size);
        CHECK(ts_checksum_of(TS_CHECKSUM_CRC32C, at, size)
                  == crc_by_definition(0x82f63b78, at, size),
              "%zu bytes", size);
        CHECK(ts_checksum_of(TS_CHECKSUM_SUM64, at, size)
                  == sum_by_definition(at, size),
              "%zu bytes", size);
        free(room);
    }
}

static uint64_t in_pieces(ts_checksum *checksum, size_t size, uint32_t seed)
{
    size_t done = 0;

    ts_checksum_reset(checksum);
    ts_checksum_add(checksum, NULL, 0);
    while (done < size) {
        seed = seed * 1664525 + 1013904223;
        size_t n = (seed >> 8) % (seed & 1 ? 17 : 3000);
        if (n > size - done) n = size - done;
        ts_checksum_add(checksum, bytes + done, n);
        done += n;
    }
    return ts_checksum_value(checksum);
}

static void pieces_make_the_whole(void)
{
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        ts_checksum *checksum;
        CHECK_OK(ts_checksum_new(kinds[k], &checksum, error));
        CHECK(ts_checksum_value(checksum)
              == ts_checksum_of(kinds[k], bytes, 0));
        for (uint32_t seed = 0; seed < 60; seed++) {
            size_t size = seed * 997 % 40000;
            CHECK(in_pieces(checksum, size, seed)
                      == ts_checksum_of(kinds[k], bytes, size),
                  "%s of %zu bytes", ts_checksum_name(kinds[k]), size);
        }
        ts_checksum_free(checksum);
    }
    ts_checksum_free(NULL);
}

static void a_value_can_be_asked_for_on_the_way(void)
{
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        ts_checksum *checksum;
        CHECK_OK(ts_checksum_new(kinds[k], &checksum, error));
        for (size_t done = 0; done < 5000; done += 13) {
            CHECK(ts_checksum_value(checksum)
                  == ts_checksum_of(kinds[k], bytes, done));
            ts_checksum_add(checksum, bytes + done, 13);
        }
        ts_checksum_free(checksum);
    }
}

static void parts_combine(void)
{
    const size_t cuts[] = {0, 8, 16, 800, 4096, 65536};
    const size_t size = 65536 + 1003;
    uint64_t out;

    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++)
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            uint64_t a = ts_checksum_of(kinds[k], bytes, cuts[i]);
            uint64_t b =
                ts_checksum_of(kinds[k], bytes + cuts[i], size - cuts[i]);
            bool can =
                ts_checksum_combine(kinds[k], a, b, size - cuts[i], &out);
            CHECK(can == (kinds[k] != TS_CHECKSUM_XXH3));
            CHECK(!can || out == ts_checksum_of(kinds[k], bytes, size),
                  "%s cut at %zu", ts_checksum_name(kinds[k]), cuts[i]);
        }
    /* A length near 2^64 neither hangs nor wraps into a short one. */
    CHECK(ts_checksum_combine(TS_CHECKSUM_CRC32C, 1, 2, UINT64_MAX, &out));
}

/* x^n mod P, reflected, by n single steps. */
static uint64_t power_by_steps(uint32_t polynomial, unsigned n)
{
    uint32_t value = 1u << 31;
    while (n-- > 0) value = value >> 1 ^ ((0u - (value & 1)) & polynomial);
    return value;
}

static void folding_constants_are_powers_of_x(void)
{
    const ts_crc *all[] = {&ts_crc32, &ts_crc32c};
    for (int i = 0; i < 2; i++) {
        const struct {
            const uint64_t *pair;
            unsigned bytes;
        } folds[] = {{all[i]->by_16, 16},
                     {all[i]->by_64, 64},
                     {all[i]->by_256, 256}};
        for (int k = 0; k < 3; k++) {
            unsigned bits = 8 * folds[k].bytes;
            uint32_t p = all[i]->polynomial;
            CHECK(folds[k].pair[0] == power_by_steps(p, bits + 32) << 1);
            CHECK(folds[k].pair[1] == power_by_steps(p, bits - 32) << 1);
        }
    }
}

static void names_are_found(void)
{
    ts_checksum_kind kind;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        CHECK(ts_checksum_find(ts_checksum_name(kinds[k]), &kind)
              && kind == kinds[k]);
    CHECK(!ts_checksum_find("md5", &kind) && !ts_checksum_find("", &kind));
    CHECK(strcmp(ts_checksum_name((ts_checksum_kind)99), "unknown") == 0);
    ts_checksum *checksum;
    CHECK_FAILS(ts_checksum_new((ts_checksum_kind)99, &checksum, error),
                TS_ARGUMENT, "99 is no checksum");
    CHECK(checksum == NULL);
}

int main(void)
{
    fill();
    RUN(values_are_those_of_other_programs);
    RUN(every_length_agrees_with_the_definition);
    RUN(pieces_make_the_whole);
    RUN(a_value_can_be_asked_for_on_the_way);
    RUN(parts_combine);
    RUN(folding_constants_are_powers_of_x);
    RUN(names_are_found);
    CHECK_END();
}
