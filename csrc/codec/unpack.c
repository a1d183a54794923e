/* unpack.c -- a stored chunk to elements.  Nothing it says is believed.
 *
 * Planes are drawn from their sources a block at a time, so that what one
 * kernel leaves the next finds in the first-level cache. */
#include "chunk.h"
#include "core/cpu.h"
#include "rans.h"

enum { BLOCK = 4096 }; /* symbols drawn at a time; whole groups */

/* One plane being decoded. */
typedef struct {
    unsigned bits;
    const uint8_t *at;      /* the next packed bits; NULL for a constant */
    ts_rans_reader *reader; /* or NULL */
    uint8_t *block;         /* BLOCK symbols, when they cannot be lent */
} source;

typedef struct {
    const uint8_t *bytes; /* borrowed: the stored chunk */
    size_t size;
    size_t at; /* of the next head */
    ts_rest rest;
    ts_packer *packer;
    const ts_planes *with;
    bool bypass;
    ts_error *error;
} job;

typedef struct {
    uint8_t form, layout, planes, width;
    uint32_t count;
} section;

#if defined(__x86_64__)
static const ts_planes *const kernels[TS_SIMD_LEVELS] = {
    &ts_planes_scalar, &ts_planes_avx2, &ts_planes_avx512};
#else
static const ts_planes *const kernels[] = {&ts_planes_scalar};
#endif

const ts_planes *ts_planes_here(void) { return kernels[ts_cpu_simd()]; }

/* ---- heads ------------------------------------------------------------ */

static ts_status take(job *it, size_t size, const uint8_t **out)
{
    if (size > it->size - it->at)
        return ts_fail(it->error, TS_FORMAT,
                       "a head of %zu bytes at %zu of %zu stored", size,
                       it->at, it->size);
    *out = it->bytes + it->at;
    it->at += size;
    return TS_OK;
}

static ts_status memory(job *it, uint64_t size, uint8_t **out)
{
    *out = ts_rest_take(&it->rest, size);
    if (*out != NULL) return TS_OK;
    return ts_fail(it->error, TS_FORMAT,
                   "a chunk whose planes take more memory than any would");
}

/* ---- sources ---------------------------------------------------------- */

static ts_status open_packed(job *it, source *out, const uint8_t *bytes,
                             size_t size, uint64_t count)
{
    uint64_t want = ts_plane_bytes(count, out->bits);

    if (size != want)
        return ts_fail(it->error, TS_FORMAT,
                       "a raw plane of %zu bytes instead of %llu", size,
                       (unsigned long long)want);
    out->at = bytes;
    return TS_OK;
}

static ts_status open_rans(job *it, source *out, const uint8_t *bytes,
                           size_t size, uint64_t count)
{
    uint8_t *reader, *lists;

    TS_TRY(memory(it, sizeof *out->reader, &reader));
    TS_TRY(memory(it, ts_rans_lists(bytes, size, (size_t)count), &lists));
    out->reader = (ts_rans_reader *)(void *)reader;
    return ts_rans_open(out->reader, it->with, bytes, size,
                        it->bytes + it->size, (size_t)count, out->bits, lists,
                        it->error);
}

static ts_status open_zstd(job *it, source *out, const uint8_t *bytes,
                           size_t size, uint64_t count)
{
    size_t want = (size_t)ts_plane_bytes(count, out->bits);
    uint8_t *unpacked;

    TS_TRY(memory(it, want, &unpacked));
    out->at = unpacked;
    return ts_zstd_unpack(it->packer, bytes, size, unpacked, want, it->error);
}

/* The next plane head, and all that is needed to draw from it. */
static ts_status open_source(job *it, unsigned bits, uint64_t count,
                             source *out)
{
    const uint8_t *head;

    *out = (source){.bits = bits};
    TS_TRY(take(it, TS_PLANE_HEAD, &head));
    uint32_t place = ts_load_u32(head + 4), size = ts_load_u32(head + 8);
    if (place > it->size || size > it->size - place)
        return ts_fail(it->error, TS_FORMAT,
                       "a plane of %u bytes at %u of %zu stored", size, place,
                       it->size);
    const uint8_t *bytes = it->bytes + place;
    TS_TRY(memory(it, BLOCK, &out->block));
    switch (head[0]) {
    case TS_CODER_RAW: return open_packed(it, out, bytes, size, count);
    case TS_CODER_RANS: return open_rans(it, out, bytes, size, count);
    case TS_CODER_HUFFMAN:
    case TS_CODER_ZSTD: return open_zstd(it, out, bytes, size, count);
    case TS_CODER_CONST:
        memset(out->block, head[1], BLOCK);
        return TS_OK;
    default:
        return ts_fail(it->error, TS_FORMAT, "unknown coder %u", head[0]);
    }
}

