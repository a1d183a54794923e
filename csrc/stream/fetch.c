#include "fetch.h"

#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "core/slab.h"
#include "gather.h"
#include "inflating.h"

enum { MEASURED_TILE = 2048 }; /* elements turned to F32 at a time for stats */

struct ts_fetcher {
    ts_reader *reader;        /* owned */
    ts_buffer *stage;         /* retained */
    ts_inflating *inflating;  /* borrowed from the stream; may be NULL */
    ts_unpacking *unpacking;  /* owned; may be NULL */
    ts_checksum *checksum;    /* owned; NULL when none is asked for */
    ts_looks looks;
};

/* ---- recipes ----------------------------------------------------------- */

static uint8_t swap_width(const ts_tensor *tensor)
{
    bool swapped = tensor->storage == TS_SWAPPED
                || tensor->storage == TS_DEFLATED_SWAPPED;
    uint32_t width = ts_dtype_block_size(tensor->dtype);
    if (!swapped || width == 1) return 0;
    bool pair = ts_dtype_class_of(tensor->dtype) == TS_CLASS_COMPLEX;
    return (uint8_t)(pair ? width / 2 : width);
}

static bool is_float(ts_dtype dtype)
{
    ts_dtype_class class = ts_dtype_class_of(dtype);
    return class == TS_CLASS_FLOAT || class == TS_CLASS_PACKED
        || class == TS_CLASS_BLOCK;
}

static ts_dtype target_of(const ts_tensor *tensor, ts_form form,
                          ts_dtype dtype)
{
    if (form == TS_FORM_FLOATS && is_float(tensor->dtype)) return dtype;
    if (ts_dtype_class_of(tensor->dtype) == TS_CLASS_BLOCK) return TS_F32;
    return tensor->dtype;
}

static ts_status find(const ts_tensor *tensor, ts_form form, ts_dtype dtype,
                      ts_recipe *out, ts_error *error)
{
    uint32_t block = ts_dtype_block_count(tensor->dtype);
    uint32_t in_size = ts_dtype_block_size(tensor->dtype);

    *out = (ts_recipe){.from = tensor->dtype,
                       .to = tensor->dtype,
                       .raw = form == TS_FORM_RAW,
                       .widths = {block, in_size, in_size}};
    if (out->raw) return TS_OK;
    out->swap_width = swap_width(tensor);
    out->to = target_of(tensor, form, dtype);
    out->unpacks = out->to == out->from
                && ts_dtype_class_of(out->from) == TS_CLASS_PACKED;
    out->converts = out->to != out->from || out->unpacks;
    if (out->unpacks) {
        out->widths.out_size = block;
        return ts_convert_unpack(out->from, &out->convert, error);
    }
    if (!out->converts) return TS_OK;
    out->widths.out_size = block * ts_dtype_block_size(out->to);
    return ts_convert_find(out->from, out->to, &out->convert, error);
}

/* ggml's blocks need no more of a row than a block. */
static uint64_t unit_of(const ts_tensor *tensor, const ts_quantize *how)
{
    if (how->kind != TS_SCHEME_BLOCKS) return how->columns;
    return ts_max(ts_dtype_block_count(how->stored),
                  ts_dtype_block_count(tensor->dtype));
}

static ts_status check_scheme(const ts_tensor *tensor, const ts_quantize *how,
                              bool direct, ts_error *error)
{
    if (how->group == TS_GROUP_TENSOR)
        return ts_fail(error, TS_UNSUPPORTED,
                       "one scale for a whole tensor needs all of it at once, "
                       "and a stream brings it in parts");
    if (how->kind == TS_SCHEME_NF4 && how->columns % 64 != 0)
        return ts_fail(error, TS_UNSUPPORTED,
                       "rows of %llu elements are no whole blocks of 64",
                       (unsigned long long)how->columns);
    if (how->kind != TS_SCHEME_BLOCKS && !direct)
        return ts_fail(error, TS_UNSUPPORTED,
                       "rows of %s cannot be quantised so as they pass",
                       ts_dtype_name(tensor->dtype));
    return TS_OK;
}

