/* io_uring by its bare system calls: several reads of one range in flight.
 *
 *     range  |h|  body  |  body  |  body  |t|     h, t: broken blocks at the
 *              `-- one request a piece --'        ends, through the bounce
 *
 * The requests go through the O_DIRECT descriptor when the file has one and
 * the memory fits it, else through the buffered one.  A call never returns
 * with a request in flight: the memory is the caller's. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base.h"
#include "engine.h"
#include "fault.h"

#if defined(__has_include)
#if __has_include(<linux/io_uring.h>)
#include <linux/io_uring.h>
#endif
#endif

/* Set since 5.6, as is IORING_OP_READ; what it promises we do not use. */
#ifdef IORING_FEAT_RW_CUR_POS

#define DEPTH 16u
#define BATCH 64u
#define PIECE ((size_t)256 << 10)
#define NEEDED (IORING_FEAT_SINGLE_MMAP | IORING_FEAT_RW_CUR_POS)

struct ts_uring {
    int fd; /* owned */
    bool broken;
    uint8_t *ring; /* owned mapping: both queues' heads, tails and entries */
    struct io_uring_sqe *requests; /* owned mapping */
    size_t ring_size, requests_size;
    unsigned *request_head, *request_tail, request_mask;
    unsigned *answer_head, *answer_tail, answer_mask;
    const struct io_uring_cqe *answers; /* inside ring */
};

typedef struct {
    uint64_t offset;
    uint8_t *memory; /* borrowed for the length of one call */
    size_t size;
    size_t got;
} piece;

/* ---- the ring ------------------------------------------------------- */

static unsigned load(const unsigned *at)
{
    return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}

static void store(unsigned *at, unsigned value)
{
    __atomic_store_n(at, value, __ATOMIC_RELEASE);
}

static void *map_ring(int fd, size_t size, off_t what)
{
    void *at = ts_sys.mmap(NULL, size, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_POPULATE, fd, what);
    return at == MAP_FAILED ? NULL : at;
}

static void find_queues(ts_uring *uring, const struct io_uring_params *with)
{
    uint8_t *ring = uring->ring;

    uring->request_head = (unsigned *)(void *)(ring + with->sq_off.head);
    uring->request_tail = (unsigned *)(void *)(ring + with->sq_off.tail);
    uring->request_mask = with->sq_entries - 1;
    uring->answer_head = (unsigned *)(void *)(ring + with->cq_off.head);
    uring->answer_tail = (unsigned *)(void *)(ring + with->cq_off.tail);
    uring->answer_mask = with->cq_entries - 1;
    uring->answers = (const void *)(ring + with->cq_off.cqes);
    /* Slot i of the queue always names request i. */
    unsigned *slots = (unsigned *)(void *)(ring + with->sq_off.array);
    for (unsigned i = 0; i < with->sq_entries; i++) slots[i] = i;
}

/* False with errno. */
static bool set_up(ts_uring *uring)
{
    struct io_uring_params with;

    memset(&with, 0, sizeof with);
    uring->fd = ts_sys.uring_setup(DEPTH, &with);
    if (uring->fd < 0) return false;
    if ((with.features & NEEDED) != NEEDED) {
        errno = EOPNOTSUPP;
        return false;
    }
    size_t slots = with.sq_off.array + with.sq_entries * sizeof(unsigned);
    size_t answers = with.cq_off.cqes
                     + with.cq_entries * sizeof(struct io_uring_cqe);
    uring->ring_size = slots > answers ? slots : answers;
    uring->requests_size = with.sq_entries * sizeof(struct io_uring_sqe);
    uring->ring = map_ring(uring->fd, uring->ring_size, IORING_OFF_SQ_RING);
    if (uring->ring == NULL) return false;
    uring->requests =
        map_ring(uring->fd, uring->requests_size, IORING_OFF_SQES);
    if (uring->requests == NULL) return false;
    find_queues(uring, &with);
    return true;
}

int ts_uring_new(ts_uring **out)
{
    ts_uring *uring = calloc(1, sizeof *uring);

    *out = NULL;
    if (uring == NULL) return ENOMEM;
    uring->fd = -1;
    if (!set_up(uring)) {
        int os_errno = errno; /* before freeing has its own */
        ts_uring_free(uring);
        return os_errno != 0 ? os_errno : EIO;
    }
    *out = uring;
    return 0;
}

void ts_uring_free(ts_uring *uring)
{
    if (uring == NULL) return;
    if (uring->requests != NULL)
        ts_sys.munmap(uring->requests, uring->requests_size);
    if (uring->ring != NULL) ts_sys.munmap(uring->ring, uring->ring_size);
    if (uring->fd >= 0) ts_sys.close(uring->fd);
    free(uring);
}

