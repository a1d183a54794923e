#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base.h"
#include "io/fault.h"
#include "io/io.h"

/* Every system call of io/ goes through ts_sys; here each slot first asks
 * `fault` whether this is the call that goes wrong. */

enum { SIZE = (1 << 20) + 777 };

static char path[1024], other[1024], fifo[1024];
static uint8_t *into;
static ts_file *file;
static ts_reader *reader;

typedef enum { ANY, READS } which;

static struct {
    int seen;      /* calls so far */
    int fail_at;   /* this one, counted from 1, fails; 0: none */
    int os_errno;  /* with this */
    int interrupt; /* the first two of three reads are interrupted */
    size_t most;   /* a read gives at most this much; 0: no limit */
    int end_at;    /* this read gives nothing */
    int shrink_at; /* before this read the file is cut to shrink_to */
    off_t shrink_to;
    which which;   /* what fail_at counts */
    int reads;
} fault;

static bool strikes(which kind)
{
    if (fault.which == READS && kind != READS) return false;
    if (++fault.seen != fault.fail_at) return false;
    errno = fault.os_errno;
    return true;
}

static int fake_open(const char *at, int flags)
{
    return strikes(ANY) ? -1 : ts_real.open(at, flags);
}

/* What cannot fail halfway is done all the same, or the test would leak. */
static int fake_close(int fd)
{
    int result = ts_real.close(fd);
    return strikes(ANY) ? -1 : result;
}

static int fake_munmap(void *at, size_t size)
{
    int result = ts_real.munmap(at, size);
    return strikes(ANY) ? -1 : result;
}

static int fake_set_flags(int fd, int flags)
{
    return strikes(ANY) ? -1 : ts_real.set_flags(fd, flags);
}

static int fake_stat(const char *at, struct stat *out)
{
    return strikes(ANY) ? -1 : ts_real.stat(at, out);
}

static int fake_fstat(int fd, struct stat *out)
{
    return strikes(ANY) ? -1 : ts_real.fstat(fd, out);
}

static int fake_statx(int fd, unsigned mask, struct statx *out)
{
    return strikes(ANY) ? -1 : ts_real.statx(fd, mask, out);
}

/* -1 with errno, 0 for an early end, or the size that may be read. */
static ssize_t fate_of_a_read(size_t size)
{
    fault.reads++;
    if (fault.reads == fault.shrink_at)
        CHECK(truncate(path, fault.shrink_to) == 0);
    if (fault.interrupt && fault.reads % 3 != 0) {
        errno = EINTR;
        return -1;
    }
    if (strikes(READS)) return -1;
    if (fault.reads == fault.end_at) return 0;
    return (ssize_t)(fault.most > 0 && size > fault.most ? fault.most : size);
}

static ssize_t fake_pread(int fd, void *at, size_t size, off_t offset)
{
    ssize_t fate = fate_of_a_read(size);
    return fate <= 0 ? fate : ts_real.pread(fd, at, (size_t)fate, offset);
}

static ssize_t fake_preadv(int fd, const struct iovec *parts, int count,
                           off_t offset)
{
    size_t size = 0;
    for (int i = 0; i < count; i++) size += parts[i].iov_len;
    ssize_t fate = fate_of_a_read(size);
    if (fate <= 0) return fate;
    ssize_t got = ts_real.preadv(fd, parts, count, offset);
    return got > fate ? fate : got; /* more was written than is owned up to */
}

static int fake_fadvise(int fd, off_t offset, off_t size, int advice)
{
    if (strikes(ANY)) return fault.os_errno;
    return ts_real.fadvise(fd, offset, size, advice);
}

static void *fake_mmap(void *at, size_t size, int protection, int flags,
                       int fd, off_t offset)
{
    if (strikes(ANY)) return MAP_FAILED;
    return ts_real.mmap(at, size, protection, flags, fd, offset);
}

static int fake_madvise(void *at, size_t size, int advice)
{
    return strikes(ANY) ? -1 : ts_real.madvise(at, size, advice);
}

static int fake_mincore(void *at, size_t size, unsigned char *out)
{
    return strikes(ANY) ? -1 : ts_real.mincore(at, size, out);
}

static int fake_cachestat(int fd, ts_cachestat_range *range, ts_cachestat *out)
{
    return strikes(ANY) ? -1 : ts_real.cachestat(fd, range, out);
}

