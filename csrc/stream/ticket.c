#include "ticket.h"

#include <stdlib.h>

#include "core/base.h"
#include "monitor/monitor.h"

enum {
    WINDOW_BYTES = 16 << 20, /* at one chunk size before its rate counts */
    WINDOW_CHUNKS = 8,
};

/* ---- cutting: lock held --------------------------------------------------- */

/* Memory for the chunk, when this sink needs any. */
static ts_status take_room(ts_stream *stream, const ts_chunk *chunk, int node,
                           ts_ticket *slot, ts_error *error)
{
    const ts_recipe *recipe = &stream->recipes[chunk->item];
    uint64_t size = ts_chunk_bytes(recipe, chunk);

    slot->buffer = NULL;
    slot->out = NULL;
    if (stream->options.sink == TS_SINK_LOOK) return TS_OK;
    if (stream->options.sink == TS_SINK_INTO) {
        const ts_wanted *wanted = &stream->wanted[chunk->item];
        slot->out = wanted->into
                  + (chunk->start - wanted->start) / recipe->widths.block
                        * recipe->widths.out_size;
        return TS_OK;
    }
    if (size == 0) return TS_OK;
    uint64_t lead = ts_fetch_shift(stream->catalog, recipe, chunk);
    TS_TRY(ts_slab_take(stream->slab, size, lead, node, chunk->item,
                        &slot->buffer, error));
    slot->out = ts_buffer_data(slot->buffer);
    return TS_OK;
}

/* The next chunk with memory for it: a smaller one when little is left. */
static bool cut_with_room(ts_stream *stream, int node, ts_ticket *slot)
{
    uint64_t limit = ts_stream_limit(stream);

    for (;;) {
        ts_chunk chunk;
        ts_plan_peek(&stream->plan, limit, &chunk);
        if (take_room(stream, &chunk, node, slot, NULL) == TS_OK) {
            ts_plan_next(&stream->plan, limit, &slot->chunk);
            return true;
        }
        /* More comes back when others finish, or when nothing is on its way
         * and what is left must do. */
        bool alone = stream->next_cut == stream->next_out;
        if (!alone || limit <= TS_SLAB_GRAIN) return false;
        limit = ts_min(limit, stream->layout.most) / 2;
    }
}

static bool blocked_by_order(const ts_stream *stream)
{
    const ts_item *item = &stream->items[stream->plan.item];
    return stream->deflating > 0
        && ts_tensor_is_deflated(ts_catalog_tensor(stream->catalog, item->row));
}

static uint64_t most_tickets(const ts_stream *stream)
{
    return stream->options.sink == TS_SINK_ARRAYS ? stream->depth
                                                  : TS_STREAM_MOST_DEPTH;
}

/* Cut a ticket for whoever asks, if there is one to be had. */
ts_ticket *ts_ticket_begin(ts_stream *stream, int node)
{
    ts_ticket *slot = ts_ticket_at(stream, stream->next_cut);

    if (stream->stopping || stream->failed || ts_stream_all_cut(stream)
        || stream->next_cut - stream->next_out >= most_tickets(stream)
        || blocked_by_order(stream))
        return NULL;
    if (!cut_with_room(stream, node, slot)) {
        stream->progress.starved += !stream->waiting_for_room;
        stream->waiting_for_room = true;
        return NULL;
    }
    slot->state = TS_SLOT_BUSY;
    slot->number = stream->next_cut++;
    stream->deflating += ts_tensor_is_deflated(
        ts_catalog_tensor(stream->catalog, slot->chunk.row));
    return slot;
}

/* ---- adapting: lock held -------------------------------------------------- */

static double memory_pressure(void)
{
    ts_memory memory;

    if (ts_memory_sample(false, &memory, NULL) != TS_OK) return 0;
    uint64_t limit = ts_min(
        memory.total, ts_min(memory.cgroup_limit, memory.address_limit));
    if (limit == TS_MEMORY_UNKNOWN || memory.rss_anon == TS_MEMORY_UNKNOWN)
        return 0;
    /* Page cache is given back on demand: only what is ours counts. */
    return (double)memory.rss_anon / (double)limit;
}

/* Another chunk is there: when its window is full, choose the next size.  The
 * clock on the wall counts, because it also sees what a chunk costs besides its
 * bytes: handing it over, and the consumer's own work for each. */