static ts_status measure_unit(ts_recipe *out, uint64_t unit, ts_error *error)
{
    uint32_t block = out->widths.block;
    uint64_t codes, scales, in_size = unit / block * out->widths.in_size;

    if (unit % block != 0 || in_size > UINT32_MAX
        || !ts_quantize_sizes(&out->how, unit / out->how.columns, &codes,
                              &scales))
        return ts_fail(error, TS_UNSUPPORTED,
                       "%llu elements cannot be quantised together",
                       (unsigned long long)unit);
    codes += scales * (out->how.has_zero ? 5 : 4);
    out->widths = (ts_widths){(uint32_t)unit, (uint32_t)in_size,
                              (uint32_t)codes};
    return TS_OK;
}

static ts_status find_encoding(const ts_tensor *tensor,
                               const ts_encoding *encoding, ts_recipe *out,
                               ts_error *error)
{
    size_t size = strlen(encoding->scheme);
    ts_dtype from = tensor->dtype;
    bool direct = from == TS_F32 || from == TS_F16 || from == TS_BF16
               || from == TS_F64;
    uint64_t columns =
        tensor->ndim > 0 ? tensor->shape[tensor->ndim - 1] : 1;

    if (!direct) TS_TRY(ts_convert_find(from, TS_F32, &out->convert, error));
    out->encodes = out->converts = true;
    out->converts_first = !direct;
    if (!direct) from = TS_F32;
    TS_TRY(ts_quantize_find(encoding->scheme, size, from, columns,
                            encoding->group, encoding->has_zero, &out->how,
                            error));
    TS_TRY(check_scheme(tensor, &out->how, direct, error));
    uint64_t unit = unit_of(tensor, &out->how);
    if (out->how.kind == TS_SCHEME_BLOCKS)
        TS_TRY(ts_quantize_find(encoding->scheme, size, from, unit,
                                encoding->group, encoding->has_zero,
                                &out->how, error));
    out->to = out->how.stored;
    return measure_unit(out, unit, error);
}

ts_status ts_recipe_find(const ts_tensor *tensor, ts_form form, ts_dtype dtype,
                         const ts_encoding *encoding, ts_recipe *out,
                         ts_error *error)
{
    bool encodes = form == TS_FORM_SCHEME && is_float(tensor->dtype)
                && tensor->elements > 0;
    ts_status status =
        find(tensor, encodes ? TS_FORM_RAW : form, dtype, out, error);

    if (status == TS_OK && encodes) {
        out->raw = false;
        out->swap_width = swap_width(tensor);
        status = find_encoding(tensor, encoding, out, error);
    }
    return ts_error_in_tensor(error, status, tensor->name.bytes,
                              tensor->name.size);
}

/* ---- the fetcher ------------------------------------------------------- */

ts_status ts_fetcher_new(ts_engine engine, ts_buffer *stage,
                         ts_inflating *inflating, ts_unpacking *unpacking,
                         ts_looks looks, ts_fetcher **out, ts_error *error)
{
    ts_status status;
    ts_fetcher *fetcher = calloc(1, sizeof *fetcher);

    *out = NULL;
    if (fetcher == NULL) {
        ts_unpacking_free(unpacking);
        return ts_fail(error, TS_NOMEM, "cannot allocate a fetcher");
    }
    fetcher->stage = ts_buffer_retain(stage);
    fetcher->inflating = inflating;
    fetcher->unpacking = unpacking;
    fetcher->looks = looks;
    status = ts_reader_new(engine, &fetcher->reader, error);
    if (status == TS_OK && looks.checksum != TS_CHECKSUM_NONE)
        status = ts_checksum_new(looks.checksum, &fetcher->checksum, error);
    if (status != TS_OK) {
        ts_fetcher_free(fetcher);
        return status;
    }
    *out = fetcher;
    return TS_OK;
}

void ts_fetcher_free(ts_fetcher *fetcher)
{
    if (fetcher == NULL) return;
    ts_checksum_free(fetcher->checksum);
    ts_unpacking_free(fetcher->unpacking);
    ts_reader_free(fetcher->reader);
    ts_buffer_release(fetcher->stage);
    free(fetcher);
}

const ts_reader_stats *ts_fetcher_stats(const ts_fetcher *fetcher)
{
    return ts_reader_stats_of(fetcher->reader);
}

/* ---- one piece: file bytes into contiguous memory ---------------------- */