static int fake_uring_setup(unsigned entries, void *params)
{
    return strikes(ANY) ? -1 : ts_real.uring_setup(entries, params);
}

static int fake_uring_enter(int ring, unsigned submit, unsigned wait,
                            unsigned flags)
{
    if (fault.interrupt && ++fault.reads % 3 != 0) {
        errno = EINTR;
        return -1;
    }
    return strikes(READS) ? -1
                          : ts_real.uring_enter(ring, submit, wait, flags);
}

static uint64_t later; /* added to the clock */

static uint64_t fake_now_ns(void) { return ts_real.now_ns() + later; }

static void install(void)
{
    memset(&fault, 0, sizeof fault);
    fault.os_errno = EIO;
    ts_sys = (ts_calls){
        .open = fake_open,
        .close = fake_close,
        .set_flags = fake_set_flags,
        .stat = fake_stat,
        .fstat = fake_fstat,
        .statx = fake_statx,
        .pread = fake_pread,
        .preadv = fake_preadv,
        .fadvise = fake_fadvise,
        .mmap = fake_mmap,
        .munmap = fake_munmap,
        .madvise = fake_madvise,
        .mincore = fake_mincore,
        .cachestat = fake_cachestat,
        .uring_setup = fake_uring_setup,
        .uring_enter = fake_uring_enter,
        .now_ns = fake_now_ns,
    };
}

/* ---- the file ------------------------------------------------------- */

static uint8_t byte_at(uint64_t i)
{
    return (uint8_t)(i * 2654435761u >> 13 ^ i);
}

static void make_file(const char *at, size_t size)
{
    FILE *to = fopen(at, "wb");
    for (size_t i = 0; i < size; i++) fputc(byte_at(i), to);
    fclose(to);
}

static bool holds(uint64_t offset, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (into[i] != byte_at(offset + i)) return false;
    return true;
}

static int open_descriptors(void)
{
    DIR *all = opendir("/proc/self/fd");
    int count = 0;
    while (readdir(all) != NULL) count++;
    closedir(all);
    return count;
}

static void begin(ts_engine engine)
{
    memset(&fault, 0, sizeof fault);
    fault.os_errno = EIO;
    memset(into, 0, SIZE);
    CHECK_OK(ts_file_open(path, &file, error));
    CHECK_OK(ts_reader_new(engine, &reader, error));
    fault.seen = fault.reads = 0;
}

static void end(void)
{
    ts_reader_free(reader);
    ts_file_release(file);
    reader = NULL;
    file = NULL;
    install();
}

static ts_status read_all(ts_error *error)
{
    return ts_reader_read(reader, file, 3, into, SIZE - 3, error);
}

static uint64_t bytes_by(ts_engine engine)
{
    return ts_reader_stats_of(reader)->bytes[engine];
}

#define EACH_ENGINE(engine)                                                   \
    for (ts_engine engine = TS_ENGINE_AUTO; engine < TS_ENGINE_MEMORY;        \
         engine++)

/* ---- reads ---------------------------------------------------------- */

static void short_reads_are_continued(void)
{
    const size_t most[] = {1, 511, 4096, 70001};
    EACH_ENGINE(engine)
        for (size_t i = 0; i < TS_COUNT_OF(most); i++) {
            size_t size = most[i] == 1 ? 3000 : SIZE - 3;
            begin(engine);
            fault.most = most[i];
            CHECK_OK(ts_reader_read(reader, file, 3, into, size, error));
            CHECK(holds(3, size), "%s by %zu", ts_engine_name(engine),
                  most[i]);
            end();
        }
}

static void interrupted_reads_are_repeated(void)
{
    EACH_ENGINE(engine)
    {
        begin(engine);
        fault.interrupt = 1;
        CHECK_OK(read_all(error));
        CHECK(holds(3, SIZE - 3), "%s", ts_engine_name(engine));
        CHECK(engine == TS_ENGINE_AUTO || bytes_by(engine) == SIZE - 3);
        end();
    }
    begin(TS_ENGINE_PREAD);
    fault.interrupt = 1;
    fault.most = 100;
    CHECK_OK(ts_file_read(file, 0, into, 5000, error));
    CHECK(holds(0, 5000) && fault.reads >= 150);
    end();
}

static void an_interrupted_opening_is_repeated(void)
{
    install();
    fault.os_errno = EINTR;
    fault.fail_at = 2; /* stat, then open */
    CHECK_OK(ts_file_open(path, &file, error));
    ts_file_release(file);
    install();
}

