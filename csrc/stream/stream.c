#include "stream.h"

#include <stdlib.h>

#include "core/base.h"
#include "core/cpu.h"
#include "core/numa.h"
#include "core/process.h"
#include "ticket.h"

/* Memory that each thread keeps for itself, taken from the budget too. */
static uint64_t own_memory(const ts_stream *stream)
{
    return ts_reader_overhead(stream->options.engine)
         + ts_unpacking_memory(&stream->needs);
}

static int thread_count(const ts_stream *stream)
{
    const ts_stream_options *options = &stream->options;
    int threads = options->threads;
    if (threads <= 0) threads = ts_cpu_count() < 4 ? ts_cpu_count() : 4;
    /* One thread reads one range at a time, and a disk wants several. */
    if (options->threads <= 0 && threads < 2) threads = 2;
    if (threads > TS_STREAM_MOST_THREADS) threads = TS_STREAM_MOST_THREADS;
    uint64_t each = own_memory(stream);
    while (threads > 1 && (uint64_t)threads * each > options->budget / 2)
        threads--;
    return threads;
}

static ts_status check_options(const ts_stream_options *options,
                               ts_error *error)
{
    if (options->budget < TS_STREAM_LEAST_BUDGET)
        return ts_fail(error, TS_ARGUMENT,
                       "the budget is %llu bytes, at least %d are needed",
                       (unsigned long long)options->budget,
                       TS_STREAM_LEAST_BUDGET);
    if (ts_stream_is_serial(options) && options->sink != TS_SINK_LOOK)
        return ts_fail(error, TS_ARGUMENT,
                       "xxh3 needs whole tensors; while streaming use crc32c");
    if (options->form == TS_FORM_SCHEME && options->sink == TS_SINK_INTO)
        return ts_fail(error, TS_ARGUMENT,
                       "what is quantised comes in chunks of its own layout, "
                       "not into memory");
    return TS_OK;
}

static ts_status fill_items(ts_stream *stream, ts_error *error)
{
    for (uint32_t i = 0; i < stream->count; i++) {
        const ts_wanted *wanted = &stream->wanted[i];
        const ts_tensor *tensor =
            ts_catalog_tensor(stream->catalog, wanted->row);
        ts_recipe *recipe = &stream->recipes[i];
        ts_form form = stream->options.sink == TS_SINK_LOOK
                         ? TS_FORM_OWN
                         : stream->options.form;
        TS_TRY(ts_recipe_find(tensor, form, stream->options.dtype,
                              &stream->options.encoding, recipe, error));
        if (wanted->stop < wanted->start || wanted->stop > tensor->elements
            || wanted->start % recipe->widths.block != 0
            || wanted->stop % recipe->widths.block != 0)
            return ts_error_in_tensor(
                error,
                ts_fail(error, TS_ARGUMENT,
                        "elements %llu to %llu of %llu are no whole blocks "
                        "of %u inside it",
                        (unsigned long long)wanted->start,
                        (unsigned long long)wanted->stop,
                        (unsigned long long)tensor->elements,
                        recipe->widths.block),
                tensor->name.bytes, tensor->name.size);
        ts_unpacking_need(&stream->needs, tensor);
        stream->items[i] = (ts_item){
            .row = wanted->row,
            .widths = recipe->widths,
            .grain = tensor->frame == NULL ? 0
                   : tensor->frame->chunk_bytes / recipe->widths.in_size
                         * recipe->widths.block,
            .start = wanted->start,
            .stop = wanted->stop,
        };
        uint64_t blocks =
            (wanted->stop - wanted->start) / recipe->widths.block;
        stream->progress.file_bytes_total += blocks * recipe->widths.in_size;
        stream->progress.elements_total += wanted->stop - wanted->start;
        ts_stats_begin(&stream->outcomes[i].stats);
    }
    stream->progress.items_total = stream->count;
    return TS_OK;
}

/* Does anything pass through a stage, and in pieces of at least how many
 * bytes?  Is anything deflated? */
static void look_at_items(const ts_stream *stream, bool *stages,
                          uint64_t *piece, bool *deflated)
{
    *stages = stream->options.sink == TS_SINK_LOOK;
    *piece = 0;
    *deflated = false;
    for (uint32_t i = 0; i < stream->count; i++) {
        const ts_tensor *tensor =
            ts_catalog_tensor(stream->catalog, stream->items[i].row);
        const ts_recipe *recipe = &stream->recipes[i];
        /* Frames are converted out of the unpacker's own memory, unless rows
         * must stay together. */
        if ((recipe->converts && tensor->frame == NULL) || recipe->encodes
            || tensor->strides != NULL)
            *stages = true;
        if (recipe->encodes)
            *piece = ts_max(*piece, recipe->widths.in_size);
        if (ts_tensor_is_deflated(tensor)) *deflated = true;
    }
}

/* Is most of what is wanted first not in the page cache? */
static bool starts_cold(const ts_stream *stream)
{
    const ts_tensor *tensor;
    uint64_t cached, size;

    if (stream->count == 0) return false;
    tensor = ts_catalog_tensor(stream->catalog, stream->items[0].row);
    size = ts_min(tensor->extent, 8 * TS_MIB);
    return ts_file_cached(ts_catalog_file(stream->catalog, tensor->file),
                          tensor->offset, size, &cached)
        && cached < size / 2;
}

static void begin_adapting(ts_stream *stream)
{
    const ts_layout *layout = &stream->layout;
    uint64_t fixed = ts_min(stream->options.chunk_size, layout->most);

    if (fixed > 0)
        ts_adapt_begin(&stream->adapt, TS_ADAPT_NONE, fixed, fixed, fixed);
    else
        ts_adapt_begin(&stream->adapt, TS_ADAPT_SPEED, layout->least,
                       layout->most, layout->start);
}

