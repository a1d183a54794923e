#include "stream.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/base.h"
#include "core/cpu.h"
#include "core/numa.h"
#include "core/process.h"
#include "core/slab.h"
#include "layout.h"
#include "monitor/monitor.h"

enum {
    STACK = 256 << 10,       /* of a worker: ts_fetch needs some 20 KiB */
    STAGE_TAG = -1,          /* a block that is no chunk */
    WINDOW_BYTES = 16 << 20, /* at one chunk size before its rate counts */
    WINDOW_CHUNKS = 8,
    DEPTH_DELIVERIES = 32,
    HELD_NAMES = 4, /* how many a budget error lists */
};

typedef enum { EMPTY, BUSY, READY, FAILED } slot_state;

/* One ticket on its way. */
typedef struct {
    slot_state state;
    ts_chunk chunk;
    ts_buffer *buffer; /* owned until delivered */
    uint8_t *out;      /* where the elements go; NULL to look only */
    ts_outcome outcome;
    ts_error *error; /* owned; FAILED only */
} ticket;

typedef struct {
    ts_stream *stream; /* borrowed: it joins its workers */
    ts_fetcher *fetcher; /* owned */
    pthread_t thread;
    int node;
    bool running;
} fetch_thread;

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
    uint64_t generation;
    int threads;
    fetch_thread workers[TS_STREAM_MOST_THREADS + 1]; /* the last is the caller */

    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t work;  /* there may be something to cut */
    pthread_cond_t ready; /* the next ticket may be done */
    ts_plan plan;
    ts_adapt adapt;
    ticket slots[TS_STREAM_MOST_DEPTH];
    uint64_t next_cut, next_out; /* ticket numbers */
    uint32_t busy;
    uint32_t deflating; /* tickets of deflated tensors in somebody's hands */
    uint32_t depth, stalls, deliveries;
    bool waiting_for_room, stopping, cancelled, failed;
    ts_outcome *outcomes; /* owned, one an item */
    uint64_t window_bytes, window_chunks, window_begun;
    uint64_t last_sample;
    double pressure;
    uint64_t begun; /* ns; 0 before the first chunk was asked for */
    ts_progress progress;
    ts_reader_stats reading[TS_STREAM_MOST_THREADS + 1];
};

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* ---- making and ending --------------------------------------------------- */

static int thread_count(const ts_stream_options *options)
{
    int threads = options->threads;
    if (threads <= 0) threads = ts_cpu_count() < 4 ? ts_cpu_count() : 4;
    /* One thread reads one range at a time, and a disk wants several. */
    if (options->threads <= 0 && threads < 2) threads = 2;
    return threads < TS_STREAM_MOST_THREADS ? threads : TS_STREAM_MOST_THREADS;
}

static bool is_deflated(const ts_tensor *tensor)
{
    return tensor->storage == TS_DEFLATED
        || tensor->storage == TS_DEFLATED_SWAPPED;
}

/* A checksum that needs all bytes of a tensor in one pass. */
static bool is_serial(const ts_stream_options *options)
{
    return options->looks.checksum == TS_CHECKSUM_XXH3;
}

static ts_status check_options(const ts_stream_options *options,
                               ts_error *error)
{
    if (options->budget < TS_STREAM_LEAST_BUDGET)
        return ts_fail(error, TS_ARGUMENT,
                       "the budget is %llu bytes, at least %d are needed",
                       (unsigned long long)options->budget,
                       TS_STREAM_LEAST_BUDGET);
    if (is_serial(options) && options->sink != TS_SINK_LOOK)
        return ts_fail(error, TS_ARGUMENT,
                       "xxh3 needs whole tensors; while streaming use crc32c");
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
        TS_TRY(ts_recipe_find(tensor, form, stream->options.dtype, recipe,
                              error));
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
        stream->items[i] = (ts_item){wanted->row, recipe->widths,
                                     wanted->start, wanted->stop};
        uint64_t blocks =
            (wanted->stop - wanted->start) / recipe->widths.block;
        stream->progress.file_bytes_total += blocks * recipe->widths.in_size;
        stream->progress.elements_total += wanted->stop - wanted->start;
        ts_stats_begin(&stream->outcomes[i].stats);
    }
    stream->progress.items_total = stream->count;
    return TS_OK;
}

