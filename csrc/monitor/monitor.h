/* monitor.h -- the door of monitor/: how much memory this process has, uses
 * and may use.
 *
 * One sample reads a few small files of /proc and of the control group; a
 * sampler does so on its own thread at an interval and keeps the peaks, a
 * bounded history, and which thresholds were crossed.  Nothing here calls
 * back: whoever wants to act on a crossing asks for it. */
#ifndef TS_MONITOR_MONITOR_H
#define TS_MONITOR_MONITOR_H

#include <stdbool.h>

#include "core/status.h"

#define TS_MEMORY_UNKNOWN UINT64_MAX

typedef struct {
    uint64_t time_ns;      /* CLOCK_MONOTONIC */
    uint64_t rss;          /* resident bytes, /proc/self/statm */
    uint64_t rss_anon;     /* of them anonymous, /proc/self/status */
    uint64_t rss_file;     /* of them file pages (mappings) */
    uint64_t rss_peak;     /* VmHWM */
    uint64_t pss;          /* /proc/self/smaps_rollup; only when asked: slow */
    uint64_t swap;         /* VmSwap */
    uint64_t cgroup_limit; /* the smallest of our memory control group and of
                              those around it, v1 or v2; UNKNOWN when none */
    uint64_t cgroup_used;  /* of the group that has that limit, file cache
                              included; of our own group when none has one */
    uint64_t cgroup_room;  /* the least that any of these groups leaves, file
                              cache that can be dropped counted as free */
    uint64_t address_limit; /* RLIMIT_AS, UNKNOWN when unlimited */
    uint64_t address_used;  /* virtual size */
    uint64_t available;    /* MemAvailable of the machine */
    uint64_t total;        /* MemTotal */
} ts_memory;

/* Take one sample.  What cannot be read is TS_MEMORY_UNKNOWN; only /proc
 * missing altogether is an error. */
ts_status ts_memory_sample(bool with_pss, ts_memory *out, ts_error *error);

/* The same from another root (tests hand in made-up /proc and cgroup trees);
 * NULL means "/". */
ts_status ts_memory_sample_at(const char *root, bool with_pss, ts_memory *out,
                              ts_error *error);

/* Pure: bytes this process may still take before something stops it: the
 * least of what the machine, the control group and RLIMIT_AS leave. */
uint64_t ts_memory_headroom(const ts_memory *sample);

typedef struct ts_sampler ts_sampler;

typedef struct {
    double interval;  /* seconds between samples, at least 0.001 */
    bool with_pss;
    uint32_t history; /* samples kept; when full, every second one is dropped
                         and the spacing doubles, so the whole run stays */
} ts_sampler_options;

/* The first sample is taken before this returns, the last one by stop. */
ts_status ts_sampler_new(const ts_sampler_options *options, ts_sampler **out,
                         ts_error *error);
ts_status ts_sampler_new_at(const char *root,
                            const ts_sampler_options *options,
                            ts_sampler **out, ts_error *error);

/* End the thread, and wait until it has ended.  What was sampled can still be
 * read; a second stop does nothing. */
void ts_sampler_stop(ts_sampler *sampler);
void ts_sampler_free(ts_sampler *sampler); /* stops first; NULL is fine */

/* All that follows may be called from any thread.  In a child process after
 * fork, where there is no sampler thread, read takes a sample on the spot,
 * history is empty, and the rest is TS_CLOSED. */

/* A threshold on rss: crossing it upwards is remembered as an event, again
 * only after rss fell below 95 % of it.  At most 32.  An rss that is above
 * already counts as a crossing at the next sample. */
ts_status ts_sampler_threshold(ts_sampler *sampler, uint64_t bytes,
                               uint32_t *index, ts_error *error);

typedef struct {
    uint32_t threshold;
    ts_memory sample;
} ts_sampler_event;

/* Wait up to timeout_ms (0: do not) for the next event; *found tells whether
 * one came.  The 64 latest are kept for whoever asks late.  TS_CLOSED once the
 * sampler is stopped and all of them are delivered. */
ts_status ts_sampler_next_event(ts_sampler *sampler, int timeout_ms,
                                ts_sampler_event *out, bool *found,
                                ts_error *error);

/* The latest sample, the peak so far, how many were taken; each out may be
 * NULL.  The peak is the sample of the largest rss, with the field-wise maxima
 * of rss, pss, swap and cgroup_used.  Its rss is exact, not only the largest
 * one sampled, when the kernel's own high-water mark rose meanwhile. */
void ts_sampler_read(ts_sampler *sampler, ts_memory *latest, ts_memory *peak,
                     uint64_t *taken);
/* Copy up to `room` samples of the history, oldest first; with room for
 * options.history of them the last is the latest sample. */
uint32_t ts_sampler_history(ts_sampler *sampler, ts_memory *out,
                            uint32_t room);

#endif
