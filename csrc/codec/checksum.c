#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "core/base.h"
#include "core/cpu.h"
#include "crc_kernel.h"
#include "sum_kernel.h"
#include "xxh3_kernel.h"

#define KINDS (TS_CHECKSUM_SUM64 + 1)

/* Which fields are in use depends on kind. */
struct ts_checksum {
    _Alignas(TS_XXH3_STATE_ALIGNMENT) uint8_t xxh3[TS_XXH3_STATE_SIZE];
    ts_checksum_kind kind;
    uint32_t crc;        /* the raw register */
    uint64_t sum;        /* of the whole words so far */
    uint8_t word[8];     /* the word begun */
    size_t word_size;    /* bytes in it, 0 to 7; the rest are zero */
    const ts_xxh3 *with; /* static; the one that owns the state above */
};

/* ---- names ---------------------------------------------------------- */

static const char *const names[KINDS] = {"none", "crc32", "crc32c", "xxh3",
                                         "sum64"};

const char *ts_checksum_name(ts_checksum_kind kind)
{
    return (unsigned)kind < KINDS ? names[kind] : "unknown";
}

bool ts_checksum_find(const char *name, ts_checksum_kind *out)
{
    for (unsigned i = 0; i < KINDS; i++)
        if (strcmp(names[i], name) == 0) {
            *out = (ts_checksum_kind)i;
            return true;
        }
    return false;
}

/* ---- the kernels of this machine ------------------------------------ */

typedef uint32_t (*crc_function)(const ts_crc *, uint32_t, const void *,
                                 size_t);
typedef uint64_t (*sum_function)(const void *, size_t);

#if defined(__x86_64__)
static const crc_function crcs[TS_SIMD_LEVELS] = {ts_crc_scalar, ts_crc_avx2,
                                                  ts_crc_avx512};
static const sum_function sums[TS_SIMD_LEVELS] = {ts_sum_scalar, ts_sum_avx2,
                                                  ts_sum_avx512};
static const ts_xxh3 *const xxh3s[TS_SIMD_LEVELS] = {
    &ts_xxh3_scalar, &ts_xxh3_avx2, &ts_xxh3_avx512};

/* The levels promise no carry-less products. */
static ts_simd crc_level(void)
{
    ts_simd level = ts_cpu_simd();
    if (level == TS_SIMD_AVX512 && !__builtin_cpu_supports("vpclmulqdq"))
        level = TS_SIMD_AVX2;
    if (level == TS_SIMD_AVX2 && !__builtin_cpu_supports("pclmul"))
        level = TS_SIMD_SCALAR;
    return level;
}
#else
static const crc_function crcs[] = {ts_crc_scalar};
static const sum_function sums[] = {ts_sum_scalar};
static const ts_xxh3 *const xxh3s[] = {&ts_xxh3_scalar};

static ts_simd crc_level(void) { return TS_SIMD_SCALAR; }
#endif

static const ts_crc *polynomial(ts_checksum_kind kind)
{
    return kind == TS_CHECKSUM_CRC32 ? &ts_crc32 : &ts_crc32c;
}

static uint32_t add_crc(ts_checksum_kind kind, uint32_t value,
                        const void *bytes, size_t size)
{
    return crcs[crc_level()](polynomial(kind), value, bytes, size);
}

static uint64_t add_words(const void *words, size_t count)
{
    return sums[ts_cpu_simd()](words, count);
}

/* ---- all at once ---------------------------------------------------- */

static uint64_t sum_of(const uint8_t *bytes, size_t size)
{
    uint8_t last[8] = {0};
    size_t tail = size % 8;

    if (tail > 0) memcpy(last, bytes + size - tail, tail);
    return add_words(bytes, size / 8) + ts_load_u64(last);
}

uint64_t ts_checksum_of(ts_checksum_kind kind, const void *bytes, size_t size)
{
    switch (kind) {
    case TS_CHECKSUM_CRC32:
    case TS_CHECKSUM_CRC32C:
        return (uint32_t)~add_crc(kind, UINT32_MAX, bytes, size);
    case TS_CHECKSUM_XXH3: return xxh3s[ts_cpu_simd()]->of(bytes, size);
    case TS_CHECKSUM_SUM64: return sum_of(bytes, size);
    default: return 0;
    }
}

/* ---- in pieces ------------------------------------------------------ */

ts_status ts_checksum_new(ts_checksum_kind kind, ts_checksum **out,
                          ts_error *error)
{
    *out = NULL;
    if ((unsigned)kind >= KINDS)
        return ts_fail(error, TS_ARGUMENT, "%d is no checksum", (int)kind);
    ts_checksum *checksum =
        aligned_alloc(_Alignof(ts_checksum), sizeof *checksum);
    if (checksum == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate a checksum");
    checksum->kind = kind;
    checksum->with = xxh3s[ts_cpu_simd()];
    memset(checksum->xxh3, 0, sizeof checksum->xxh3); /* it reads the seed */
    ts_checksum_reset(checksum);
    *out = checksum;
    return TS_OK;
}

void ts_checksum_free(ts_checksum *checksum) { free(checksum); }

void ts_checksum_reset(ts_checksum *checksum)
{
    checksum->crc = UINT32_MAX;
    checksum->sum = 0;
    checksum->word_size = 0;
    memset(checksum->word, 0, sizeof checksum->word);
    checksum->with->reset(checksum->xxh3);
}

static void add_to_sum(ts_checksum *it, const uint8_t *bytes, size_t size)
{
    if (it->word_size > 0) {
        size_t missing = (size_t)ts_min(8 - it->word_size, size);
        memcpy(it->word + it->word_size, bytes, missing);
        it->word_size += missing;
        bytes += missing;
        size -= missing;
        if (it->word_size < 8) return;
        it->sum += ts_load_u64(it->word);
        memset(it->word, 0, sizeof it->word);
    }
    it->sum += add_words(bytes, size / 8);
    it->word_size = size % 8;
    memcpy(it->word, bytes + size - it->word_size, it->word_size);
}

void ts_checksum_add(ts_checksum *checksum, const void *bytes, size_t size)
{
    if (size == 0) return; /* bytes may be NULL */
    switch (checksum->kind) {
    case TS_CHECKSUM_CRC32:
    case TS_CHECKSUM_CRC32C:
        checksum->crc = add_crc(checksum->kind, checksum->crc, bytes, size);
        break;
    case TS_CHECKSUM_XXH3:
        checksum->with->add(checksum->xxh3, bytes, size);
        break;
    case TS_CHECKSUM_SUM64: add_to_sum(checksum, bytes, size); break;
    default: break;
    }
}

uint64_t ts_checksum_value(const ts_checksum *checksum)
{
    switch (checksum->kind) {
    case TS_CHECKSUM_CRC32:
    case TS_CHECKSUM_CRC32C: return (uint32_t)~checksum->crc;
    case TS_CHECKSUM_XXH3: return checksum->with->value(checksum->xxh3);
    case TS_CHECKSUM_SUM64:
        return checksum->sum + ts_load_u64(checksum->word);
    default: return 0;
    }
}

bool ts_checksum_combine(ts_checksum_kind kind, uint64_t first,
                         uint64_t second, uint64_t second_size, uint64_t *out)
{
    switch (kind) {
    case TS_CHECKSUM_NONE: *out = 0; return true;
    case TS_CHECKSUM_CRC32:
    case TS_CHECKSUM_CRC32C:
        *out = ts_crc_combine(polynomial(kind), (uint32_t)first,
                              (uint32_t)second, second_size);
        return true;
    case TS_CHECKSUM_SUM64: *out = first + second; return true;
    default: return false;
    }
}
