/* codec.h -- the door of codec/: bytes checked and packed.
 *
 * Today: checksums over a range that arrives in pieces.  The lossless tensor
 * codec will live here too. */
#ifndef TS_CODEC_CODEC_H
#define TS_CODEC_CODEC_H

#include <stdbool.h>

#include "core/status.h"

typedef enum {
    TS_CHECKSUM_NONE,
    TS_CHECKSUM_CRC32, /* zip's and zlib's: polynomial 0xEDB88320 */
    TS_CHECKSUM_CRC32C, /* Castagnoli: polynomial 0x82F63B78, iSCSI, ext4 */
    TS_CHECKSUM_XXH3,  /* XXH3 64-bit, seed 0 */
    TS_CHECKSUM_SUM64, /* wrapping sum of little-endian 64-bit words, the last
                          one padded with zeros: only shows bytes were seen */
} ts_checksum_kind;

const char *ts_checksum_name(ts_checksum_kind kind); /* "xxh3" */
bool ts_checksum_find(const char *name, ts_checksum_kind *out);

/* One value of a whole range. */
uint64_t ts_checksum_of(ts_checksum_kind kind, const void *bytes, size_t size);

/* The running form: pieces in order, any sizes. */
typedef struct ts_checksum ts_checksum;
ts_status ts_checksum_new(ts_checksum_kind kind, ts_checksum **out,
                          ts_error *error);
void ts_checksum_free(ts_checksum *checksum); /* NULL is fine */
void ts_checksum_reset(ts_checksum *checksum);
void ts_checksum_add(ts_checksum *checksum, const void *bytes, size_t size);
uint64_t ts_checksum_value(const ts_checksum *checksum);

/* crc(a + b) from crc(a), crc(b) and the length of b, so that pieces may be
 * checked by several threads.  For CRC32 and CRC32C; SUM64 adds when every
 * piece but the last is a whole number of words; XXH3 cannot (false). */
bool ts_checksum_combine(ts_checksum_kind kind, uint64_t first,
                         uint64_t second, uint64_t second_size,
                         uint64_t *out);

/* ---- raw DEFLATE, through zlib --------------------------------------- */

typedef struct ts_inflater ts_inflater;
ts_status ts_inflater_new(ts_inflater **out, ts_error *error);
void ts_inflater_free(ts_inflater *inflater); /* NULL is fine */
void ts_inflater_reset(ts_inflater *inflater);

/* Take up to in_size bytes, make up to out_size; *done at the stream's end.
 * TS_CORRUPT when the bytes are no DEFLATE stream. */
ts_status ts_inflater_step(ts_inflater *inflater, const uint8_t *in,
                           size_t in_size, size_t *used, uint8_t *out,
                           size_t out_size, size_t *made, bool *done,
                           ts_error *error);

#endif
