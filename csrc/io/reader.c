#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "engine.h"
#include "fault.h"

/* What AUTO has found out about a stretch of a file, so that a stream asks
 * once in 16 MiB (8 calls, 2 us, in 800 us of copying) and small reads
 * here and there do not ask each time. */
typedef struct {
    uint64_t device, inode, number; /* which stretch: offset / TS_STRETCH */
    uint64_t until_ns;              /* believed until then; 0: an empty slot */
    ts_residence residence;
    ts_engine engine; /* for its cold ranges */
} stretch;

#define STRETCHES 32
#define BELIEVED_NS ((uint64_t)1000000000)

/* Further than kernels read ahead: 8 MiB is a large setting for a disk, which
 * the hint of sequential reading doubles, and the window after the one in use
 * is asked for as well. */
#define READ_AHEAD (4 * TS_STRETCH)

/* Older figures lose half their weight each time a sum reaches this. */
#define MEMORY_OF_RATES (16 * TS_STRETCH)

struct ts_reader {
    ts_engine engine;
    unsigned broken; /* 1 << engine: not tried again */
    ts_bounce bounce;
    ts_uring *uring; /* owned; NULL until it is needed, or broken */
    ts_reader_stats stats;
    stretch known[STRETCHES];
};

/* ---- names ---------------------------------------------------------- */

static const char *const names[TS_ENGINE_COUNT] = {
    "auto", "pread", "direct", "mmap", "io_uring", "memory"};

const char *ts_engine_name(ts_engine engine)
{
    return (unsigned)engine < TS_ENGINE_COUNT ? names[engine] : "unknown";
}

bool ts_engine_find(const char *name, ts_engine *out)
{
    for (unsigned i = 0; i < TS_ENGINE_COUNT; i++)
        if (strcmp(names[i], name) == 0) {
            *out = (ts_engine)i;
            return true;
        }
    return false;
}

void ts_reason_os(char *reason, const char *what, int os_errno)
{
    char room[96];
    snprintf(reason, TS_REASON_SIZE, "%s: %s", what,
             strerror_r(os_errno, room, sizeof room));
}

static bool refuse(char *reason, const char *why)
{
    snprintf(reason, TS_REASON_SIZE, "%s", why);
    return false;
}

bool ts_engine_probe(ts_engine engine, const ts_file *file, char *reason)
{
    bool is_memory = file->memory != NULL;

    reason[0] = '\0';
    switch (engine) {
    case TS_ENGINE_AUTO: return true;
    case TS_ENGINE_MEMORY:
        return is_memory || refuse(reason, "the file is not memory");
    default: break;
    }
    if (is_memory) return refuse(reason, "the file is memory: a copy");
    switch (engine) {
    case TS_ENGINE_PREAD: return true;
    case TS_ENGINE_DIRECT: return ts_direct_probe(file, reason);
    case TS_ENGINE_MAP: return ts_map_probe(file, reason);
    case TS_ENGINE_URING: return ts_uring_probe(file, reason);
    default: return refuse(reason, "no such engine");
    }
}

/* ---- one reader ----------------------------------------------------- */

static bool needs_bounce(ts_engine engine)
{
    return engine == TS_ENGINE_AUTO || engine == TS_ENGINE_DIRECT
           || engine == TS_ENGINE_URING;
}

ts_status ts_reader_new(ts_engine engine, ts_reader **out, ts_error *error)
{
    *out = NULL;
    if ((unsigned)engine >= TS_ENGINE_COUNT)
        return ts_fail(error, TS_ARGUMENT, "%d is no engine", (int)engine);
    ts_reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate a reader");
    reader->engine = engine;
    if (needs_bounce(engine)) {
        reader->bounce.memory =
            aligned_alloc(TS_READER_ALIGNMENT, TS_BOUNCE_SIZE);
        if (reader->bounce.memory == NULL) {
            ts_reader_free(reader);
            return ts_fail(error, TS_NOMEM,
                           "cannot allocate a reader's %zu bytes of edges",
                           TS_BOUNCE_SIZE);
        }
    }
    *out = reader;
    return TS_OK;
}

void ts_reader_free(ts_reader *reader)
{
    if (reader == NULL) return;
    ts_uring_free(reader->uring);
    free(reader->bounce.memory);
    free(reader);
}

size_t ts_reader_overhead(ts_engine engine)
{
    size_t size = sizeof(ts_reader);
    if (needs_bounce(engine)) size += TS_BOUNCE_SIZE;
    if (engine == TS_ENGINE_AUTO || engine == TS_ENGINE_URING)
        size += ts_uring_overhead();
    return size;
}

const ts_reader_stats *ts_reader_stats_of(const ts_reader *reader)
{
    return &reader->stats;
}

/* ---- reading by one engine ------------------------------------------ */

static bool is_broken(const ts_reader *reader, ts_engine engine)
{
    return (reader->broken >> engine & 1) != 0;
}