/* The next `count` symbols, BLOCK of them except at the end: lent until the
 * next call. */
static ts_status draw(job *it, source *from, size_t count,
                      const uint8_t **out)
{
    *out = from->block;
    if (from->reader != NULL)
        return ts_rans_read(from->reader,
                            (count + TS_RANS_LANES - 1) / TS_RANS_LANES,
                            from->block, it->error);
    if (from->at == NULL) return TS_OK; /* a constant: the block says it */
    if (from->bits == 8)
        *out = from->at;
    else
        it->with->unpack(from->at, count, from->bits, from->block);
    from->at += ts_plane_bytes(count, from->bits);
    return TS_OK;
}

static ts_status close_sources(job *it, source *from, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (from[i].reader != NULL)
            TS_TRY(ts_rans_close(from[i].reader, it->error));
    return TS_OK;
}

/* Every symbol of the next plane, one a byte. */
static ts_status draw_all(job *it, unsigned bits, size_t count, uint8_t *out)
{
    const uint8_t *symbols;
    source from;

    TS_TRY(open_source(it, bits, count, &from));
    for (size_t at = 0; at < count; at += BLOCK) {
        size_t some = (size_t)ts_min(BLOCK, count - at);
        TS_TRY(draw(it, &from, some, &symbols));
        memcpy(out + at, symbols, some);
    }
    return close_sources(it, &from, 1);
}

/* ---- forms ------------------------------------------------------------ */

/* The top byte from its two parts. */
static ts_status draw_top(job *it, source *from, unsigned low, size_t count,
                          uint8_t *joined, const uint8_t **out)
{
    const uint8_t *upper, *lower;

    TS_TRY(draw(it, &from[0], count, out));
    if (low == 0) return TS_OK;
    upper = *out;
    TS_TRY(draw(it, &from[1], count, &lower));
    it->with->join(upper, lower, count, low, joined);
    *out = joined;
    return TS_OK;
}

/* Can the elements be put together as their top bytes are decoded: is all
 * else of them stored as it is?  Then whole groups are; what is left after
 * them is told in *done. */
static ts_status merge_groups(job *it, const section *of, source *from,
                              unsigned planes, uint64_t count, uint8_t *out,
                              uint64_t *done)
{
    unsigned low = of->layout & TS_LAYOUT_LOW, skip = low > 0 ? 2 : 1;
    ts_rans_sink sink = {.low = low,
                         .width = of->width,
                         .rotated = (of->layout & TS_LAYOUT_ROTATED) != 0,
                         .bypass = it->bypass,
                         .out = out};
    size_t groups = (size_t)(count / TS_RANS_LANES);

    *done = 0;
    if (from[0].reader == NULL || of->width > 4 || !ts_rans_can_sink(low))
        return TS_OK;
    for (unsigned i = 1; i < planes; i++)
        if (from[i].at == NULL) return TS_OK;
    sink.ahead = ts_rans_spread(ts_packer_next(it->packer), count);
    if (low > 0) sink.lower = from[1].at;
    for (unsigned k = 1; k < of->width; k++)
        sink.plane[k] = from[skip + k - 1].at;
    TS_TRY(ts_rans_read_into(from[0].reader, groups, &sink, it->error));
    *done = (uint64_t)groups * TS_RANS_LANES;
    for (unsigned i = 1; i < planes; i++)
        from[i].at += ts_plane_bytes(*done, from[i].bits);
    return TS_OK;
}

