/* Memory figures from made-up trees (argument 1 is a scratch folder), and the
 * sampler on this very process. */
#include "check.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base.h"
#include "monitor/monitor.h"
#include "monitor/proctext.h"

#define UNKNOWN TS_MEMORY_UNKNOWN

static char scratch[PATH_MAX / 2];
static char tree[PATH_MAX / 2 + 32]; /* the made-up root of this test */

/* ---- building trees ---------------------------------------------------- */

static void new_tree(void)
{
    static int count;
    snprintf(tree, sizeof tree, "%s/monitor-%d-%d", scratch, (int)getpid(),
             count++);
    mkdir(tree, 0777);
}

static void remove_below(const char *folder)
{
    DIR *list = opendir(folder);
    for (struct dirent *item; list != NULL && (item = readdir(list));) {
        char path[PATH_MAX];
        if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0)
            continue;
        if (snprintf(path, sizeof path, "%s/%s", folder, item->d_name)
            >= (int)sizeof path)
            continue;
        if (item->d_type == DT_DIR) remove_below(path);
        else unlink(path);
    }
    if (list != NULL) closedir(list);
    rmdir(folder);
}

static void put(const char *path, const char *text)
{
    char full[PATH_MAX];
    if (snprintf(full, sizeof full, "%s%s", tree, path) >= (int)sizeof full)
        exit(1);
    for (char *at = full + strlen(tree) + 1; *at != '\0'; at++) {
        if (*at != '/') continue;
        *at = '\0';
        mkdir(full, 0777);
        *at = '/';
    }
    FILE *file = fopen(full, "w");
    CHECK(file != NULL, "%s", full);
    if (file == NULL) exit(1);
    fputs(text, file);
    fclose(file);
}

static void put_process(void)
{
    put("/proc/self/statm", "765 424 396 5 0 123 0\n");
    put("/proc/self/status",
        "Name:\tVmHWM: 5 kB\nGroups:\t1 2 3 \nVmHWM:\t    1736 kB\n"
        "VmRSS:\t 1696 kB\nRssAnon:\t     112 kB\nRssFile:\t    1624 kB\n"
        "RssShmem:\t 0 kB\nVmSwap:\t      8 kB\n");
    put("/proc/meminfo", "MemTotal:       16384 kB\nMemFree: 1 kB\n"
                         "MemAvailable:    8192 kB\n");
    put("/proc/self/smaps_rollup",
        "55cf-7ffe ---p 00000000 00:00 0 [rollup]\nRss: 1696 kB\n"
        "Pss:                 381 kB\nPss_Dirty: 112 kB\n");
}

static void put_v1(const char *membership, const char *top)
{
    char mounts[1024];
    put("/proc/self/cgroup", membership);
    snprintf(mounts, sizeof mounts,
             "31 23 0:28 / /cg rw,relatime - tmpfs tmpfs rw,mode=755\n"
             "32 31 0:29 / /cg/cpu rw - cgroup cgroup rw,cpu\n"
             "35 31 0:32 %s /cg/mem\\040ory rw,relatime shared:3 master:1"
             " - cgroup cgroup rw,memory\n"
             "41 31 0:38 / /cg/unified rw,relatime - cgroup2 cgroup2 rw\n",
             top);
    put("/proc/self/mountinfo", mounts);
}

static void put_v2(const char *membership)
{
    put("/proc/self/cgroup", membership);
    put("/proc/self/mountinfo",
        "22 1 0:20 / /proc rw - proc proc rw\n"
        "30 23 0:26 / /cg rw,nosuid shared:4 - cgroup2 cgroup2 rw\n");
}

static ts_memory sample(void)
{
    ts_memory out;
    memset(&out, 0x5a, sizeof out);
    CHECK_OK(ts_memory_sample_at(tree, true, &out, error));
    return out;
}

static void check_cgroup(uint64_t limit, uint64_t used, uint64_t room,
                         const char *what)
{
    ts_memory got = sample();
    CHECK(got.cgroup_limit == limit, "%s: limit %llu", what,
          (unsigned long long)got.cgroup_limit);
    CHECK(got.cgroup_used == used, "%s: used %llu", what,
          (unsigned long long)got.cgroup_used);
    CHECK(got.cgroup_room == room, "%s: room %llu", what,
          (unsigned long long)got.cgroup_room);
}