static void a_refused_read_names_file_and_byte(void)
{
    ts_error error = {0};

    begin(TS_ENGINE_PREAD);
    fault.which = READS;
    fault.most = 4096;
    fault.fail_at = 3;
    CHECK(read_all(&error) == TS_IO && error.os_errno == EIO);
    CHECK(error.offset == 3 + 2 * 4096);
    CHECK(strcmp(error.file, path) == 0);
    CHECK(strstr(error.message, "cannot read at byte 8195") != NULL, "%s",
          error.message);
    CHECK(strstr(error.message, "Input/output error") != NULL);
    CHECK(read_all(NULL) == TS_OK); /* and nobody need listen */
    end();
}

static void nothing_read_where_bytes_should_be(void)
{
    begin(TS_ENGINE_PREAD);
    fault.end_at = 1;
    CHECK_FAILS(read_all(error), TS_IO, "cannot read at byte 3");
    end();
}

static void a_file_shrinks_between_reads(void)
{
    EACH_ENGINE(engine)
    {
        make_file(path, SIZE);
        begin(engine);
        fault.most = 65536;
        fault.shrink_at = 2;
        fault.shrink_to = 99999;
        if (engine == TS_ENGINE_MAP || engine == TS_ENGINE_URING)
            CHECK(truncate(path, 99999) == 0); /* these do not call pread */
        CHECK_FAILS(read_all(error), TS_CHANGED,
                    "had 1049353 bytes when opened and has 99999 now");
        end();
    }
    make_file(path, SIZE);
}

/* ---- engines that do not work ---------------------------------------- */

static void o_direct_that_cannot_be_opened(void)
{
    char reason[128];

    begin(TS_ENGINE_DIRECT);
    fault.fail_at = 1; /* the second descriptor */
    fault.os_errno = EINVAL;
    CHECK_OK(read_all(error));
    CHECK(holds(3, SIZE - 3) && bytes_by(TS_ENGINE_DIRECT) == 0);
    CHECK(bytes_by(TS_ENGINE_PREAD) == SIZE - 3);
    CHECK(!ts_engine_probe(TS_ENGINE_DIRECT, file, reason));
    CHECK(strcmp(reason, "O_DIRECT: Invalid argument") == 0, "%s", reason);
    end();
}

static void o_direct_that_refuses_a_read(void)
{
    char reason[128];

    begin(TS_ENGINE_DIRECT);
    if (!ts_engine_probe(TS_ENGINE_DIRECT, file, reason)) {
        end();
        return;
    }
    CHECK_OK(read_all(error));
    CHECK(bytes_by(TS_ENGINE_DIRECT) == SIZE - 3);
    fault.which = READS;
    fault.seen = 0;
    fault.fail_at = 1;
    fault.os_errno = EINVAL;
    CHECK_OK(read_all(error));
    CHECK_OK(read_all(error));
    CHECK(holds(3, SIZE - 3));
    CHECK(bytes_by(TS_ENGINE_DIRECT) == SIZE - 3, "for good");
    CHECK(!ts_engine_probe(TS_ENGINE_DIRECT, file, reason));
    end();

    begin(TS_ENGINE_DIRECT); /* want of memory passes */
    fault.which = READS;
    fault.fail_at = 1;
    fault.os_errno = ENOMEM;
    CHECK_OK(read_all(error));
    CHECK_OK(read_all(error));
    CHECK(holds(3, SIZE - 3) && bytes_by(TS_ENGINE_DIRECT) == SIZE - 3);
    end();
}

static int statx_asks_for_8(int fd, unsigned mask, struct statx *out)
{
    (void)fd;
    memset(out, 0, sizeof *out);
    out->stx_mask = mask;
    out->stx_dio_mem_align = 8;
    out->stx_dio_offset_align = 8;
    return 0;
}

/* The kernel itself says EINVAL, to preadv and in an answer of the ring. */
static void an_alignment_that_was_a_lie(void)
{
    const ts_engine engines[] = {TS_ENGINE_DIRECT, TS_ENGINE_URING};
    for (size_t i = 0; i < 2; i++) {
        begin(engines[i]);
        ts_sys.statx = statx_asks_for_8;
        CHECK_OK(read_all(error));
        CHECK(holds(3, SIZE - 3));
        CHECK_OK(read_all(error));
        CHECK(holds(3, SIZE - 3));
        end();
    }
}

