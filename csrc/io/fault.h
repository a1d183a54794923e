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
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/vfs.h>
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

    /* output.c, temp.c */
    int (*openat)(int folder, const char *name, int flags, mode_t mode);
    int (*fstatat)(int folder, const char *name, struct stat *out, int flags);
    int (*fstatvfs)(int fd, struct statvfs *out);
    int (*fstatfs)(int fd, struct statfs *out);
    int (*flock)(int fd, int operation);
    ssize_t (*getdents)(int fd, void *into, size_t size);
    ssize_t (*getrandom)(void *into, size_t size, unsigned flags);
    int (*fchmod)(int fd, mode_t mode);
    ssize_t (*pwrite)(int fd, const void *from, size_t size, off_t offset);
    int (*fallocate)(int fd, int mode, off_t offset, off_t size);
    int (*ftruncate)(int fd, off_t size);
    ssize_t (*copy_range)(int fd, off_t from, off_t to, size_t size);
    int (*start_writing)(int fd, off_t offset, off_t size);
    int (*fsync)(int fd);
    int (*renameat)(int from, const char *name, int to, const char *other);
    int (*unlinkat)(int folder, const char *name, int flags);
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

static inline int ts_real_openat(int folder, const char *name, int flags,
                                 mode_t mode)
{
    return openat(folder, name, flags, mode);
}

/* Entries of a folder, as the kernel lays them out. */
static inline ssize_t ts_real_getdents(int fd, void *into, size_t size)
{
    return syscall(SYS_getdents64, fd, into, size);
}

/* Within one file. */
static inline ssize_t ts_real_copy_range(int fd, off_t from, off_t to,
                                         size_t size)
{
    return copy_file_range(fd, &from, fd, &to, size, 0);
}

/* Asks for write-back and does not wait for it. */
static inline int ts_real_start_writing(int fd, off_t offset, off_t size)
{
    return sync_file_range(fd, offset, size, SYNC_FILE_RANGE_WRITE);
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
        .openat = ts_real_openat, .fstatat = fstatat, .fstatvfs = fstatvfs,   \
        .fstatfs = fstatfs, .flock = flock, .getdents = ts_real_getdents,     \
        .getrandom = getrandom, .fchmod = fchmod, .pwrite = pwrite,           \
        .fallocate = fallocate, .ftruncate = ftruncate,                       \
        .copy_range = ts_real_copy_range,                                     \
        .start_writing = ts_real_start_writing, .fsync = fsync,               \
        .renameat = renameat, .unlinkat = unlinkat,                           \
    }
/* clang-format on */

#ifdef TS_FAULTS
extern ts_calls ts_sys;       /* changed by one thread while no other reads */
extern const ts_calls ts_real; /* the system's own */
#else
static const ts_calls ts_sys = TS_REAL_CALLS;
#endif

#endif
