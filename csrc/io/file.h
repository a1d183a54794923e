/* file.h -- what the engines may know about an open file.
 *
 * A ts_file never changes once it is open, but for `shared`: what its readers
 * find out about it and tell each other. */
#ifndef TS_IO_FILE_H
#define TS_IO_FILE_H

#include <pthread.h>
#include <stdatomic.h>

#include "io.h"

/* direct.c fills it.  The first reader that wants O_DIRECT opens it under the
 * lock; once `state` says READY (published with release order), fd and block
 * do not change any more. */
typedef struct {
    pthread_mutex_t lock; /* held while opening; protects fd and block */
    atomic_int state;     /* ts_direct_state */
    atomic_int os_errno;  /* why it is BROKEN; 0: the file system cannot */
    int fd;               /* owned, closed with the file; -1 when never open */
    uint32_t block;       /* offset, size and memory are multiples of it */
} ts_direct;

/* What reading cold ranges brought so far, of all readers; see reader.c. */
typedef struct {
    atomic_uint_fast64_t bytes[TS_ENGINE_COUNT], ns[TS_ENGINE_COUNT];
    atomic_uint_fast64_t rounds; /* stretches that an engine was chosen for */
} ts_cold;

typedef struct {
    ts_direct direct;
    ts_cold cold;
    atomic_uint_fast64_t stretch; /* reader.c: what was decided last, packed */
} ts_shared;

struct ts_file {
    atomic_size_t refs;
    int fd;            /* owned; -1 when the file is memory */
    ts_buffer *memory; /* shared; NULL for real files */
    ts_file_identity identity;
    ts_shared *shared; /* owned: apart, because readers' files are const */
    char path[];
};

/* Inside the file as it was opened?  TS_FORMAT otherwise. */
ts_status ts_file_check_range(const ts_file *file, uint64_t offset,
                              uint64_t size, ts_error *error);

/* What a read that gave nothing at `offset` means: TS_CHANGED when the file
 * has shrunk since it was opened, TS_IO when it has not. */
ts_status ts_file_fail_end(const ts_file *file, uint64_t offset,
                           ts_error *error);

/* A read that failed with os_errno; the sentence says where and why. */
ts_status ts_file_fail_read(const ts_file *file, uint64_t offset,
                            int os_errno, ts_error *error);

/* Read size bytes through `fd`, which is one of the file's: retries EINTR and
 * short counts; counts calls that moved data.  The range was checked. */
ts_status ts_file_read_fd(const ts_file *file, int fd, uint64_t offset,
                          void *into, size_t size, uint64_t *calls,
                          ts_error *error);

/* Open a second descriptor of the very same file, with these extra flags.
 * -1 with *os_errno when that cannot be done; else *os_errno is 0. */
int ts_file_reopen(const ts_file *file, int flags, int *os_errno);

#endif