static int statx_asks_for_65536(int fd, unsigned mask, struct statx *out)
{
    statx_asks_for_8(fd, mask, out);
    out->stx_dio_offset_align = 65536;
    return 0;
}

static int statx_has_none(int fd, unsigned mask, struct statx *out)
{
    statx_asks_for_8(fd, mask, out);
    out->stx_dio_mem_align = out->stx_dio_offset_align = 0;
    return 0;
}

static void an_alignment_that_we_do_not_serve(void)
{
    char reason[128];
    begin(TS_ENGINE_DIRECT);
    ts_sys.statx = statx_asks_for_65536;
    CHECK_OK(read_all(error));
    CHECK(bytes_by(TS_ENGINE_PREAD) == SIZE - 3 && holds(3, SIZE - 3));
    end();
    begin(TS_ENGINE_DIRECT);
    ts_sys.statx = statx_has_none;
    CHECK_OK(read_all(error));
    CHECK(bytes_by(TS_ENGINE_PREAD) == SIZE - 3 && holds(3, SIZE - 3));
    CHECK(!ts_engine_probe(TS_ENGINE_DIRECT, file, reason)
          && strstr(reason, "has no O_DIRECT") != NULL);
    end();
}

static int no_proc(const char *at, int flags)
{
    if (strncmp(at, "/proc/", 6) == 0) {
        errno = ENOENT;
        return -1;
    }
    return ts_real.open(at, flags);
}

static void the_second_descriptor_is_of_the_same_file(void)
{
    char reason[128];

    begin(TS_ENGINE_DIRECT); /* without /proc the path serves */
    ts_sys.open = no_proc;
    CHECK_OK(read_all(error));
    CHECK(holds(3, SIZE - 3));
    end();

    begin(TS_ENGINE_DIRECT); /* but not when it leads elsewhere by now */
    ts_sys.open = no_proc;
    CHECK(rename(path, other) == 0);
    FILE *wrong = fopen(path, "wb");
    for (int i = 0; i < SIZE; i++) fputc('!', wrong);
    fclose(wrong);
    CHECK_OK(read_all(error));
    CHECK(holds(3, SIZE - 3) && bytes_by(TS_ENGINE_DIRECT) == 0);
    CHECK(!ts_engine_probe(TS_ENGINE_DIRECT, file, reason));
    end();
    CHECK(rename(other, path) == 0);
}

static void no_io_uring_here(void)
{
    const int refusals[] = {EPERM, ENOSYS, ENOMEM};
    const char *words[] = {"forbidden here (seccomp", "not implemented",
                           "Cannot allocate memory"};
    char reason[128];

    for (size_t i = 0; i < TS_COUNT_OF(refusals); i++) {
        begin(TS_ENGINE_URING);
        fault.fail_at = 1;
        fault.os_errno = refusals[i];
        CHECK_OK(read_all(error));
        CHECK(holds(3, SIZE - 3) && bytes_by(TS_ENGINE_PREAD) == SIZE - 3);
        CHECK_OK(read_all(error));
        CHECK(bytes_by(TS_ENGINE_URING) == 0, "for good");
        fault.seen = 0;
        CHECK(!ts_engine_probe(TS_ENGINE_URING, file, reason));
        CHECK(strstr(reason, words[i]) != NULL, "%s", reason);
        end();
    }
}

static int has_no_features(unsigned entries, void *params)
{
    int ring = ts_real.uring_setup(entries, params);
    /* struct io_uring_params: features follow five words. */
    if (ring >= 0) memset((uint32_t *)params + 5, 0, 4);
    return ring;
}

static void an_io_uring_too_old(void)
{
    begin(TS_ENGINE_URING);
    ts_sys.uring_setup = has_no_features;
    CHECK_OK(read_all(error));
    CHECK(holds(3, SIZE - 3) && bytes_by(TS_ENGINE_URING) == 0);
    end();
}

/* The ring refuses while requests are in flight: they are waited for. */
static void a_ring_that_breaks_in_the_middle(void)
{
    char reason[128];
    begin(TS_ENGINE_URING);
    if (ts_engine_probe(TS_ENGINE_URING, file, reason))
        for (int at = 1; at < 6; at++) {
            ts_reader_free(reader);
            CHECK_OK(ts_reader_new(TS_ENGINE_URING, &reader, error));
            memset(into, 0, SIZE);
            fault.which = READS;
            fault.seen = 0;
            fault.fail_at = at;
            CHECK_OK(read_all(error));
            CHECK(holds(3, SIZE - 3));
        }
    end();
}