/* ---- numbers ----------------------------------------------------------- */

static void numbers_are_numbers_or_unknown(void)
{
    CHECK(ts_proctext_number("765 424") == 765);
    CHECK(ts_proctext_number(" \t0\n") == 0);
    CHECK(ts_proctext_number("18446744073709551614") == UINT64_MAX - 1);
    CHECK(ts_proctext_number("18446744073709551616") == UNKNOWN);
    CHECK(ts_proctext_number("99999999999999999999999999") == UNKNOWN);
    CHECK(ts_proctext_number("max\n") == UNKNOWN);
    CHECK(ts_proctext_number("-1") == UNKNOWN);
    CHECK(ts_proctext_number("12abc") == UNKNOWN);
    CHECK(ts_proctext_number("") == UNKNOWN);

    const char *text = "Pss_Dirty: 1 kB\n Pss: 2 kB\nPss:\t3 kB\nHuge: "
                       "18014398509481984 kB\nBare: 7\nBad: x kB\nEnd: 9";
    CHECK(ts_proctext_field(text, "Pss:") == 3 * 1024);
    CHECK(ts_proctext_field(text, "Huge:") == UNKNOWN);
    CHECK(ts_proctext_field(text, "Bare:") == 7);
    CHECK(ts_proctext_field(text, "Bad:") == UNKNOWN);
    CHECK(ts_proctext_field(text, "End:") == 9);
    CHECK(ts_proctext_field(text, "None:") == UNKNOWN);
    CHECK(ts_proctext_field("", "Pss:") == UNKNOWN);
}

static void headroom_is_the_least(void)
{
    const uint64_t no = UNKNOWN;
    struct {
        uint64_t available, cgroup_room, limit, used, want;
    } table[] = {
        {100, no, no, 7, 100}, {100, 60, no, 7, 60},  {100, 60, 50, 10, 40},
        {100, 60, 50, 90, 0},  {no, no, no, no, no},  {no, no, 50, no, no},
        {no, 0, 50, 10, 0},    {no, no, 50, 10, 40},  {30, 60, 50, 10, 30},
    };
    for (size_t i = 0; i < TS_COUNT_OF(table); i++) {
        ts_memory sample = {
            .available = table[i].available,
            .cgroup_room = table[i].cgroup_room,
            .address_limit = table[i].limit,
            .address_used = table[i].used,
        };
        CHECK(ts_memory_headroom(&sample) == table[i].want, "row %zu", i);
    }
}

/* ---- made-up trees ----------------------------------------------------- */

static void a_process_is_read(void)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    new_tree();
    put_process();
    ts_memory got = sample();
    CHECK(got.address_used == 765 * page && got.rss == 424 * page);
    CHECK(got.rss_peak == 1736 * 1024, "a name is not a field");
    CHECK(got.rss_anon == 112 * 1024 && got.rss_file == 1624 * 1024);
    CHECK(got.swap == 8 * 1024 && got.pss == 381 * 1024);
    CHECK(got.total == 16 * TS_MIB && got.available == 8 * TS_MIB);
    CHECK(got.cgroup_limit == UNKNOWN && got.cgroup_used == UNKNOWN);
    CHECK(ts_memory_headroom(&got) == 8 * TS_MIB);
    CHECK(got.time_ns > 0);

    CHECK_OK(ts_memory_sample_at(tree, false, &got, error));
    CHECK(got.pss == UNKNOWN, "pss is read only when asked for");
    remove_below(tree);
}

static void what_is_missing_is_unknown(void)
{
    ts_memory got;
    new_tree();
    CHECK_FAILS(ts_memory_sample_at(tree, true, &got, error), TS_IO,
                "cannot read the memory");
    put("/proc/meminfo", "MemTotal: 4 kB\n");
    got = sample();
    CHECK(got.total == 4096 && got.available == UNKNOWN);
    CHECK(got.rss == UNKNOWN && got.rss_peak == UNKNOWN);
    CHECK(got.pss == UNKNOWN && got.swap == UNKNOWN);
    CHECK(got.address_used == UNKNOWN);
    remove_below(tree);
}

