/* damage.h -- which chunks of a compressed tensor are not what was written.
 *
 * A chunk needs no neighbour, so damage stays where it is: everything else can
 * still be read (Checkpoint.verify, `tensorstream salvage`). */
#ifndef TS_STREAM_DAMAGE_H
#define TS_STREAM_DAMAGE_H

#include "formats/formats.h"

#define TS_DAMAGE_FRAME UINT64_MAX   /* its front or table: all is lost */
#define TS_DAMAGE_PADDING (UINT64_MAX - 1) /* behind it: nothing is lost */

typedef struct {
    uint64_t chunk;           /* number, or one of the above */
    uint64_t first, elements; /* that cannot be read */
    ts_error error;           /* the sentence */
} ts_damage;

typedef struct {
    ts_damage *items; /* owned */
    size_t count, room;
} ts_damages;

void ts_damages_free(ts_damages *damages); /* what it owns */

/* Unpack every chunk of a framed row and compare its hashes; add what fails.
 * Damage is a finding, not a failure: TS_OK.  Fails as reading does. */
ts_status ts_damage_find(const ts_catalog *catalog, uint32_t row,
                         ts_damages *out, ts_error *error);

#endif
