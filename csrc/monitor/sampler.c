#include "monitor.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base.h"
#include "core/process.h"
#include "proc.h"

enum {
    MAX_THRESHOLDS = 32,
    MAX_EVENTS = 64,
    STACK_SIZE = 128 * 1024, /* a few KiB are used: paths, no recursion */
};

#define NS_PER_S ((uint64_t)1000000000)
#define MAX_HISTORY ((uint32_t)1 << 20)
#define MAX_INTERVAL 86400.0

typedef enum { RUNNING, STOPPING, STOPPED } phase;

struct threshold {
    uint64_t bytes;
    bool armed; /* rss was below since the last crossing */
};

struct ts_sampler {
    uint64_t interval_ns;
    bool with_pss;
    uint64_t generation; /* of the process that has the thread */
    ts_proc *proc;       /* owned; used by new, then by the thread alone */
    pthread_t thread;

    pthread_mutex_t mutex; /* protects all that follows */
    pthread_cond_t wake;   /* the phase changed: for the thread, and stop */
    pthread_cond_t news;   /* an event, or the phase changed: for waiters */
    phase phase;
    uint64_t taken;
    ts_memory first, latest, peak;

    /* Every stride-th sample, and the latest beside them. */
    ts_memory *history; /* owned */
    uint32_t history_room, history_count;
    uint64_t stride;

    struct threshold thresholds[MAX_THRESHOLDS];
    uint32_t threshold_count;
    ts_sampler_event events[MAX_EVENTS]; /* a ring */
    uint32_t event_first, event_count;
};

/* ---- what one more sample changes (under the mutex) -------------------- */

static uint64_t known_max(uint64_t a, uint64_t b)
{
    if (a == TS_MEMORY_UNKNOWN) return b;
    return b == TS_MEMORY_UNKNOWN ? a : ts_max(a, b);
}

/* The kernel's high-water mark covers the whole life of the process.  Once it
 * has risen beyond what it was at the beginning it is ours, and knows the
 * peaks that fell between two samples. */
static uint64_t peak_rss(const ts_memory *first, const ts_memory *sample)
{
    bool rose = first->rss_peak != TS_MEMORY_UNKNOWN
             && sample->rss_peak != TS_MEMORY_UNKNOWN
             && sample->rss_peak > first->rss_peak;
    return rose ? known_max(sample->rss, sample->rss_peak) : sample->rss;
}

static void update_peak(ts_sampler *sampler, const ts_memory *sample)
{
    ts_memory before = sampler->peak;
    ts_memory *peak = &sampler->peak;
    uint64_t rss = peak_rss(&sampler->first, sample);

    if (known_max(before.rss, rss) != before.rss || sampler->taken == 0)
        *peak = *sample;
    peak->rss = known_max(before.rss, rss);
    peak->pss = known_max(before.pss, sample->pss);
    peak->swap = known_max(before.swap, sample->swap);
    peak->cgroup_used = known_max(before.cgroup_used, sample->cgroup_used);
}

static void thin_history(ts_sampler *sampler)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < sampler->history_count; i += 2)
        sampler->history[kept++] = sampler->history[i];
    sampler->history_count = kept;
    sampler->stride *= 2;
}

/* One place is left for the latest sample. */
static void update_history(ts_sampler *sampler, const ts_memory *sample)
{
    if (sampler->history_room < 2) return;
    if (sampler->taken % sampler->stride != 0) return;
    if (sampler->history_count == sampler->history_room - 1)
        thin_history(sampler);
    if (sampler->taken % sampler->stride == 0)
        sampler->history[sampler->history_count++] = *sample;
}

static void add_event(ts_sampler *sampler, uint32_t index,
                      const ts_memory *sample)
{
    if (sampler->event_count == MAX_EVENTS) {
        sampler->event_first = (sampler->event_first + 1) % MAX_EVENTS;
        sampler->event_count--;
    }
    uint32_t place =
        (sampler->event_first + sampler->event_count++) % MAX_EVENTS;
    sampler->events[place] = (ts_sampler_event){index, *sample};
    pthread_cond_broadcast(&sampler->news);
}

