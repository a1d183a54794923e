/* tiles.c -- what ts.compress and ts.decompress do, without fresh memory:
 * chunks unpacked into one tile a thread, as a consumer in C takes them, and
 * packed into memory that was used before.
 *
 * Compiled by native.py together with csrc/codec and csrc/core. */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "codec/codec.h"

#define EXPORT __attribute__((visibility("default")))

enum { MOST_THREADS = 64 };

typedef struct {
    const ts_frame *frame;
    const ts_frame_writer *writer;
    const uint8_t *in;
    uint8_t *out;    /* of a packer: MOST_CHUNK apart */
    uint64_t first, step, chunks, elements;
    uint32_t chunk_elements, chunk_bytes, bound;
    unsigned how;
    int failed;
    pthread_t thread;
} part;

static void *unpack_part(void *argument)
{
    part *it = argument;
    const ts_frame_info *info = ts_frame_facts(it->frame);
    uint8_t *tile = aligned_alloc(64, (info->chunk_bytes + 63) / 64 * 64);
    ts_packer *packer;

    if (ts_packer_new(&packer, NULL) != TS_OK) it->failed = 1;
    for (uint64_t i = it->first; !it->failed && i < it->chunks; i += it->step) {
        ts_frame_chunk chunk = ts_frame_find(it->frame, i);
        if (i + it->step < it->chunks) {
            ts_frame_chunk next = ts_frame_find(it->frame, i + it->step);
            ts_packer_expect(packer,
                             (ts_ahead){it->in + next.offset, next.size});
        }
        it->failed = ts_frame_unpack(it->frame, i, it->in + chunk.offset,
                                     chunk.size, NULL, tile, it->how, packer,
                                     NULL)
                  != TS_OK;
    }
    ts_packer_free(packer);
    free(tile);
    return NULL;
}

static void *pack_part(void *argument)
{
    part *it = argument;
    ts_packer *packer;
    ts_frame_row row;

    if (ts_packer_new(&packer, NULL) != TS_OK) it->failed = 1;
    for (uint64_t i = it->first; !it->failed && i < it->chunks; i += it->step) {
        uint64_t left = it->elements - i * it->chunk_elements;
        uint32_t some = left < it->chunk_elements ? (uint32_t)left
                                                  : it->chunk_elements;
        if (i + it->step + 1 < it->chunks)
            ts_packer_expect(packer, (ts_ahead){it->in + (i + it->step)
                                                            * it->chunk_bytes,
                                               it->chunk_bytes});
        it->failed = ts_frame_pack(it->writer, it->in + i * it->chunk_bytes,
                                   NULL, some, it->out + i * it->bound,
                                   it->bound, &row, packer, NULL)
                  != TS_OK;
    }
    ts_packer_free(packer);
    return NULL;
}

static int run(part *parts, int threads, void *(*work)(void *))
{
    int failed = 0;

    for (int i = 1; i < threads; i++)
        failed |= pthread_create(&parts[i].thread, NULL, work, &parts[i]);
    work(&parts[0]);
    for (int i = 1; i < threads; i++) pthread_join(parts[i].thread, NULL);
    for (int i = 0; i < threads; i++) failed |= parts[i].failed;
    return failed;
}

/* Every chunk of a frame to a tile that stays in the cache; 0 when it went. */
EXPORT int unpack_to_tiles(const uint8_t *bytes, uint64_t size, int threads,
                           int verify)
{
    part parts[MOST_THREADS] = {0};
    ts_frame *frame;

    if (threads > MOST_THREADS
        || ts_frame_open_bytes(bytes, size, true, &frame, NULL) != TS_OK)
        return -1;
    for (int i = 0; i < threads; i++)
        parts[i] = (part){.frame = frame,
                          .in = bytes,
                          .first = (uint64_t)i,
                          .step = (uint64_t)threads,
                          .chunks = ts_frame_facts(frame)->chunk_count,
                          .how = verify ? 0 : TS_UNPACK_TRUST};
    int failed = run(parts, threads, unpack_part);
    ts_frame_free(frame);
    return failed;
}

/* A frame to memory of its size; 0 when it went. */
EXPORT int unpack_into(const uint8_t *bytes, uint64_t size, int threads,
                       int verify, uint8_t *out)
{
    unsigned how = verify ? TS_UNPACK_BYPASS
                          : TS_UNPACK_BYPASS | TS_UNPACK_TRUST;
    ts_frame *frame;

    if (ts_frame_open_bytes(bytes, size, true, &frame, NULL) != TS_OK)
        return -1;
    ts_status status =
        ts_decompress(frame, bytes, NULL, threads, how, out, NULL);
    ts_frame_free(frame);
    return status != TS_OK;
}

/* Room that pack_into needs for so many elements. */
EXPORT uint64_t packed_room(const char *dtype, uint64_t elements)
{
    ts_frame_spec spec = {.ndim = 1, .shape = &elements};
    ts_frame_writer *writer;

    if (!ts_dtype_find(dtype, strlen(dtype), &spec.dtype)
        || ts_frame_writer_new(&spec, &writer, NULL) != TS_OK)
        return 0;
    uint64_t chunk = ts_frame_writer_chunk(writer);
    uint64_t room =
        (elements + chunk - 1) / chunk * ts_frame_writer_bound(writer);
    ts_frame_writer_free(writer);
    return room;
}

/* Every chunk packed, each into its own place of out; 0 when it went. */
EXPORT int pack_into(const char *dtype, const char *mode, const uint8_t *in,
                     uint64_t elements, uint8_t *out, int threads)
{
    part parts[MOST_THREADS] = {0};
    ts_frame_spec spec = {.ndim = 1, .shape = &elements};
    ts_frame_writer *writer;
    uint64_t bytes;

    if (threads > MOST_THREADS
        || !ts_dtype_find(dtype, strlen(dtype), &spec.dtype)
        || !ts_pack_find(mode, &spec.mode)
        || ts_frame_writer_new(&spec, &writer, NULL) != TS_OK)
        return -1;
    uint32_t chunk = ts_frame_writer_chunk(writer);
    (void)ts_dtype_bytes(spec.dtype, chunk, &bytes);
    for (int i = 0; i < threads; i++)
        parts[i] = (part){.writer = writer,
                          .in = in,
                          .out = out,
                          .first = (uint64_t)i,
                          .step = (uint64_t)threads,
                          .chunks = (elements + chunk - 1) / chunk,
                          .elements = elements,
                          .chunk_elements = chunk,
                          .chunk_bytes = (uint32_t)bytes,
                          .bound = ts_frame_writer_bound(writer)};
    int failed = run(parts, threads, pack_part);
    ts_frame_writer_free(writer);
    return failed;
}