typedef struct {
    ts_fetcher *fetcher;
    const ts_tensor *tensor;
    const ts_recipe *recipe;
    ts_file *file; /* borrowed from the catalog */
    const ts_chunk *chunk;
    uint8_t *out;  /* where the chunk goes; NULL to look only */
    ts_outcome *outcome;
} task;

static uint64_t in_bytes(const ts_recipe *recipe, uint64_t elements)
{
    return elements / recipe->widths.block * recipe->widths.in_size;
}

static uint64_t out_bytes(const ts_recipe *recipe, uint64_t elements)
{
    return elements / recipe->widths.block * recipe->widths.out_size;
}

/* Elements [start, start + count) as the file holds them, in logical order. */
static ts_status bring(const task *job, uint64_t start, uint64_t count,
                       uint8_t *into, ts_error *error)
{
    const ts_tensor *tensor = job->tensor;
    ts_fetcher *fetcher = job->fetcher;
    uint64_t skip = in_bytes(job->recipe, start);
    uint64_t size = in_bytes(job->recipe, count);

    job->outcome->file_bytes += size;
    if (tensor->frame != NULL)
        return ts_unpacking_read(fetcher->unpacking, fetcher->reader,
                                 job->file, tensor, skip, size, into, error);
    if (ts_tensor_is_deflated(tensor) && tensor->strides == NULL)
        return ts_inflating_read(fetcher->inflating, fetcher->reader,
                                 job->file, tensor, skip, into, (size_t)size,
                                 error);
    if (tensor->strides != NULL)
        return ts_gather(fetcher->reader, fetcher->inflating, job->file,
                         tensor, start, count,
                         ts_buffer_data(fetcher->stage),
                         ts_buffer_size(fetcher->stage) / 2, into, error);
    return ts_reader_read(fetcher->reader, job->file, tensor->offset + skip,
                          into, (size_t)size, error);
}

/* ---- looking at the bytes ---------------------------------------------- */

static ts_status measure_as_f32(ts_stats *stats, ts_dtype dtype,
                                const uint8_t *bytes, uint64_t count,
                                ts_error *error)
{
    float tile[MEASURED_TILE];
    uint32_t block = ts_dtype_block_count(dtype);
    uint32_t block_size = ts_dtype_block_size(dtype);
    ts_convert convert;

    TS_TRY(ts_convert_find(dtype, TS_F32, &convert, error));
    for (uint64_t done = 0; done < count;) {
        uint64_t n = ts_min(count - done, MEASURED_TILE);
        ts_convert_run(&convert, bytes + done / block * block_size,
                       (uint8_t *)tile, (size_t)n);
        TS_TRY(ts_stats_add(stats, TS_F32, (const uint8_t *)tile, (size_t)n,
                            error));
        done += n;
    }
    return TS_OK;
}

static ts_status measure(ts_stats *stats, ts_dtype dtype, const uint8_t *bytes,
                         uint64_t count, ts_error *error)
{
    switch (ts_dtype_class_of(dtype)) {
    case TS_CLASS_PACKED:
    case TS_CLASS_BLOCK:
        return measure_as_f32(stats, dtype, bytes, count, error);
    case TS_CLASS_COMPLEX: /* its parts, as two numbers */
        dtype = dtype == TS_C64 ? TS_F32 : TS_F64;
        return ts_stats_add(stats, dtype, bytes, (size_t)count * 2, error);
    default: return ts_stats_add(stats, dtype, bytes, (size_t)count, error);
    }
}

/* ---- encoding ------------------------------------------------------------ */

/* Which one it was, when rows were refused. */
static ts_status refused(const task *job, uint64_t at, const uint8_t *bytes,
                         uint64_t count, ts_error *error)
{
    const ts_quantize *how = &job->recipe->how;
    ts_stats stats;

    for (uint64_t i = 0; i < count; i++) {
        ts_stats_begin(&stats);
        TS_TRY(ts_stats_add(&stats, how->from,
                            bytes + i * ts_dtype_block_size(how->from), 1,
                            error));
        if (stats.nan_count + stats.inf_count == 0) continue;
        return ts_fail(error, TS_ARGUMENT,
                       "element %llu is %s, for which the scheme has no code",
                       (unsigned long long)(at + i),
                       stats.nan_count > 0 ? "NaN" : "infinite");
    }
    return error != NULL ? error->status : TS_ARGUMENT;
}

