/* whole.c -- tensors in memory, packed and unpacked by several threads.
 *
 * Chunks are handed out by number.  Unpacking needs no order.  Packed chunks
 * lie one behind the other, so each waits for the one before to have its
 * place: whoever is next packs straight into it, the others into a stage of
 * their own, which is copied while the next in line goes on. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "core/cpu.h"
#include "frame.h"

enum { MOST_THREADS = 64 };

typedef struct team team;
typedef ts_status (*task)(team *crew, uint64_t chunk, uint8_t **stage,
                          ts_packer *packer, ts_error *error);

struct team {
    task run;
    uint64_t chunks;
    uint64_t threads; /* a thread's next chunk is about so many further on */
    pthread_mutex_t lock; /* all below, and the writer's add */
    pthread_cond_t turn;
    uint64_t next;   /* chunk to hand out */
    uint64_t placed; /* chunks that have their place */
    ts_status status;
    ts_error *error; /* the caller's; of the first to fail */
    /* what the tasks work on: borrowed from the caller for the call */
    const ts_frame *frame;
    ts_frame_writer *writer;
    const ts_frame_info *info;
    const uint8_t *in, *base;
    uint8_t *out;
    unsigned how;
};

/* ---- the threads ------------------------------------------------------ */

static void fail(team *crew, ts_status status, const ts_error *error)
{
    pthread_mutex_lock(&crew->lock);
    if (crew->status == TS_OK) {
        crew->status = status;
        if (crew->error != NULL) *crew->error = *error;
    }
    pthread_cond_broadcast(&crew->turn);
    pthread_mutex_unlock(&crew->lock);
}

static bool take_chunk(team *crew, uint64_t *chunk)
{
    pthread_mutex_lock(&crew->lock);
    bool some = crew->status == TS_OK && crew->next < crew->chunks;
    if (some) *chunk = crew->next++;
    pthread_mutex_unlock(&crew->lock);
    return some;
}

static void *work(void *argument)
{
    team *crew = argument;
    uint8_t *stage = NULL;
    ts_packer *packer;
    ts_error error = {0};
    uint64_t chunk = 0;

    ts_status status = ts_packer_new(&packer, &error);
    while (status == TS_OK && take_chunk(crew, &chunk))
        status = crew->run(crew, chunk, &stage, packer, &error);
    if (status != TS_OK) fail(crew, status, &error);
    ts_packer_free(packer);
    free(stage);
    return NULL;
}

static int wanted(const team *crew, int threads)
{
    if (threads <= 0) threads = ts_cpu_count();
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    return (int)ts_min((uint64_t)threads, ts_max(crew->chunks, 1));
}

/* The caller is one of the threads; fewer than wanted is no failure.  Signals
 * belong to the threads of the program. */
