/* Hostile frames and chunks: either a polite error or elements, never a byte
 * read past the chunk or written past the output; and what is packed from any
 * bytes unpacks to them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/codec.h"
#include "codec/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST = 1 << 20 }; /* bytes of a chunk that is worth unpacking */

static void require(bool holds, const char *what)
{
    if (holds) return;
    fprintf(stderr, "%s\n", what);
    abort();
}

/* A block of exactly this size, so that ASan sees one byte too far. */
static uint8_t *exactly(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    require(copy != NULL, "no memory");
    if (bytes != NULL && size > 0) memcpy(copy, bytes, size);
    return copy;
}

static void judge_status(ts_status status, const ts_error *error)
{
    if (status == TS_OK) return;
    require(status == TS_FORMAT || status == TS_CORRUPT
                || status == TS_UNSUPPORTED,
            "a status that no bytes can cause");
    require(error->message[0] != '\0', "no sentence");
}

static void judge_chunk(const ts_frame *frame, uint64_t i,
                        const uint8_t *data, ts_packer *packer)
{
    ts_frame_chunk chunk = ts_frame_find(frame, i);
    ts_error error = {0};

    if (chunk.bytes > MOST) return;
    uint8_t *stored = exactly(data + chunk.offset, chunk.size);
    uint8_t *base = calloc(1, chunk.bytes);
    uint8_t *out = exactly(NULL, chunk.bytes);
    judge_status(ts_frame_unpack(frame, i, stored, chunk.size, base, out,
                                 TS_UNPACK_TRUST, packer, &error),
                 &error);
    free(stored);
    free(base);
    free(out);
}

static void judge_frame(const uint8_t *data, size_t size, ts_packer *packer)
{
    ts_error error = {0};
    ts_frame *frame;
    ts_status status = ts_frame_open_bytes(data, size, false, &frame, &error);

    judge_status(status, &error);
    if (status != TS_OK) return;
    uint64_t count = ts_frame_facts(frame)->chunk_count;
    for (uint64_t i = 0; i < ts_min(count, 8); i++)
        judge_chunk(frame, i, data, packer);
    ts_frame_free(frame);
}

/* dtype, elements, then a chunk as it is stored. */
static void judge_stored(const uint8_t *data, size_t size, ts_packer *packer)
{
    ts_error error = {0};
    uint64_t bytes;

    if (size < 4) return;
    ts_dtype dtype = (ts_dtype)(data[0] % TS_DTYPE_COUNT);
    uint32_t elements =
        ts_load_u16(data + 1) * ts_dtype_block_count(dtype);
    require(ts_dtype_bytes(dtype, elements, &bytes), "no whole blocks");
    if (elements == 0 || bytes > MOST) return;
    uint8_t *stored = exactly(data + 3, size - 3);
    uint8_t *out = exactly(NULL, (size_t)bytes);
    judge_status(ts_chunk_unpack(dtype, stored, size - 3, elements, out,
                                 false, packer, &error),
                 &error);
    free(stored);
    free(out);
}

/* mode, dtype, then elements: a round trip. */
static void judge_packed(const uint8_t *data, size_t size, ts_packer *packer)
{
    if (size < 2) return;
    ts_pack_mode mode = (ts_pack_mode)(data[0] % TS_PACK_MODES);
    ts_dtype dtype = (ts_dtype)(data[1] % TS_DTYPE_COUNT);
    size_t blocks = (size - 2) / ts_dtype_block_size(dtype), bytes;
    uint32_t elements = (uint32_t)blocks * ts_dtype_block_count(dtype), made;
    ts_error error = {0};

    bytes = blocks * ts_dtype_block_size(dtype);
    if (blocks == 0) return;
    uint8_t *in = exactly(data + 2, bytes);
    uint8_t *stored = exactly(NULL, (size_t)ts_frame_bound(bytes));
    uint8_t *out = exactly(NULL, bytes);
    require(ts_chunk_pack(mode, dtype, in, elements, stored, &made, packer,
                          &error)
                == TS_OK,
            "cannot pack");
    uint8_t *kept = exactly(stored, made);
    require(ts_chunk_unpack(dtype, kept, made, elements, out, false, packer,
                            &error)
                == TS_OK,
            error.message);
    require(memcmp(in, out, bytes) == 0, "another tensor came back");
    free(in);
    free(stored);
    free(kept);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ts_packer *packer;

    require(ts_packer_new(&packer, NULL) == TS_OK, "no memory");
    judge_frame(data, size, packer);
    judge_stored(data, size, packer);
    judge_packed(data, size, packer);
    ts_packer_free(packer);
    return 0;
}
