/* ceilings.c -- what this machine does with nothing of ours in the way: copies
 * of memory, and threads that pread a file into a few recycled kilobytes.
 *
 * Compiled by native.py where the benchmark runs.  Memory is mapped at the
 * first use, touched, and kept: no figure pays for fresh pages. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum { MOST_THREADS = 16, HUGE_PAGE = 2 << 20, SECTOR = 4096 };

/* ---- memory that is kept ---------------------------------------------- */

typedef struct {
    uint8_t *bytes;
    size_t size;
} room;

static room rings[MOST_THREADS], outs[MOST_THREADS], from, to, whole;

static uint8_t *room_of(room *room, size_t size)
{
    if (room->size >= size) return room->bytes;
    if (room->bytes != NULL) munmap(room->bytes, room->size);
    *room = (typeof(*room)){NULL, 0};
    size = (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    uint8_t *map = mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) return NULL;
    size_t skip = -(uintptr_t)map % HUGE_PAGE;
    if (skip > 0) munmap(map, skip);
    munmap(map + skip + size, HUGE_PAGE - skip);
    madvise(map + skip, size, MADV_HUGEPAGE);
    memset(map + skip, 1, size);
    *room = (typeof(*room)){map + skip, size};
    return room->bytes;
}

/* ---- work fused on a chunk -------------------------------------------- */

enum { READ, SUM, WIDEN, PLACE };

static uint64_t sum_words(const uint8_t *bytes, size_t size)
{
    const uint64_t *words = (const uint64_t *)bytes;
    uint64_t sum = 0, last = 0;
    for (size_t i = 0; i < size / 8; i++) sum += words[i];
    memcpy(&last, bytes + size / 8 * 8, size % 8);
    return sum + last;
}

static void widen(const uint8_t *bytes, size_t size, uint8_t *out)
{
    const uint16_t *in = (const uint16_t *)bytes;
    uint32_t *wide = (uint32_t *)out;
    for (size_t i = 0; i < size / 2; i++) wide[i] = (uint32_t)in[i] << 16;
}

/* ---- threads that read chunks of a file ------------------------------- */

typedef struct {
    int fd, work;
    uint64_t begin, end;
    size_t chunk;
    uint8_t *ring, *out, *place;
    _Atomic uint64_t *next; /* the chunk that nobody has taken yet */
    uint64_t sum;
    int failed; /* errno */
} reader;

/* Asks for whole sectors, which O_DIRECT wants and others do not mind: only
 * the last chunk of a file is cut, and its read ends with the file. */
static int read_fully(int fd, uint8_t *into, size_t want, uint64_t at)
{
    size_t have = 0, room = (want + SECTOR - 1) / SECTOR * SECTOR;
    while (have < want) {
        ssize_t got = pread(fd, into + have, room - have, (off_t)(at + have));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return errno;
        if (got == 0) return EIO;
        have += (size_t)got;
    }
    return 0;
}

static void *run_reader(void *argument)
{
    reader *me = argument;
    for (;;) {
        uint64_t at = me->begin + atomic_fetch_add(me->next, 1) * me->chunk;
        if (at >= me->end) return NULL;
        size_t size = me->chunk < me->end - at ? me->chunk : me->end - at;
        uint8_t *into = me->work == PLACE ? me->place + (at - me->begin)
                                          : me->ring;
        me->failed = read_fully(me->fd, into, size, at);
        if (me->failed != 0) return NULL;
        if (me->work == SUM) me->sum += sum_words(into, size);
        if (me->work == WIDEN) widen(into, size, me->out);
    }
}

static int run_readers(reader *readers, int threads, uint64_t *sum)
{
    pthread_t ids[MOST_THREADS];
    int failed = 0, started = 1;

    while (failed == 0 && started < threads) {
        failed = pthread_create(&ids[started], NULL, run_reader,
                                &readers[started]);
        started += failed == 0;
    }
    run_reader(&readers[0]);
    for (int i = 1; i < started; i++) pthread_join(ids[i], NULL);
    *sum = 0;
    for (int i = 0; i < started; i++) {
        if (failed == 0) failed = readers[i].failed;
        *sum += readers[i].sum;
    }
    return failed;
}