/* Does anything pass through a stage, is anything deflated? */
static void look_at_items(const ts_stream *stream, bool *stages,
                          bool *deflated)
{
    *stages = stream->options.sink == TS_SINK_LOOK;
    *deflated = false;
    for (uint32_t i = 0; i < stream->count; i++) {
        const ts_tensor *tensor =
            ts_catalog_tensor(stream->catalog, stream->items[i].row);
        if (stream->recipes[i].converts || tensor->strides != NULL)
            *stages = true;
        if (is_deflated(tensor)) *deflated = true;
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
    const ts_stream_options *options = &stream->options;
    const ts_layout *layout = &stream->layout;
    uint64_t start = layout->start;

    if (options->chunk_size > 0)
        start = ts_min(options->chunk_size, layout->most);
    ts_adapt_begin(&stream->adapt,
                   options->chunk_size > 0 ? TS_ADAPT_NONE : TS_ADAPT_SPEED,
                   layout->least, layout->most, start);
}

static ts_status start_parts(ts_stream *stream, ts_error *error)
{
    bool stages, deflated;
    bool delivers = stream->options.sink == TS_SINK_ARRAYS;

    look_at_items(stream, &stages, &deflated);
    stream->threads = thread_count(&stream->options);
    ts_layout_question question = {
        .budget = stream->options.budget,
        .fetchers = stream->threads + (delivers ? 1 : 0),
        .delivers = delivers,
        .stages = stages,
        .cold = starts_cold(stream),
    };
    ts_layout_of(&question, &stream->layout);
    begin_adapting(stream);
    if (deflated) TS_TRY(ts_inflating_new(&stream->inflating, error));
    return ts_slab_new(stream->options.budget, ts_numa_nodes(), &stream->slab,
                       error);
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

static void stop_workers(ts_stream *stream)
{
    pthread_mutex_lock(&stream->lock);
    stream->stopping = true;
    pthread_cond_broadcast(&stream->work);
    pthread_cond_broadcast(&stream->ready);
    pthread_mutex_unlock(&stream->lock);
    for (int i = 0; i < stream->threads; i++)
        if (stream->workers[i].running)
            pthread_join(stream->workers[i].thread, NULL);
}

void ts_stream_free(ts_stream *stream)
{
    if (stream == NULL) return;
    /* A forked child has neither our threads nor a usable lock: leave it. */
    if (stream->generation != ts_process_generation()) return;
    stop_workers(stream);
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

/* ---- cutting: lock held --------------------------------------------------- */

static ticket *slot_of(ts_stream *stream, uint64_t number)
{
    return &stream->slots[number % TS_STREAM_MOST_DEPTH];
}

static bool all_cut(const ts_stream *stream)
{
    return stream->plan.item >= stream->plan.count;
}

/* The most a chunk may have now: bytes in the file, and bytes delivered. */
static uint64_t present_limit(const ts_stream *stream)
{
    return is_serial(&stream->options) ? UINT64_MAX : stream->adapt.size;
}

static uint64_t delivered_bytes(const ts_recipe *recipe, const ts_chunk *chunk)
{
    return (chunk->stop - chunk->start) / recipe->widths.block
         * recipe->widths.out_size;
}

/* Memory for the chunk, when this sink needs any. */
static ts_status take_room(ts_stream *stream, const ts_chunk *chunk, int node,
                           ticket *slot, ts_error *error)
{
    const ts_recipe *recipe = &stream->recipes[chunk->item];
    uint64_t size = delivered_bytes(recipe, chunk);

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
static bool cut_with_room(ts_stream *stream, int node, ticket *slot)
{
    uint64_t limit = present_limit(stream);

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
        && is_deflated(ts_catalog_tensor(stream->catalog, item->row));
}

static uint64_t most_tickets(const ts_stream *stream)
{
    return stream->options.sink == TS_SINK_ARRAYS ? stream->depth
                                                  : TS_STREAM_MOST_DEPTH;
}

/* Cut a ticket for whoever asks, if there is one to be had. */
static ticket *begin_ticket(ts_stream *stream, int node)
{
    ticket *slot = slot_of(stream, stream->next_cut);

    if (stream->stopping || stream->failed || all_cut(stream)
        || stream->next_cut - stream->next_out >= most_tickets(stream)
        || blocked_by_order(stream))
        return NULL;
    if (!cut_with_room(stream, node, slot)) {
        stream->progress.starved += !stream->waiting_for_room;
        stream->waiting_for_room = true;
        return NULL;
    }
    slot->state = BUSY;
    stream->next_cut++;
    stream->busy++;
    stream->deflating += is_deflated(
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
static void adapt(ts_stream *stream, const ticket *slot, uint64_t time)
{
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
    stream->progress.chunk_changes +=
        ts_adapt_step(&stream->adapt, &window) != before;
    stream->window_bytes = stream->window_chunks = 0;
    stream->window_begun = time;
}

/* ---- finishing: lock held ------------------------------------------------- */

static void merge(ts_stream *stream, const ticket *slot)
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
        ticket *slot = slot_of(stream, stream->next_out);
        if (slot->state != READY) return;
        merge(stream, slot);
        slot->state = EMPTY;
        stream->next_out++;
    }
}

static void keep_error(ticket *slot, const ts_error *error)
{
    slot->state = FAILED;
    slot->error = malloc(sizeof *slot->error);
    if (slot->error != NULL) *slot->error = *error;
}

/* Do the work of one ticket.  Lock held on entry and on return, not between. */
static void run_ticket(ts_stream *stream, fetch_thread *worker, ticket *slot)
{
    ts_error error;

    pthread_mutex_unlock(&stream->lock);
    ts_status status =
        ts_fetch(worker->fetcher, stream->catalog,
                 &stream->recipes[slot->chunk.item], &slot->chunk, slot->out,
                 &slot->outcome, &error);
    uint64_t end = now();
    if (status != TS_OK) { /* here, because letting go takes the lock */
        ts_buffer_release(slot->buffer);
        slot->buffer = NULL;
    }
    /* Sampling reads /proc: at most every 20 ms, and outside the lock. */
    bool sampled = end - __atomic_load_n(&stream->last_sample,
                                         __ATOMIC_RELAXED)
                 > 20000000;
    double pressure = 0;
    if (sampled && stream->adapt.rule != TS_ADAPT_NONE) {
        __atomic_store_n(&stream->last_sample, end, __ATOMIC_RELAXED);
        pressure = memory_pressure();
    } else {
        sampled = false;
    }
    pthread_mutex_lock(&stream->lock);

    if (sampled) stream->pressure = pressure;
    stream->busy--;
    stream->deflating -= is_deflated(
        ts_catalog_tensor(stream->catalog, slot->chunk.row));
    stream->reading[worker - stream->workers] =
        *ts_fetcher_stats(worker->fetcher);
    if (status != TS_OK) {
        keep_error(slot, &error);
        stream->failed = true;
    } else {
        slot->state = READY;
        adapt(stream, slot, end);
    }
    if (stream->options.sink != TS_SINK_ARRAYS) retire(stream);
}

/* ---- workers -------------------------------------------------------------- */

static ts_status prepare(ts_stream *stream, fetch_thread *worker, ts_error *error)
{
    ts_buffer *stage;

    if (worker->fetcher != NULL) return TS_OK;
    TS_TRY(ts_slab_take(stream->slab, stream->layout.stage, 0, worker->node,
                        (uint64_t)STAGE_TAG, &stage, error));
    ts_status status =
        ts_fetcher_new(stream->options.engine, stage, stream->inflating,
                       stream->options.looks, &worker->fetcher, error);
    ts_buffer_release(stage); /* the fetcher holds it */
    return status;
}

/* Waking the caller for nothing costs more than the chunk did: it waits for
 * the next ticket, or with INTO and LOOK only for the end. */
static bool caller_has_news(ts_stream *stream)
{
    if (stream->failed || stream->next_out == stream->next_cut) return true;
    slot_state head = slot_of(stream, stream->next_out)->state;
    return stream->options.sink == TS_SINK_ARRAYS && head == READY;
}

static void *work(void *argument)
{
    fetch_thread *worker = argument;
    ts_stream *stream = worker->stream;

    ts_numa_run_on(worker->node);
    pthread_mutex_lock(&stream->lock);
    while (!stream->stopping && !stream->failed && !all_cut(stream)) {
        ticket *slot = begin_ticket(stream, worker->node);
        if (slot == NULL) {
            pthread_cond_wait(&stream->work, &stream->lock);
            continue;
        }
        run_ticket(stream, worker, slot);
        if (caller_has_news(stream)) pthread_cond_signal(&stream->ready);
        /* Others may have waited for the order or the ring. */
        if (stream->options.sink != TS_SINK_ARRAYS || stream->inflating)
            pthread_cond_broadcast(&stream->work);
    }
    pthread_cond_broadcast(&stream->work);
    pthread_cond_broadcast(&stream->ready);
    pthread_mutex_unlock(&stream->lock);
    return NULL;
}

/* Signals belong to the threads of the program, not to ours. */
static int start_thread(fetch_thread *worker)
{
    sigset_t all, before;
    pthread_attr_t attributes;

    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&worker->thread, &attributes, work, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    worker->running = failed == 0;
    return failed;
}

/* The caller itself fetches when it would have to wait, so it counts as one of
 * the threads: with ARRAYS, one thread fewer runs in the background. */
static int background_threads(const ts_stream *stream)
{
    bool helps = stream->options.sink == TS_SINK_ARRAYS;
    return helps && stream->threads > 1 ? stream->threads - 1
                                        : stream->threads;
}

static ts_status begin(ts_stream *stream, ts_error *error)
{
    if (stream->generation != ts_process_generation())
        return ts_fail(error, TS_CLOSED,
                       "this stream belongs to the process that made it; open "
                       "one after the fork, with resume=state to go on");
    if (stream->begun != 0) return TS_OK;
    stream->begun = stream->window_begun = now();
    int threads = background_threads(stream), nodes = ts_numa_nodes();
    for (int i = 0; i < threads; i++) {
        fetch_thread *worker = &stream->workers[i];
        worker->stream = stream;
        worker->node = i % nodes;
        TS_TRY(prepare(stream, worker, error));
    }
    fetch_thread *caller = &stream->workers[TS_STREAM_MOST_THREADS];
    caller->stream = stream;
    if (stream->options.sink == TS_SINK_ARRAYS)
        TS_TRY(prepare(stream, caller, error));
    for (int i = 0; i < threads; i++) {
        int failed = start_thread(&stream->workers[i]);
        if (failed != 0 && i == 0)
            return ts_fail_os(error, failed, "cannot start a reader thread");
    }
    return TS_OK;
}

/* ---- the caller's side ----------------------------------------------------- */

static struct timespec deadline_in(int ms)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    time.tv_sec += ms / 1000;
    time.tv_nsec += (long)(ms % 1000) * 1000000;
    if (time.tv_nsec >= 1000000000) {
        time.tv_sec++;
        time.tv_nsec -= 1000000000;
    }
    return time;
}

/* "layers.3.w (2 chunks, 512 KiB), ..." of what nobody has let go of. */
static void describe_held(ts_stream *stream, char *out, size_t room)
{
    ts_slab_block blocks[256];
    size_t count = ts_slab_held(stream->slab, blocks, TS_COUNT_OF(blocks));
    size_t written = 0, listed = 0;

    count = count < TS_COUNT_OF(blocks) ? count : TS_COUNT_OF(blocks);
    out[0] = '\0';
    for (size_t i = 0; i < count && listed < HELD_NAMES; i++) {
        uint64_t tag = blocks[i].tag, size = 0;
        unsigned pieces = 0;
        if (tag == (uint64_t)STAGE_TAG) continue;
        for (size_t k = i; k < count; k++) {
            if (blocks[k].tag != tag) continue;
            size += blocks[k].size;
            pieces++;
            if (k > i) blocks[k].tag = (uint64_t)STAGE_TAG;
        }
        ts_name name =
            ts_catalog_tensor(stream->catalog, stream->items[tag].row)->name;
        int more = snprintf(out + written, room - written,
                            "%s%.*s (%u chunk%s, %llu KiB)",
                            listed > 0 ? ", " : "",
                            (int)ts_min(name.size, 60), name.bytes, pieces,
                            pieces == 1 ? "" : "s",
                            (unsigned long long)(size / 1024));
        if (more < 0 || (size_t)more >= room - written) return;
        written += (size_t)more;
        listed++;
    }
}

static ts_status no_room(ts_stream *stream, ts_error *error)
{
    char held[200];
    describe_held(stream, held, sizeof held);
    return ts_fail(error, TS_BUDGET,
                   "the budget of %llu bytes is held by arrays still in use: "
                   "%s",
                   (unsigned long long)ts_slab_size(stream->slab), held);
}

static void count_stall(ts_stream *stream, bool stalled)
{
    stream->stalls += stalled;
    if (++stream->deliveries < DEPTH_DELIVERIES) return;
    stream->depth = ts_adapt_depth(stream->depth, TS_STREAM_MOST_DEPTH / 2,
                                   stream->stalls, stream->deliveries);
    stream->stalls = stream->deliveries = 0;
}

static void deliver(ts_stream *stream, ticket *slot, ts_next *out)
{
    merge(stream, slot);
    out->delivery = (ts_delivery){slot->chunk,
                                  &stream->recipes[slot->chunk.item],
                                  slot->buffer};
    slot->buffer = NULL;
    slot->state = EMPTY;
    stream->next_out++;
    pthread_cond_signal(&stream->work);
}

static ts_status give_error(ts_stream *stream, const ticket *slot,
                            ts_error *error)
{
    (void)stream;
    if (slot->error == NULL)
        return ts_fail(error, TS_NOMEM, "out of memory while failing");
    if (error != NULL) *error = *slot->error;
    return slot->error->status;
}

/* One look at the queue; true when *status and *out say how it ended. */
static bool settle(ts_stream *stream, ts_next *out, ts_status *status,
                   ts_error *error)
{
    *status = TS_OK;
    if (stream->cancelled) {
        *status = ts_fail(error, TS_CANCELLED, "the stream was cancelled");
        return true;
    }
    if (stream->next_out < stream->next_cut) {
        ticket *slot = slot_of(stream, stream->next_out);
        if (slot->state == FAILED) {
            *status = give_error(stream, slot, error);
            return true;
        }
        if (slot->state != READY) return false;
        deliver(stream, slot, out);
        return true;
    }
    out->done = all_cut(stream);
    return out->done;
}

static ts_status next_locked(ts_stream *stream, int timeout_ms, ts_next *out,
                             ts_error *error)
{
    struct timespec deadline = deadline_in(timeout_ms);
    fetch_thread *caller = &stream->workers[TS_STREAM_MOST_THREADS];
    ts_status status;
    bool stalled = false;

    while (!settle(stream, out, &status, error)) {
        if (!stalled) count_stall(stream, stalled = true);
        ticket *slot = begin_ticket(stream, caller->node);
        if (slot != NULL) {
            run_ticket(stream, caller, slot);
            if (stream->inflating) pthread_cond_broadcast(&stream->work);
            continue;
        }
        if (stream->next_out == stream->next_cut && !all_cut(stream)
            && !stream->stopping)
            return no_room(stream, error);
        if (pthread_cond_timedwait(&stream->ready, &stream->lock, &deadline)
            == ETIMEDOUT) {
            out->pending = !settle(stream, out, &status, error);
            break;
        }
    }
    if (!stalled && out->delivery.recipe != NULL) count_stall(stream, false);
    return status;
}

ts_status ts_stream_next(ts_stream *stream, int timeout_ms, ts_next *out,
                         ts_error *error)
{
    *out = (ts_next){0};
    TS_TRY(begin(stream, error));
    pthread_mutex_lock(&stream->lock);
    ts_status status = next_locked(stream, timeout_ms, out, error);
    pthread_mutex_unlock(&stream->lock);
    return status;
}

ts_status ts_stream_wait(ts_stream *stream, int timeout_ms, bool *done,
                         ts_error *error)
{
    struct timespec deadline = deadline_in(timeout_ms);
    ts_status status = TS_OK;

    *done = false;
    TS_TRY(begin(stream, error));
    pthread_mutex_lock(&stream->lock);
    for (;;) {
        ticket *head = slot_of(stream, stream->next_out);
        if (stream->cancelled) {
            status = ts_fail(error, TS_CANCELLED, "the stream was cancelled");
            break;
        }
        if (stream->next_out < stream->next_cut && head->state == FAILED) {
            status = give_error(stream, head, error);
            break;
        }
        *done = all_cut(stream) && stream->next_out == stream->next_cut;
        if (*done
            || pthread_cond_timedwait(&stream->ready, &stream->lock, &deadline)
                   == ETIMEDOUT)
            break;
    }
    pthread_mutex_unlock(&stream->lock);
    return status;
}

void ts_stream_cancel(ts_stream *stream)
{
    if (stream->generation != ts_process_generation()) return;
    pthread_mutex_lock(&stream->lock);
    stream->cancelled = stream->stopping = true;
    pthread_cond_broadcast(&stream->work);
    pthread_cond_broadcast(&stream->ready);
    pthread_mutex_unlock(&stream->lock);
}

/* ---- what a caller may ask -------------------------------------------------- */

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
    out->ns = stream->begun == 0 ? 0 : now() - stream->begun;
    out->reading = (ts_reader_stats){0};
    for (int i = 0; i <= TS_STREAM_MOST_THREADS; i++)
        add_reading(&out->reading, &stream->reading[i]);
    leave(stream, locked);
    out->memory_used = ts_slab_used(stream->slab);
    out->memory_peak = ts_slab_peak(stream->slab);
    out->budget = ts_slab_size(stream->slab);
}

void ts_stream_position(ts_stream *stream, uint32_t *item, uint64_t *element)
{
    bool locked = enter(stream);
    if (stream->next_out < stream->next_cut) {
        const ts_chunk *chunk = &slot_of(stream, stream->next_out)->chunk;
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
    uint64_t limit = present_limit(stream);
    while (ts_plan_next(&stream->plan, limit, &chunk)) {
        out->delivered_bytes +=
            delivered_bytes(&stream->recipes[chunk.item], &chunk);
        out->chunks++;
    }
    /* Never more than the budget; less when all of it would fit in less. */
    uint64_t fetchers = (uint64_t)stream->threads + 1;
    out->peak_memory = stream->layout.stage * fetchers;
    if (options->sink == TS_SINK_ARRAYS)
        out->peak_memory +=
            out->delivered_bytes + 2 * TS_SLAB_GRAIN * out->chunks;
    out->peak_memory =
        ts_min(out->peak_memory, ts_slab_size(stream->slab));
    ts_stream_free(stream);
    return TS_OK;
}
