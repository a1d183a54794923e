#include "press.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "below.h"
#include "core/base.h"
#include "core/cpu.h"
#include "core/large.h"
#include "core/process.h"

enum {
    STACK = 512 << 10,
    MOST_DEPTH = 4,     /* slots a thread: more would only be memory */
    CHUNK_SHARE = 48,   /* no chunk is more of the budget than one in this */
    LEAST_CHUNK = 16 << 10,
    LARGEST_CHUNK = 16 * TS_FRAME_CHUNK, /* bytes; of C128 */
    LEAST_DIFFERENCE = 4096, /* bytes; below, a name and a base cost more */
};

typedef enum { FREE, QUEUED, BUSY, PACKED } slot_state;

/* What a thread packs with. */
typedef struct {
    ts_packer *packer; /* owned */
    ts_below *below;   /* owned; NULL without a base */
} tools;

typedef struct {
    slot_state state;
    const uint8_t *in; /* the caller's memory, or the stage */
    uint8_t *stage, *out; /* in the press's memory */
    uint32_t elements;
    ts_frame_row row;
    ts_status status;
    ts_error error;
} slot;

struct ts_press {
    ts_pack_mode mode;
    uint64_t budget, generation;
    int threads; /* started, besides the caller */
    pthread_t workers[TS_PRESS_MOST_THREADS];
    tools own; /* the caller's */

    ts_catalog *below;        /* retained: the base, or NULL */
    ts_unpacking_needs needs; /* of its tensors */
    ts_checksum *base_sum;    /* owned: of what was read of a tensor */

    /* The frame that is being made. */
    ts_output *output;       /* borrowed until its end */
    ts_frame_writer *writer; /* owned; NULL between frames */
    uint64_t start;          /* of the frame, in the output */
    uint64_t first;          /* of its first chunk, likewise; 0: none yet */
    uint32_t chunk;          /* bytes of a full one */
    uint32_t held;           /* bytes in the stage of the next slot */
    uint32_t unit, unit_elements; /* a block of the dtype */
    const ts_tensor *base; /* of the checkpoint below, or NULL */
    uint64_t number;       /* of the frame's first chunk, in the ring */

    uint8_t *memory; /* owned: what the slots point into */
    size_t slot_size;
    uint32_t depth;
    slot *slots; /* owned */

    pthread_mutex_t lock; /* all below, and what is in the slots */
    pthread_cond_t work, packed;
    uint64_t head, next, tail; /* submitted, taken, written: tail <= next */
    bool stopping;
};

/* Bytes that no chunk is larger than: so few that scratch for all and some
 * slots fit, and no more than the largest elements make of a whole one. */
static uint64_t largest_chunk(uint64_t budget)
{
    return ts_min(ts_max(budget / CHUNK_SHARE, LEAST_CHUNK), LARGEST_CHUNK);
}

/* ---- threads ------------------------------------------------------------ */

static slot *slot_at(ts_press *press, uint64_t number)
{
    return &press->slots[number % press->depth];
}

static void free_tools(tools *with)
{
    ts_packer_free(with->packer);
    ts_below_free(with->below);
}

static ts_status make_tools(const ts_press *press, tools *out,
                            ts_error *error)
{
    TS_TRY(ts_packer_new(&out->packer, error));
    if (press->below == NULL) return TS_OK;
    return ts_below_new(press->below, &press->needs,
                        largest_chunk(press->budget), &out->below, error);
}

static ts_status pack_slot(ts_press *press, slot *one, uint64_t number,
                           const tools *with)
{
    uint64_t skip = (number - press->number) * press->chunk;
    uint64_t size = one->elements / press->unit_elements * press->unit;
    const uint8_t *base = NULL;

    if (press->base != NULL)
        TS_TRY(ts_below_read(with->below, press->base, skip, size, &base,
                             &one->error));
    return ts_frame_pack(press->writer, one->in, base, one->elements, one->out,
                         ts_frame_writer_bound(press->writer), &one->row,
                         with->packer, &one->error);
}

/* Pack the next chunk that nobody has taken.  With the lock, which is let go
 * meanwhile. */
static void pack_one(ts_press *press, const tools *with)
{
    uint64_t number = press->next++;
    slot *one = slot_at(press, number);

    one->state = BUSY;
    pthread_mutex_unlock(&press->lock);
    one->status = pack_slot(press, one, number, with);
    pthread_mutex_lock(&press->lock);
    one->state = PACKED;
    pthread_cond_signal(&press->packed);
}

