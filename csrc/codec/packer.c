/* packer.c -- the scratch memory of one packing thread. */
#include "packer.h"

#include <stdlib.h>

#include "chunk.h"
#include "core/large.h"

typedef struct {
    uint8_t *bytes; /* owned */
    size_t size;
} room;

struct ts_packer {
    room planes, part;
    ZSTD_CCtx *cctx; /* owned, or NULL */
    ZSTD_DCtx *dctx; /* owned, or NULL */
    ts_ahead next;   /* borrowed: only ever prefetched */
};

ts_status ts_packer_new(ts_packer **out, ts_error *error)
{
    *out = calloc(1, sizeof **out);
    if (*out == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate a packer");
    return TS_OK;
}

void ts_packer_free(ts_packer *packer)
{
    if (packer == NULL) return;
    free(packer->planes.bytes);
    free(packer->part.bytes);
    ZSTD_freeCCtx(packer->cctx);
    ZSTD_freeDCtx(packer->dctx);
    free(packer);
}

ZSTD_CCtx *ts_packer_cctx(ts_packer *packer)
{
    if (packer->cctx == NULL) packer->cctx = ZSTD_createCCtx();
    return packer->cctx;
}

ZSTD_DCtx *ts_packer_dctx(ts_packer *packer)
{
    if (packer->dctx == NULL) packer->dctx = ZSTD_createDCtx();
    return packer->dctx;
}

void ts_packer_expect(ts_packer *packer, ts_ahead next)
{
    packer->next = next;
}

ts_ahead ts_packer_next(ts_packer *packer)
{
    ts_ahead next = packer->next;
    packer->next = (ts_ahead){NULL, 0};
    return next;
}

static uint8_t *grow(room *it, size_t size)
{
    if (size <= it->size) return it->bytes;
    free(it->bytes);
    size = (size_t)ts_round_up(size, 4096);
    it->bytes = size < 2 * TS_MIB ? aligned_alloc(64, size)
                                  : ts_large_new(size);
    it->size = it->bytes != NULL ? size : 0;
    return it->bytes;
}

uint8_t *ts_packer_room(ts_packer *packer, size_t size)
{
    return grow(&packer->planes, size);
}

uint8_t *ts_packer_part(ts_packer *packer, size_t size)
{
    return grow(&packer->part, size > 0 ? size : 1);
}

/* To unpack: every plane's symbols (a top byte cut in two counts twice), the
 * elements that are not zero, a bitmap, blocks and readers of ten planes.  To
 * pack: the planes twice, their elements, and what a coder writes. */
uint64_t ts_unpack_room(uint64_t bytes)
{
    return 3 * bytes + bytes / 4 + 160 * TS_KIB;
}

uint64_t ts_pack_room(uint64_t bytes) { return 7 * bytes + 256 * TS_KIB; }

ts_status ts_packer_rest(ts_packer *packer, uint64_t size, ts_rest *out,
                         ts_error *error)
{
    out->at = ts_packer_room(packer, (size_t)size);
    if (out->at == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate %llu bytes",
                       (unsigned long long)size);
    out->end = out->at + size;
    return TS_OK;
}

/* A decoder of zstd takes 94 KiB (ZSTD_sizeof_DCtx of 1.5.4), others more. */
uint64_t ts_packer_memory(uint32_t chunk_bytes)
{
    return sizeof(ts_packer) + ts_round_up(ts_unpack_room(chunk_bytes), 4096)
         + ts_round_up(chunk_bytes, 4096) + 160 * TS_KIB;
}
