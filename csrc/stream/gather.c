#include "gather.h"

#include <assert.h>

#include "core/base.h"
#include "inflating.h"

typedef struct {
    ts_reader *reader;
    ts_inflating *inflating;
    const ts_file *file;
    const ts_tensor *tensor;
    uint8_t *scratch;
    size_t room;
    uint32_t width; /* bytes of an element */
} storage;

/* extent[d] elements from first[d] in each dimension; row-major in `out`. */
typedef struct {
    uint64_t first[TS_MAX_DIMS], extent[TS_MAX_DIMS];
    uint64_t count;
} index_box;

/* Bytes at an element offset into the tensor's storage. */
static ts_status read_span(const storage *source, uint64_t element,
                           uint64_t count, ts_error *error)
{
    const ts_tensor *tensor = source->tensor;
    uint64_t skip = element * source->width;
    size_t size = (size_t)count * source->width;

    if (ts_tensor_is_deflated(tensor))
        return ts_inflating_read(source->inflating, source->reader,
                                 source->file, tensor, skip, source->scratch,
                                 size, error);
    return ts_reader_read(source->reader, source->file, tensor->offset + skip,
                          source->scratch, size, error);
}

/* The largest box that starts at logical element `at` and holds at most `most`
 * elements: a range of one dimension with everything inside it. */
static void box_at(const ts_tensor *tensor, uint64_t at, uint64_t most,
                   index_box *out)
{
    uint32_t d = 0;
    uint64_t unit = tensor->elements, rest = at;

    *out = (index_box){.count = 1};
    for (; d < tensor->ndim; d++) {
        unit /= tensor->shape[d];
        out->first[d] = rest / unit;
        out->extent[d] = 1;
        rest -= out->first[d] * unit;
        if (rest == 0 && unit <= most) break;
    }
    if (d == tensor->ndim) return;
    out->extent[d] = ts_min(most / unit, tensor->shape[d] - out->first[d]);
    out->count = out->extent[d] * unit;
    for (d++; d < tensor->ndim; d++) {
        out->first[d] = 0;
        out->extent[d] = tensor->shape[d];
    }
}

static uint64_t storage_of(const ts_tensor *tensor, const uint64_t *index)
{
    uint64_t at = 0;
    for (uint32_t d = 0; d < tensor->ndim; d++)
        at += index[d] * (uint64_t)tensor->strides[d];
    return at;
}

/* Elements between the first and the last one of the box, both counted. */
static uint64_t span_of(const ts_tensor *tensor, const index_box *box)
{
    uint64_t span = 1;
    for (uint32_t d = 0; d < tensor->ndim; d++)
        span += (box->extent[d] - 1) * (uint64_t)tensor->strides[d];
    return span;
}

static void copy_strided(uint8_t *out, uint64_t out_step, const uint8_t *in,
                         uint64_t in_step, uint64_t count, uint32_t width)
{
#define COPY(type)                                                            \
    for (uint64_t i = 0; i < count; i++)                                      \
    memcpy(out + i * out_step, in + i * in_step, sizeof(type))
    switch (width) {
    case 1: COPY(uint8_t); return;
    case 2: COPY(uint16_t); return;
    case 4: COPY(uint32_t); return;
    case 8: COPY(uint64_t); return;
    default:
        for (uint64_t i = 0; i < count; i++)
            memcpy(out + i * out_step, in + i * in_step, width);
    }
#undef COPY
}

/* Step the index of every dimension but `still`; false after the last one. */
static bool step(const ts_tensor *tensor, const index_box *box, uint64_t *index,
                 uint32_t still)
{
    for (uint32_t d = tensor->ndim; d-- > 0;) {
        if (d == still) continue;
        if (++index[d] < box->first[d] + box->extent[d]) return true;
        index[d] = box->first[d];
    }
    return false;
}

/* Where an index of the box lands in its row-major copy. */
static uint64_t place_of(const ts_tensor *tensor, const index_box *box,
                         const uint64_t *index)
{
    uint64_t place = 0;
    for (uint32_t d = 0; d < tensor->ndim; d++)
        place = place * box->extent[d] + (index[d] - box->first[d]);
    return place;
}

static uint64_t step_of(const ts_tensor *tensor, const index_box *box, uint32_t d)
{
    uint64_t unit = 1;
    while (++d < tensor->ndim) unit *= box->extent[d];
    return unit;
}

/* The whole span is in the scratch: pick the elements out of it. */
static ts_status gather_span(const storage *source, const index_box *box,
                             uint64_t span, uint8_t *into, ts_error *error)
{
    const ts_tensor *tensor = source->tensor;
    uint32_t last = tensor->ndim - 1, width = source->width;
    uint64_t index[TS_MAX_DIMS];
    uint64_t origin = storage_of(tensor, box->first);

    TS_TRY(read_span(source, origin, span, error));
    memcpy(index, box->first, tensor->ndim * sizeof *index);
    do {
        copy_strided(into, width,
                     source->scratch
                         + (storage_of(tensor, index) - origin) * width,
                     (uint64_t)tensor->strides[last] * width,
                     box->extent[last], width);
        into += box->extent[last] * width;
    } while (step(tensor, box, index, last));
    return TS_OK;
}

/* The dimension whose neighbours lie closest together. */
static uint32_t densest(const ts_tensor *tensor, const index_box *box)
{
    uint32_t best = tensor->ndim - 1;
    for (uint32_t d = 0; d < tensor->ndim; d++)
        if (box->extent[d] > 1
            && (box->extent[best] == 1
                || tensor->strides[d] < tensor->strides[best]))
            best = d;
    return best;
}

static ts_status gather_runs(const storage *source, const index_box *box,
                             uint8_t *into, ts_error *error)
{
    const ts_tensor *tensor = source->tensor;
    uint32_t along = densest(tensor, box), width = source->width;
    uint64_t stride = (uint64_t)tensor->strides[along];
    uint64_t reach = stride == 0 ? UINT64_MAX
                                 : (source->room / width - 1) / stride + 1;
    uint64_t out_step = step_of(tensor, box, along) * width;
    uint64_t index[TS_MAX_DIMS];

    memcpy(index, box->first, tensor->ndim * sizeof *index);
    do {
        for (uint64_t done = 0; done < box->extent[along];) {
            uint64_t n = ts_min(reach, box->extent[along] - done);
            index[along] = box->first[along] + done;
            TS_TRY(read_span(source, storage_of(tensor, index),
                             (n - 1) * stride + 1, error));
            copy_strided(into + place_of(tensor, box, index) * width, out_step,
                         source->scratch, stride * width, n, width);
            done += n;
        }
        index[along] = box->first[along];
    } while (step(tensor, box, index, along));
    return TS_OK;
}

ts_status ts_gather(ts_reader *reader, ts_inflating *inflating,
                    const ts_file *file, const ts_tensor *tensor,
                    uint64_t start, uint64_t count, uint8_t *scratch,
                    size_t room, uint8_t *into, ts_error *error)
{
    storage source = {reader, inflating, file, tensor, scratch, room,
                     ts_dtype_block_size(tensor->dtype)};
    index_box box;

    assert(tensor->ndim > 0); /* a scalar is contiguous and never comes here */
    for (uint64_t done = 0; done < count; done += box.count) {
        box_at(tensor, start + done, count - done, &box);
        uint64_t span = span_of(tensor, &box);
        uint8_t *out = into + done * source.width;
        TS_TRY(span <= room / source.width
                   ? gather_span(&source, &box, span, out, error)
                   : gather_runs(&source, &box, out, error));
    }
    return TS_OK;
}
