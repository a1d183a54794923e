/* dtype.h -- the number formats that files hold, under the names they use.
 *
 * Elements come in blocks: `count` elements share `size` bytes.  A plain type
 * is a block of one element; F4 packs 2 in one byte; a ggml Q4_K block packs
 * 256 in 144 bytes.  bytes = elements / count * size, always exact.
 *
 * Names are those of safetensors for plain types and of ggml for the
 * quantised blocks.  Sources: safetensors Dtype enum; ggml_type enum. */
#ifndef TS_CORE_DTYPE_H
#define TS_CORE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    TS_CLASS_BOOL,
    TS_CLASS_UINT,
    TS_CLASS_INT,
    TS_CLASS_FLOAT,   /* one element, at least one byte */
    TS_CLASS_COMPLEX, /* pairs of FLOAT */
    TS_CLASS_PACKED,  /* floats below a byte: F4, F6 */
    TS_CLASS_BLOCK,   /* ggml blocks with their own scales */
} ts_dtype_class;

/*  symbol, name, elements per block, bytes per block, class */
#define TS_DTYPE_MAP(XX)                                                      \
    XX(BOOL, "BOOL", 1, 1, BOOL)                                              \
    XX(U8, "U8", 1, 1, UINT)                                                  \
    XX(I8, "I8", 1, 1, INT)                                                   \
    XX(U16, "U16", 1, 2, UINT)                                                \
    XX(I16, "I16", 1, 2, INT)                                                 \
    XX(U32, "U32", 1, 4, UINT)                                                \
    XX(I32, "I32", 1, 4, INT)                                                 \
    XX(U64, "U64", 1, 8, UINT)                                                \
    XX(I64, "I64", 1, 8, INT)                                                 \
    XX(F4, "F4", 2, 1, PACKED)           /* e2m1, low nibble first */         \
    XX(F6_E2M3, "F6_E2M3", 4, 3, PACKED) /* 4 in 3 bytes, low bits first */   \
    XX(F6_E3M2, "F6_E3M2", 4, 3, PACKED)                                      \
    XX(F8_E4M3, "F8_E4M3", 1, 1, FLOAT) /* the "fn" kind: no infinities */    \
    XX(F8_E5M2, "F8_E5M2", 1, 1, FLOAT)                                       \
    XX(F8_E8M0, "F8_E8M0", 1, 1, FLOAT) /* a power of two: 2^(x-127) */       \
    XX(F8_E4M3FNUZ, "F8_E4M3FNUZ", 1, 1, FLOAT)                               \
    XX(F8_E5M2FNUZ, "F8_E5M2FNUZ", 1, 1, FLOAT)                               \
    XX(F16, "F16", 1, 2, FLOAT)                                               \
    XX(BF16, "BF16", 1, 2, FLOAT)                                             \
    XX(F32, "F32", 1, 4, FLOAT)                                               \
    XX(F64, "F64", 1, 8, FLOAT)                                               \
    XX(C64, "C64", 1, 8, COMPLEX)                                             \
    XX(C128, "C128", 1, 16, COMPLEX)                                          \
    XX(Q4_0, "Q4_0", 32, 18, BLOCK)                                           \
    XX(Q4_1, "Q4_1", 32, 20, BLOCK)                                           \
    XX(Q5_0, "Q5_0", 32, 22, BLOCK)                                           \
    XX(Q5_1, "Q5_1", 32, 24, BLOCK)                                           \
    XX(Q8_0, "Q8_0", 32, 34, BLOCK)                                           \
    XX(Q8_1, "Q8_1", 32, 36, BLOCK)                                           \
    XX(Q2_K, "Q2_K", 256, 84, BLOCK)                                          \
    XX(Q3_K, "Q3_K", 256, 110, BLOCK)                                         \
    XX(Q4_K, "Q4_K", 256, 144, BLOCK)                                         \
    XX(Q5_K, "Q5_K", 256, 176, BLOCK)                                         \
    XX(Q6_K, "Q6_K", 256, 210, BLOCK)                                         \
    XX(Q8_K, "Q8_K", 256, 292, BLOCK)                                         \
    XX(IQ2_XXS, "IQ2_XXS", 256, 66, BLOCK)                                    \
    XX(IQ2_XS, "IQ2_XS", 256, 74, BLOCK)                                      \
    XX(IQ3_XXS, "IQ3_XXS", 256, 98, BLOCK)                                    \
    XX(IQ1_S, "IQ1_S", 256, 50, BLOCK)                                        \
    XX(IQ4_NL, "IQ4_NL", 32, 18, BLOCK)                                       \
    XX(IQ3_S, "IQ3_S", 256, 110, BLOCK)                                       \
    XX(IQ2_S, "IQ2_S", 256, 82, BLOCK)                                        \
    XX(IQ4_XS, "IQ4_XS", 256, 136, BLOCK)                                     \
    XX(IQ1_M, "IQ1_M", 256, 56, BLOCK)                                        \
    XX(TQ1_0, "TQ1_0", 256, 54, BLOCK)                                        \
    XX(TQ2_0, "TQ2_0", 256, 66, BLOCK)                                        \
    XX(MXFP4, "MXFP4", 32, 17, BLOCK)                                         \
    XX(NVFP4, "NVFP4", 64, 36, BLOCK)                                         \
    XX(Q1_0, "Q1_0", 128, 18, BLOCK)                                          \
    XX(Q2_0, "Q2_0", 64, 18, BLOCK)

typedef enum {
#define XX(symbol, name, count, size, class) TS_##symbol,
    TS_DTYPE_MAP(XX)
#undef XX
    TS_DTYPE_COUNT
} ts_dtype;

/* The largest ts_dtype_block_size of any type. */
#define TS_DTYPE_MAX_BLOCK 292

const char *ts_dtype_name(ts_dtype dtype);         /* "BF16" */
uint32_t ts_dtype_block_count(ts_dtype dtype);     /* elements */
uint32_t ts_dtype_block_size(ts_dtype dtype);      /* bytes */
ts_dtype_class ts_dtype_class_of(ts_dtype dtype);

/* Exact match of one of the names above. */
bool ts_dtype_find(const char *name, size_t name_size, ts_dtype *out);

/* Bytes of `elements` elements.  False when they are no whole number of
 * blocks or the size does not fit 64 bits. */
bool ts_dtype_bytes(ts_dtype dtype, uint64_t elements, uint64_t *out);

#endif