static int populate_is_unknown(void *at, size_t size, int advice)
{
    (void)at, (void)size, (void)advice;
    errno = EINVAL;
    return -1;
}

static int populate_finds_no_page(void *at, size_t size, int advice)
{
    (void)at, (void)size, (void)advice;
    errno = EFAULT;
    return -1;
}

static void *mmap_is_refused(void *at, size_t size, int protection, int flags,
                             int fd, off_t offset)
{
    (void)at, (void)size, (void)protection, (void)flags, (void)fd;
    (void)offset;
    errno = ENODEV;
    return MAP_FAILED;
}

static void mappings_that_fail(void)
{
    char reason[128];

    begin(TS_ENGINE_MAP);
    ts_sys.madvise = populate_is_unknown;
    CHECK_OK(read_all(error));
    CHECK(holds(3, SIZE - 3) && bytes_by(TS_ENGINE_MAP) == SIZE - 3);
    ts_sys.madvise = populate_finds_no_page;
    CHECK_OK(read_all(error));
    CHECK(holds(3, SIZE - 3) && bytes_by(TS_ENGINE_PREAD) == SIZE - 3);
    CHECK(!ts_engine_probe(TS_ENGINE_MAP, file, reason));
    ts_sys.mmap = mmap_is_refused;
    CHECK_OK(read_all(error));
    CHECK(!ts_engine_probe(TS_ENGINE_MAP, file, reason)
          && strstr(reason, "No such device") != NULL);
    end();
}

/* ---- residency ------------------------------------------------------ */

static int all_cold(int fd, ts_cachestat_range *range, ts_cachestat *out)
{
    (void)fd, (void)range;
    memset(out, 0, sizeof *out);
    return 0;
}

static int half_cold(int fd, ts_cachestat_range *range, ts_cachestat *out)
{
    (void)fd;
    memset(out, 0, sizeof *out);
    if (range->offset < SIZE / 2) out->cached = 1 + range->size / 4096;
    return 0;
}

static int more_than_there_is(int fd, ts_cachestat_range *range,
                              ts_cachestat *out)
{
    (void)fd, (void)range;
    memset(out, 0xff, sizeof *out);
    return 0;
}

static int asked;

static int unknown_call(int fd, ts_cachestat_range *range, ts_cachestat *out)
{
    (void)fd, (void)range, (void)out;
    asked++;
    errno = ENOSYS;
    return -1;
}

static int forbidden_call(int fd, ts_cachestat_range *range,
                          ts_cachestat *out)
{
    (void)fd, (void)range, (void)out;
    errno = EPERM;
    return -1;
}

static int none_in_core(void *at, size_t size, unsigned char *out)
{
    (void)at;
    memset(out, 0, (size + 4095) / 4096);
    return 0;
}

static void residency_without_cachestat(void)
{
    uint64_t cached;

    begin(TS_ENGINE_AUTO);
    CHECK_OK(ts_file_read(file, 0, into, SIZE, error));
    ts_sys.cachestat = unknown_call;
    if (ts_file_cached(file, 0, SIZE, &cached))
        CHECK(cached == SIZE, "%llu", (unsigned long long)cached);
    ts_sys.mincore = none_in_core;
    if (ts_file_cached(file, 0, SIZE, &cached)) CHECK(cached == 0);
    ts_sys.mmap = mmap_is_refused;
    CHECK(!ts_file_cached(file, 0, SIZE, &cached));
    ts_sys.mmap = fake_mmap;
    ts_sys.cachestat = forbidden_call; /* then mincore would lie */
    CHECK(!ts_file_cached(file, 0, SIZE, &cached));
    ts_sys.cachestat = more_than_there_is;
    CHECK(ts_file_cached(file, 5, 100, &cached) && cached == 100);
    end();
}

