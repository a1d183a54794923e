/* xxh3_body.h -- what the three xxh3 kernels share; each includes it once,
 * with XXH_VECTOR and the target set, and names its table. */
#ifndef TS_CODEC_XXH3_BODY_H
#define TS_CODEC_XXH3_BODY_H

#define XXH_STATIC_LINKING_ONLY
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "xxh3_kernel.h"

_Static_assert(sizeof(XXH3_state_t) <= TS_XXH3_STATE_SIZE,
               "ts_checksum leaves too little room for XXH3's state");

static uint64_t of(const void *bytes, size_t size)
{
    return XXH3_64bits(bytes, size);
}

static void reset(void *state) { (void)XXH3_64bits_reset(state); }

static void add(void *state, const void *bytes, size_t size)
{
    (void)XXH3_64bits_update(state, bytes, size);
}

static uint64_t value(const void *state) { return XXH3_64bits_digest(state); }

#endif
