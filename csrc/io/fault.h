/* fault.h -- every system call of io/, so that tests can make one fail.
 *
 *     normal builds    ts_sys is a constant table: the compiler sees through
 *                      it and calls the system directly
 *     -DTS_FAULTS      ts_sys is a variable: a test puts its own function in
 *                      a slot and sees what io/ makes of EIO at the third read
 *
 * Retries and meaning live with the callers; a slot is only the bare call. */
#ifndef TS_IO_FAULT_H
#define TS_IO_FAULT_H

#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* cachestat(2), Linux 6.5: younger than the C library's headers.  The number
 * is the same on every architecture. */
#define TS_SYS_CACHESTAT 451

typedef struct {
    uint64_t offset, size;
} ts_cachestat_range;

typedef struct {
    uint64_t cached, dirty, writeback, evicted, recently_evicted; /* pages */
} ts_cachestat;

typedef struct {
    int (*open)(const char *path, int flags);
    int (*close)(int fd);
    int (*set_flags)(int fd, int flags);
    int (*stat)(const char *path, struct stat *out);
    int (*fstat)(int fd, struct stat *out);
    int (*statx)(int fd, unsigned mask, struct statx *out);
    ssize_t (*pread)(int fd, void *into, size_t size, off_t offset);
    ssize_t (*preadv)(int fd, const struct iovec *into, int count,
                      off_t offset);
    int (*fadvise)(int fd, off_t offset, off_t size, int advice);
    void *(*mmap)(void *at, size_t size, int protection, int flags, int fd,
                  off_t offset);
    int (*munmap)(void *at, size_t size);
    int (*madvise)(void *at, size_t size, int advice);
    int (*mincore)(void *at, size_t size, unsigned char *out);
    int (*cachestat)(int fd, ts_cachestat_range *range, ts_cachestat *out);
    int (*uring_setup)(unsigned entries, void *params);
    int (*uring_enter)(int ring, unsigned submit, unsigned wait,
                       unsigned flags);
    uint64_t (*now_ns)(void); /* monotonic */
} ts_calls;

static inline int ts_real_open(const char *path, int flags)
{
    return open(path, flags);
}

static inline int ts_real_set_flags(int fd, int flags)
{
    return fcntl(fd, F_SETFL, flags);
}

static inline int ts_real_statx(int fd, unsigned mask, struct statx *out)
{
    return statx(fd, "", AT_EMPTY_PATH, mask, out);
}

static inline int ts_real_cachestat(int fd, ts_cachestat_range *range,
                                    ts_cachestat *out)
{
    return (int)syscall(TS_SYS_CACHESTAT, fd, range, out, 0);
}

static inline int ts_real_uring_setup(unsigned entries, void *params)
{
    return (int)syscall(SYS_io_uring_setup, entries, params);
}

static inline int ts_real_uring_enter(int ring, unsigned submit, unsigned wait,
                                      unsigned flags)
{
    return (int)syscall(SYS_io_uring_enter, ring, submit, wait, flags, NULL,
                        0);
}

static inline uint64_t ts_real_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* clang-format off */
#define TS_REAL_CALLS                                                         \
    {                                                                         \
        .open = ts_real_open, .close = close, .set_flags = ts_real_set_flags, \
        .stat = stat, .fstat = fstat,                                         \
        .statx = ts_real_statx, .pread = pread, .preadv = preadv,             \
        .fadvise = posix_fadvise, .mmap = mmap, .munmap = munmap,            \
        .madvise = madvise, .mincore = mincore,                               \
        .cachestat = ts_real_cachestat,                                       \
        .uring_setup = ts_real_uring_setup,                                   \
        .uring_enter = ts_real_uring_enter, .now_ns = ts_real_now_ns,         \
    }
/* clang-format on */

#ifdef TS_FAULTS
extern ts_calls ts_sys;       /* changed by one thread while no other reads */
extern const ts_calls ts_real; /* the system's own */
#else
static const ts_calls ts_sys = TS_REAL_CALLS;
#endif

#endif
