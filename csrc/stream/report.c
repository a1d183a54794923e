/* report.c -- what a stream says of itself, while it runs and beforehand. */
#include "core/base.h"
#include "core/process.h"
#include "ticket.h"

/* In a forked child a lock may belong to a thread that is not there, and
 * nobody else runs: look without it. */
static bool enter(ts_stream *stream)
{
    if (stream->generation != ts_process_generation()) return false;
    pthread_mutex_lock(&stream->lock);
    return true;
}

static void leave(ts_stream *stream, bool locked)
{
    if (locked) pthread_mutex_unlock(&stream->lock);
}

static void add_reading(ts_reader_stats *into, const ts_reader_stats *from)
{
    for (int i = 0; i < TS_ENGINE_COUNT; i++) {
        into->bytes[i] += from->bytes[i];
        into->ns[i] += from->ns[i];
    }
    into->calls += from->calls;
}

void ts_stream_progress(ts_stream *stream, ts_progress *out)
{
    bool locked = enter(stream);
    *out = stream->progress;
    out->chunk_size = stream->adapt.size;
    out->depth = stream->depth;
    out->ns = stream->begun == 0 ? 0 : ts_stream_now() - stream->begun;
    out->reading = (ts_reader_stats){0};
    for (int i = 0; i <= TS_STREAM_MOST_THREADS; i++)
        add_reading(&out->reading, &stream->reading[i]);
    leave(stream, locked);
    out->memory_used = ts_slab_used(stream->slab) + stream->overhead;
    out->memory_peak = ts_slab_peak(stream->slab) + stream->overhead;
    out->budget = stream->options.budget;
}

void ts_stream_position(ts_stream *stream, uint32_t *item, uint64_t *element)
{
    bool locked = enter(stream);
    if (stream->next_out < stream->next_cut) {
        const ts_chunk *chunk = &ts_ticket_at(stream, stream->next_out)->chunk;
        *item = chunk->item;
        *element = chunk->start;
    } else {
        *item = stream->plan.item;
        *element = stream->plan.at;
    }
    leave(stream, locked);
}

void ts_stream_outcome(ts_stream *stream, uint32_t item, ts_outcome *out)
{
    bool locked = enter(stream);
    *out = stream->outcomes[item];
    leave(stream, locked);
}

const ts_recipe *ts_stream_recipe(const ts_stream *stream, uint32_t item)
{
    return &stream->recipes[item];
}

ts_status ts_stream_forecast(ts_catalog *catalog, const ts_wanted *wanted,
                             uint32_t count, const ts_stream_options *options,
                             ts_forecast *out, ts_error *error)
{
    ts_stream *stream;
    ts_chunk chunk;

    /* The slab is only an address range until it is touched. */
    TS_TRY(ts_stream_new(catalog, wanted, count, options, &stream, error));
    *out = (ts_forecast){
        .file_bytes = stream->progress.file_bytes_total,
        .elements = stream->progress.elements_total,
        .chunk_size = stream->adapt.size,
        .threads = stream->threads,
    };
    uint64_t limit = ts_stream_limit(stream);
    while (ts_plan_next(&stream->plan, limit, &chunk)) {
        out->delivered_bytes +=
            ts_chunk_bytes(&stream->recipes[chunk.item], &chunk);
        out->chunks++;
    }
    /* Never more than the budget; less when all of it would fit in less. */
    out->peak_memory =
        stream->layout.stage * (uint64_t)stream->threads;
    if (options->sink == TS_SINK_ARRAYS)
        out->peak_memory +=
            out->delivered_bytes + 2 * TS_SLAB_GRAIN * out->chunks;
    out->peak_memory =
        ts_min(out->peak_memory, ts_slab_size(stream->slab))
        + stream->overhead;
    ts_stream_free(stream);
    return TS_OK;
}
