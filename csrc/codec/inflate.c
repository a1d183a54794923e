#include <limits.h>
#include <stdlib.h>
#include <zlib.h>

#include "codec.h"
#include "core/base.h"

struct ts_inflater {
    z_stream zlib;
};

enum { RAW = -15 }; /* window bits: no zlib or gzip wrapper */

ts_status ts_inflater_new(ts_inflater **out, ts_error *error)
{
    ts_inflater *inflater = calloc(1, sizeof *inflater);

    *out = NULL;
    if (inflater == NULL || inflateInit2(&inflater->zlib, RAW) != Z_OK) {
        free(inflater);
        return ts_fail(error, TS_NOMEM, "cannot allocate an inflater");
    }
    *out = inflater;
    return TS_OK;
}

void ts_inflater_free(ts_inflater *inflater)
{
    if (inflater == NULL) return;
    inflateEnd(&inflater->zlib);
    free(inflater);
}

void ts_inflater_reset(ts_inflater *inflater)
{
    inflateReset(&inflater->zlib);
}

ts_status ts_inflater_step(ts_inflater *inflater, const uint8_t *in,
                           size_t in_size, size_t *used, uint8_t *out,
                           size_t out_size, size_t *made, bool *done,
                           ts_error *error)
{
    z_stream *zlib = &inflater->zlib;
    uInt can_take = (uInt)ts_min(in_size, UINT_MAX);
    uInt can_make = (uInt)ts_min(out_size, UINT_MAX);

    /* zlib never writes through next_in; old headers lack the const. */
    memcpy(&zlib->next_in, &in, sizeof in);
    zlib->avail_in = can_take;
    zlib->next_out = out;
    zlib->avail_out = can_make;
    int result = inflate(zlib, Z_NO_FLUSH);
    *used = can_take - zlib->avail_in;
    *made = can_make - zlib->avail_out;
    *done = result == Z_STREAM_END;
    if (result == Z_MEM_ERROR)
        return ts_fail(error, TS_NOMEM, "cannot allocate to inflate");
    if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
        return ts_fail(error, TS_CORRUPT, "the compressed data is damaged: %s",
                       zlib->msg != NULL ? zlib->msg : "no DEFLATE stream");
    return TS_OK;
}