bool ts_uring_is_broken(const ts_uring *uring) { return uring->broken; }

/* Two queues and the requests, to the page. */
size_t ts_uring_overhead(void) { return sizeof(ts_uring) + 3 * 4096; }

/* ---- requests and answers ------------------------------------------- */

static void push(ts_uring *uring, int fd, const piece *what, unsigned number)
{
    unsigned tail = *uring->request_tail;
    struct io_uring_sqe *request =
        &uring->requests[tail & uring->request_mask];

    memset(request, 0, sizeof *request);
    request->opcode = IORING_OP_READ;
    request->fd = fd;
    request->addr = (uint64_t)(uintptr_t)what->memory;
    request->len = (uint32_t)what->size;
    request->off = what->offset;
    request->user_data = number;
    store(uring->request_tail, tail + 1);
}

/* Takes the answers that are there; *os_errno is the last refusal among
 * them. */
static unsigned reap(ts_uring *uring, piece *pieces, unsigned count,
                     int *os_errno)
{
    unsigned head = *uring->answer_head, taken = 0;

    for (; head != load(uring->answer_tail); head++, taken++) {
        const struct io_uring_cqe *answer =
            &uring->answers[head & uring->answer_mask];
        if (answer->res < 0)
            *os_errno = -answer->res;
        else if (answer->user_data < count)
            pieces[answer->user_data].got = (size_t)answer->res;
    }
    store(uring->answer_head, head);
    return taken;
}

/* Requests that the kernel has not taken yet. */
static unsigned waiting(const ts_uring *uring)
{
    return *uring->request_tail - load(uring->request_head);
}

/* After a refusal by the ring itself.  What the kernel has taken it will
 * answer, and until then it may write to the caller's memory. */
static void drain(ts_uring *uring, piece *pieces, unsigned count,
                  unsigned in_flight)
{
    const struct timespec pause = {.tv_nsec = 100000};
    int ignored = 0;

    while (in_flight > 0) {
        unsigned taken = reap(uring, pieces, count, &ignored);
        in_flight -= taken;
        if (taken == 0) nanosleep(&pause, NULL);
    }
}

/* Reads all pieces, at most DEPTH at a time.  Returns the errno that a read
 * was refused with, or 0; the ring may be broken afterwards. */
static int read_pieces(ts_uring *uring, int fd, piece *pieces, unsigned count,
                       uint64_t *calls)
{
    unsigned sent = 0, done = 0;
    int os_errno = 0;

    while (done < count) {
        for (; sent < count && sent - done < DEPTH; sent++)
            push(uring, fd, &pieces[sent], sent);
        int taken = ts_sys.uring_enter(uring->fd, waiting(uring), 1,
                                       IORING_ENTER_GETEVENTS);
        if (taken < 0 && errno != EINTR) {
            uring->broken = true;
            drain(uring, pieces, count, sent - waiting(uring) - done);
            return 0;
        }
        ++*calls;
        done += reap(uring, pieces, count, &os_errno);
    }
    return os_errno;
}

/* ---- cutting -------------------------------------------------------- */

static void add(piece *pieces, unsigned *count, uint64_t offset,
                uint8_t *memory, size_t size)
{
    pieces[(*count)++] = (piece){offset, memory, size, 0};
}

/* How one batch lies on the blocks of the descriptor; block is 1 when it is
 * the buffered one. */
typedef struct {
    uint64_t offset;
    uint8_t *into;
    size_t size, head, tail; /* head and tail: bytes in broken blocks */
    size_t skip;             /* before the range in its first block */
    uint32_t block;
} span;

static span lay(uint64_t offset, uint8_t *into, size_t size, uint32_t block)
{
    span it = {.offset = offset, .into = into, .size = size, .block = block};

    it.skip = (size_t)offset & (block - 1);
    it.head = it.skip == 0 ? 0 : (size_t)ts_min(block - it.skip, size);
    it.tail = (size_t)(offset + size) & (block - 1);
    if (it.head + it.tail >= size) it.tail = size - it.head;
    return it;
}

static unsigned cut(const span *it, const ts_bounce *bounce, piece *pieces)
{
    uint64_t at = it->offset + it->head;
    uint64_t end = it->offset + it->size - it->tail;
    unsigned count = 0;

    if (it->head > 0)
        add(pieces, &count, it->offset - it->skip, bounce->memory, it->block);
    for (; at < end; at += PIECE)
        add(pieces, &count, at, it->into + (at - it->offset),
            (size_t)ts_min(PIECE, end - at));
    if (it->tail > 0)
        add(pieces, &count, end, bounce->memory + TS_READER_ALIGNMENT,
            it->block);
    return count;
}

