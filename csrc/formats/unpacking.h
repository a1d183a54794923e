/* unpacking.h -- elements out of the frames of a compressed tensor.
 *
 *     file --read--> stored chunk --unpack--> out, or the tile
 *                                                |
 *                                     part of a chunk, or on to a conversion
 *
 * Belongs to one thread.  The chunk unpacked last stays in the tile, so that
 * neighbours who share it do not pay twice.  All memory is taken at the start,
 * so that it can be part of a budget.  formats.h includes this. */
#ifndef TS_FORMATS_UNPACKING_H
#define TS_FORMATS_UNPACKING_H

#include "codec/codec.h"
#include "formats.h"

/* What all tensors in question need; grown tensor by tensor from zeros. */
typedef struct {
    uint32_t chunk_bytes;     /* of the largest chunk, 0 when nothing is framed */
    uint64_t chunk_count;     /* of the longest table */
    bool bases;               /* some are differences or repeats */
    uint32_t base_chunk_bytes; /* of bases that are frames themselves */
    uint64_t base_chunk_count;
    bool runs; /* read several stored chunks at once, where so many are wanted:
                  a disk is faster so.  Takes 2 MiB */
} ts_unpacking_needs;

void ts_unpacking_need(ts_unpacking_needs *needs, const ts_tensor *tensor);
uint64_t ts_unpacking_memory(const ts_unpacking_needs *needs);

typedef struct ts_unpacking ts_unpacking;

/* how: TS_UNPACK_TRUST, not to compare hashes; TS_UNPACK_BYPASS when what goes
 * into memory is more than the caches hold and nobody looks at it soon. */
ts_status ts_unpacking_new(const ts_unpacking_needs *needs, unsigned how,
                           ts_unpacking **out, ts_error *error);
void ts_unpacking_free(ts_unpacking *unpacking); /* NULL is fine */

/* Turn to this tensor: read and check the front and the table of its frame.
 * Taking does it by itself. */
ts_status ts_unpacking_open(ts_unpacking *unpacking, ts_reader *reader,
                            const ts_file *file, const ts_tensor *tensor,
                            ts_error *error);

/* Unpacked bytes of the tensor from skip on: at most size, and none beyond the
 * chunk that skip lies in.  They are in `into` when all of the chunk was asked
 * for (and into is not NULL), else in the tile until the next call. */
ts_status ts_unpacking_take(ts_unpacking *unpacking, ts_reader *reader,
                            const ts_file *file, const ts_tensor *tensor,
                            uint64_t skip, uint64_t size, uint8_t *into,
                            uint8_t **bytes, uint64_t *got, ts_error *error);

/* Exactly size bytes into `into`, wherever chunks end. */
ts_status ts_unpacking_read(ts_unpacking *unpacking, ts_reader *reader,
                            const ts_file *file, const ts_tensor *tensor,
                            uint64_t skip, uint64_t size, uint8_t *into,
                            ts_error *error);

#endif
