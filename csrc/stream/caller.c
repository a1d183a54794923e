/* caller.c -- the consumer's side: take the next chunk, wait for the end,
 * cancel.  A caller that would have to wait fetches a chunk itself. */
#include <errno.h>
#include <stdio.h>

#include "core/base.h"
#include "core/process.h"
#include "ticket.h"

enum {
    DEPTH_DELIVERIES = 32, /* between two looks at the depth */
    HELD_NAMES = 4,        /* how many a budget error lists */
};

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
        if (tag == TS_STAGE_TAG) continue;
        for (size_t k = i; k < count; k++) {
            if (blocks[k].tag != tag) continue;
            size += blocks[k].size;
            pieces++;
            if (k > i) blocks[k].tag = TS_STAGE_TAG;
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
                   (unsigned long long)stream->options.budget, held);
}

static void count_stall(ts_stream *stream, bool stalled)
{
    stream->stalls += stalled;
    if (++stream->deliveries < DEPTH_DELIVERIES) return;
    stream->depth = ts_adapt_depth(stream->depth, TS_STREAM_MOST_DEPTH / 2,
                                   stream->stalls, stream->deliveries);
    stream->stalls = stream->deliveries = 0;
}

static void deliver(ts_stream *stream, ts_ticket *slot, ts_next *out)
{
    ts_ticket_merge(stream, slot);
    out->delivery = (ts_delivery){slot->chunk,
                                  &stream->recipes[slot->chunk.item],
                                  slot->buffer};
    slot->buffer = NULL;
    slot->state = TS_SLOT_EMPTY;
    stream->next_out++;
    pthread_cond_signal(&stream->work);
}

static ts_status give_error(ts_stream *stream, const ts_ticket *slot,
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
        ts_ticket *slot = ts_ticket_at(stream, stream->next_out);
        if (slot->state == TS_SLOT_FAILED) {
            *status = give_error(stream, slot, error);
            return true;
        }
        if (slot->state != TS_SLOT_READY) return false;
        deliver(stream, slot, out);
        return true;
    }
    out->done = ts_stream_all_cut(stream);
    return out->done;
}

static ts_status next_locked(ts_stream *stream, int timeout_ms, ts_next *out,
                             ts_error *error)
{
    struct timespec deadline = deadline_in(timeout_ms);
    ts_fetch_thread *caller = &stream->workers[TS_STREAM_MOST_THREADS];
    ts_status status;
    bool stalled = false;

    while (!settle(stream, out, &status, error)) {
        if (!stalled) count_stall(stream, stalled = true);
        ts_ticket *slot = ts_ticket_begin(stream, caller->node);
        if (slot != NULL) {
            ts_ticket_run(stream, caller, slot);
            if (stream->inflating) pthread_cond_broadcast(&stream->work);
            continue;
        }
        if (stream->next_out == stream->next_cut && !ts_stream_all_cut(stream)
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
    TS_TRY(ts_workers_start(stream, error));
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
    TS_TRY(ts_workers_start(stream, error));
    pthread_mutex_lock(&stream->lock);
    for (;;) {
        ts_ticket *head = ts_ticket_at(stream, stream->next_out);
        if (stream->cancelled) {
            status = ts_fail(error, TS_CANCELLED, "the stream was cancelled");
            break;
        }
        if (stream->next_out < stream->next_cut && head->state == TS_SLOT_FAILED) {
            status = give_error(stream, head, error);
            break;
        }
        *done = ts_stream_all_cut(stream) && stream->next_out == stream->next_cut;
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
