/* ticket.h -- the inside of a stream: tickets on their way from the plan to the
 * consumer.  Private to stream/.
 *
 *     EMPTY --cut--> BUSY --fetched--> READY --delivered--> EMPTY
 *                      '---failed----> FAILED
 *
 * A ticket's number says its place in the order; it stands in slot number % the
 * size of the ring.  While BUSY it belongs to the thread that fetches it, at
 * all other times to the stream's lock. */
#ifndef TS_STREAM_TICKET_H
#define TS_STREAM_TICKET_H

#include <pthread.h>
#include <time.h>

#include "core/slab.h"
#include "layout.h"
#include "stream.h"

#define TS_STAGE_TAG UINT64_MAX /* of a block that is no chunk */

typedef enum {
    TS_SLOT_EMPTY,
    TS_SLOT_BUSY,
    TS_SLOT_READY,
    TS_SLOT_FAILED
} ts_slot_state;

/* One ticket on its way. */
typedef struct {
    ts_slot_state state;
    uint64_t number; /* its place in the order */
    ts_chunk chunk;
    ts_buffer *buffer; /* owned until delivered */
    uint8_t *out;      /* where the elements go; NULL to look only */
    ts_outcome outcome;
    ts_error *error; /* owned; TS_SLOT_FAILED only */
} ts_ticket;

typedef struct {
    ts_stream *stream; /* borrowed: it joins its workers */
    ts_fetcher *fetcher; /* owned */
    pthread_t thread;
    int node;
    bool running;
} ts_fetch_thread;

struct ts_stream {
    /* Fixed after ts_stream_new. */
    ts_catalog *catalog; /* retained */
    ts_stream_options options;
    ts_item *items;      /* owned */
    ts_recipe *recipes;  /* owned, one an item */
    ts_wanted *wanted;   /* owned, one an item */
    uint32_t count;
    ts_slab *slab;       /* owned */
    ts_layout layout;
    ts_inflating *inflating; /* owned; NULL when nothing is deflated */
    ts_unpacking_needs needs; /* of every fetcher */
    uint64_t overhead;   /* of the budget: what readers and unpackers keep */
    uint64_t generation;
    int threads;         /* that fetch; with ARRAYS the caller is one */
    ts_fetch_thread workers[TS_STREAM_MOST_THREADS + 1]; /* the last is the caller */

    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t work;  /* there may be something to cut */
    pthread_cond_t ready; /* the next ticket may be done */
    ts_plan plan;
    ts_adapt adapt;
    ts_ticket slots[TS_STREAM_MOST_DEPTH];
    uint64_t next_cut, next_out; /* ticket numbers */
    uint32_t deflating; /* tickets of deflated tensors in somebody's hands */
    uint32_t depth, stalls, deliveries;
    bool waiting_for_room, stopping, cancelled, failed;
    ts_outcome *outcomes; /* owned, one an item */
    uint64_t window_bytes, window_chunks, window_begun;
    uint64_t window_first; /* the first ticket of the size it measures */
    uint64_t last_sample;
    double pressure;
    uint64_t begun; /* ns; 0 before the first chunk was asked for */
    ts_progress progress;
    ts_reader_stats reading[TS_STREAM_MOST_THREADS + 1];
};

/* ---- small questions ---------------------------------------------------- */

static inline uint64_t ts_stream_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* A checksum that needs all bytes of a tensor in one pass. */
static inline bool ts_stream_is_serial(const ts_stream_options *options)
{
    return options->looks.checksum == TS_CHECKSUM_XXH3;
}

static inline ts_ticket *ts_ticket_at(ts_stream *stream, uint64_t number)
{
    return &stream->slots[number % TS_STREAM_MOST_DEPTH];
}

static inline bool ts_stream_all_cut(const ts_stream *stream)
{
    return stream->plan.item >= stream->plan.count;
}

/* The most a chunk may have now: bytes in the file, and bytes delivered. */
static inline uint64_t ts_stream_limit(const ts_stream *stream)
{
    return ts_stream_is_serial(&stream->options) ? UINT64_MAX : stream->adapt.size;
}

static inline uint64_t ts_chunk_bytes(const ts_recipe *recipe, const ts_chunk *chunk)
{
    return (chunk->stop - chunk->start) / recipe->widths.block
         * recipe->widths.out_size;
}

/* ---- ticket.c: all with the lock held ------------------------------------ */

/* Cut a ticket for whoever asks, with memory near its node; NULL when there is
 * none to be had now. */
ts_ticket *ts_ticket_begin(ts_stream *stream, int node);

/* Do the work of one ticket.  Lets go of the lock meanwhile. */
void ts_ticket_run(ts_stream *stream, ts_fetch_thread *worker,
                   ts_ticket *slot);

/* Add what a READY ticket brought to its item and to the progress. */
void ts_ticket_merge(ts_stream *stream, const ts_ticket *slot);

/* ---- workers.c ------------------------------------------------------------ */

/* Start the threads, the first time. */
ts_status ts_workers_start(ts_stream *stream, ts_error *error);
void ts_workers_stop(ts_stream *stream); /* and join them */

#endif