static void *work(void *argument)
{
    ts_press *press = argument;
    tools with = {NULL, NULL};

    pthread_mutex_lock(&press->lock);
    while (!press->stopping) {
        if (press->next == press->head)
            pthread_cond_wait(&press->work, &press->lock);
        else if (with.packer == NULL
                 && make_tools(press, &with, NULL) != TS_OK)
            break; /* the others do without this one */
        else
            pack_one(press, &with);
    }
    pthread_mutex_unlock(&press->lock);
    free_tools(&with);
    return NULL;
}

/* Fewer threads than asked for only take longer. */
static void start_threads(ts_press *press, int count)
{
    sigset_t all, before;
    pthread_attr_t attributes;

    sigfillset(&all); /* signals belong to the threads of the program */
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (press->threads < count
           && pthread_create(&press->workers[press->threads], &attributes,
                             work, press)
                  == 0)
        press->threads++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

/* What zstd takes for itself at the levels that packing uses, as
 * ZSTD_estimateCCtxSize tells: level 9 (small) 12 times what it is given, the
 * others 1.3 MiB at most. */
static uint64_t zstd_memory(ts_pack_mode mode, uint64_t chunk)
{
    uint64_t size = 13 * chunk + 256 * TS_KIB;
    return mode == TS_PACK_SMALL ? size : ts_min(size, 1536 * TS_KIB);
}

/* Scratch of one that packs chunks of this size. */
static uint64_t scratch_for(const ts_press *press, uint64_t chunk)
{
    uint64_t size =
        ts_packer_memory((uint32_t)chunk) + zstd_memory(press->mode, chunk);
    if (press->below == NULL) return size;
    return size + ts_below_memory(&press->needs, largest_chunk(press->budget));
}

/* The caller writes, and packs only when it would wait: as many threads as
 * cores work beside it.  A quarter of the budget is left for slots. */
static int thread_count(const ts_press *press, int asked)
{
    uint64_t scratch = scratch_for(press, largest_chunk(press->budget));
    uint64_t fit = press->budget / 4 * 3 / scratch;
    uint64_t count = (uint64_t)(asked > 0 ? asked : ts_cpu_count());

    count = ts_min(ts_min(count, fit > 0 ? fit - 1 : 0),
                   TS_PRESS_MOST_THREADS);
    return count > 1 || (asked > 1 && count == 1) ? (int)count : 0;
}

/* A budget that the chunks of a base do not fit cannot be kept. */
static ts_status check_budget(const ts_press *press, ts_error *error)
{
    uint64_t need = scratch_for(press, largest_chunk(press->budget));

    if (need <= press->budget / 4 * 3) return TS_OK;
    return ts_fail(error, TS_BUDGET,
                   "the base has chunks of %u bytes: to unpack them beside "
                   "packing takes %llu bytes of %llu at hand",
                   press->needs.chunk_bytes,
                   (unsigned long long)(need / 3 * 4),
                   (unsigned long long)press->budget);
}

static ts_status start(ts_press *press, int threads, ts_catalog *base,
                       ts_error *error)
{
    if (base != NULL) {
        TS_TRY(ts_below_check(base, error));
        press->below = ts_catalog_retain(base);
        press->needs = ts_below_needs(base);
        TS_TRY(check_budget(press, error));
        TS_TRY(ts_checksum_new(TS_CHECKSUM_XXH3, &press->base_sum, error));
    }
    TS_TRY(make_tools(press, &press->own, error));
    start_threads(press, thread_count(press, threads));
    return TS_OK;
}

ts_status ts_press_new(ts_pack_mode mode, int threads, uint64_t budget,
                       ts_catalog *base, ts_press **out, ts_error *error)
{
    ts_press *press = calloc(1, sizeof *press);

    *out = NULL;
    if (press == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate a press");
    press->mode = mode;
    press->budget = ts_max(budget, TS_PRESS_LEAST_BUDGET);
    press->generation = ts_process_generation();
    pthread_mutex_init(&press->lock, NULL);
    pthread_cond_init(&press->work, NULL);
    pthread_cond_init(&press->packed, NULL);
    ts_status status = start(press, threads, base, error);
    if (status != TS_OK) {
        ts_press_free(press);
        return status;
    }
    *out = press;
    return TS_OK;
}

void ts_press_free(ts_press *press)
{
    if (press == NULL) return;
    /* A child has the memory of the threads and not the threads. */
    if (press->generation == ts_process_generation()) {
        pthread_mutex_lock(&press->lock);
        press->stopping = true;
        pthread_cond_broadcast(&press->work);
        pthread_mutex_unlock(&press->lock);
        for (int i = 0; i < press->threads; i++)
            pthread_join(press->workers[i], NULL);
        pthread_cond_destroy(&press->packed);
        pthread_cond_destroy(&press->work);
        pthread_mutex_destroy(&press->lock);
    }
    free_tools(&press->own);
    ts_checksum_free(press->base_sum);
    ts_catalog_release(press->below);
    ts_frame_writer_free(press->writer);
    free(press->memory);
    free(press->slots);
    free(press);
}

/* ---- memory ------------------------------------------------------------- */

static uint32_t chunk_elements(const ts_press *press, ts_dtype dtype)
{
    uint32_t count = ts_dtype_block_count(dtype);
    uint64_t blocks =
        largest_chunk(press->budget) / ts_dtype_block_size(dtype);
    return (uint32_t)ts_min(blocks * count, TS_FRAME_CHUNK);
}

/* A tensor that is no whole chunk says so: who reads it takes memory for the
 * chunk that the frame tells. */
static uint32_t chunk_for(const ts_press *press, ts_dtype dtype, uint32_t ndim,
                          const uint64_t *shape)
{
    uint64_t most = chunk_elements(press, dtype), elements = 1;

    for (uint32_t i = 0; i < ndim; i++)
        if (!ts_mul(elements, shape[i], &elements)) return (uint32_t)most;
    elements = ts_max(elements, ts_dtype_block_count(dtype));
    return (uint32_t)ts_min(elements, most);
}

static uint32_t depth_for(const ts_press *press, size_t slot_size)
{
    uint64_t scratch =
        (uint64_t)(press->threads + 1) * scratch_for(press, press->chunk);
    uint64_t left = press->budget - ts_min(scratch, press->budget);
    uint64_t most = MOST_DEPTH * ((uint64_t)press->threads + 1);
    return (uint32_t)ts_max(ts_min(left / slot_size, most), 2);
}

/* Slots for chunks of this size; the memory of the last frame where it is
 * enough.  Nothing is in flight now. */
static ts_status make_slots(ts_press *press, ts_error *error)
{
    size_t stage = (size_t)ts_round_up(press->chunk, 64);
    size_t size = stage
                + (size_t)ts_round_up(ts_frame_writer_bound(press->writer),
                                      64);

    if (size > press->slot_size) {
        uint32_t depth = depth_for(press, size);
        free(press->memory);
        free(press->slots);
        press->memory = ts_large_new(size * depth);
        press->slots = calloc(depth, sizeof *press->slots);
        press->depth = depth;
        press->slot_size = press->memory != NULL ? size : 0;
        if (press->memory == NULL || press->slots == NULL)
            return ts_fail(error, TS_NOMEM,
                           "cannot allocate %u slots of %zu bytes to pack in",
                           depth, size);
    }
    for (uint32_t i = 0; i < press->depth; i++) {
        press->slots[i].stage = press->memory + i * press->slot_size;
        press->slots[i].out = press->slots[i].stage + stage;
    }
    return TS_OK;
}

/* ---- writing ------------------------------------------------------------ */

/* Up to `offset` within the frame. */
static ts_status fill_to(ts_press *press, uint64_t offset, ts_error *error)
{
    uint64_t have = ts_output_size(press->output) - press->start;
    if (offset <= have) return TS_OK;
    return ts_output_zeros(press->output, offset - have, error);
}

static ts_status write_slot(ts_press *press, const slot *one, ts_error *error)
{
    uint64_t offset;

    if (one->status != TS_OK) {
        if (error != NULL) *error = one->error;
        return one->status;
    }
    TS_TRY(ts_frame_add(press->writer, &one->row, &offset, error));
    TS_TRY(fill_to(press, offset, error));
    if (press->first == 0) press->first = press->start + offset;
    if (press->base != NULL)
        ts_checksum_add(press->base_sum, &one->row.below,
                        sizeof one->row.below);
    return ts_output_append(press->output, one->out, one->row.size, error);
}

/* Wait until a chunk is packed; better, pack one meanwhile.  With the lock. */
static void wait_for(ts_press *press, uint64_t number)
{
    while (slot_at(press, number)->state != PACKED)
        if (press->next < press->head)
            pack_one(press, &press->own);
        else
            pthread_cond_wait(&press->packed, &press->lock);
}

/* Write the chunk that is due.  Its slot is nobody else's meanwhile. */
static ts_status write_next(ts_press *press, ts_error *error)
{
    pthread_mutex_lock(&press->lock);
    wait_for(press, press->tail);
    pthread_mutex_unlock(&press->lock);
    slot *one = slot_at(press, press->tail);
    ts_status status = write_slot(press, one, error);
    one->state = FREE;
    press->tail++;
    return status;
}

/* All that was submitted, taken out of the ring even after an error: nobody
 * reads the caller's memory any more. */
static ts_status drain(ts_press *press, ts_error *error)
{
    ts_status status = TS_OK;

    while (press->tail < press->head) {
        ts_status one = write_next(press, status == TS_OK ? error : NULL);
        if (status == TS_OK) status = one;
    }
    return status;
}

/* The slot that the next chunk goes into. */
static ts_status next_slot(ts_press *press, slot **out, ts_error *error)
{
    if (press->head - press->tail == press->depth)
        TS_TRY(write_next(press, error));
    *out = slot_at(press, press->head);
    return TS_OK;
}

static void submit(ts_press *press, slot *one, const uint8_t *in,
                   uint32_t size)
{
    pthread_mutex_lock(&press->lock);
    one->in = in;
    one->elements = size / press->unit * press->unit_elements;
    one->state = QUEUED;
    press->head++;
    pthread_cond_signal(&press->work);
    pthread_mutex_unlock(&press->lock);
}

/* ---- a frame ------------------------------------------------------------ */

static ts_status check_process(const ts_press *press, ts_error *error)
{
    if (press->generation == ts_process_generation()) return TS_OK;
    return ts_fail(error, TS_CLOSED,
                   "is being written by the process that this one was forked "
                   "from");
}

/* The tensor below the new one, when a difference to it may be worth while. */
static const ts_tensor *find_base(const ts_press *press, ts_name name,
                                  ts_dtype dtype, uint32_t ndim,
                                  const uint64_t *shape)
{
    if (press->below == NULL || name.size == 0
        || name.size > TS_FRAME_MOST_NAME)
        return NULL;
    const ts_tensor *base =
        ts_below_find(press->below, name, dtype, ndim, shape);
    return base != NULL && base->size >= LEAST_DIFFERENCE ? base : NULL;
}

ts_status ts_press_begin(ts_press *press, ts_output *output, ts_name name,
                         ts_dtype dtype, uint32_t ndim, const uint64_t *shape,
                         ts_error *error)
{
    ts_frame_spec spec = {.dtype = dtype, .mode = press->mode, .ndim = ndim,
                          .shape = shape,
                          .chunk_elements =
                              chunk_for(press, dtype, ndim, shape)};

    TS_TRY(check_process(press, error));
    press->base = find_base(press, name, dtype, ndim, shape);
    press->number = press->head;
    if (press->base != NULL) {
        spec.kind = TS_FRAME_DELTA;
        spec.base_name = name.bytes;
        spec.base_size = name.size;
        ts_checksum_reset(press->base_sum);
    }
    ts_frame_writer_free(press->writer);
    TS_TRY(ts_frame_writer_new(&spec, &press->writer, error));
    press->output = output;
    press->start = ts_output_size(output);
    press->first = 0;
    press->held = 0;
    press->unit = ts_dtype_block_size(dtype);
    press->unit_elements = ts_dtype_block_count(dtype);
    press->chunk = spec.chunk_elements / press->unit_elements * press->unit;
    return make_slots(press, error);
}

/* Chunks that begin in pieces are put together in a stage of ours. */
static ts_status gather(ts_press *press, const uint8_t **at, uint64_t *size,
                        ts_error *error)
{
    slot *one;

    TS_TRY(next_slot(press, &one, error));
    uint32_t part = (uint32_t)ts_min(*size, press->chunk - press->held);
    memcpy(one->stage + press->held, *at, part);
    press->held += part;
    *at += part;
    *size -= part;
    if (press->held < press->chunk) return TS_OK;
    press->held = 0;
    submit(press, one, one->stage, press->chunk);
    return TS_OK;
}

static ts_status cut(ts_press *press, const uint8_t *at, uint64_t size,
                     bool *borrowed, ts_error *error)
{
    slot *one;

    while (size > 0) {
        if (press->held > 0 || size < press->chunk) {
            TS_TRY(gather(press, &at, &size, error));
            continue;
        }
        TS_TRY(next_slot(press, &one, error));
        submit(press, one, at, press->chunk);
        *borrowed = true;
        at += press->chunk;
        size -= press->chunk;
    }
    return TS_OK;
}

ts_status ts_press_add(ts_press *press, const void *bytes, uint64_t size,
                       ts_error *error)
{
    bool borrowed = false;

    TS_TRY(check_process(press, error));
    ts_status status = cut(press, bytes, size, &borrowed, error);
    if (!borrowed) return status;
    ts_status rest = drain(press, status == TS_OK ? error : NULL);
    return status == TS_OK ? rest : status;
}

static ts_status write_ends(ts_press *press, const ts_frame_ends *ends,
                            ts_error *error)
{
    TS_TRY(fill_to(press, ends->size, error));
    TS_TRY(ts_output_patch(press->output, press->start + ends->table_offset,
                           ends->table, ends->table_size, error));
    return ts_output_patch(press->output, press->start, ends->front,
                           ends->front_size, error);
}

/* What lies behind the front moves up to the start of the frame.  A slot is the
 * memory for it: all are free now. */
static ts_status pull(ts_press *press, uint64_t by, ts_error *error)
{
    uint64_t end = ts_output_size(press->output);
    uint8_t *piece = press->slots[0].stage;

    for (uint64_t at = press->first; at < end; at += press->chunk) {
        uint64_t size = ts_min(press->chunk, end - at);
        TS_TRY(ts_output_look(press->output, at, piece, size, error));
        TS_TRY(ts_output_patch(press->output, at - by, piece, size, error));
    }
    press->first -= by;
    return ts_output_rewind(press->output, end - by, error);
}

/* Either what it differs from is known by its digest now, or no chunk was any
 * smaller as a difference, and it is a plain frame. */
static ts_status settle_base(ts_press *press, ts_pressed *out,
                             ts_error *error)
{
    uint64_t by;

    if (ts_frame_forget_base(press->writer, &by))
        return by > 0 ? pull(press, by, error) : TS_OK;
    out->differs = true;
    out->base_digest = ts_checksum_value(press->base_sum);
    ts_frame_writer_base(press->writer, out->base_digest);
    return TS_OK;
}

static ts_status finish(ts_press *press, ts_pressed *out, ts_error *error)
{
    ts_frame_ends ends;
    slot *one;

    if (press->held > 0) {
        if (press->held % press->unit != 0)
            return ts_fail(error, TS_ARGUMENT,
                           "ends inside a block of %u bytes", press->unit);
        TS_TRY(next_slot(press, &one, error));
        submit(press, one, one->stage, press->held);
        press->held = 0;
    }
    TS_TRY(drain(press, error));
    *out = (ts_pressed){
        .chunk_elements = ts_frame_writer_chunk(press->writer)};
    if (press->base != NULL) TS_TRY(settle_base(press, out, error));
    uint64_t end = ts_output_size(press->output);
    TS_TRY(ts_frame_finish(press->writer, &ends, error));
    out->digest = ends.digest;
    out->chunks = press->first;
    out->chunks_size = press->first > 0 ? end - press->first : 0;
    return write_ends(press, &ends, error);
}

ts_status ts_press_end(ts_press *press, ts_pressed *out, ts_error *error)
{
    TS_TRY(check_process(press, error));
    ts_status status = finish(press, out, error);
    if (status != TS_OK) (void)drain(press, NULL);
    ts_frame_writer_free(press->writer);
    press->writer = NULL;
    return status;
}

ts_status ts_press_repeat(ts_press *press, ts_output *output, ts_dtype dtype,
                          uint32_t ndim, const uint64_t *shape,
                          const char *base_name, size_t base_size,
                          const ts_pressed *base, ts_error *error)
{
    ts_frame_spec spec = {
        .dtype = dtype, .kind = TS_FRAME_SAME, .mode = press->mode,
        .ndim = ndim, .shape = shape, .chunk_elements = base->chunk_elements,
        .base_name = base_name, .base_size = base_size,
        .base_digest = base->digest};
    ts_frame_ends ends;

    TS_TRY(check_process(press, error));
    ts_frame_writer_free(press->writer);
    TS_TRY(ts_frame_writer_new(&spec, &press->writer, error));
    press->output = output;
    press->start = ts_output_size(output);
    TS_TRY(ts_frame_finish(press->writer, &ends, error));
    return write_ends(press, &ends, error);
}