static void update_thresholds(ts_sampler *sampler, const ts_memory *sample)
{
    if (sample->rss == TS_MEMORY_UNKNOWN) return;
    for (uint32_t i = 0; i < sampler->threshold_count; i++) {
        struct threshold *threshold = &sampler->thresholds[i];
        if (sample->rss >= threshold->bytes && threshold->armed) {
            threshold->armed = false;
            add_event(sampler, i, sample);
        } else if (sample->rss < threshold->bytes - threshold->bytes / 20) {
            threshold->armed = true;
        }
    }
}

static void add_sample(ts_sampler *sampler, const ts_memory *sample)
{
    if (sampler->taken == 0) sampler->first = *sample;
    update_peak(sampler, sample);
    update_history(sampler, sample);
    update_thresholds(sampler, sample);
    sampler->latest = *sample;
    sampler->taken++;
}

/* ---- the thread -------------------------------------------------------- */

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* The condition variables use CLOCK_MONOTONIC: see start_locks. */
static int wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex,
                      uint64_t time_ns)
{
    struct timespec until = {
        .tv_sec = (time_t)(time_ns / NS_PER_S),
        .tv_nsec = (long)(time_ns % NS_PER_S),
    };
    return pthread_cond_timedwait(cond, mutex, &until);
}

/* Sleep to the next beat that is still to come: a late thread skips beats
 * rather than running after them.  False when the sampler is to stop. */
static bool sleep_to(ts_sampler *sampler, uint64_t *beat)
{
    uint64_t now = now_ns();
    *beat += sampler->interval_ns;
    if (*beat <= now)
        *beat += (now - *beat) / sampler->interval_ns * sampler->interval_ns
               + sampler->interval_ns;
    while (sampler->phase == RUNNING)
        if (wait_until(&sampler->wake, &sampler->mutex, *beat) == ETIMEDOUT)
            break;
    return sampler->phase == RUNNING;
}

/* Samples outside of the mutex; the last one when it is told to stop. */
static void *run(void *context)
{
    ts_sampler *sampler = context;
    uint64_t beat = sampler->first.time_ns;
    bool more = true;

    pthread_mutex_lock(&sampler->mutex);
    while (more) {
        ts_memory sample;
        more = sleep_to(sampler, &beat);
        pthread_mutex_unlock(&sampler->mutex);
        ts_proc_sample(sampler->proc, &sample);
        pthread_mutex_lock(&sampler->mutex);
        add_sample(sampler, &sample);
    }
    pthread_mutex_unlock(&sampler->mutex);
    return NULL;
}

static int create_thread(ts_sampler *sampler, size_t stack_size)
{
    pthread_attr_t attributes;
    int failed = pthread_attr_init(&attributes);
    if (failed != 0) return failed;
    if (stack_size > 0)
        failed = pthread_attr_setstacksize(&attributes, stack_size);
    if (failed == 0)
        failed = pthread_create(&sampler->thread, &attributes, run, sampler);
    pthread_attr_destroy(&attributes);
    return failed;
}

/* Signals are the program's own business, so the thread takes none. */
static ts_status start_thread(ts_sampler *sampler, ts_error *error)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = create_thread(sampler, STACK_SIZE);
    /* The thread-local variables of other libraries live on the stack, too,
     * and may not leave enough of a small one. */
    if (failed == EINVAL) failed = create_thread(sampler, 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0)
        return ts_fail_os(error, failed, "cannot start the sampler thread");
    pthread_setname_np(sampler->thread, "ts-sampler");
    return TS_OK;
}

/* ---- lifetime ---------------------------------------------------------- */

static ts_status check_options(const ts_sampler_options *options,
                               ts_error *error)
{
    if (!(options->interval >= 0.001 && options->interval <= MAX_INTERVAL))
        return ts_fail(error, TS_ARGUMENT,
                       "interval must be from 0.001 to %g seconds, not %g",
                       MAX_INTERVAL, options->interval);
    if (options->history > MAX_HISTORY)
        return ts_fail(error, TS_ARGUMENT,
                       "history must be at most %u samples, not %u",
                       MAX_HISTORY, options->history);
    return TS_OK;
}