static void garbage_is_unknown(void)
{
    static char noise[70000];
    for (size_t i = 0; i + 1 < sizeof noise; i++)
        noise[i] = (char)(1 + (i * 2654435761u >> 7) % 255);
    new_tree();
    put("/proc/self/statm", "99999999999999999999 -4");
    put("/proc/self/status", noise);
    put("/proc/meminfo", "MemTotal: max kB\nMemAvailable:");
    put("/proc/self/smaps_rollup", "Pss: 99999999999999999 kB\n");
    put("/proc/self/cgroup", noise);
    put("/proc/self/mountinfo", noise);
    ts_memory got = sample();
    CHECK(got.rss == UNKNOWN && got.address_used == UNKNOWN);
    CHECK(got.total == UNKNOWN && got.available == UNKNOWN);
    CHECK(got.pss == UNKNOWN && got.rss_peak == UNKNOWN);
    CHECK(got.cgroup_limit == UNKNOWN);

    const char *const lines[] = {
        "", "\n", ":", "::", "4:memory", "4:memory:", "4:memory:x", "0::",
        "0::relative", "4:mem,memoryy:/a", ":::::\n0::/",
    };
    const char *const mounts[] = {
        "", " - ", "a b c d e - cgroup", "1 2 3 / /cg - cgroup2",
        "1 2 3 / /cg x - cgroup2 y z\\", "1 2 3 / \\400\\08 x - cgroup2 y z",
    };
    for (size_t i = 0; i < TS_COUNT_OF(lines); i++)
        for (size_t k = 0; k < TS_COUNT_OF(mounts); k++) {
            put("/proc/self/cgroup", lines[i]);
            put("/proc/self/mountinfo", mounts[k]);
            check_cgroup(UNKNOWN, UNKNOWN, UNKNOWN, lines[i]);
        }
    remove_below(tree);
}

static void version_1_limits(void)
{
    new_tree();
    put_process();
    put_v1("5:devices:/\n4:cpu,memory:/a/b\n0::/\n", "/");
    put("/cg/mem ory/memory.limit_in_bytes", "9223372036854771712\n");
    put("/cg/mem ory/memory.usage_in_bytes", "9000\n");
    put("/cg/mem ory/a/memory.limit_in_bytes", "9223372036854771712\n");
    put("/cg/mem ory/a/b/memory.limit_in_bytes", "9223372036854710272\n");
    put("/cg/mem ory/a/b/memory.usage_in_bytes", "500\n");
    check_cgroup(UNKNOWN, 500, UNKNOWN, "unlimited");
    put("/cg/mem ory/a/b/memory.limit_in_bytes", "18446744073709551615\n");
    check_cgroup(UNKNOWN, 500, UNKNOWN, "unlimited, old kernel");

    put("/cg/mem ory/a/b/memory.limit_in_bytes", "4000\n");
    check_cgroup(4000, 500, 3500, "own limit");
    put("/cg/mem ory/a/memory.limit_in_bytes", "3000\n");
    put("/cg/mem ory/a/memory.usage_in_bytes", "2900\n");
    check_cgroup(3000, 2900, 100, "tighter parent");
    put("/cg/mem ory/a/memory.stat",
        "cache 7\ninactive_file 9\ntotal_inactive_file 600\n"
        "total_active_file 400\ntotal_mapped_file 50\ntotal_dirty 30\n"
        "total_writeback 20\n");
    check_cgroup(3000, 2900, 1000, "its cache can be dropped");
    put("/cg/mem ory/a/memory.limit_in_bytes", "5000\n");
    put("/cg/mem ory/a/memory.usage_in_bytes", "4990\n");
    put("/cg/mem ory/a/memory.stat", "total_inactive_file 5\n");
    check_cgroup(4000, 500, 15, "siblings took the parent's");
    put("/cg/mem ory/a/memory.usage_in_bytes", "7000\n");
    check_cgroup(4000, 500, 0, "over the limit");
    remove_below(tree);
}

/* A container on version 1 sees the paths of its host, and mounted at the top
 * only its own group. */
