/* fetch.h -- bring the elements of one chunk into memory, ready to use.
 *
 *     file --read--> stage --swap, check, measure, convert--> out
 *
 * What needs no change is read straight into out.  Everything that is done to
 * the bytes happens tile by tile while they are in cache.  A fetcher belongs to
 * one thread; the recipes are shared and read-only. */
#ifndef TS_STREAM_FETCH_H
#define TS_STREAM_FETCH_H

#include "codec/codec.h"
#include "formats/formats.h"
#include "plan.h"
#include "quant/quant.h"

/* How one tensor becomes what was asked for. */
typedef enum {
    TS_FORM_OWN,    /* its own dtype; blocks as F32, packed codes a byte each */
    TS_FORM_RAW,    /* the bytes of the file */
    TS_FORM_FLOATS, /* floats of any kind as `dtype`, the rest as OWN */
    TS_FORM_SCHEME, /* floats quantised, the rest as OWN */
} ts_form;

/* How floats are quantised; see ts_quantize_find.  The scale of a group is made
 * from its rows as they pass, so a group of a whole tensor cannot be. */
typedef struct {
    char scheme[16]; /* "q8_0" */
    uint64_t group;
    bool has_zero;
} ts_encoding;

typedef struct {
    ts_dtype from, to;
    bool raw;           /* delivered as the file's bytes */
    bool converts;      /* else the bytes are copied */
    bool unpacks;       /* to codes of F4 or F6, one a byte */
    uint8_t swap_width; /* bytes to reverse, 0 for none */
    bool encodes;       /* quantised by `how`, delivered as bytes: scales, then
                           codes, then zeros of the chunk's rows */
    ts_convert convert; /* encodes: to F32 before that, when converts_first */
    bool converts_first;
    ts_quantize how;
    ts_widths widths;
} ts_recipe;

/* encoding is only looked at for TS_FORM_SCHEME. */
ts_status ts_recipe_find(const ts_tensor *tensor, ts_form form, ts_dtype dtype,
                         const ts_encoding *encoding, ts_recipe *out,
                         ts_error *error);

/* What was learnt on the way. */
typedef struct {
    ts_stats stats;
    uint64_t checksum; /* of the bytes as the file holds them */
    uint64_t file_bytes;
} ts_outcome;

typedef struct {
    bool stats;
    ts_checksum_kind checksum;
} ts_looks;

/* The place in the one tensor that is being inflated; see inflating.h. */
typedef struct ts_inflating ts_inflating;
ts_status ts_inflating_new(ts_inflating **out, ts_error *error);
void ts_inflating_free(ts_inflating *inflating); /* NULL is fine */

typedef struct ts_fetcher ts_fetcher;

/* stage is retained; inflating may be NULL when nothing is deflated; unpacking
 * is taken over, whether it succeeds or not, and is NULL when nothing is
 * framed. */
ts_status ts_fetcher_new(ts_engine engine, ts_buffer *stage,
                         ts_inflating *inflating, ts_unpacking *unpacking,
                         ts_looks looks, ts_fetcher **out, ts_error *error);
void ts_fetcher_free(ts_fetcher *fetcher); /* NULL is fine */
const ts_reader_stats *ts_fetcher_stats(const ts_fetcher *fetcher);

/* Bytes that `out` should start past a page border, so that a direct read can
 * land in place; 0 where that would misalign the elements. */
uint64_t ts_fetch_shift(const ts_catalog *catalog, const ts_recipe *recipe,
                        const ts_chunk *chunk);

/* out: room for the chunk's delivered bytes, or NULL to look only. */
ts_status ts_fetch(ts_fetcher *fetcher, const ts_catalog *catalog,
                   const ts_recipe *recipe, const ts_chunk *chunk,
                   uint8_t *out, ts_outcome *outcome, ts_error *error);

#endif