static ts_uring *ring_of(ts_reader *reader)
{
    if (reader->uring == NULL && !is_broken(reader, TS_ENGINE_URING)
        && ts_uring_new(&reader->uring) != 0)
        reader->broken |= 1u << TS_ENGINE_URING;
    return reader->uring;
}

static size_t take_by_ring(ts_reader *reader, const ts_file *file,
                           uint64_t offset, void *into, size_t size)
{
    ts_uring *uring = ring_of(reader);

    if (uring == NULL) return 0;
    size_t got = ts_uring_take(uring, file, offset, into, size,
                               &reader->bounce, &reader->stats.calls);
    if (ts_uring_is_broken(uring)) {
        reader->broken |= 1u << TS_ENGINE_URING;
        ts_uring_free(uring);
        reader->uring = NULL;
    }
    return got;
}

static size_t take_by_map(ts_reader *reader, const ts_file *file,
                          uint64_t offset, void *into, size_t size)
{
    bool broken = false;

    if (is_broken(reader, TS_ENGINE_MAP)) return 0;
    size_t got = ts_map_take(file, offset, into, size, &broken,
                             &reader->stats.calls);
    if (broken) reader->broken |= 1u << TS_ENGINE_MAP;
    return got;
}

static size_t take(ts_reader *reader, ts_engine engine, const ts_file *file,
                   uint64_t offset, void *into, size_t size)
{
    switch (engine) {
    case TS_ENGINE_DIRECT:
        return ts_direct_take(file, offset, into, size, &reader->bounce,
                              &reader->stats.calls);
    case TS_ENGINE_MAP: return take_by_map(reader, file, offset, into, size);
    case TS_ENGINE_URING:
        return take_by_ring(reader, file, offset, into, size);
    default: return 0;
    }
}

/* One reader's figures are all readers': who comes later need not try again
 * what others have tried.  Whoever steps over the border halves, nobody else,
 * so that no more is taken off than is there. */
static void note_cold(ts_cold *cold, ts_engine engine, size_t size,
                      uint64_t ns)
{
    uint64_t before = atomic_fetch_add_explicit(&cold->bytes[engine], size,
                                                memory_order_relaxed);
    ns += atomic_fetch_add_explicit(&cold->ns[engine], ns,
                                    memory_order_relaxed);
    if (before >= MEMORY_OF_RATES || before + size < MEMORY_OF_RATES) return;
    atomic_fetch_sub_explicit(&cold->bytes[engine], (before + size) / 2,
                              memory_order_relaxed);
    atomic_fetch_sub_explicit(&cold->ns[engine], ns / 2,
                              memory_order_relaxed);
}

static void note(ts_reader *reader, const ts_file *file, ts_engine engine,
                 bool cold, size_t size, uint64_t ns)
{
    reader->stats.bytes[engine] += size;
    reader->stats.ns[engine] += ns;
    if (cold) note_cold(&file->shared->cold, engine, size, ns);
}

/* The engine's part, then whatever it left by pread. */
static ts_status read_by(ts_reader *reader, ts_engine engine, bool cold,
                         const ts_file *file, uint64_t offset, void *into,
                         size_t size, ts_error *error)
{
    uint64_t start = ts_sys.now_ns();
    size_t done = take(reader, engine, file, offset, into, size);

    if (done > 0) {
        uint64_t middle = ts_sys.now_ns();
        note(reader, file, engine, cold, done, middle - start);
        start = middle;
    }
    if (done == size) return TS_OK;
    ts_status status =
        ts_file_read_fd(file, file->fd, offset + done, (uint8_t *)into + done,
                        size - done, &reader->stats.calls, error);
    if (status == TS_OK)
        note(reader, file, TS_ENGINE_PREAD, cold, size - done,
             ts_sys.now_ns() - start);
    return status;
}

/* ---- choosing an engine --------------------------------------------- */

static unsigned usable(const ts_reader *reader, const ts_file *file)
{
    unsigned engines = 1u << TS_ENGINE_PREAD;
    if (ts_direct_of(file) != NULL) engines |= 1u << TS_ENGINE_DIRECT;
    if (!is_broken(reader, TS_ENGINE_URING)) engines |= 1u << TS_ENGINE_URING;
    return engines;
}

static ts_engine choose_cold(const ts_reader *reader, const ts_file *file)
{
    ts_cold *cold = &file->shared->cold;
    ts_reader_stats figures = {0};

    for (int i = 0; i < TS_ENGINE_COUNT; i++) {
        figures.bytes[i] =
            atomic_load_explicit(&cold->bytes[i], memory_order_relaxed);
        figures.ns[i] =
            atomic_load_explicit(&cold->ns[i], memory_order_relaxed);
    }
    return ts_engine_choose(
        &figures, usable(reader, file),
        atomic_fetch_add_explicit(&cold->rounds, 1, memory_order_relaxed));
}

static ts_residence residence_of(const ts_file *file, uint64_t number)
{
    uint64_t start = number * TS_STRETCH;
    unsigned share;

    return ts_file_residence(
        file, start, ts_min(TS_STRETCH, file->identity.size - start), &share);
}

