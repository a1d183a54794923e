#include "proc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "cgroup.h"
#include "core/base.h"
#include "proctext.h"

/* /proc/self/status lists the user's groups before its memory lines: room for
 * thousands of them. */
enum { TEXT_ROOM = 32768 };

struct ts_proc {
    char *root;        /* owned */
    ts_cgroup *cgroup; /* owned */
    int statm, status, meminfo;
    int rollup; /* -1 unless pss was asked for */
    uint64_t page;
    char text[TEXT_ROOM];
};

/* Opens everything; only when nothing is there, the first errno. */
static int open_files(ts_proc *proc, bool with_pss)
{
    int reason = 0;
    proc->statm = ts_proctext_open(proc->root, "/proc/self/statm");
    if (proc->statm < 0) reason = errno;
    proc->status = ts_proctext_open(proc->root, "/proc/self/status");
    proc->meminfo = ts_proctext_open(proc->root, "/proc/meminfo");
    if (with_pss)
        proc->rollup =
            ts_proctext_open(proc->root, "/proc/self/smaps_rollup");
    bool found =
        proc->statm >= 0 || proc->status >= 0 || proc->meminfo >= 0;
    return found ? 0 : reason;
}

ts_status ts_proc_open(const char *root, bool with_pss, ts_proc **out,
                       ts_error *error)
{
    ts_status status;
    ts_proc *proc = calloc(1, sizeof *proc);
    if (proc == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate %zu bytes",
                       sizeof *proc);
    proc->statm = proc->status = proc->meminfo = proc->rollup = -1;
    proc->page = (uint64_t)sysconf(_SC_PAGESIZE);
    proc->root = strdup(root == NULL ? "" : root);
    if (proc->root == NULL) {
        status = ts_fail(error, TS_NOMEM, "cannot copy a path");
        goto fail;
    }
    int reason = open_files(proc, with_pss);
    if (reason != 0) {
        status = ts_fail_os(error, reason,
                            "cannot read the memory of this process");
        (void)ts_error_in_file(error, status, "/proc/self/statm");
        goto fail;
    }
    status = ts_cgroup_new(proc->root, &proc->cgroup, error);
    if (status != TS_OK) goto fail;
    *out = proc;
    return TS_OK;
fail:
    ts_proc_close(proc);
    return status;
}

void ts_proc_close(ts_proc *proc)
{
    if (proc == NULL) return;
    ts_proctext_close(&proc->statm);
    ts_proctext_close(&proc->status);
    ts_proctext_close(&proc->meminfo);
    ts_proctext_close(&proc->rollup);
    ts_cgroup_free(proc->cgroup);
    free(proc->root);
    free(proc);
}

static uint64_t pages(const ts_proc *proc, const char *text)
{
    uint64_t bytes = ts_proctext_number(text);
    if (bytes == TS_MEMORY_UNKNOWN) return bytes;
    return ts_mul(bytes, proc->page, &bytes) ? bytes : TS_MEMORY_UNKNOWN;
}

/* "765 424 396 5 0 123 0": virtual and resident pages, and more. */
static void sample_statm(ts_proc *proc, ts_memory *out)
{
    ts_proctext_read(proc->statm, proc->text, sizeof proc->text);
    const char *second = proc->text + strcspn(proc->text, " ");
    out->address_used = pages(proc, proc->text);
    out->rss = pages(proc, second);
}

static void sample_status(ts_proc *proc, ts_memory *out)
{
    ts_proctext_read(proc->status, proc->text, sizeof proc->text);
    out->rss_peak = ts_proctext_field(proc->text, "VmHWM:");
    out->rss_anon = ts_proctext_field(proc->text, "RssAnon:");
    out->rss_file = ts_proctext_field(proc->text, "RssFile:");
    out->swap = ts_proctext_field(proc->text, "VmSwap:");
}

static void sample_machine(ts_proc *proc, ts_memory *out)
{
    ts_proctext_read(proc->meminfo, proc->text, sizeof proc->text);
    out->total = ts_proctext_field(proc->text, "MemTotal:");
    out->available = ts_proctext_field(proc->text, "MemAvailable:");
}

static void sample_pss(ts_proc *proc, ts_memory *out)
{
    ts_proctext_read(proc->rollup, proc->text, sizeof proc->text);
    out->pss = ts_proctext_field(proc->text, "Pss:");
}

static uint64_t address_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) != 0) return TS_MEMORY_UNKNOWN;
    return limit.rlim_cur == RLIM_INFINITY ? TS_MEMORY_UNKNOWN
                                           : (uint64_t)limit.rlim_cur;
}

void ts_proc_sample(ts_proc *proc, ts_memory *out)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    out->time_ns =
        (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    sample_statm(proc, out);
    sample_status(proc, out);
    sample_machine(proc, out);
    sample_pss(proc, out);
    out->address_limit = address_limit();
    ts_cgroup_sample(proc->cgroup, out);
}

ts_status ts_memory_sample_at(const char *root, bool with_pss, ts_memory *out,
                              ts_error *error)
{
    ts_proc *proc = NULL;
    TS_TRY(ts_proc_open(root, with_pss, &proc, error));
    ts_proc_sample(proc, out);
    ts_proc_close(proc);
    return TS_OK;
}

ts_status ts_memory_sample(bool with_pss, ts_memory *out, ts_error *error)
{
    return ts_memory_sample_at(NULL, with_pss, out, error);
}

/* UNKNOWN is the largest number there is, so the least of several passes it
 * over. */
uint64_t ts_memory_headroom(const ts_memory *sample)
{
    uint64_t room = ts_min(sample->available, sample->cgroup_room);
    if (sample->address_limit == TS_MEMORY_UNKNOWN
        || sample->address_used == TS_MEMORY_UNKNOWN)
        return room;
    return ts_min(room,
                  sample->address_limit
                      - ts_min(sample->address_limit, sample->address_used));
}
