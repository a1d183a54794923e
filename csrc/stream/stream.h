/* stream.h -- the door of stream/: chosen tensors come past, in order, inside a
 * budget.
 *
 *      plan --cut--> ticket 7   ticket 8   ticket 9        (at most `depth`)
 *                      |          |          |
 *                    worker     worker     the caller itself, when idle
 *                      |          |          |
 *                    READY      BUSY       BUSY
 *                      '--> delivered strictly by ticket number
 *
 * Chunks are cut, fetched by whichever thread is free, and handed out in the
 * order they were cut.  All bulk memory is one slab of the size of the budget.
 * Memory that somebody still holds is never written again; when it leaves no
 * room the error says what is held.
 *
 * Three sinks: ARRAYS delivers buffers; INTO writes into the caller's memory;
 * LOOK only measures and checks. */
#ifndef TS_STREAM_STREAM_H
#define TS_STREAM_STREAM_H

#include "adapt.h"
#include "damage.h"
#include "fetch.h"
#include "layers.h"
#include "pick.h"
#include "plan.h"

enum {
    TS_STREAM_LEAST_BUDGET = 1 << 20,
    TS_STREAM_MOST_THREADS = 64,
    TS_STREAM_MOST_DEPTH = 64,
};

typedef enum { TS_SINK_ARRAYS, TS_SINK_INTO, TS_SINK_LOOK } ts_sink;

typedef struct {
    ts_sink sink;
    ts_form form;
    ts_dtype dtype;  /* of FORM_FLOATS */
    ts_encoding encoding; /* of FORM_SCHEME, which needs SINK_ARRAYS */
    uint64_t budget; /* bytes */
    int threads;     /* 0: one a core, at most 4 */
    ts_engine engine;
    uint64_t chunk_size; /* bytes; 0: whatever turns out to be fastest */
    ts_looks looks;
    bool trust; /* compressed chunks are not compared with their hashes */
} ts_stream_options;

/* What was asked of one tensor. */
typedef struct {
    uint32_t row;
    uint64_t start, stop; /* elements, on block borders */
    uint8_t *into;        /* TS_SINK_INTO: where the elements go */
} ts_wanted;

typedef struct {
    ts_chunk chunk;
    const ts_recipe *recipe; /* the stream's */
    ts_buffer *buffer;       /* the caller releases it; NULL for no elements */
} ts_delivery;

typedef struct {
    uint64_t file_bytes, file_bytes_total;
    uint64_t elements, elements_total;
    uint32_t items, items_total; /* tensors wholly done */
    uint64_t chunks;
    uint64_t chunk_size; /* now, bytes */
    uint32_t depth;
    uint64_t chunk_changes;      /* times the rule moved */
    uint64_t memory_used, memory_peak, budget;
    uint64_t starved;            /* times a worker found no room */
    uint64_t ns;                 /* since the first chunk was asked for */
    ts_reader_stats reading;     /* of all threads */
} ts_progress;

typedef struct ts_stream ts_stream;

/* The catalog is retained; wanted is copied.  No byte is read yet. */
ts_status ts_stream_new(ts_catalog *catalog, const ts_wanted *wanted,
                        uint32_t count, const ts_stream_options *options,
                        ts_stream **out, ts_error *error);
void ts_stream_free(ts_stream *stream); /* stops and joins; NULL is fine */

/* ARRAYS: the next chunk.  TS_OK with *pending when timeout_ms passed first;
 * TS_OK with *done at the end. */
typedef struct {
    ts_delivery delivery;
    bool pending, done;
} ts_next;
ts_status ts_stream_next(ts_stream *stream, int timeout_ms, ts_next *out,
                         ts_error *error);

/* INTO and LOOK: wait until all is done. */
ts_status ts_stream_wait(ts_stream *stream, int timeout_ms, bool *done,
                         ts_error *error);

void ts_stream_cancel(ts_stream *stream); /* any thread, any time */

void ts_stream_progress(ts_stream *stream, ts_progress *out);

/* The first element not yet delivered: item count at the end. */
void ts_stream_position(ts_stream *stream, uint32_t *item, uint64_t *element);

/* Of one item, as far as it has come. */
void ts_stream_outcome(ts_stream *stream, uint32_t item, ts_outcome *out);
const ts_recipe *ts_stream_recipe(const ts_stream *stream, uint32_t item);

/* What a stream with these options would do, without any memory or thread:
 * chunks at the starting size, the most memory it will ever use. */
typedef struct {
    uint64_t file_bytes, delivered_bytes, elements, chunks;
    uint64_t chunk_size, peak_memory;
    int threads;
} ts_forecast;
ts_status ts_stream_forecast(ts_catalog *catalog, const ts_wanted *wanted,
                             uint32_t count, const ts_stream_options *options,
                             ts_forecast *out, ts_error *error);

#endif