static void start_locks(ts_sampler *sampler)
{
    pthread_condattr_t attributes;
    pthread_mutex_init(&sampler->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&sampler->wake, &attributes);
    pthread_cond_init(&sampler->news, &attributes);
    pthread_condattr_destroy(&attributes);
}

static bool is_ours(const ts_sampler *sampler)
{
    return sampler->generation == ts_process_generation();
}

static void dispose(ts_sampler *sampler)
{
    ts_proc_close(sampler->proc);
    free(sampler->history);
    free(sampler);
}

static ts_status allocate(const ts_sampler_options *options, ts_sampler **out,
                          ts_error *error)
{
    ts_sampler *sampler = calloc(1, sizeof *sampler);
    if (sampler == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate %zu bytes",
                       sizeof *sampler);
    sampler->interval_ns =
        (uint64_t)llround(options->interval * (double)NS_PER_S);
    sampler->with_pss = options->with_pss;
    sampler->generation = ts_process_generation();
    sampler->history_room = options->history;
    sampler->stride = 1;
    memset(&sampler->peak, 0xff, sizeof sampler->peak); /* all UNKNOWN */
    sampler->history =
        calloc((size_t)options->history + 1, sizeof *sampler->history);
    if (sampler->history == NULL) {
        free(sampler);
        return ts_fail(error, TS_NOMEM, "cannot allocate %u samples",
                       options->history);
    }
    *out = sampler;
    return TS_OK;
}

ts_status ts_sampler_new_at(const char *root,
                            const ts_sampler_options *options,
                            ts_sampler **out, ts_error *error)
{
    ts_sampler *sampler = NULL;
    ts_memory sample;
    TS_TRY(check_options(options, error));
    TS_TRY(allocate(options, &sampler, error));
    ts_status status =
        ts_proc_open(root, options->with_pss, &sampler->proc, error);
    if (status != TS_OK) {
        dispose(sampler);
        return status;
    }
    ts_proc_sample(sampler->proc, &sample);
    add_sample(sampler, &sample);
    start_locks(sampler);
    status = start_thread(sampler, error);
    if (status != TS_OK) {
        sampler->phase = STOPPED;
        ts_sampler_free(sampler);
        return status;
    }
    *out = sampler;
    return TS_OK;
}

ts_status ts_sampler_new(const ts_sampler_options *options, ts_sampler **out,
                         ts_error *error)
{
    return ts_sampler_new_at(NULL, options, out, error);
}

/* Whoever comes first joins the thread; the others wait for that. */
void ts_sampler_stop(ts_sampler *sampler)
{
    if (!is_ours(sampler)) return;
    pthread_mutex_lock(&sampler->mutex);
    bool first = sampler->phase == RUNNING;
    if (first) {
        sampler->phase = STOPPING;
        pthread_cond_broadcast(&sampler->wake);
        pthread_mutex_unlock(&sampler->mutex);
        pthread_join(sampler->thread, NULL);
        pthread_mutex_lock(&sampler->mutex);
        sampler->phase = STOPPED;
        pthread_cond_broadcast(&sampler->wake);
        pthread_cond_broadcast(&sampler->news);
    }
    while (sampler->phase != STOPPED)
        pthread_cond_wait(&sampler->wake, &sampler->mutex);
    pthread_mutex_unlock(&sampler->mutex);
}

/* In a child the locks are left alone: the thread that is not there any more
 * may have held them. */
void ts_sampler_free(ts_sampler *sampler)
{
    if (sampler == NULL) return;
    if (is_ours(sampler)) {
        ts_sampler_stop(sampler);
        pthread_cond_destroy(&sampler->wake);
        pthread_cond_destroy(&sampler->news);
        pthread_mutex_destroy(&sampler->mutex);
    }
    dispose(sampler);
}

/* ---- for other threads ------------------------------------------------- */