static ts_status run(team *crew, int threads, ts_error *error)
{
    pthread_t others[MOST_THREADS];
    sigset_t all, before;
    int started = 0;

    crew->status = TS_OK;
    crew->error = error;
    threads = wanted(crew, threads);
    crew->threads = (uint64_t)threads;
    pthread_mutex_init(&crew->lock, NULL);
    pthread_cond_init(&crew->turn, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (started < threads - 1
           && pthread_create(&others[started], NULL, work, crew) == 0)
        started++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    work(crew);
    for (int i = 0; i < started; i++) pthread_join(others[i], NULL);
    pthread_cond_destroy(&crew->turn);
    pthread_mutex_destroy(&crew->lock);
    return crew->status;
}

/* ---- unpack ----------------------------------------------------------- */

static ts_status unpack_one(team *crew, uint64_t i, uint8_t **stage,
                            ts_packer *packer, ts_error *error)
{
    ts_frame_chunk chunk = ts_frame_find(crew->frame, i);
    size_t at = (size_t)i * crew->info->chunk_bytes;

    (void)stage;
    if (i + crew->threads < crew->chunks) {
        ts_frame_chunk next = ts_frame_find(crew->frame, i + crew->threads);
        ts_packer_expect(packer,
                         (ts_ahead){crew->in + next.offset, next.size});
    }
    return ts_frame_unpack(crew->frame, i, crew->in + chunk.offset, chunk.size,
                           crew->base != NULL ? crew->base + at : NULL,
                           crew->out + at, crew->how, packer, error);
}

static ts_status copy_base(const ts_frame_info *info, const uint8_t *base,
                           unsigned how, uint8_t *out, ts_error *error)
{
    uint64_t digest = info->digest;

    if (base == NULL && info->bytes > 0)
        return ts_fail(error, TS_ARGUMENT,
                       "the frame refers to a base tensor, which is needed");
    if (!(how & TS_UNPACK_TRUST))
        TS_TRY(ts_frame_digest(base, info->bytes, info->chunk_bytes, &digest,
                               error));
    if (digest != info->digest)
        return ts_fail(error, TS_CORRUPT,
                       "the base tensor is not the one that the frame refers "
                       "to: its digest is %016llx, not %016llx",
                       (unsigned long long)digest,
                       (unsigned long long)info->digest);
    if (info->bytes > 0) memcpy(out, base, (size_t)info->bytes);
    return TS_OK;
}

ts_status ts_decompress(const ts_frame *frame, const uint8_t *bytes,
                        const uint8_t *base, int threads, unsigned how,
                        uint8_t *out, ts_error *error)
{
    const ts_frame_info *info = ts_frame_facts(frame);
    team crew = {
        .run = unpack_one,
        .chunks = info->chunk_count,
        .frame = frame,
        .info = info,
        .in = bytes,
        .base = info->kind == TS_FRAME_DELTA ? base : NULL,
        .out = out,
        .how = how,
    };

    if (info->kind == TS_FRAME_SAME)
        return copy_base(info, base, how, out, error);
    return run(&crew, threads, error);
}

/* ---- pack ------------------------------------------------------------- */

static bool is_next(team *crew, uint64_t chunk)
{
    pthread_mutex_lock(&crew->lock);
    bool next = crew->placed == chunk;
    pthread_mutex_unlock(&crew->lock);
    return next;
}

/* Waits for the chunks before; TS_CANCELLED when one of them failed. */
static ts_status place(team *crew, uint64_t chunk, const ts_frame_row *row,
                       uint64_t *offset, ts_error *error)
{
    ts_status status = TS_CANCELLED;

    pthread_mutex_lock(&crew->lock);
    while (crew->status == TS_OK && crew->placed != chunk)
        pthread_cond_wait(&crew->turn, &crew->lock);
    if (crew->status == TS_OK)
        status = ts_frame_add(crew->writer, row, offset, error);
    crew->placed += status == TS_OK;
    pthread_cond_broadcast(&crew->turn);
    pthread_mutex_unlock(&crew->lock);
    return status;
}

/* Where to pack: its place when that is known, else the thread's stage. */
static ts_status target(team *crew, uint64_t chunk, uint8_t **stage,
                        uint8_t **to, ts_error *error)
{
    uint32_t bound = ts_frame_writer_bound(crew->writer);

    if (is_next(crew, chunk)) {
        *to = crew->out + ts_frame_writer_size(crew->writer);
        return TS_OK;
    }
    if (*stage == NULL) *stage = aligned_alloc(TS_FRAME_ALIGN, bound);
    *to = *stage;
    if (*stage != NULL) return TS_OK;
    return ts_fail(error, TS_NOMEM, "cannot allocate %u bytes", bound);
}

static ts_status pack_one(team *crew, uint64_t i, uint8_t **stage,
                          ts_packer *packer, ts_error *error)
{
    uint64_t first = i * crew->info->chunk_elements;
    size_t at = (size_t)i * crew->info->chunk_bytes;
    ts_frame_row row;
    uint64_t offset;
    uint8_t *to;

    TS_TRY(target(crew, i, stage, &to, error));
    if (i + crew->threads + 1 < crew->chunks)
        ts_packer_expect(
            packer, (ts_ahead){crew->in + at
                                  + crew->threads * crew->info->chunk_bytes,
                              crew->info->chunk_bytes});
    TS_TRY(ts_frame_pack(crew->writer, crew->in + at,
                         crew->base != NULL ? crew->base + at : NULL,
                         (uint32_t)ts_min(crew->info->chunk_elements,
                                          crew->info->elements - first),
                         to, ts_frame_writer_bound(crew->writer), &row, packer,
                         error));
    TS_TRY(place(crew, i, &row, &offset, error));
    if (to == *stage) memcpy(crew->out + offset, to, row.size);
    return TS_OK;
}

static void unmap(void *size, uint8_t *data, size_t ignored)
{
    (void)ignored;
    munmap(data, (size_t)(uintptr_t)size);
}

/* Room for the worst case; only what is written becomes memory, and what was
 * not is given back. */
static ts_status pack_into(team *crew, int threads, size_t room,
                           ts_buffer **out, ts_error *error)
{
    ts_frame_ends ends;

    TS_TRY(run(crew, threads, error));
    TS_TRY(ts_frame_finish(crew->writer, &ends, error));
    memcpy(crew->out, ends.front, ends.front_size);
    memcpy(crew->out + ends.table_offset, ends.table, ends.table_size);
    size_t kept = (size_t)ts_round_up(ends.size, 4096);
    if (kept < room) munmap(crew->out + kept, room - kept);
    return ts_buffer_wrap(crew->out, (size_t)ends.size, TS_ORIGIN_HEAP, unmap,
                          (void *)(uintptr_t)kept, out, error);
}

ts_status ts_compress(const ts_frame_spec *spec, const uint8_t *bytes,
                      const uint8_t *base, int threads, ts_buffer **out,
                      ts_error *error)
{
    ts_frame_writer *writer;
    ts_status status;

    *out = NULL;
    TS_TRY(ts_frame_writer_new(spec, &writer, error));
    const ts_frame_info *info = ts_frame_writer_facts(writer);
    team crew = {
        .run = pack_one,
        .chunks = info->chunk_count,
        .writer = writer,
        .info = info,
        .in = bytes,
        .base = spec->kind == TS_FRAME_DELTA ? base : NULL,
    };
    size_t room = (size_t)ts_round_up(
        ts_frame_writer_size(writer)
            + info->chunk_count * ts_frame_writer_bound(writer),
        4096);
    void *memory = mmap(NULL, room, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        ts_frame_writer_free(writer);
        return ts_fail(error, TS_NOMEM, "cannot reserve %zu bytes", room);
    }
    (void)madvise(memory, room, MADV_HUGEPAGE);
    crew.out = memory;
    status = pack_into(&crew, threads, room, out, error);
    if (status != TS_OK) munmap(memory, room);
    ts_frame_writer_free(writer);
    return status;
}