static void version_1_in_a_container(void)
{
    new_tree();
    put_process();
    put_v1("4:memory:/docker/c0ffee\n", "/docker/c0ffee");
    put("/cg/mem ory/memory.limit_in_bytes", "800\n");
    put("/cg/mem ory/memory.usage_in_bytes", "300\n");
    check_cgroup(800, 300, 500, "the mounted group is ours");
    put_v1("4:memory:/docker/c0ffee/inner\n", "/docker/c0ffee");
    put("/cg/mem ory/inner/memory.limit_in_bytes", "700\n");
    put("/cg/mem ory/inner/memory.usage_in_bytes", "100\n");
    check_cgroup(700, 100, 500, "a group inside of it");
    put_v1("4:memory:/docker/c0ffeebabe/inner\n", "/docker/c0ffee");
    check_cgroup(800, 300, 500, "another group of a similar name");
    put_v1("4:memory:/gone/away\n", "/");
    check_cgroup(800, 300, 500, "a path that is not mounted");
    remove_below(tree);
}

static void version_2_limits(void)
{
    new_tree();
    put_process();
    put_v2("0::/system.slice/job.scope\n");
    put("/cg/cgroup.procs", "");
    put("/cg/system.slice/memory.max", "max\n");
    put("/cg/system.slice/job.scope/memory.max", "max\n");
    put("/cg/system.slice/job.scope/memory.high", "max\n");
    put("/cg/system.slice/job.scope/memory.current", "1234\n");
    check_cgroup(UNKNOWN, 1234, UNKNOWN, "max");
    put("/cg/system.slice/job.scope/memory.max", "6000\n");
    put("/cg/system.slice/job.scope/memory.stat",
        "anon 400\nfile 900\nfile_mapped 100\nfile_dirty 10\n"
        "file_writeback 5\ninactive_file 500\nactive_file 300\n");
    check_cgroup(6000, 1234, 6000 - 1234 + 685, "own limit");
    put("/cg/system.slice/job.scope/memory.high", "5000\n");
    check_cgroup(5000, 1234, 5000 - 1234 + 685, "throttled before");
    put("/cg/system.slice/memory.max", "2000\n");
    put("/cg/system.slice/memory.current", "1900\n");
    check_cgroup(2000, 1900, 100, "tighter parent");
    put("/cg/system.slice/memory.max", "0\n");
    check_cgroup(0, 1900, 0, "nothing at all");
    put("/cg/system.slice/memory.max", "12parsecs\n");
    check_cgroup(5000, 1234, 5000 - 1234 + 685, "a limit we cannot read");
    remove_below(tree);
}

static void version_2_namespaces(void)
{
    new_tree();
    put_process();
    put_v2("0::/\n");
    put("/cg/memory.max", "4096\n");
    put("/cg/memory.current", "96\n");
    check_cgroup(4096, 96, 4000, "a namespace shows itself as /");
    put_v2("0::/../../other\n");
    check_cgroup(4096, 96, 4000, "outside of our namespace");
    put("/cg/sub/memory.max", "1024\n");
    put("/cg/sub/memory.current", "24\n");
    put_v2("1:name=systemd:/x\n0::/sub (deleted)\n");
    check_cgroup(4096, 96, 4000, "a group that was removed");
    remove_below(tree);
}

static void a_deep_nest_ends(void)
{
    char path[2600] = "", line[2700];
    new_tree();
    put_process();
    for (int i = 0; i < 1200; i++) strcat(path, "/d");
    snprintf(line, sizeof line, "0::%s\n", path);
    put_v2(line);
    check_cgroup(UNKNOWN, UNKNOWN, UNKNOWN, "nothing there");
    remove_below(tree);
}

/* ---- the sampler ------------------------------------------------------- */

static void put_rss(unsigned pages)
{
    char text[64], path[PATH_MAX];
    int size =
        snprintf(text, sizeof text, "%9u %9u 1 1 0 1 0\n", pages, pages);
    snprintf(path, sizeof path, "%s/proc/self/statm", tree);
    int fd = open(path, O_WRONLY);
    CHECK(pwrite(fd, text, (size_t)size, 0) == size);
    close(fd);
}

