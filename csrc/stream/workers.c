/* workers.c -- the threads of a stream: each cuts a ticket, fetches it, and
 * looks for the next. */
#include <signal.h>

#include "core/base.h"
#include "core/numa.h"
#include "core/process.h"
#include "ticket.h"

enum { STACK = 256 << 10 }; /* of a worker: ts_fetch needs some 20 KiB */

static unsigned how_to_unpack(const ts_stream *stream)
{
    const ts_stream_options *options = &stream->options;
    bool looks = options->looks.stats
              || options->looks.checksum != TS_CHECKSUM_NONE;
    bool leaves = options->sink == TS_SINK_INTO && !looks;
    return (options->trust ? TS_UNPACK_TRUST : 0u)
         | (leaves ? TS_UNPACK_BYPASS : 0u);
}

static ts_status prepare(ts_stream *stream, ts_fetch_thread *worker, ts_error *error)
{
    ts_unpacking *unpacking;
    ts_buffer *stage;

    if (worker->fetcher != NULL) return TS_OK;
    TS_TRY(ts_slab_take(stream->slab, stream->layout.stage, 0, worker->node,
                        TS_STAGE_TAG, &stage, error));
    ts_status status = ts_unpacking_new(&stream->needs, how_to_unpack(stream),
                                        &unpacking, error);
    if (status == TS_OK)
        status = ts_fetcher_new(stream->options.engine, stage,
                                stream->inflating, unpacking,
                                stream->options.looks, &worker->fetcher,
                                error);
    ts_buffer_release(stage); /* the fetcher holds it */
    return status;
}

/* Waking the caller for nothing costs more than the chunk did: it waits for
 * the next ticket, or with INTO and LOOK only for the end. */
static bool caller_has_news(ts_stream *stream)
{
    if (stream->failed || stream->next_out == stream->next_cut) return true;
    ts_slot_state head = ts_ticket_at(stream, stream->next_out)->state;
    return stream->options.sink == TS_SINK_ARRAYS && head == TS_SLOT_READY;
}

static void *work(void *argument)
{
    ts_fetch_thread *worker = argument;
    ts_stream *stream = worker->stream;

    ts_numa_run_on(worker->node);
    pthread_mutex_lock(&stream->lock);
    while (!stream->stopping && !stream->failed && !ts_stream_all_cut(stream)) {
        ts_ticket *slot = ts_ticket_begin(stream, worker->node);
        if (slot == NULL) {
            pthread_cond_wait(&stream->work, &stream->lock);
            continue;
        }
        ts_ticket_run(stream, worker, slot);
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
static int start_thread(ts_fetch_thread *worker)
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
    return stream->threads - (helps ? 1 : 0);
}

ts_status ts_workers_start(ts_stream *stream, ts_error *error)
{
    if (stream->generation != ts_process_generation())
        return ts_fail(error, TS_CLOSED,
                       "this stream belongs to the process that made it; open "
                       "one after the fork, with resume=state to go on");
    if (stream->begun != 0) return TS_OK;
    stream->begun = stream->window_begun = ts_stream_now();
    int threads = background_threads(stream), nodes = ts_numa_nodes();
    for (int i = 0; i < threads; i++) {
        ts_fetch_thread *worker = &stream->workers[i];
        worker->stream = stream;
        worker->node = i % nodes;
        TS_TRY(prepare(stream, worker, error));
    }
    ts_fetch_thread *caller = &stream->workers[TS_STREAM_MOST_THREADS];
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

void ts_workers_stop(ts_stream *stream)
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
