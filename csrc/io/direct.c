#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "engine.h"
#include "fault.h"

/* One call moves at most this much, so that a short count costs little. */
#define PIECE ((size_t)16 << 20)

/* What the file system asks for, 0 where it says that it cannot, and else a
 * page at least: most disks allow 512 bytes, but two threads whose requests of
 * 2 MiB began off a page had 0.72 of what raw requests bring, and on a page
 * 0.86 (virtual disk, busy machine). */
static uint32_t block_of(int fd)
{
#ifdef STATX_DIOALIGN
    struct statx info;
    memset(&info, 0, sizeof info);
    if (ts_sys.statx(fd, STATX_DIOALIGN, &info) == 0
        && (info.stx_mask & STATX_DIOALIGN) != 0) {
        uint32_t memory = info.stx_dio_mem_align;
        uint32_t offset = info.stx_dio_offset_align;
        if (memory == 0 || offset == 0) return 0;
        return (uint32_t)ts_max(TS_READER_ALIGNMENT, ts_max(memory, offset));
    }
#else
    (void)fd;
#endif
    return TS_READER_ALIGNMENT;
}

/* Under the lock. */
static ts_direct_state open_direct(const ts_file *file, ts_direct *direct)
{
    int os_errno = 0;

    direct->fd = ts_file_reopen(file, O_DIRECT, &os_errno);
    if (direct->fd >= 0) direct->block = block_of(direct->fd);
    atomic_store(&direct->os_errno, os_errno);
    if (direct->fd < 0 || !ts_is_power_of_two(direct->block)
        || direct->block > TS_READER_ALIGNMENT)
        return TS_DIRECT_BROKEN;
    return TS_DIRECT_READY;
}

const ts_direct *ts_direct_of(const ts_file *file)
{
    ts_direct *direct = &file->shared->direct;
    int state = atomic_load_explicit(&direct->state, memory_order_acquire);

    if (file->memory != NULL) return NULL;
    if (state == TS_DIRECT_UNTRIED) {
        pthread_mutex_lock(&direct->lock);
        state = atomic_load_explicit(&direct->state, memory_order_relaxed);
        if (state == TS_DIRECT_UNTRIED) {
            state = (int)open_direct(file, direct);
            atomic_store_explicit(&direct->state, state, memory_order_release);
        }
        pthread_mutex_unlock(&direct->lock);
    }
    return state == TS_DIRECT_READY ? direct : NULL;
}

/* The descriptor stays open until the file closes: another thread may be in
 * the middle of a read. */
void ts_direct_break(const ts_file *file, int os_errno)
{
    atomic_store(&file->shared->direct.os_errno, os_errno);
    atomic_store(&file->shared->direct.state, TS_DIRECT_BROKEN);
}

/* ---- reading -------------------------------------------------------- */

static ssize_t read_blocks(const ts_file *file, int fd,
                           const struct iovec *into, int count,
                           uint64_t offset)
{
    ssize_t got;
    do got = ts_sys.preadv(fd, into, count, (off_t)offset);
    while (got < 0 && errno == EINTR);
    /* Want of memory passes; every other refusal will come again. */
    if (got < 0 && errno != ENOMEM && errno != EAGAIN)
        ts_direct_break(file, errno);
    return got;
}

/* Of `got` bytes from `first`, how many belong to the range at offset. */
static size_t useful(ssize_t got, uint64_t skip, size_t size)
{
    if (got <= 0 || (uint64_t)got <= skip) return 0;
    return (size_t)ts_min((uint64_t)got - skip, size);
}

/* The body goes where the caller wants it and the two broken blocks at its
 * ends go to the bounce, all in one call.  Reading the ends through the page
 * cache instead costs two more requests, and makes the kernel read ahead what
 * we are about to read past it. */