/* Until the sampler has looked at what was put, twice to be sure. */
static void await_samples(ts_sampler *sampler)
{
    uint64_t before, now;
    ts_sampler_read(sampler, NULL, NULL, &before);
    do {
        struct timespec pause = {.tv_nsec = 500000};
        nanosleep(&pause, NULL);
        ts_sampler_read(sampler, NULL, NULL, &now);
    } while (now < before + 3);
}

static ts_sampler *start(const char *root, double interval, uint32_t history)
{
    ts_sampler *sampler = NULL;
    ts_sampler_options options = {interval, false, history};
    CHECK_OK(ts_sampler_new_at(root, &options, &sampler, error));
    return sampler;
}

static unsigned count_events(ts_sampler *sampler, uint32_t *last)
{
    unsigned count = 0;
    bool found = true;
    ts_sampler_event event;
    while (found) {
        ts_error error;
        ts_status status =
            ts_sampler_next_event(sampler, 0, &event, &found, &error);
        if (status != TS_OK) break;
        if (found) count++, *last = event.threshold;
    }
    return count;
}

static void thresholds_fire_once_a_crossing(void)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint32_t low, high, last = 99;
    new_tree();
    put_process();
    put_rss(50);
    ts_sampler *sampler = start(tree, 0.001, 64);
    CHECK_OK(ts_sampler_threshold(sampler, 100 * page, &low, error));
    CHECK_OK(ts_sampler_threshold(sampler, 200 * page, &high, error));
    await_samples(sampler);
    CHECK(count_events(sampler, &last) == 0);

    put_rss(100);
    await_samples(sampler);
    CHECK(count_events(sampler, &last) == 1 && last == low);
    put_rss(97); /* not below 95 %: noise around the line fires once */
    await_samples(sampler);
    put_rss(103);
    await_samples(sampler);
    CHECK(count_events(sampler, &last) == 0);
    put_rss(94);
    await_samples(sampler);
    put_rss(250);
    await_samples(sampler);
    CHECK(count_events(sampler, &last) == 2 && last == high);

    ts_memory peak;
    put_rss(10);
    await_samples(sampler);
    ts_sampler_read(sampler, NULL, &peak, NULL);
    CHECK(peak.rss == 250 * page && peak.address_used == 250 * page);
    CHECK(peak.pss == UNKNOWN, "what no sample knows is no peak of 0");
    ts_sampler_free(sampler);
    remove_below(tree);
}

static void events_wait_for_a_late_listener(void)
{
    uint32_t index, last;
    new_tree();
    put_process();
    put_rss(50);
    ts_sampler *sampler = start(tree, 0.001, 0);
    for (uint32_t i = 0; i < 32; i++) {
        CHECK_OK(ts_sampler_threshold(sampler, 409600 + i, &index, error));
        CHECK(index == i);
    }
    CHECK_FAILS(ts_sampler_threshold(sampler, 1, &index, error), TS_ARGUMENT,
                "already 32");
    CHECK_FAILS(ts_sampler_threshold(sampler, 0, &index, error), TS_ARGUMENT,
                "at least one byte");
    for (int i = 0; i < 3; i++) {
        put_rss(50);
        await_samples(sampler);
        put_rss(5000);
        await_samples(sampler);
    }
    ts_sampler_stop(sampler);
    CHECK(count_events(sampler, &last) == 64, "the latest are kept");
    CHECK(last == 31);
    ts_sampler_event event;
    bool found;
    CHECK_FAILS(ts_sampler_next_event(sampler, 1000, &event, &found, error),
                TS_CLOSED, "stopped");
    CHECK_FAILS(ts_sampler_threshold(sampler, 9, &index, error), TS_CLOSED,
                "stopped");
    CHECK(ts_sampler_history(sampler, NULL, 0) == 0);
    ts_sampler_free(sampler);
    remove_below(tree);
}

/* A spike between two samples shows in the kernel's high-water mark. */
static void a_peak_between_samples_is_seen(void)
{
    ts_memory peak, latest;
    new_tree();
    put_process();
    put_rss(50);
    ts_sampler *sampler = start(tree, 60, 8);
    put("/proc/self/status", "VmHWM:\t 99999 kB\nVmSwap:\t 5 kB\n");
    ts_sampler_stop(sampler); /* takes the last sample */
    ts_sampler_read(sampler, &latest, &peak, NULL);
    CHECK(peak.rss == 99999 * 1024 && latest.rss < peak.rss);
    CHECK(peak.swap == 8 * 1024, "the first sample had more");
    ts_sampler_free(sampler);
    remove_below(tree);
}

