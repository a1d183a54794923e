/* gguf.h -- private to formats/: the numbers that GGUF gives to things. */
#ifndef TS_FORMATS_GGUF_H
#define TS_FORMATS_GGUF_H

#include "core/dtype.h"

enum { TS_GGUF_ALIGNMENT = 32, TS_GGUF_MAX_DIMS = 4, TS_GGUF_LAST_DTYPE = 42 };

/* The types of values. */
typedef enum {
    TS_GGUF_U8, TS_GGUF_I8, TS_GGUF_U16, TS_GGUF_I16, TS_GGUF_U32,
    TS_GGUF_I32, TS_GGUF_F32, TS_GGUF_BOOL, TS_GGUF_STRING, TS_GGUF_ARRAY,
    TS_GGUF_U64, TS_GGUF_I64, TS_GGUF_F64, TS_GGUF_COUNT
} ts_gguf_type;

/* The dtype that ggml numbers so; false for numbers without one. */
bool ts_gguf_dtype(uint32_t id, ts_dtype *out);

#endif
