/* kernels.c -- one conversion of csrc/quant run again and again on a tile that
 * stays in the cache: the kernel's own speed, without reading or allocating.
 *
 * Compiled by native.py together with csrc/quant and csrc/core. */
#include <stdint.h>
#include <string.h>

#include "quant/quant.h"

#define EXPORT __attribute__((visibility("default")))

/* `times` times from the type of that name to F32.  -1 when it has none. */
EXPORT int convert_tile(const char *name, const uint8_t *in, float *out,
                        size_t count, int times)
{
    ts_dtype dtype;
    ts_convert convert;
    ts_error error;

    if (!ts_dtype_find(name, strlen(name), &dtype)
        || ts_convert_find(dtype, TS_F32, &convert, &error) != TS_OK)
        return -1;
    for (int i = 0; i < times; i++)
        ts_convert_run(&convert, in, (uint8_t *)out, count);
    return 0;
}

/* The same with a function of ggml's signature. */
EXPORT void convert_tile_by(void (*to_float)(const void *, float *, int64_t),
                            const uint8_t *in, float *out, size_t count,
                            int times)
{
    for (int i = 0; i < times; i++) to_float(in, out, (int64_t)count);
}