static void a_moved_process_is_followed(void)
{
    ts_memory latest;
    new_tree();
    put_process();
    put_v2("0::/one\n");
    put("/cg/one/memory.max", "1000\n");
    put("/cg/two/memory.max", "2000\n");
    ts_sampler *sampler = start(tree, 60, 8);
    ts_sampler_read(sampler, &latest, NULL, NULL);
    CHECK(latest.cgroup_limit == 1000);
    put_v2("0::/two\n");
    ts_sampler_stop(sampler);
    ts_sampler_read(sampler, &latest, NULL, NULL);
    CHECK(latest.cgroup_limit == 2000);
    ts_sampler_free(sampler);
    remove_below(tree);
}

static void history_thins_but_keeps_the_whole_run(void)
{
    enum { ROOM = 8 };
    ts_memory kept[ROOM], first, latest;
    uint64_t taken;
    ts_sampler *sampler = start(NULL, 0.001, ROOM);
    ts_sampler_read(sampler, &first, NULL, NULL);
    CHECK(ts_sampler_history(sampler, kept, ROOM) >= 1);
    do {
        await_samples(sampler);
        ts_sampler_read(sampler, NULL, NULL, &taken);
    } while (taken < 100);
    ts_sampler_stop(sampler);
    ts_sampler_read(sampler, &latest, NULL, &taken);
    uint32_t count = ts_sampler_history(sampler, kept, ROOM);
    CHECK(count > ROOM / 2 - 1 && count <= ROOM, "%u", count);
    CHECK(kept[0].time_ns == first.time_ns);
    CHECK(kept[count - 1].time_ns == latest.time_ns);
    for (uint32_t i = 1; i < count; i++)
        CHECK(kept[i - 1].time_ns < kept[i].time_ns);
    CHECK(ts_sampler_history(sampler, kept, 2) == 2);
    CHECK(kept[0].time_ns == first.time_ns, "a small room gets the oldest");
    ts_sampler_free(sampler);
}

static void real_memory_shows(void)
{
    const size_t size = 100 << 20;
    ts_memory before, after, peak;
    ts_sampler *sampler = start(NULL, 0.001, 16);
    ts_sampler_read(sampler, &before, NULL, NULL);
    char *memory = malloc(size);
    memset(memory, 1, size);
    await_samples(sampler);
    ts_sampler_read(sampler, &after, &peak, NULL);
    CHECK(memory[size / 2] == 1);
    CHECK(after.rss >= before.rss + size * 9 / 10);
    CHECK(after.rss_anon >= before.rss_anon + size * 9 / 10);
    CHECK(peak.rss >= before.rss + size * 9 / 10 && peak.rss >= after.rss);
    CHECK(after.total != UNKNOWN && after.available < after.total);
    CHECK(after.rss_peak >= after.rss_file);
    free(memory);
    ts_sampler_free(sampler);
}

