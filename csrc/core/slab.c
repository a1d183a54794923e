#include "slab.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base.h"
#include "numa.h"
#include "process.h"

/* Blocks and holes in address order; neighbouring holes are always merged.
 * Streams hold tens of blocks, so a list beats anything clever. */
typedef struct span {
    struct span *next, *previous;
    ts_slab *slab; /* borrowed: a used span keeps its slab alive */
    uint64_t at, size, tag;
    bool used;
} span;

struct ts_slab {
    uint8_t *memory; /* owned mapping, [0, size) usable */
    void *mapping;
    size_t mapping_size;
    uint64_t size;
    uint64_t part;       /* bytes of each node but the last */
    int nodes;
    uint64_t generation; /* of the process that made it */

    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t quiet; /* signalled when no hook is running */
    span *spans;          /* owned, address order, covers [0, size) */
    uint64_t used, peak, touched;
    size_t held;          /* used spans */
    bool closed;
    ts_slab_hook hook;
    void *hook_context;
    int hooks_running;
};

enum { HUGE_PAGE = 2 << 20 };

static ts_status map(ts_slab *slab, ts_error *error)
{
    bool huge = slab->size >= HUGE_PAGE;
    size_t extra = huge ? HUGE_PAGE : 0;

    slab->mapping_size = (size_t)slab->size + extra;
    slab->mapping =
        mmap(NULL, slab->mapping_size, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (slab->mapping == MAP_FAILED) {
        slab->mapping = NULL;
        return ts_fail(error, TS_NOMEM,
                       "cannot reserve %zu bytes for a stream: %s",
                       slab->mapping_size, strerror(errno));
    }
    uintptr_t start = (uintptr_t)slab->mapping;
    if (huge) start = (uintptr_t)ts_round_up(start, HUGE_PAGE);
    slab->memory = (uint8_t *)slab->mapping
                 + (start - (uintptr_t)slab->mapping);
    if (huge)
        (void)madvise(slab->memory, (size_t)ts_round_down(slab->size, HUGE_PAGE),
                      MADV_HUGEPAGE);
    for (int node = 0; slab->nodes > 1 && node < slab->nodes; node++)
        ts_numa_bind(slab->memory + (uint64_t)node * slab->part,
                     (size_t)(node + 1 < slab->nodes
                                  ? slab->part
                                  : slab->size - (uint64_t)node * slab->part),
                     node);
    return TS_OK;
}

static void destroy(ts_slab *slab)
{
    if (slab->mapping != NULL) munmap(slab->mapping, slab->mapping_size);
    for (span *at = slab->spans; at != NULL;) {
        span *next = at->next;
        free(at);
        at = next;
    }
    pthread_cond_destroy(&slab->quiet);
    pthread_mutex_destroy(&slab->lock);
    free(slab);
}

ts_status ts_slab_new(uint64_t size, int nodes, ts_slab **out, ts_error *error)
{
    ts_slab *slab;

    *out = NULL;
    size = ts_round_down(size, TS_SLAB_GRAIN);
    if (size == 0 || size > SIZE_MAX / 2)
        return ts_fail(error, TS_ARGUMENT,
                       "a slab of %llu bytes is below one page or too large",
                       (unsigned long long)size);
    slab = calloc(1, sizeof *slab);
    if (slab == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate a slab");
    pthread_mutex_init(&slab->lock, NULL);
    pthread_cond_init(&slab->quiet, NULL);
    slab->size = size;
    slab->nodes = nodes > 1 ? nodes : 1;
    slab->part = ts_round_down(size / (uint64_t)slab->nodes, TS_SLAB_GRAIN);
    slab->generation = ts_process_generation();
    slab->spans = calloc(1, sizeof *slab->spans);
    ts_status status = slab->spans == NULL
                         ? ts_fail(error, TS_NOMEM, "cannot allocate a slab")
                         : map(slab, error);
    if (status != TS_OK) {
        destroy(slab);
        return status;
    }
    slab->spans->size = size;
    slab->spans->slab = slab;
    *out = slab;
    return TS_OK;
}

static void give_pages_back(ts_slab *slab, const span *hole)
{
    uint64_t end = ts_min(hole->at + hole->size,
                          ts_round_up(slab->touched, TS_SLAB_GRAIN));
    if (end > hole->at)
        (void)madvise(slab->memory + hole->at, (size_t)(end - hole->at),
                      MADV_DONTNEED);
}

void ts_slab_close(ts_slab *slab)
{
    if (slab == NULL || slab->generation != ts_process_generation()) return;
    ts_slab_on_return(slab, NULL, NULL);
    pthread_mutex_lock(&slab->lock);
    slab->closed = true;
    bool last = slab->held == 0;
    for (span *at = last ? NULL : slab->spans; at != NULL; at = at->next)
        if (!at->used) give_pages_back(slab, at);
    pthread_mutex_unlock(&slab->lock);
    if (last) destroy(slab);
}

/* Join `at` with the hole behind it. */
static void absorb_next(span *at)
{
    span *gone = at->next;
    at->size += gone->size;
    at->next = gone->next;
    if (at->next != NULL) at->next->previous = at;
    free(gone);
}

/* Make a span a hole again, joined with its neighbours; returns the hole. */
static span *free_span(span *block)
{
    block->used = false;
    if (block->next != NULL && !block->next->used) absorb_next(block);
    if (block->previous != NULL && !block->previous->used) {
        block = block->previous;
        absorb_next(block);
    }
    return block;
}

static void end_block(void *context, uint8_t *data, size_t size)
{
    span *block = context;
    ts_slab *slab = block->slab;
    (void)data;
    (void)size;

    /* In a forked child the lock may be held by a thread that is not here;
     * the pages are the child's own copies and go with it. */
    if (slab->generation != ts_process_generation()) return;
    pthread_mutex_lock(&slab->lock);
    slab->used -= block->size;
    slab->held--;
    block = free_span(block);
    if (slab->closed) {
        bool last = slab->held == 0;
        if (!last) give_pages_back(slab, block);
        pthread_mutex_unlock(&slab->lock);
        if (last) destroy(slab);
        return;
    }
    ts_slab_hook hook = slab->hook;
    void *hook_context = slab->hook_context;
    if (hook == NULL) {
        pthread_mutex_unlock(&slab->lock);
        return;
    }
    slab->hooks_running++;
    pthread_mutex_unlock(&slab->lock);
    hook(hook_context);
    pthread_mutex_lock(&slab->lock);
    if (--slab->hooks_running == 0) pthread_cond_broadcast(&slab->quiet);
    pthread_mutex_unlock(&slab->lock);
}

void ts_slab_on_return(ts_slab *slab, ts_slab_hook hook, void *context)
{
    pthread_mutex_lock(&slab->lock);
    slab->hook = hook;
    slab->hook_context = context;
    while (slab->hooks_running > 0)
        pthread_cond_wait(&slab->quiet, &slab->lock);
    pthread_mutex_unlock(&slab->lock);
}

/* The lowest hole that has size bytes at or after `from`, which it may begin
 * before. */
static span *find_hole(ts_slab *slab, uint64_t size, uint64_t from)
{
    for (span *at = slab->spans; at != NULL; at = at->next)
        if (!at->used && at->at + at->size >= ts_max(at->at, from) + size)
            return at;
    return NULL;
}

/* Cut the hole so that its first part has exactly size bytes. */
static bool split(span *hole, uint64_t size)
{
    span *rest;
    if (hole->size == size) return true;
    rest = calloc(1, sizeof *rest);
    if (rest == NULL) return false;
    rest->slab = hole->slab;
    rest->at = hole->at + size;
    rest->size = hole->size - size;
    rest->previous = hole;
    rest->next = hole->next;
    if (rest->next != NULL) rest->next->previous = rest;
    hole->next = rest;
    hole->size = size;
    return true;
}

/* A hole of exactly size bytes, cut out of the lowest that is large enough,
 * the node's own part first. */
static ts_status cut_hole(ts_slab *slab, uint64_t size, int node, span **out,
                          ts_error *error)
{
    uint64_t from = slab->nodes > 1 && node > 0
                      ? (uint64_t)(node % slab->nodes) * slab->part
                      : 0;
    span *hole = find_hole(slab, size, from);

    *out = NULL;
    if (hole == NULL && from > 0) hole = find_hole(slab, size, from = 0);
    if (hole == NULL)
        return ts_fail(error, TS_BUDGET,
                       "no room for %llu bytes: %llu of %llu in use",
                       (unsigned long long)size,
                       (unsigned long long)slab->used,
                       (unsigned long long)slab->size);
    if (from > hole->at) { /* leave what lies before the node's part */
        if (!split(hole, from - hole->at))
            return ts_fail(error, TS_NOMEM, "cannot allocate a slab entry");
        hole = hole->next;
    }
    if (!split(hole, size))
        return ts_fail(error, TS_NOMEM, "cannot allocate a slab entry");
    *out = hole;
    return TS_OK;
}

ts_status ts_slab_take(ts_slab *slab, uint64_t size, uint64_t lead, int node,
                       uint64_t tag, ts_buffer **out, ts_error *error)
{
    span *hole;
    ts_status status;
    uint64_t whole = ts_max(1, size);

    *out = NULL;
    assert(lead < TS_SLAB_GRAIN);
    if (whole > slab->size - lead)
        return ts_fail(error, TS_BUDGET, "%llu bytes exceed the %llu of the "
                       "budget", (unsigned long long)size,
                       (unsigned long long)slab->size);
    whole = ts_round_up(whole + lead, TS_SLAB_GRAIN);

    pthread_mutex_lock(&slab->lock);
    status = cut_hole(slab, whole, node, &hole, error);
    if (status != TS_OK) goto done;
    status = ts_buffer_wrap(slab->memory + hole->at + lead, (size_t)size,
                            TS_ORIGIN_SLAB, end_block, hole, out, error);
    if (status != TS_OK) {
        (void)free_span(hole);
        goto done;
    }
    hole->used = true;
    hole->tag = tag;
    slab->held++;
    slab->used += whole;
    slab->peak = ts_max(slab->peak, slab->used);
    slab->touched = ts_max(slab->touched, hole->at + whole);
done:
    pthread_mutex_unlock(&slab->lock);
    return status;
}

uint64_t ts_slab_size(const ts_slab *slab) { return slab->size; }

/* In a forked child nobody else runs, and the lock may never come free. */
static uint64_t locked(ts_slab *slab, const uint64_t *field)
{
    if (slab->generation != ts_process_generation()) return *field;
    pthread_mutex_lock(&slab->lock);
    uint64_t value = *field;
    pthread_mutex_unlock(&slab->lock);
    return value;
}

uint64_t ts_slab_used(ts_slab *slab) { return locked(slab, &slab->used); }

uint64_t ts_slab_peak(ts_slab *slab) { return locked(slab, &slab->peak); }

uint64_t ts_slab_touched(ts_slab *slab)
{
    return locked(slab, &slab->touched);
}

uint64_t ts_slab_largest(ts_slab *slab)
{
    uint64_t largest = 0;
    pthread_mutex_lock(&slab->lock);
    for (span *at = slab->spans; at != NULL; at = at->next)
        if (!at->used) largest = ts_max(largest, at->size);
    pthread_mutex_unlock(&slab->lock);
    return largest;
}

size_t ts_slab_held(ts_slab *slab, ts_slab_block *out, size_t room)
{
    size_t count = 0;
    pthread_mutex_lock(&slab->lock);
    for (span *at = slab->spans; at != NULL; at = at->next) {
        if (!at->used) continue;
        if (count < room) out[count] = (ts_slab_block){at->tag, at->size};
        count++;
    }
    pthread_mutex_unlock(&slab->lock);
    return count;
}
