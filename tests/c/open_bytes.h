/* open_bytes.h -- open a checkpoint that a test has just made up. */
#ifndef TS_TESTS_OPEN_BYTES_H
#define TS_TESTS_OPEN_BYTES_H

#include "formats/formats.h"

/* In a block of exactly this size, so that ASan sees one byte too far. */
static inline ts_status open_bytes(const void *bytes, size_t size,
                                   const char *label, ts_catalog **out,
                                   ts_error *error)
{
    static uint8_t none;
    ts_buffer *memory = NULL;
    ts_file *file = NULL;
    ts_status status;

    *out = NULL;
    status = size > 0 ? ts_buffer_new(size, 8, &memory, error)
                      : ts_buffer_wrap(&none, 0, TS_ORIGIN_FOREIGN, NULL,
                                       NULL, &memory, error);
    if (status != TS_OK) return status;
    if (size > 0) memcpy(ts_buffer_data(memory), bytes, size);
    status = ts_file_wrap(memory, label, &file, error);
    if (status == TS_OK) status = ts_catalog_open_file(file, out, error);
    ts_file_release(file);
    ts_buffer_release(memory);
    return status;
}

static inline ts_name name_of(const char *text)
{
    return (ts_name){text, strlen(text)};
}

#endif