static bool is_cold(ts_residence residence)
{
    return residence == TS_RESIDENCE_COLD || residence == TS_RESIDENCE_MIXED;
}

/* A page counts as cached from when the kernel asks for it, and a kernel that
 * reads ahead asks for more than a stretch: after one buffered read, all of a
 * cold file would look cached from then on.  So what is cached with nothing
 * cached so far behind it counts as cold; where a cached part ends, that costs
 * the difference for so much. */
static ts_residence look_past_read_ahead(const ts_file *file, uint64_t number)
{
    uint64_t last = (file->identity.size - 1) / TS_STRETCH;
    uint64_t beyond = ts_min(number + READ_AHEAD / TS_STRETCH, last);
    ts_residence residence = residence_of(file, number);

    if (residence == TS_RESIDENCE_CACHED || residence == TS_RESIDENCE_MIXED)
        if (residence_of(file, beyond) == TS_RESIDENCE_COLD)
            return TS_RESIDENCE_COLD;
    return residence;
}

static void look_at(ts_reader *reader, const ts_file *file, stretch *it,
                    uint64_t number, uint64_t now)
{
    *it = (stretch){
        .device = file->identity.device,
        .inode = file->identity.inode,
        .number = number,
        .until_ns = now + BELIEVED_NS,
        .residence = look_past_read_ahead(file, number),
        .engine = TS_ENGINE_PREAD,
    };
    if (is_cold(it->residence)) it->engine = choose_cold(reader, file);
}

/* The readers of a file follow whoever came to a stretch first: two engines
 * in one stretch read it twice, as one of them reads ahead.  One word, so
 * that no lock is needed: number 40 bits, seconds 19, engine 3, residence 2.
 * An engine is never 0 here, so neither is the word. */
#define SECONDS(ns) (((ns) >> 30) & 0x7ffff)

static void tell(const ts_file *file, const stretch *it, uint64_t now)
{
    uint64_t word = it->number << 24 | SECONDS(now) << 5
                    | (uint64_t)it->engine << 2 | (uint64_t)it->residence;
    atomic_store_explicit(&file->shared->stretch, word, memory_order_relaxed);
}

static bool ask_others(const ts_file *file, stretch *it, uint64_t number,
                       uint64_t now)
{
    uint64_t word = atomic_load_explicit(&file->shared->stretch,
                                         memory_order_relaxed);

    if (word == 0 || word >> 24 != number) return false;
    if ((word >> 5 & 0x7ffff) != SECONDS(now)) return false;
    *it = (stretch){
        .device = file->identity.device,
        .inode = file->identity.inode,
        .number = number,
        .until_ns = now + BELIEVED_NS,
        .residence = (ts_residence)(word & 3),
        .engine = (ts_engine)(word >> 2 & 7),
    };
    return true;
}

static const stretch *stretch_of(ts_reader *reader, const ts_file *file,
                                 uint64_t offset)
{
    uint64_t number = offset / TS_STRETCH;
    stretch *it =
        &reader->known[(number + file->identity.inode * 7) % STRETCHES];
    uint64_t now = ts_sys.now_ns();

    if (it->until_ns < now || it->number != number
        || it->inode != file->identity.inode
        || it->device != file->identity.device) {
        if (ask_others(file, it, number, now)) return it;
        look_at(reader, file, it, number, now);
        tell(file, it, now);
    }
    return it;
}

/* PREAD in a cold stretch keeps all of the stretch: the pages that are there
 * are there because it read ahead, and its rate is that of the whole. */
static ts_engine choose(ts_reader *reader, const ts_file *file,
                        uint64_t offset, size_t size, bool *cold)
{
    const stretch *it = stretch_of(reader, file, offset);
    unsigned share;

    *cold = is_cold(it->residence);
    if (!*cold || it->engine == TS_ENGINE_PREAD) return TS_ENGINE_PREAD;
    if (it->residence == TS_RESIDENCE_COLD) return it->engine;
    ts_file_residence(file, offset, size, &share);
    *cold = share < 128;
    return *cold ? it->engine : TS_ENGINE_PREAD;
}

ts_status ts_reader_read(ts_reader *reader, const ts_file *file,
                         uint64_t offset, void *into, size_t size,
                         ts_error *error)
{
    ts_engine engine = reader->engine;
    bool cold = false;

    TS_TRY(ts_file_check_range(file, offset, size, error));
    if (size == 0) return TS_OK;
    if (file->memory != NULL) {
        uint64_t start = ts_sys.now_ns();
        memcpy(into, ts_buffer_data(file->memory) + offset, size);
        note(reader, file, TS_ENGINE_MEMORY, false, size,
             ts_sys.now_ns() - start);
        return TS_OK;
    }
    if (engine == TS_ENGINE_AUTO)
        engine = choose(reader, file, offset, size, &cold);
    return read_by(reader, engine, cold, file, offset, into, size, error);
}
