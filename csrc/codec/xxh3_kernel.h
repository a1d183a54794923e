/* xxh3_kernel.h -- XXH3, 64 bits, seed 0, once for each instruction set.
 *
 * The algorithm is Yann Collet's, from the xxhash.h of libxxhash-dev; each
 * kernel file compiles it whole for its own level.  A state belongs to the
 * level that reset it. */
#ifndef TS_CODEC_XXH3_KERNEL_H
#define TS_CODEC_XXH3_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#define TS_XXH3_STATE_SIZE 576
#define TS_XXH3_STATE_ALIGNMENT 64

typedef struct {
    uint64_t (*of)(const void *bytes, size_t size);
    void (*reset)(void *state);
    void (*add)(void *state, const void *bytes, size_t size);
    uint64_t (*value)(const void *state);
} ts_xxh3;

extern const ts_xxh3 ts_xxh3_scalar;
#if defined(__x86_64__)
extern const ts_xxh3 ts_xxh3_avx2, ts_xxh3_avx512;
#endif

#endif