static ts_status merge_planes(job *it, const section *of, source *from,
                              unsigned count_planes, uint64_t count,
                              uint8_t *out)
{
    const uint8_t *planes[TS_MOST_WIDTH];
    unsigned low = of->layout & TS_LAYOUT_LOW, skip = low > 0 ? 2 : 1;
    bool rotated = (of->layout & TS_LAYOUT_ROTATED) != 0;
    uint8_t *joined;
    uint64_t at;

    TS_TRY(memory(it, BLOCK, &joined));
    TS_TRY(merge_groups(it, of, from, count_planes, count, out, &at));
    for (; at < count; at += BLOCK) {
        size_t some = (size_t)ts_min(BLOCK, count - at);
        TS_TRY(draw_top(it, from, low, some, joined, &planes[0]));
        for (unsigned k = 1; k < of->width; k++)
            TS_TRY(draw(it, &from[skip + k - 1], some, &planes[k]));
        it->with->merge(planes, some, of->width, rotated,
                        out + at * of->width, it->bypass);
    }
#if defined(__x86_64__)
    if (it->bypass) __builtin_ia32_sfence(); /* such stores keep no order */
#endif
    return TS_OK;
}

/* count elements from the layout's planes. */
static ts_status unpack_dense(job *it, const section *of, uint64_t count,
                              uint8_t *out)
{
    source from[TS_MOST_PLANES];
    unsigned low = of->layout & TS_LAYOUT_LOW, planes = 0;

    if (of->layout == TS_LAYOUT_BYTES)
        return draw_all(it, 8, (size_t)(count * of->width), out);
    TS_TRY(open_source(it, 8 - low, count, &from[planes++]));
    if (low > 0) TS_TRY(open_source(it, low, count, &from[planes++]));
    for (unsigned k = 1; k < of->width; k++)
        TS_TRY(open_source(it, 8, count, &from[planes++]));
    TS_TRY(merge_planes(it, of, from, planes, count, out));
    return close_sources(it, from, planes);
}

static uint64_t count_bits(uint8_t *bitmap, uint64_t bits)
{
    uint64_t set = 0;

    if (bits % 8 != 0) bitmap[bits / 8] &= (uint8_t)((1u << bits % 8) - 1);
    for (uint64_t i = 0; i < (bits + 7) / 8; i++)
        set += (unsigned)__builtin_popcount(bitmap[i]);
    return set;
}

static void spread(const uint8_t *bitmap, const uint8_t *dense, uint64_t count,
                   unsigned width, uint8_t *out)
{
    memset(out, 0, (size_t)(count * width));
    for (uint64_t i = 0; i < count; i += 8)
        for (unsigned left = bitmap[i / 8]; left != 0; left &= left - 1) {
            unsigned bit = (unsigned)__builtin_ctz(left);
            memcpy(out + (i + bit) * width, dense, width);
            dense += width;
        }
}

static ts_status unpack_sparse(job *it, const section *of, uint8_t *out)
{
    uint64_t size = ((uint64_t)of->count + 7) / 8;
    uint8_t *bitmap, *dense;
    bool bypass = it->bypass;

    TS_TRY(memory(it, size, &bitmap));
    TS_TRY(draw_all(it, 8, (size_t)size, bitmap));
    uint64_t some = count_bits(bitmap, of->count);
    TS_TRY(memory(it, some * of->width, &dense));
    it->bypass = false;
    TS_TRY(unpack_dense(it, of, some, dense));
    it->bypass = bypass;
    spread(bitmap, dense, of->count, of->width, out);
    return TS_OK;
}

/* A number that has no entry finds zero. */
static void paint(const uint8_t *palette, const uint8_t *numbers, size_t count,
                  unsigned width, uint8_t *out)
{
    for (size_t i = 0; i < count; i++)
        memcpy(out + i * width, palette + (size_t)numbers[i] * width, width);
}

static ts_status unpack_palette(job *it, const section *of, uint8_t *out)
{
    uint8_t palette[256 * TS_MOST_WIDTH] = {0};
    const uint8_t *head, *numbers;
    source from;

    TS_TRY(take(it, TS_PLANE_HEAD, &head));
    uint32_t place = ts_load_u32(head + 4), size = ts_load_u32(head + 8);
    unsigned entries = size / of->width;
    if (head[0] != TS_CODER_RAW || place > it->size
        || size > it->size - place || size % of->width != 0 || entries < 1
        || entries > 256)
        return ts_fail(it->error, TS_FORMAT,
                       "a palette of %u bytes at %u of %zu stored", size,
                       place, it->size);
    memcpy(palette, it->bytes + place, size);
    TS_TRY(open_source(it, ts_palette_bits(entries), of->count, &from));
    for (uint64_t at = 0; at < of->count; at += BLOCK) {
        size_t some = (size_t)ts_min(BLOCK, of->count - at);
        TS_TRY(draw(it, &from, some, &numbers));
        switch (of->width) {
        case 1: paint(palette, numbers, some, 1, out + at); break;
        case 2: paint(palette, numbers, some, 2, out + 2 * at); break;
        case 4: paint(palette, numbers, some, 4, out + 4 * at); break;
        default: paint(palette, numbers, some, 8, out + 8 * at); break;
        }
    }
    return close_sources(it, &from, 1);
}