static size_t take_straight(const ts_file *file, const ts_direct *direct,
                            uint64_t offset, uint8_t *into, size_t size,
                            const ts_bounce *bounce)
{
    size_t skip = offset & (direct->block - 1);
    size_t head = skip == 0 ? 0 : ts_min(direct->block - skip, size);
    size_t tail = (size_t)(offset + size) & (direct->block - 1);
    struct iovec parts[3];
    int count = 0;

    if (head + tail >= size) tail = size - head;
    uint8_t *tail_block = bounce->memory + TS_READER_ALIGNMENT;
    if (head > 0)
        parts[count++] = (struct iovec){bounce->memory, direct->block};
    if (size > head + tail)
        parts[count++] = (struct iovec){into + head, size - head - tail};
    if (tail > 0) parts[count++] = (struct iovec){tail_block, direct->block};

    ssize_t all = read_blocks(file, direct->fd, parts, count, offset - skip);
    size_t got = useful(all, skip, size);
    memcpy(into, bounce->memory + skip, ts_min(head, got));
    if (got > size - tail)
        memcpy(into + size - tail, tail_block, got - (size - tail));
    return got;
}

static size_t take_bounced(const ts_file *file, const ts_direct *direct,
                           uint64_t offset, uint8_t *into, size_t size,
                           const ts_bounce *bounce)
{
    uint64_t skip = offset & (direct->block - 1);
    struct iovec part = {
        .iov_base = bounce->memory + 2 * TS_READER_ALIGNMENT,
        .iov_len = (size_t)ts_round_up(skip + size, direct->block),
    };
    ssize_t all = read_blocks(file, direct->fd, &part, 1, offset - skip);
    size_t got = useful(all, skip, size);
    memcpy(into, (uint8_t *)part.iov_base + skip, got);
    return got;
}

/* Where the piece that starts at offset ends: on a block where possible, so
 * that only the first and the last piece have broken ends. */
static size_t piece_size(uint64_t offset, size_t size, size_t limit)
{
    uint64_t end = ts_round_down(offset + limit, TS_READER_ALIGNMENT);
    return (size_t)ts_min(size, end - offset);
}

size_t ts_direct_take(const ts_file *file, uint64_t offset, void *into,
                      size_t size, const ts_bounce *bounce, uint64_t *calls)
{
    size_t done = 0;

    while (done < size) {
        const ts_direct *direct = ts_direct_of(file);
        if (direct == NULL) break;
        uint8_t *to = (uint8_t *)into + done;
        uint64_t at = offset + done;
        bool fits = ts_direct_fits(direct, at, to);
        size_t want = piece_size(at, size - done,
                                 fits ? PIECE : TS_BOUNCE_BODY);
        size_t got = fits ? take_straight(file, direct, at, to, want, bounce)
                          : take_bounced(file, direct, at, to, want, bounce);
        *calls += got > 0;
        done += got;
        if (got < want) break;
    }
    return done;
}

static bool reads_first_block(const ts_file *file, const ts_bounce *bounce)
{
    uint8_t byte;
    size_t size = file->identity.size > 0;
    uint64_t calls = 0;

    return ts_direct_of(file) != NULL
           && ts_direct_take(file, 0, &byte, size, bounce, &calls) == size;
}

bool ts_direct_probe(const ts_file *file, char *reason)
{
    ts_bounce bounce = {aligned_alloc(TS_READER_ALIGNMENT, TS_BOUNCE_SIZE)};
    bool works = bounce.memory != NULL && reads_first_block(file, &bounce);
    int os_errno = atomic_load(&file->shared->direct.os_errno);

    if (bounce.memory == NULL)
        snprintf(reason, TS_REASON_SIZE, "no memory for the probe");
    else if (!works && os_errno != 0)
        ts_reason_os(reason, "O_DIRECT", os_errno);
    else if (!works)
        snprintf(reason, TS_REASON_SIZE,
                 "the file system has no O_DIRECT for this file");
    free(bounce.memory);
    return works;
}