/* Copies the broken blocks out and returns how much of the beginning came. */
static size_t join(const span *it, const ts_bounce *bounce,
                   const piece *pieces, unsigned count)
{
    size_t size = 0, want = it->skip + it->size;

    for (unsigned i = 0; i < count; i++) {
        size += pieces[i].got;
        if (pieces[i].got < pieces[i].size) break;
    }
    size = (size_t)ts_min(size, want);
    size = size > it->skip ? size - it->skip : 0;
    memcpy(it->into, bounce->memory + it->skip, ts_min(it->head, size));
    if (size > it->size - it->tail)
        memcpy(it->into + it->size - it->tail,
               bounce->memory + TS_READER_ALIGNMENT,
               size - (it->size - it->tail));
    return size;
}

static size_t take_batch(ts_uring *uring, const ts_file *file, span it,
                         const ts_bounce *bounce, uint64_t *calls)
{
    piece pieces[BATCH];
    bool direct = it.block > 1;
    int fd = direct ? file->shared->direct.fd : file->fd;
    unsigned count = cut(&it, bounce, pieces);
    int refusal = read_pieces(uring, fd, pieces, count, calls);

    if (refusal != 0 && refusal != ENOMEM && refusal != EAGAIN
        && refusal != EINTR) {
        if (direct)
            ts_direct_break(file, refusal);
        else
            uring->broken = true;
    }
    return join(&it, bounce, pieces, count);
}

size_t ts_uring_take(ts_uring *uring, const ts_file *file, uint64_t offset,
                     void *into, size_t size, const ts_bounce *bounce,
                     uint64_t *calls)
{
    const size_t limit = (BATCH - 2) * PIECE;
    size_t done = 0;

    while (done < size && !uring->broken) {
        const ts_direct *direct = ts_direct_of(file);
        uint8_t *to = (uint8_t *)into + done;
        uint64_t at = offset + done;
        bool fits = direct != NULL && ts_direct_fits(direct, at, to);
        uint64_t end = ts_round_down(at + limit, TS_READER_ALIGNMENT);
        size_t want = (size_t)ts_min(size - done, end - at);
        size_t got = take_batch(
            uring, file, lay(at, to, want, fits ? direct->block : 1), bounce,
            calls);
        done += got;
        if (got < want) break;
    }
    return done;
}

/* ---- probing -------------------------------------------------------- */

static bool fail_set_up(char *reason, int os_errno)
{
    if (os_errno == EPERM || os_errno == EACCES)
        snprintf(reason, TS_REASON_SIZE,
                 "io_uring is forbidden here (seccomp or the "
                 "kernel.io_uring_disabled setting)");
    else
        ts_reason_os(reason, "io_uring", os_errno);
    return false;
}

bool ts_uring_probe(const ts_file *file, char *reason)
{
    ts_uring *uring;
    size_t size = (size_t)ts_min(file->identity.size, 4096);
    uint8_t page[4096];
    piece first = {.offset = 0, .memory = page, .size = size, .got = 0};
    uint64_t calls = 0;
    int os_errno = ts_uring_new(&uring);

    if (os_errno != 0) return fail_set_up(reason, os_errno);
    if (size > 0)
        os_errno = read_pieces(uring, file->fd, &first, 1, &calls);
    bool works = first.got == size;
    if (!works && os_errno != 0)
        ts_reason_os(reason, "an io_uring read", os_errno);
    else if (!works)
        snprintf(reason, TS_REASON_SIZE, "an io_uring read gave %zu of %zu",
                 first.got, size);
    ts_uring_free(uring);
    return works;
}

#else /* built where the headers have no io_uring, or too old a one */

struct ts_uring {
    bool broken;
};

int ts_uring_new(ts_uring **out)
{
    *out = NULL;
    return ENOSYS;
}

void ts_uring_free(ts_uring *uring) { (void)uring; }

bool ts_uring_is_broken(const ts_uring *uring) { return uring->broken; }

size_t ts_uring_overhead(void) { return 0; }

size_t ts_uring_take(ts_uring *uring, const ts_file *file, uint64_t offset,
                     void *into, size_t size, const ts_bounce *bounce,
                     uint64_t *calls)
{
    (void)uring, (void)file, (void)offset, (void)into, (void)size;
    (void)bounce, (void)calls;
    return 0;
}

bool ts_uring_probe(const ts_file *file, char *reason)
{
    (void)file;
    snprintf(reason, TS_REASON_SIZE, "built without io_uring's headers");
    return false;
}

#endif