/* ---- sections --------------------------------------------------------- */

static bool is_layout(uint8_t layout)
{
    return layout == TS_LAYOUT_BYTES
        || (layout & ~(TS_LAYOUT_LOW | TS_LAYOUT_ROTATED)) == 0;
}

static unsigned planes_of(const section *of)
{
    unsigned dense = of->width;

    if (of->form == TS_FORM_PALETTE) return 2;
    if (of->layout == TS_LAYOUT_BYTES) dense = 1;
    if (of->layout & TS_LAYOUT_LOW) dense++;
    return of->form == TS_FORM_SPARSE ? dense + 1 : dense;
}

static ts_status take_section(job *it, uint64_t bytes, section *out)
{
    const uint8_t *head;

    TS_TRY(take(it, TS_SECTION_HEAD, &head));
    *out = (section){head[0], head[1], head[2], head[3],
                     ts_load_u32(head + 4)};
    if (out->form < TS_FORMS && is_layout(out->layout) && out->width <= 8
        && ts_is_power_of_two(out->width)
        && (uint64_t)out->count * out->width == bytes
        && out->planes == planes_of(out))
        return TS_OK;
    return ts_fail(it->error, TS_FORMAT,
                   "a section of form %u, layout %u, %u planes and %u "
                   "elements of %u bytes for %llu bytes",
                   out->form, out->layout, out->planes, out->count, out->width,
                   (unsigned long long)bytes);
}

static ts_status unpack_section(job *it, uint64_t bytes, uint8_t *out)
{
    section of;

    TS_TRY(take_section(it, bytes, &of));
    switch (of.form) {
    case TS_FORM_SPARSE: return unpack_sparse(it, &of, out);
    case TS_FORM_PALETTE: return unpack_palette(it, &of, out);
    default: return unpack_dense(it, &of, of.count, out);
    }
}

/* One field of every block, back into its place. */
static ts_status unpack_field(job *it, const ts_field *field, size_t blocks,
                              size_t block_size, uint8_t *out)
{
    ts_rest before = it->rest;
    uint8_t *made;
    size_t size = field->size;

    TS_TRY(memory(it, blocks * size, &made));
    TS_TRY(unpack_section(it, blocks * size, made));
    for (size_t i = 0; i < blocks; i++)
        memcpy(out + i * block_size + field->offset, made + i * size, size);
    it->rest = before;
    return TS_OK;
}

static ts_status unpack_fields(job *it, ts_dtype dtype, const ts_field *fields,
                               unsigned count, uint64_t bytes, uint8_t *out)
{
    size_t block = ts_dtype_block_size(dtype);

    it->bypass = false; /* fields are put together from memory of ours */
    for (unsigned i = 0; i < count; i++)
        TS_TRY(unpack_field(it, &fields[i], (size_t)bytes / block, block,
                            out));
    return TS_OK;
}

ts_status ts_chunk_unpack(ts_dtype dtype, const uint8_t *stored, size_t size,
                          uint32_t elements, uint8_t *out, bool bypass,
                          ts_packer *packer, ts_error *error)
{
    job it = {.bytes = stored,
              .size = size,
              .packer = packer,
              .with = ts_planes_here(),
              .bypass = bypass,
              .error = error};
    const uint8_t *head;
    unsigned fields;
    uint64_t bytes;

    (void)ts_dtype_bytes(dtype, elements, &bytes);
    const ts_field *field = ts_dtype_fields(dtype, &fields);
    TS_TRY(ts_packer_rest(packer, ts_unpack_room(bytes), &it.rest, error));
    TS_TRY(take(&it, TS_CHUNK_HEAD, &head));
    unsigned sections = head[4];
    if (ts_load_u32(head) != elements || (sections != 1 && sections != fields))
        return ts_fail(error, TS_FORMAT,
                       "%u elements in %u sections instead of %u in 1 or %u",
                       ts_load_u32(head), sections, elements, fields);
    if (sections == 1) return unpack_section(&it, bytes, out);
    return unpack_fields(&it, dtype, field, fields, bytes, out);
}
