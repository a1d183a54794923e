#include "bytes.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base.h"

void ts_bytes_free(ts_bytes *bytes)
{
    free(bytes->data);
    *bytes = (ts_bytes){0};
}

ts_status ts_bytes_check(const ts_bytes *bytes, ts_error *error)
{
    if (!bytes->failed) return TS_OK;
    return ts_fail(error, TS_NOMEM,
                   "cannot allocate a header of more than %zu bytes",
                   bytes->size);
}

/* Where `size` more bytes go; NULL when there is no memory. */
static uint8_t *grow(ts_bytes *bytes, size_t size)
{
    if (bytes->failed) return NULL;
    if (size > bytes->room - bytes->size) {
        uint64_t want = ts_max(2 * (uint64_t)bytes->room,
                               (uint64_t)bytes->size + size);
        want = ts_max(want, 256);
        uint8_t *data = realloc(bytes->data, (size_t)want);
        if (data == NULL) {
            bytes->failed = true;
            return NULL;
        }
        bytes->data = data;
        bytes->room = (size_t)want;
    }
    uint8_t *at = bytes->data + bytes->size;
    bytes->size += size;
    return at;
}

void ts_bytes_put(ts_bytes *bytes, const void *data, size_t size)
{
    uint8_t *at = grow(bytes, size);
    if (at != NULL && size > 0) memcpy(at, data, size);
}

void ts_bytes_fill(ts_bytes *bytes, uint8_t value, size_t count)
{
    uint8_t *at = grow(bytes, count);
    if (at != NULL) memset(at, value, count);
}

void ts_bytes_u8(ts_bytes *bytes, uint8_t value)
{
    ts_bytes_put(bytes, &value, sizeof value);
}

void ts_bytes_u16(ts_bytes *bytes, uint16_t value)
{
    ts_bytes_put(bytes, &value, sizeof value);
}

void ts_bytes_u32(ts_bytes *bytes, uint32_t value)
{
    ts_bytes_put(bytes, &value, sizeof value);
}

void ts_bytes_u64(ts_bytes *bytes, uint64_t value)
{
    ts_bytes_put(bytes, &value, sizeof value);
}

void ts_bytes_text(ts_bytes *bytes, const char *text)
{
    ts_bytes_put(bytes, text, strlen(text));
}

void ts_bytes_number(ts_bytes *bytes, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, value);
    ts_bytes_text(bytes, text);
}

void ts_bytes_json(ts_bytes *bytes, ts_name text)
{
    char escape[8];

    ts_bytes_u8(bytes, '"');
    for (size_t i = 0, start = 0; i <= text.size; i++) {
        unsigned char c = i < text.size ? (unsigned char)text.bytes[i] : 0;
        bool plain = c >= 0x20 && c != '"' && c != '\\';
        if (plain && i < text.size) continue;
        ts_bytes_put(bytes, text.bytes + start, i - start);
        start = i + 1;
        if (i == text.size) break;
        snprintf(escape, sizeof escape, c < 0x20 ? "\\u%04x" : "\\%c", c);
        ts_bytes_text(bytes, escape);
    }
    ts_bytes_u8(bytes, '"');
}