/* Bytes [begin, end of file) in chunks, by `threads` threads of which the
 * caller is one.  *sum is that of the 64-bit words when they were summed.
 * With direct, begin and chunk are whole sectors.  Returns an errno. */
EXPORT int read_file(const char *path, int threads, size_t chunk, int work,
                     int direct, uint64_t begin, uint64_t *sum)
{
    reader readers[MOST_THREADS];
    _Atomic uint64_t next = 0;
    struct stat status;

    if (threads < 1 || threads > MOST_THREADS) return EINVAL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0));
    if (fd < 0) return errno;
    int failed = fstat(fd, &status) != 0 ? errno : 0;
    uint64_t end = failed ? 0 : (uint64_t)status.st_size;
    uint8_t *place = NULL;
    if (failed == 0 && work == PLACE
        && (place = room_of(&whole, end - begin + SECTOR)) == NULL)
        failed = ENOMEM;
    for (int i = 0; failed == 0 && i < threads; i++) {
        readers[i] = (reader){.fd = fd, .work = work, .begin = begin,
                              .end = end, .chunk = chunk, .place = place,
                              .next = &next};
        readers[i].ring = room_of(&rings[i], chunk);
        readers[i].out = room_of(&outs[i], work == WIDEN ? 2 * chunk : 1);
        if (readers[i].ring == NULL || readers[i].out == NULL)
            failed = ENOMEM;
    }
    if (failed == 0) failed = run_readers(readers, threads, sum);
    close(fd);
    return failed;
}

/* ---- copies ----------------------------------------------------------- */

typedef struct {
    uint8_t *to;
    const uint8_t *from;
    size_t size;
} copy;

static void *run_copy(void *argument)
{
    copy *me = argument;
    memcpy(me->to, me->from, me->size);
    return NULL;
}

/* memcpy of size bytes, far beyond the caches, cut among the threads. */
EXPORT int copy_memory(size_t size, int threads)
{
    copy copies[MOST_THREADS];
    pthread_t ids[MOST_THREADS];
    int started = 1;

    if (threads < 1 || threads > MOST_THREADS) return EINVAL;
    uint8_t *source = room_of(&from, size), *target = room_of(&to, size);
    if (source == NULL || target == NULL) return ENOMEM;
    for (int i = 0; i < threads; i++) {
        size_t begin = size / (size_t)threads * (size_t)i;
        size_t end = i == threads - 1
                       ? size
                       : size / (size_t)threads * (size_t)(i + 1);
        copies[i] = (copy){target + begin, source + begin, end - begin};
    }
    while (started < threads
           && pthread_create(&ids[started], NULL, run_copy, &copies[started])
                  == 0)
        started++;
    run_copy(&copies[0]);
    for (int i = 1; i < started; i++) pthread_join(ids[i], NULL);
    return started == threads ? 0 : EAGAIN;
}

/* ---- what the page cache holds ---------------------------------------- */

/* Bytes of the file that are in the page cache, asked of a mapping page by
 * page; -1 when the system does not tell. */
EXPORT int64_t cached_bytes(const char *path)
{
    enum { PAGES = 1 << 16 };
    static unsigned char pages[PAGES];
    struct stat status;
    int64_t found = 0;

    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = 0;
    uint8_t *map = MAP_FAILED;
    if (fstat(fd, &status) == 0 && status.st_size > 0) {
        size = (size_t)status.st_size;
        map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    }
    close(fd);
    if (map == MAP_FAILED) return -1;
    for (size_t at = 0; found >= 0 && at < size; at += PAGES * page) {
        size_t span = size - at < PAGES * page ? size - at : PAGES * page;
        if (mincore(map + at, span, pages) != 0) {
            found = -1;
            break;
        }
        for (size_t i = 0; i < (span + page - 1) / page; i++)
            found += (pages[i] & 1) * (int64_t)page;
    }
    munmap(map, size);
    return found;
}