/* Two threads that read 172 KiB at a time, which is a chunk of bf16, got 1.6
 * GB/s of a virtual disk; 1 MiB at a time 2.8.  It takes 2 MiB a thread. */
static bool should_run(const ts_stream *stream, bool cold)
{
    uint64_t share = stream->options.budget / (8 * (uint64_t)stream->threads);
    return cold && stream->needs.chunk_bytes > 0 && share >= 2 * TS_MIB;
}

/* A compressed tensor is unpacked a chunk at a time. */
static ts_status check_room(const ts_stream *stream, ts_error *error)
{
    uint64_t least = stream->overhead + TS_STREAM_LEAST_BUDGET / 4;

    if (stream->options.budget >= least) return TS_OK;
    return ts_fail(error, TS_ARGUMENT,
                   "the budget is %llu bytes; to unpack compressed chunks of "
                   "%u bytes at least %llu are needed",
                   (unsigned long long)stream->options.budget,
                   stream->needs.chunk_bytes, (unsigned long long)least);
}

static ts_status start_parts(ts_stream *stream, ts_error *error)
{
    bool stages, deflated;
    uint64_t piece;
    bool delivers = stream->options.sink == TS_SINK_ARRAYS;

    look_at_items(stream, &stages, &piece, &deflated);
    stream->threads = thread_count(stream);
    bool cold = starts_cold(stream);
    stream->needs.runs = should_run(stream, cold);
    stream->overhead = (uint64_t)stream->threads * own_memory(stream);
    TS_TRY(check_room(stream, error));
    uint64_t budget = stream->options.budget - stream->overhead;
    ts_layout_question question = {
        .budget = budget,
        .fetchers = stream->threads,
        .delivers = delivers,
        .stages = stages,
        .piece = piece,
        .cold = cold,
    };
    ts_layout_of(&question, &stream->layout);
    begin_adapting(stream);
    if (deflated) TS_TRY(ts_inflating_new(&stream->inflating, error));
    return ts_slab_new(budget, ts_numa_nodes(), &stream->slab, error);
}

static ts_status allocate(ts_stream *stream, const ts_wanted *wanted,
                          uint32_t count, ts_error *error)
{
    size_t room = count > 0 ? count : 1;

    stream->items = calloc(room, sizeof *stream->items);
    stream->recipes = calloc(room, sizeof *stream->recipes);
    stream->wanted = calloc(room, sizeof *stream->wanted);
    stream->outcomes = calloc(room, sizeof *stream->outcomes);
    if (stream->items == NULL || stream->recipes == NULL
        || stream->wanted == NULL || stream->outcomes == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate a stream of %u "
                       "tensors", count);
    if (count > 0) memcpy(stream->wanted, wanted, count * sizeof *wanted);
    stream->count = count;
    return TS_OK;
}

static void room_came_back(void *context)
{
    ts_stream *stream = context;
    pthread_mutex_lock(&stream->lock);
    if (stream->waiting_for_room) {
        stream->waiting_for_room = false;
        pthread_cond_broadcast(&stream->work);
        pthread_cond_broadcast(&stream->ready);
    }
    pthread_mutex_unlock(&stream->lock);
}

static void init_locks(ts_stream *stream)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&stream->lock, NULL);
    pthread_cond_init(&stream->work, &monotonic);
    pthread_cond_init(&stream->ready, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

ts_status ts_stream_new(ts_catalog *catalog, const ts_wanted *wanted,
                        uint32_t count, const ts_stream_options *options,
                        ts_stream **out, ts_error *error)
{
    ts_stream *stream;
    ts_status status;

    *out = NULL;
    TS_TRY(check_options(options, error));
    stream = calloc(1, sizeof *stream);
    if (stream == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate a stream");
    stream->catalog = ts_catalog_retain(catalog);
    stream->options = *options;
    stream->generation = ts_process_generation();
    stream->depth = 4;
    init_locks(stream);
    status = allocate(stream, wanted, count, error);
    if (status == TS_OK) status = fill_items(stream, error);
    if (status == TS_OK) status = start_parts(stream, error);
    if (status != TS_OK) {
        ts_stream_free(stream);
        return status;
    }
    ts_slab_on_return(stream->slab, room_came_back, stream);
    ts_plan_begin(&stream->plan, catalog, stream->items, count,
                  options->sink == TS_SINK_ARRAYS);
    *out = stream;
    return TS_OK;
}

void ts_stream_free(ts_stream *stream)
{
    if (stream == NULL) return;
    /* A forked child has neither our threads nor a usable lock: leave it. */
    if (stream->generation != ts_process_generation()) return;
    ts_workers_stop(stream);
    for (int i = 0; i <= TS_STREAM_MOST_THREADS; i++)
        ts_fetcher_free(stream->workers[i].fetcher);
    if (stream->slab != NULL) ts_slab_on_return(stream->slab, NULL, NULL);
    for (int i = 0; i < TS_STREAM_MOST_DEPTH; i++) {
        ts_buffer_release(stream->slots[i].buffer);
        free(stream->slots[i].error);
    }
    ts_slab_close(stream->slab);
    ts_inflating_free(stream->inflating);
    free(stream->outcomes);
    free(stream->wanted);
    free(stream->recipes);
    free(stream->items);
    pthread_cond_destroy(&stream->ready);
    pthread_cond_destroy(&stream->work);
    pthread_mutex_destroy(&stream->lock);
    ts_catalog_release(stream->catalog);
    free(stream);
}
