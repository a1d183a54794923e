/* The mapping engine is chosen by hand only.  A file that is cut short while
 * its pages are mapped raises SIGBUS in whoever touches them, and no check
 * beforehand can rule that out; the one below narrows the window to the copy
 * itself.  It earns its place where a sandbox forbids the others, and as the
 * yardstick that the others are measured with. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/base.h"
#include "engine.h"
#include "fault.h"

/* Page tables for more than this cost more than they save: 21 GB/s at 4 and
 * 16 MiB on a machine that copies at 15 to 20. */
#define PIECE ((size_t)16 << 20)

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif

static bool still_reaches(const ts_file *file, uint64_t end)
{
    struct stat info;
    return ts_sys.fstat(file->fd, &info) == 0 && (uint64_t)info.st_size >= end;
}

/* EINVAL: a kernel that does not know the advice faults the pages in one by
 * one.  Anything else means pages that a touch would die of. */
static bool can_touch(void *at, size_t size)
{
    return ts_sys.madvise(at, size, MADV_POPULATE_READ) == 0
           || errno == EINVAL;
}

static size_t take_piece(const ts_file *file, uint64_t offset, void *into,
                         size_t size, bool *broken)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    size_t skip = (size_t)(offset & (page - 1));
    bool usable;

    if (!still_reaches(file, offset + size)) return 0;
    uint8_t *at = ts_sys.mmap(NULL, skip + size, PROT_READ, MAP_SHARED,
                              file->fd, (off_t)(offset - skip));
    if (at == MAP_FAILED) {
        *broken = true;
        return 0;
    }
    usable = can_touch(at, skip + size);
    if (usable) memcpy(into, at + skip, size);
    ts_sys.munmap(at, skip + size);
    return usable ? size : 0;
}

size_t ts_map_take(const ts_file *file, uint64_t offset, void *into,
                   size_t size, bool *broken, uint64_t *calls)
{
    size_t done = 0;

    while (done < size) {
        size_t want = (size_t)ts_min(size - done, PIECE);
        if (take_piece(file, offset + done, (uint8_t *)into + done, want,
                       broken)
            != want)
            break;
        ++*calls;
        done += want;
    }
    return done;
}

bool ts_map_probe(const ts_file *file, char *reason)
{
    uint64_t calls = 0;
    bool broken = false;
    uint8_t byte;

    if (file->identity.size == 0) return true; /* nothing to map, or to read */
    if (ts_map_take(file, 0, &byte, 1, &broken, &calls) == 1) return true;
    if (broken)
        ts_reason_os(reason, "mmap", errno);
    else
        snprintf(reason, TS_REASON_SIZE, "its pages cannot be touched");
    return false;
}