/* Rows of the chunk, from its row `first` on, to where each part belongs. */
static ts_status encode_rows(const task *job, uint64_t at,
                             const uint8_t *bytes, uint64_t count,
                             ts_error *error)
{
    const ts_quantize *how = &job->recipe->how;
    uint64_t all = (job->chunk->stop - job->chunk->start) / how->columns;
    uint64_t first = (at - job->chunk->start) / how->columns;
    uint64_t codes, scales, codes_before, scales_before;

    (void)ts_quantize_sizes(how, all, &codes, &scales);
    (void)ts_quantize_sizes(how, first, &codes_before, &scales_before);
    uint8_t *begin = job->out + 4 * scales;
    ts_quantized parts = {
        .scales =
            scales > 0 ? (float *)(void *)job->out + scales_before : NULL,
        .codes = begin + codes_before,
        .zeros =
            how->has_zero ? (int8_t *)begin + codes + scales_before : NULL,
    };
    ts_status status = ts_quantize_run(how, bytes, count / how->columns,
                                       &parts, error);
    return status == TS_ARGUMENT ? refused(job, at, bytes, count, error)
                                 : status;
}

static ts_status encode_by_f32(const task *job, uint64_t at,
                               const uint8_t *bytes, uint64_t count,
                               ts_error *error)
{
    _Alignas(64) float tile[MEASURED_TILE];
    const ts_recipe *recipe = job->recipe;
    uint32_t block = ts_dtype_block_count(recipe->from);
    uint32_t block_size = ts_dtype_block_size(recipe->from);

    for (uint64_t done = 0; done < count;) {
        uint64_t n = ts_min(count - done, MEASURED_TILE);
        ts_convert_run(&recipe->convert, bytes + done / block * block_size,
                       (uint8_t *)tile, (size_t)n);
        TS_TRY(encode_rows(job, at + done, (const uint8_t *)tile, n, error));
        done += n;
    }
    return TS_OK;
}

/* From the file's bytes to what was asked for, in its place. */
static ts_status deliver(const task *job, uint64_t at, const uint8_t *bytes,
                         uint64_t count, ts_error *error)
{
    const ts_recipe *recipe = job->recipe;

    if (recipe->encodes)
        return recipe->converts_first
                 ? encode_by_f32(job, at, bytes, count, error)
                 : encode_rows(job, at, bytes, count, error);
    ts_convert_run(&recipe->convert, bytes,
                   job->out + out_bytes(recipe, at - job->chunk->start),
                   (size_t)count);
    return TS_OK;
}

/* Everything that is done to one piece, from element `at`, once it is in
 * memory. */
static ts_status finish(const task *job, uint64_t at, uint8_t *bytes,
                        uint64_t count, ts_error *error)
{
    const ts_recipe *recipe = job->recipe;
    ts_fetcher *fetcher = job->fetcher;
    size_t size = (size_t)in_bytes(recipe, count);

    if (fetcher->checksum != NULL)
        ts_checksum_add(fetcher->checksum, bytes, size);
    if (recipe->swap_width != 0)
        ts_swap_bytes(bytes, size / recipe->swap_width, recipe->swap_width);
    if (fetcher->looks.stats)
        TS_TRY(measure(&job->outcome->stats, recipe->from, bytes, count,
                       error));
    if (!recipe->converts || job->out == NULL) return TS_OK;
    return deliver(job, at, bytes, count, error);
}

/* ---- the chunk ---------------------------------------------------------- */

uint64_t ts_fetch_shift(const ts_catalog *catalog, const ts_recipe *recipe,
                        const ts_chunk *chunk)
{
    const ts_tensor *tensor = ts_catalog_tensor(catalog, chunk->row);
    if (recipe->converts || tensor->strides != NULL || tensor->frame != NULL
        || ts_tensor_is_deflated(tensor))
        return 0;
    uint64_t at = tensor->offset + in_bytes(recipe, chunk->start);
    uint64_t shift = at % TS_SLAB_GRAIN;
    /* 16 covers the alignment of every NumPy type. */
    return shift % ts_min(recipe->widths.in_size, 16) == 0 ? shift : 0;
}

