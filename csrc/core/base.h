/* base.h -- sizes that cannot wrap, and little-endian loads.
 *
 * Every size that comes from a file goes through the checked pair below and
 * is compared with the real file before anything is allocated. */
#ifndef TS_CORE_BASE_H
#define TS_CORE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TS_KIB ((uint64_t)1 << 10)
#define TS_MIB ((uint64_t)1 << 20)
#define TS_GIB ((uint64_t)1 << 30)

#define TS_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* False when the true result does not fit; *out is then unspecified. */
static inline bool ts_mul(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool ts_add(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline uint64_t ts_min(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t ts_max(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* Alignment is a power of two; the caller knows that value + alignment
 * fits (use ts_add first where it does not). */
static inline uint64_t ts_round_up(uint64_t value, uint64_t alignment)
{
    return (value + alignment - 1) & ~(alignment - 1);
}

static inline uint64_t ts_round_down(uint64_t value, uint64_t alignment)
{
    return value & ~(alignment - 1);
}

static inline bool ts_is_power_of_two(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tensorstream keeps files and memory little-endian; see docs/limits.md"
#endif

static inline uint16_t ts_load_u16(const void *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint32_t ts_load_u32(const void *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint64_t ts_load_u64(const void *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* How often `byte` occurs: in blocks whose count fits a byte, so that the
 * compiler can compare sixteen or more at once. */
static inline uint64_t ts_count_byte(const uint8_t *at, size_t size,
                                     uint8_t byte)
{
    uint64_t total = 0;

    for (; size >= 128; size -= 128, at += 128) {
        uint8_t found = 0;
        for (int i = 0; i < 128; i++)
            found = (uint8_t)(found + (at[i] == byte));
        total += found;
    }
    for (; size > 0; size--, at++) total += *at == byte;
    return total;
}

#endif