static void options_are_checked(void)
{
    ts_sampler *sampler;
    ts_sampler_options options = {0.0005, false, 8};
    const double bad[] = {0.0005, 0, -1, 1e9, (double)NAN, (double)INFINITY};
    for (size_t i = 0; i < TS_COUNT_OF(bad); i++) {
        options.interval = bad[i];
        CHECK_FAILS(ts_sampler_new(&options, &sampler, error), TS_ARGUMENT,
                    "interval must be");
    }
    options = (ts_sampler_options){1, false, 2000000};
    CHECK_FAILS(ts_sampler_new(&options, &sampler, error), TS_ARGUMENT,
                "history must be at most");
    ts_sampler_free(NULL);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static unsigned count_entries(const char *folder)
{
    unsigned count = 0;
    DIR *list = opendir(folder);
    while (list != NULL && readdir(list) != NULL) count++;
    if (list != NULL) closedir(list);
    return count;
}

static void starting_and_stopping_leaves_nothing(void)
{
    unsigned threads = count_entries("/proc/self/task");
    unsigned files = count_entries("/proc/self/fd");
    double begin = seconds();
    for (int i = 0; i < 200; i++) {
        ts_sampler *sampler = start(NULL, 3600, 8);
        if (i % 2 == 0) ts_sampler_stop(sampler);
        ts_sampler_free(sampler);
    }
    CHECK(seconds() - begin < 20, "a stop does not wait for the interval");
    CHECK(count_entries("/proc/self/task") == threads);
    CHECK(count_entries("/proc/self/fd") == files);
}

static void *wait_for_news(void *context)
{
    ts_error error;
    ts_sampler_event event;
    bool found = true;
    ts_status status =
        ts_sampler_next_event(context, 60000, &event, &found, &error);
    CHECK(status == TS_CLOSED && !found);
    return NULL;
}

static void *stop_too(void *context)
{
    ts_sampler_stop(context);
    return NULL;
}

static void a_stop_wakes_whoever_waits(void)
{
    pthread_t waiters[4];
    double begin = seconds();
    ts_sampler *sampler = start(NULL, 3600, 8);
    for (int i = 0; i < 4; i++)
        pthread_create(&waiters[i], NULL, i < 2 ? wait_for_news : stop_too,
                       sampler);
    ts_sampler_stop(sampler);
    for (int i = 0; i < 4; i++) pthread_join(waiters[i], NULL);
    CHECK(seconds() - begin < 10);

    ts_sampler_event event;
    bool found;
    begin = seconds();
    ts_sampler_free(sampler);
    sampler = start(NULL, 3600, 8);
    CHECK_OK(ts_sampler_next_event(sampler, 30, &event, &found, error));
    CHECK(!found && seconds() - begin > 0.025, "a wait lasts its time");
    ts_sampler_free(sampler);
}

/* The child's half of the next test: 0 when all is well.  It must not print:
 * the buffers of stdio are the parent's, too. */
static int use_in_child(ts_sampler *sampler)
{
    ts_memory latest, peak, history[8];
    uint64_t taken = 7;
    uint32_t index;
    ts_sampler_event event;
    bool found;
    ts_error error;

    alarm(20);
    ts_sampler_read(sampler, &latest, &peak, &taken);
    if (latest.rss == UNKNOWN || taken != 0) return 1;
    if (ts_sampler_history(sampler, history, 8) != 0) return 2;
    if (ts_sampler_threshold(sampler, 1, &index, &error) != TS_CLOSED)
        return 3;
    if (ts_sampler_next_event(sampler, 60000, &event, &found, &error)
        != TS_CLOSED)
        return 4;
    ts_sampler_stop(sampler);
    ts_sampler_free(sampler);
    return 0;
}

/* At 1 ms the thread holds its lock now and then: some child of many is born
 * in such a moment. */
static void a_child_does_not_hang(void)
{
    ts_sampler *sampler = start(NULL, 0.001, 8);
    for (int i = 0; i < 50; i++) {
        int status = -1;
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) _exit(use_in_child(sampler));
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x",
              (unsigned)status);
    }
    await_samples(sampler);
    ts_sampler_free(sampler);
}

int main(int argc, char **argv)
{
    snprintf(scratch, sizeof scratch, "%s", argc > 1 ? argv[1] : ".");
    RUN(numbers_are_numbers_or_unknown);
    RUN(headroom_is_the_least);
    RUN(a_process_is_read);
    RUN(what_is_missing_is_unknown);
    RUN(garbage_is_unknown);
    RUN(version_1_limits);
    RUN(version_1_in_a_container);
    RUN(version_2_limits);
    RUN(version_2_namespaces);
    RUN(a_deep_nest_ends);
    RUN(thresholds_fire_once_a_crossing);
    RUN(events_wait_for_a_late_listener);
    RUN(a_peak_between_samples_is_seen);
    RUN(a_moved_process_is_followed);
    RUN(history_thins_but_keeps_the_whole_run);
    RUN(real_memory_shows);
    RUN(options_are_checked);
    RUN(starting_and_stopping_leaves_nothing);
    RUN(a_stop_wakes_whoever_waits);
    RUN(a_child_does_not_hang);
    CHECK_END();
}