/* Into the stage and from there to out, as many elements at a time as fit. */
static ts_status by_tiles(const task *job, ts_error *error)
{
    const ts_recipe *recipe = job->recipe;
    const ts_chunk *chunk = job->chunk;
    ts_buffer *stage = job->fetcher->stage;
    bool gathers = job->tensor->strides != NULL;
    size_t room = ts_buffer_size(stage) / 2;
    uint8_t *tile = ts_buffer_data(stage) + (gathers ? room : 0);

    /* A direct read lands in place when the tile begins as far off a page as
     * its bytes do in the file; one page of the stage is kept for that. */
    if (!gathers) room = ts_buffer_size(stage) - TS_READER_ALIGNMENT;
    uint64_t most = room / recipe->widths.in_size * recipe->widths.block;
    for (uint64_t at = chunk->start; at < chunk->stop;) {
        uint64_t count = ts_min(chunk->stop - at, most);
        if (!gathers)
            tile = ts_buffer_data(stage)
                 + (job->tensor->offset + in_bytes(recipe, at))
                       % TS_READER_ALIGNMENT;
        TS_TRY(bring(job, at, count, tile, error));
        TS_TRY(finish(job, at, tile, count, error));
        at += count;
    }
    return TS_OK;
}

/* Can what is unpacked at a time be finished at a time? */
static bool suits_frames(const task *job)
{
    const ts_widths *widths = &job->recipe->widths;
    return job->tensor->frame != NULL
        && job->tensor->frame->chunk_bytes % widths->in_size == 0;
}

/* Chunk by chunk of its frame: into out, or into the unpacker's tile and from
 * there. */
static ts_status by_frames(const task *job, ts_error *error)
{
    const ts_recipe *recipe = job->recipe;
    const ts_chunk *chunk = job->chunk;
    ts_fetcher *fetcher = job->fetcher;
    bool stays = job->out != NULL && !recipe->converts;

    for (uint64_t at = chunk->start; at < chunk->stop;) {
        uint8_t *bytes, *into = NULL;
        uint64_t got;
        if (stays) into = job->out + out_bytes(recipe, at - chunk->start);
        TS_TRY(ts_unpacking_take(fetcher->unpacking, fetcher->reader,
                                 job->file, job->tensor, in_bytes(recipe, at),
                                 in_bytes(recipe, chunk->stop - at), into,
                                 &bytes, &got, error));
        job->outcome->file_bytes += got;
        uint64_t count = got / recipe->widths.in_size * recipe->widths.block;
        if (stays && bytes != into) {
            memcpy(into, bytes, (size_t)got);
            bytes = into;
        }
        TS_TRY(finish(job, at, bytes, count, error));
        at += count;
    }
    return TS_OK;
}

static ts_status whole(const task *job, ts_error *error)
{
    const ts_chunk *chunk = job->chunk;
    uint64_t count = chunk->stop - chunk->start;
    TS_TRY(bring(job, chunk->start, count, job->out, error));
    return finish(job, chunk->start, job->out, count, error);
}

static ts_status fetch_elements(const task *job, ts_error *error)
{
    if (suits_frames(job)) return by_frames(job, error);
    if (job->out != NULL && !job->recipe->converts) return whole(job, error);
    return by_tiles(job, error);
}

ts_status ts_fetch(ts_fetcher *fetcher, const ts_catalog *catalog,
                   const ts_recipe *recipe, const ts_chunk *chunk,
                   uint8_t *out, ts_outcome *outcome, ts_error *error)
{
    const ts_tensor *tensor = ts_catalog_tensor(catalog, chunk->row);
    task job = {fetcher, tensor, recipe,
               ts_catalog_file(catalog, tensor->file), chunk, out, outcome};

    ts_stats_begin(&outcome->stats);
    outcome->checksum = 0;
    outcome->file_bytes = 0;
    if (fetcher->checksum != NULL) ts_checksum_reset(fetcher->checksum);
    ts_status status = TS_OK;
    if (chunk->stop > chunk->start) status = fetch_elements(&job, error);
    if (status != TS_OK) {
        ts_error_in_file(error, status, ts_file_path(job.file));
        return ts_error_in_tensor(error, status, tensor->name.bytes,
                                  tensor->name.size);
    }
    if (fetcher->checksum != NULL)
        outcome->checksum = ts_checksum_value(fetcher->checksum);
    return TS_OK;
}
