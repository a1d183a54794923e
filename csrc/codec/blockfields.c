/* blockfields.c -- ggml's blocks taken apart.
 *
 * Facts of ggml-common.h: where in a block of each type scales, high bits and
 * codes lie.  A field of its own is packed better, a mistake here would cost
 * only that: every byte is in one field. */
#include "chunk.h"

typedef struct {
    uint8_t dtype, count;
    ts_field field[TS_MOST_FIELDS];
} block;

#define HALF(offset, size) {TS_FIELD_HALF, offset, size}
#define FLOAT(offset, size) {TS_FIELD_FLOAT, offset, size}
#define WORDS(offset, size) {TS_FIELD_WORDS, offset, size}
#define BYTES(offset, size) {TS_FIELD_BYTES, offset, size}
#define PAIRS(offset, size) {TS_FIELD_PAIRS, offset, size}

static const block blocks[] = {
    {TS_Q4_0, 2, {HALF(0, 2), PAIRS(2, 16)}},
    {TS_Q4_1, 2, {HALF(0, 4), PAIRS(4, 16)}},
    {TS_Q5_0, 3, {HALF(0, 2), BYTES(2, 4), PAIRS(6, 16)}},
    {TS_Q5_1, 3, {HALF(0, 4), BYTES(4, 4), PAIRS(8, 16)}},
    {TS_Q8_0, 2, {HALF(0, 2), BYTES(2, 32)}},
    {TS_Q8_1, 2, {HALF(0, 4), BYTES(4, 32)}},
    {TS_Q2_K, 3, {PAIRS(0, 16), BYTES(16, 64), HALF(80, 4)}},
    {TS_Q3_K, 4, {BYTES(0, 32), BYTES(32, 64), BYTES(96, 12), HALF(108, 2)}},
    {TS_Q4_K, 3, {HALF(0, 4), BYTES(4, 12), PAIRS(16, 128)}},
    {TS_Q5_K, 4, {HALF(0, 4), BYTES(4, 12), BYTES(16, 32), PAIRS(48, 128)}},
    {TS_Q6_K, 4,
     {PAIRS(0, 128), BYTES(128, 64), BYTES(192, 16), HALF(208, 2)}},
    {TS_Q8_K, 3, {FLOAT(0, 4), BYTES(4, 256), WORDS(260, 32)}},
    {TS_IQ2_XXS, 2, {HALF(0, 2), BYTES(2, 64)}},
    {TS_IQ2_XS, 3, {HALF(0, 2), WORDS(2, 64), PAIRS(66, 8)}},
    {TS_IQ3_XXS, 3, {HALF(0, 2), BYTES(2, 64), BYTES(66, 32)}},
    {TS_IQ1_S, 3, {HALF(0, 2), BYTES(2, 32), WORDS(34, 16)}},
    {TS_IQ4_NL, 2, {HALF(0, 2), PAIRS(2, 16)}},
    {TS_IQ3_S, 5,
     {HALF(0, 2), BYTES(2, 64), BYTES(66, 8), BYTES(74, 32), PAIRS(106, 4)}},
    {TS_IQ2_S, 4, {HALF(0, 2), BYTES(2, 64), BYTES(66, 8), PAIRS(74, 8)}},
    {TS_IQ4_XS, 4, {HALF(0, 2), BYTES(2, 2), PAIRS(4, 4), PAIRS(8, 128)}},
    {TS_IQ1_M, 3, {BYTES(0, 32), PAIRS(32, 16), WORDS(48, 8)}},
    {TS_TQ1_0, 3, {BYTES(0, 48), BYTES(48, 4), HALF(52, 2)}},
    {TS_TQ2_0, 2, {BYTES(0, 64), HALF(64, 2)}},
    {TS_MXFP4, 2, {BYTES(0, 1), PAIRS(1, 16)}},
    {TS_NVFP4, 2, {BYTES(0, 4), PAIRS(4, 32)}},
    {TS_Q1_0, 2, {HALF(0, 2), BYTES(2, 16)}},
    {TS_Q2_0, 2, {HALF(0, 2), BYTES(2, 16)}},
};

const ts_field *ts_dtype_fields(ts_dtype dtype, unsigned *count)
{
    for (size_t i = 0; i < TS_COUNT_OF(blocks); i++)
        if (blocks[i].dtype == dtype) {
            *count = blocks[i].count;
            return blocks[i].field;
        }
    *count = 0;
    return NULL;
}

unsigned ts_field_width(ts_field_kind kind)
{
    switch (kind) {
    case TS_FIELD_FLOAT: return 4;
    case TS_FIELD_HALF:
    case TS_FIELD_WORDS: return 2;
    default: return 1;
    }
}