static ts_status fail_forked(ts_error *error)
{
    return ts_fail(error, TS_CLOSED,
                   "the sampler belongs to the process that forked this one");
}

ts_status ts_sampler_threshold(ts_sampler *sampler, uint64_t bytes,
                               uint32_t *index, ts_error *error)
{
    ts_status status = TS_OK;
    if (bytes == 0)
        return ts_fail(error, TS_ARGUMENT,
                       "a threshold must be at least one byte");
    if (!is_ours(sampler)) return fail_forked(error);
    pthread_mutex_lock(&sampler->mutex);
    if (sampler->phase != RUNNING)
        status = ts_fail(error, TS_CLOSED, "the sampler is stopped");
    else if (sampler->threshold_count == MAX_THRESHOLDS)
        status = ts_fail(error, TS_ARGUMENT, "there are already %d thresholds",
                         MAX_THRESHOLDS);
    if (status == TS_OK) {
        *index = sampler->threshold_count++;
        sampler->thresholds[*index] = (struct threshold){bytes, .armed = true};
    }
    pthread_mutex_unlock(&sampler->mutex);
    return status;
}

/* Under the mutex; false when there is none. */
static bool take_event(ts_sampler *sampler, ts_sampler_event *out)
{
    if (sampler->event_count == 0) return false;
    *out = sampler->events[sampler->event_first];
    sampler->event_first = (sampler->event_first + 1) % MAX_EVENTS;
    sampler->event_count--;
    return true;
}

ts_status ts_sampler_next_event(ts_sampler *sampler, int timeout_ms,
                                ts_sampler_event *out, bool *found,
                                ts_error *error)
{
    ts_status status = TS_OK;
    if (!is_ours(sampler)) return fail_forked(error);
    uint64_t until = now_ns();
    if (timeout_ms > 0) until += (uint64_t)timeout_ms * 1000000u;

    pthread_mutex_lock(&sampler->mutex);
    while (sampler->event_count == 0 && sampler->phase != STOPPED)
        if (wait_until(&sampler->news, &sampler->mutex, until) == ETIMEDOUT)
            break;
    *found = take_event(sampler, out);
    if (!*found && sampler->phase == STOPPED)
        status = ts_fail(error, TS_CLOSED, "the sampler is stopped");
    pthread_mutex_unlock(&sampler->mutex);
    return status;
}

/* What a child gets: its own memory as it is now. */
static void read_here(const ts_sampler *sampler, ts_memory *out)
{
    if (ts_memory_sample(sampler->with_pss, out, NULL) != TS_OK)
        memset(out, 0xff, sizeof *out); /* every field TS_MEMORY_UNKNOWN */
}

void ts_sampler_read(ts_sampler *sampler, ts_memory *latest, ts_memory *peak,
                     uint64_t *taken)
{
    ts_memory here[2];
    uint64_t count = 0;

    if (is_ours(sampler)) {
        pthread_mutex_lock(&sampler->mutex);
        here[0] = sampler->latest;
        here[1] = sampler->peak;
        count = sampler->taken;
        pthread_mutex_unlock(&sampler->mutex);
    } else {
        read_here(sampler, &here[0]);
        here[1] = here[0];
    }
    if (latest != NULL) *latest = here[0];
    if (peak != NULL) *peak = here[1];
    if (taken != NULL) *taken = count;
}

uint32_t ts_sampler_history(ts_sampler *sampler, ts_memory *out, uint32_t room)
{
    if (!is_ours(sampler) || sampler->history_room == 0) return 0;
    pthread_mutex_lock(&sampler->mutex);
    uint32_t kept = sampler->history_count;
    uint32_t count = kept < room ? kept : room;
    memcpy(out, sampler->history, count * sizeof *out);
    bool latest_is_kept =
        kept > 0
        && sampler->history[kept - 1].time_ns == sampler->latest.time_ns;
    if (count < room && !latest_is_kept) out[count++] = sampler->latest;
    pthread_mutex_unlock(&sampler->mutex);
    return count;
}