static void adapt(ts_stream *stream, const ts_ticket *slot, uint64_t time)
{
    if (slot->number < stream->window_first) { /* of the size before */
        stream->window_begun = time;
        return;
    }
    stream->window_bytes += slot->outcome.file_bytes;
    stream->window_chunks++;
    if (stream->window_bytes < WINDOW_BYTES
        || stream->window_chunks < WINDOW_CHUNKS)
        return;
    uint64_t took = ts_max(time - stream->window_begun, 1);
    ts_adapt_window window = {(double)stream->window_bytes * 1e9
                                  / (double)took,
                              stream->pressure};
    uint64_t before = stream->adapt.size;
    if (ts_adapt_step(&stream->adapt, &window) != before) {
        stream->progress.chunk_changes++;
        stream->window_first = stream->next_cut;
    }
    stream->window_bytes = stream->window_chunks = 0;
    stream->window_begun = time;
}

/* ---- finishing: lock held ------------------------------------------------- */

void ts_ticket_merge(ts_stream *stream, const ts_ticket *slot)
{
    const ts_chunk *chunk = &slot->chunk;
    ts_outcome *all = &stream->outcomes[chunk->item];
    const ts_outcome *one = &slot->outcome;

    if (stream->options.looks.stats) ts_stats_merge(&all->stats, &one->stats);
    if (stream->options.looks.checksum != TS_CHECKSUM_NONE) {
        if (all->file_bytes == 0)
            all->checksum = one->checksum;
        else
            (void)ts_checksum_combine(stream->options.looks.checksum,
                                      all->checksum, one->checksum,
                                      one->file_bytes, &all->checksum);
    }
    all->file_bytes += one->file_bytes;
    stream->progress.file_bytes += one->file_bytes;
    stream->progress.elements += chunk->stop - chunk->start;
    stream->progress.items += chunk->is_last;
    stream->progress.chunks++;
}

/* INTO and LOOK need nobody to take tickets: retire what is ready, in order,
 * so that results do not depend on which thread was quicker. */
static void retire(ts_stream *stream)
{
    while (stream->next_out < stream->next_cut) {
        ts_ticket *slot = ts_ticket_at(stream, stream->next_out);
        if (slot->state != TS_SLOT_READY) return;
        ts_ticket_merge(stream, slot);
        slot->state = TS_SLOT_EMPTY;
        stream->next_out++;
    }
}

static void keep_error(ts_ticket *slot, const ts_error *error)
{
    slot->state = TS_SLOT_FAILED;
    slot->error = malloc(sizeof *slot->error);
    if (slot->error != NULL) *slot->error = *error;
}

/* Do the work of one ticket.  Lock held on entry and on return, not between. */
void ts_ticket_run(ts_stream *stream, ts_fetch_thread *worker, ts_ticket *slot)
{
    ts_error error;

    pthread_mutex_unlock(&stream->lock);
    ts_status status =
        ts_fetch(worker->fetcher, stream->catalog,
                 &stream->recipes[slot->chunk.item], &slot->chunk, slot->out,
                 &slot->outcome, &error);
    uint64_t end = ts_stream_now();
    if (status != TS_OK) { /* here, because letting go takes the lock */
        ts_buffer_release(slot->buffer);
        slot->buffer = NULL;
    }
    /* Sampling reads /proc: at most every 100 ms, and outside the lock. */
    bool sampled = end - __atomic_load_n(&stream->last_sample,
                                         __ATOMIC_RELAXED)
                 > 100000000;
    double pressure = 0;
    if (sampled && stream->adapt.rule != TS_ADAPT_NONE) {
        __atomic_store_n(&stream->last_sample, end, __ATOMIC_RELAXED);
        pressure = memory_pressure();
    } else {
        sampled = false;
    }
    pthread_mutex_lock(&stream->lock);

    if (sampled) stream->pressure = pressure;
    stream->deflating -= ts_tensor_is_deflated(
        ts_catalog_tensor(stream->catalog, slot->chunk.row));
    stream->reading[worker - stream->workers] =
        *ts_fetcher_stats(worker->fetcher);
    if (status != TS_OK) {
        keep_error(slot, &error);
        stream->failed = true;
    } else {
        slot->state = TS_SLOT_READY;
        adapt(stream, slot, end);
    }
    if (stream->options.sink != TS_SINK_ARRAYS) retire(stream);
}
