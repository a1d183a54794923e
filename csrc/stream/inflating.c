#include "inflating.h"

#include <stdlib.h>

#include "core/base.h"

enum { INPUT = 64 << 10, SPILL = 32 << 10 };

struct ts_inflating {
    const ts_tensor *tensor; /* the one begun, borrowed from the catalog */
    ts_inflater *inflater;   /* owned */
    uint64_t consumed;       /* bytes of the member fed so far */
    uint64_t made;           /* bytes it has given so far */
    size_t left, at;         /* unread input: bytes [at, at + left) */
    uint8_t input[INPUT];
    uint8_t spill[SPILL];    /* where skipped bytes go */
};

ts_status ts_inflating_new(ts_inflating **out, ts_error *error)
{
    ts_inflating *inflating = calloc(1, sizeof *inflating);

    *out = NULL;
    if (inflating == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate an inflater");
    ts_status status = ts_inflater_new(&inflating->inflater, error);
    if (status != TS_OK) {
        free(inflating);
        return status;
    }
    *out = inflating;
    return TS_OK;
}

void ts_inflating_free(ts_inflating *inflating)
{
    if (inflating == NULL) return;
    ts_inflater_free(inflating->inflater);
    free(inflating);
}

static void begin(ts_inflating *inflating, const ts_tensor *tensor)
{
    ts_inflater_reset(inflating->inflater);
    inflating->tensor = tensor;
    inflating->consumed = inflating->made = 0;
    inflating->left = inflating->at = 0;
}

static ts_status feed(ts_inflating *inflating, ts_reader *reader,
                      const ts_file *file, ts_error *error)
{
    const ts_tensor *tensor = inflating->tensor;
    uint64_t left = tensor->extent - inflating->consumed;

    if (left == 0)
        return ts_fail_at(error, TS_CORRUPT, tensor->offset + tensor->extent,
                          "the compressed data ends after %llu of %llu bytes",
                          (unsigned long long)inflating->made,
                          (unsigned long long)(tensor->skip + tensor->size));
    size_t size = (size_t)ts_min(left, INPUT);
    TS_TRY(ts_reader_read(reader, file, tensor->offset + inflating->consumed,
                          inflating->input, size, error));
    inflating->consumed += size;
    inflating->at = 0;
    inflating->left = size;
    return TS_OK;
}

/* The next size bytes of what is being inflated. */
static ts_status draw(ts_inflating *inflating, ts_reader *reader,
                      const ts_file *file, uint8_t *into, size_t size,
                      ts_error *error)
{
    while (size > 0) {
        size_t used, made;
        bool done;
        if (inflating->left == 0)
            TS_TRY(feed(inflating, reader, file, error));
        TS_TRY(ts_inflater_step(inflating->inflater,
                                inflating->input + inflating->at,
                                inflating->left, &used, into, size, &made,
                                &done, error));
        inflating->at += used;
        inflating->left -= used;
        inflating->made += made;
        into += made;
        size -= made;
        if (done && size > 0)
            return ts_fail_at(
                error, TS_CORRUPT, inflating->tensor->offset,
                "the compressed data holds %llu bytes, its header says %llu",
                (unsigned long long)inflating->made,
                (unsigned long long)(inflating->tensor->skip
                                     + inflating->tensor->size));
    }
    return TS_OK;
}

static ts_status draw_at(ts_inflating *inflating, ts_reader *reader,
                         const ts_file *file, const ts_tensor *tensor,
                         uint64_t place, uint8_t *into, size_t size,
                         ts_error *error)
{
    if (inflating->tensor != tensor || inflating->made > place)
        begin(inflating, tensor);
    while (inflating->made < place)
        TS_TRY(draw(inflating, reader, file, inflating->spill,
                    (size_t)ts_min(place - inflating->made, SPILL), error));
    return draw(inflating, reader, file, into, size, error);
}

ts_status ts_inflating_read(ts_inflating *inflating, ts_reader *reader,
                            const ts_file *file, const ts_tensor *tensor,
                            uint64_t skip, uint8_t *into, size_t size,
                            ts_error *error)
{
    ts_status status = draw_at(inflating, reader, file, tensor,
                               tensor->skip + skip, into, size, error);
    if (status != TS_OK) inflating->tensor = NULL; /* begin anew next time */
    return status;
}