static void a_cold_range_goes_to_every_engine_in_turn(void)
{
    int (*const answers[])(int, ts_cachestat_range *, ts_cachestat *) = {
        all_cold, half_cold, unknown_call, forbidden_call};
    for (size_t i = 0; i < TS_COUNT_OF(answers); i++) {
        begin(TS_ENGINE_AUTO);
        ts_sys.cachestat = answers[i];
        ts_sys.mincore = none_in_core;
        for (int k = 0; k < 300; k++) { /* the last to be tried waits for 200 */
            later += 1100000000; /* an answer is believed for a second */
            memset(into, 0, SIZE);
            CHECK_OK(read_all(error));
            CHECK(holds(3, SIZE - 3));
        }
        CHECK(bytes_by(TS_ENGINE_PREAD) > 0);
        if (answers[i] == all_cold) {
            char reason[128];
            CHECK(!ts_engine_probe(TS_ENGINE_DIRECT, file, reason)
                  || bytes_by(TS_ENGINE_DIRECT) > 0);
        }
        CHECK(bytes_by(TS_ENGINE_MAP) == 0, "never by itself");
        if (answers[i] == forbidden_call)
            CHECK(bytes_by(TS_ENGINE_DIRECT) == 0, "when it cannot know");
        end();
    }
}

static void auto_asks_once_a_stretch(void)
{
    begin(TS_ENGINE_AUTO);
    ts_sys.cachestat = unknown_call;
    asked = 0;
    for (uint64_t at = 0; at + 4096 <= SIZE; at += 4096)
        CHECK_OK(ts_reader_read(reader, file, at, into, 4096, error));
    CHECK(asked <= 3, "%d times", asked);
    end();
}

/* A hole of eight stretches, the first bytes of which are said to be cached. */
static uint64_t cached_until;

static int cached_in_front(int fd, ts_cachestat_range *range,
                           ts_cachestat *out)
{
    (void)fd;
    memset(out, 0, sizeof *out);
    if (range->offset < cached_until) out->cached = 1 + range->size / 4096;
    return 0;
}

static void begin_long(void)
{
    FILE *hole = fopen(other, "wb");
    CHECK(hole != NULL && ftruncate(fileno(hole), 8 * TS_STRETCH) == 0);
    fclose(hole);
    cached_until = 0;
    ts_sys.cachestat = cached_in_front;
    CHECK_OK(ts_file_open(other, &file, error));
    CHECK_OK(ts_reader_new(TS_ENGINE_AUTO, &reader, error));
}

static void end_long(void)
{
    end();
    CHECK(unlink(other) == 0);
}

static void what_was_read_ahead_is_not_cached(void)
{
    static const struct {
        uint64_t stretch, cached; /* in front, in stretches */
        ts_engine engine;
    } table[] = {
        {0, 0, TS_ENGINE_DIRECT}, {0, 1, TS_ENGINE_DIRECT},
        {0, 4, TS_ENGINE_DIRECT}, {0, 5, TS_ENGINE_PREAD},
        {3, 7, TS_ENGINE_DIRECT}, {3, 8, TS_ENGINE_PREAD},
        {7, 8, TS_ENGINE_PREAD},
    };
    for (size_t i = 0; i < TS_COUNT_OF(table); i++) {
        char reason[128];
        begin_long();
        cached_until = table[i].cached * TS_STRETCH;
        CHECK_OK(ts_reader_read(reader, file, table[i].stretch * TS_STRETCH,
                                into, 4096, error));
        if (ts_engine_probe(TS_ENGINE_DIRECT, file, reason))
            CHECK(bytes_by(table[i].engine) == 4096, "row %zu", i);
        end_long();
    }
}

static void readers_tell_each_other_what_they_measured(void)
{
    char reason[128];
    ts_reader *second;

    begin_long();
    CHECK_OK(ts_reader_new(TS_ENGINE_AUTO, &second, error));
    for (int k = 0; k < 25; k++) /* until a trial of the ring is due */
        for (uint64_t at = 0; at < TS_STRETCH; at += TS_MIB) {
            later += at == 0 ? 1100000000 : 0;
            CHECK_OK(
                ts_reader_read(reader, file, at, into, TS_MIB, error));
        }
    later += 1100000000;
    CHECK_OK(ts_reader_read(second, file, 0, into, 4096, error));
    if (ts_engine_probe(TS_ENGINE_DIRECT, file, reason)
        && ts_engine_probe(TS_ENGINE_URING, file, reason)) {
        CHECK(bytes_by(TS_ENGINE_DIRECT) == 25 * TS_STRETCH);
        CHECK(ts_reader_stats_of(second)->bytes[TS_ENGINE_URING] == 4096,
              "the second goes on where the first is");
    }
    ts_reader_free(second);
    end_long();
}

