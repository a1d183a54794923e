/* bytes.h -- private to formats/: a header that is being put together.
 *
 * Out of memory is remembered, not returned: put as much as you like and ask
 * once, at the end, with ts_bytes_check. */
#ifndef TS_FORMATS_BYTES_H
#define TS_FORMATS_BYTES_H

#include <stdbool.h>

#include "core/names.h"

typedef struct {
    uint8_t *data; /* owned */
    size_t size, room;
    bool failed;
} ts_bytes; /* zero is an empty one */

void ts_bytes_free(ts_bytes *bytes);
ts_status ts_bytes_check(const ts_bytes *bytes, ts_error *error);

void ts_bytes_put(ts_bytes *bytes, const void *data, size_t size);
void ts_bytes_fill(ts_bytes *bytes, uint8_t value, size_t count);
void ts_bytes_u8(ts_bytes *bytes, uint8_t value);
void ts_bytes_u16(ts_bytes *bytes, uint16_t value);
void ts_bytes_u32(ts_bytes *bytes, uint32_t value);
void ts_bytes_u64(ts_bytes *bytes, uint64_t value);

void ts_bytes_text(ts_bytes *bytes, const char *text); /* without its NUL */
void ts_bytes_number(ts_bytes *bytes, uint64_t value); /* in decimals */
/* A JSON string: quoted, and escaped where RFC 8259 asks for it.  The text is
 * valid UTF-8. */
void ts_bytes_json(ts_bytes *bytes, ts_name text);

#endif