/* ---- every call in turn --------------------------------------------- */

/* All that io/ does with a file.  Whatever fails says so in a sentence, and
 * whatever claims to have worked has brought the right bytes. */
static void scenario(ts_engine engine)
{
    ts_error error = {0};
    char reason[128];
    uint64_t cached;

    if (ts_file_open(path, &file, &error) != TS_OK) {
        CHECK(file == NULL && error.message[0] != '\0');
        return;
    }
    for (int i = 0; i < TS_ENGINE_COUNT; i++) {
        bool works = ts_engine_probe((ts_engine)i, file, reason);
        CHECK(works == (reason[0] == '\0'), "%s", reason);
    }
    CHECK(ts_reader_new(engine, &reader, &error) == TS_OK);
    for (int i = 0; i < 2; i++) {
        memset(into, 0, SIZE);
        ts_status status = read_all(&error);
        CHECK(status == TS_OK || status == TS_IO);
        CHECK(status != TS_OK || holds(3, SIZE - 3));
        CHECK(status == TS_OK || error.message[0] != '\0');
    }
    ts_status status = ts_file_check(file, &error);
    CHECK(status == TS_OK || status == TS_IO || status == TS_CHANGED);
    CHECK(!ts_file_cached(file, 0, SIZE, &cached) || cached <= SIZE);
    ts_file_will_need(file, 0, SIZE);
    ts_reader_free(reader);
    ts_file_release(file);
}

static void any_call_may_fail(void)
{
    const int refusals[] = {EIO, EINVAL, ENOMEM, EINTR};
    int before = open_descriptors();

    EACH_ENGINE(engine)
        for (size_t i = 0; i < TS_COUNT_OF(refusals); i++) {
            int at = 0;
            do {
                install();
                fault.os_errno = refusals[i];
                fault.fail_at = ++at;
                scenario(engine);
                CHECK(open_descriptors() == before,
                      "%s, call %d: a descriptor is left",
                      ts_engine_name(engine), at);
            } while (fault.seen >= at);
            CHECK(at > 20, "%d calls", at);
        }
    install();
}

/* ---- a path that changes while it is opened -------------------------- */

static int stat_of_a_file(const char *at, struct stat *out)
{
    (void)at;
    return ts_real.stat(path, out);
}

static void a_fifo_put_in_the_way_does_not_hang(void)
{
    mkfifo(fifo, 0600);
    ts_sys.stat = stat_of_a_file;
    CHECK_FAILS(ts_file_open(fifo, &file, error), TS_ARGUMENT, "a FIFO");
    install();
}

int main(int count, char **arguments)
{
    const char *folder = count > 1 ? arguments[1] : ".";
    snprintf(path, sizeof path, "%s/scratch_fault", folder);
    snprintf(other, sizeof other, "%s/scratch_fault_other", folder);
    snprintf(fifo, sizeof fifo, "%s/scratch_fault_fifo", folder);
    into = aligned_alloc(4096, 2 << 20);
    uint8_t *whole = into;
    into += 3; /* fits O_DIRECT, as the range begins at byte 3 */
    make_file(path, SIZE);
    install();
    RUN(short_reads_are_continued);
    RUN(interrupted_reads_are_repeated);
    RUN(an_interrupted_opening_is_repeated);
    RUN(a_refused_read_names_file_and_byte);
    RUN(nothing_read_where_bytes_should_be);
    RUN(a_file_shrinks_between_reads);
    RUN(o_direct_that_cannot_be_opened);
    RUN(o_direct_that_refuses_a_read);
    RUN(an_alignment_that_was_a_lie);
    RUN(an_alignment_that_we_do_not_serve);
    RUN(the_second_descriptor_is_of_the_same_file);
    RUN(no_io_uring_here);
    RUN(an_io_uring_too_old);
    RUN(a_ring_that_breaks_in_the_middle);
    RUN(mappings_that_fail);
    RUN(residency_without_cachestat);
    RUN(a_cold_range_goes_to_every_engine_in_turn);
    RUN(auto_asks_once_a_stretch);
    RUN(what_was_read_ahead_is_not_cached);
    RUN(readers_tell_each_other_what_they_measured);
    RUN(any_call_may_fail);
    RUN(a_fifo_put_in_the_way_does_not_hang);
    free(whole);
    CHECK_END();
}
