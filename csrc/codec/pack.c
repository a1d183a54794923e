/* pack.c -- elements to a stored chunk.
 *
 * What each plane becomes is decided from a sample of its symbols, in
 * integers: every machine decides alike, and whatever would not get smaller
 * stays as it is.  When a chunk as a whole would not, it is stored as bytes,
 * which every chunk has room for. */
#include "chunk.h"
#include "rans.h"

typedef struct {
    ts_pack_mode mode;
    ts_packer *packer;
    const ts_planes *with;
    ts_rest rest;
    uint8_t *out;  /* the stored chunk */
    size_t heads;  /* where the next head goes */
    size_t data;   /* where the next plane's bytes go */
    size_t room;   /* bytes of out */
    bool full;     /* something did not fit: the chunk is stored as bytes */
} job;

/* What is known of an array before it is packed. */
typedef struct {
    const uint8_t *bytes;
    size_t count;
    unsigned width;
    bool floats;      /* the sign leads: rotate */
    bool pairs;       /* each byte is two codes of 4 bits */
    uint8_t exponent; /* bits of it, 0 for integers */
} array;

/* How an array is going to be packed. */
typedef struct {
    unsigned low; /* bits of the top byte that are a plane of their own */
    ts_rans_plan plan;
    ts_sample sample; /* of the top byte's upper bits */
    uint64_t cost;    /* of the top byte, in 1/65536 bit a symbol */
} top_plan;

/* ---- samples ---------------------------------------------------------- */

/* Of so many symbols 64 are counted, of shorter planes all.  Twice as many of
 * the top byte gained 0.04 points in bf16 and cost a twelfth of the speed. */
enum { SAMPLE_EVERY = 1024, SAMPLE_WHOLE = 16384 };
#define ONE_BIT ((uint64_t)65536)

static size_t sampled(size_t count)
{
    return count > SAMPLE_WHOLE ? SAMPLE_EVERY : TS_SAMPLE_RUN;
}

/* The upper bits of the symbols of a sample. */
static void fold(const ts_sample *from, unsigned low, ts_sample *out)
{
    memset(out, 0, sizeof *out);
    for (unsigned i = 0; i < 256; i++) out->seen[i >> low] += from->seen[i];
    out->total = from->total;
    out->whole = from->whole;
}

/* Order-0 entropy of a symbol, in 1/65536 bit. */
static uint64_t entropy(const ts_sample *sample)
{
    uint64_t bits = 0;

    for (unsigned i = 0; i < 256; i++)
        if (sample->seen[i] > 0)
            bits += (uint64_t)sample->seen[i]
                  * (ts_log2(sample->total) - ts_log2(sample->seen[i]));
    return bits / sample->total;
}

static unsigned kinds(const ts_sample *sample)
{
    unsigned found = 0;
    for (unsigned i = 0; i < 256; i++) found += sample->seen[i] > 0;
    return found;
}

static bool all_the_same(const uint8_t *in, size_t size)
{
    return size < 2 || memcmp(in, in + 1, size - 1) == 0;
}

/* ---- planes into the chunk -------------------------------------------- */

static bool has_room(job *it, size_t size)
{
    if (size > it->room - it->data) it->full = true;
    return !it->full;
}

/* The next plane head, for `size` bytes that lie where data begins. */
static void put_plane(job *it, ts_coder coder, uint8_t value, size_t size)
{
    uint8_t *head = it->out + it->heads;

    head[0] = (uint8_t)coder;
    head[1] = value;
    ts_put_u16(head + 2, 0);
    ts_put_u32(head + 4, (uint32_t)it->data);
    ts_put_u32(head + 8, (uint32_t)size);
    it->heads += TS_PLANE_HEAD;
    it->data += size;
}

static void put_raw(job *it, const uint8_t *symbols, size_t count,
                    unsigned bits)
{
    size_t size = (size_t)ts_plane_bytes(count, bits);
    size_t aligned = (size_t)ts_round_up(it->data, TS_FRAME_ALIGN);

    /* Whole lines where there are many: the reader streams them. */
    if (size >= 4096 && aligned <= it->room) {
        memset(it->out + it->data, 0, aligned - it->data);
        it->data = aligned;
    }
    if (!has_room(it, size)) return;
    if (bits < 8)
        it->with->pack(symbols, count, bits, it->out + it->data);
    else if (symbols != it->out + it->data)
        memmove(it->out + it->data, symbols, size); /* see place_planes */
    put_plane(it, TS_CODER_RAW, 0, size);
}

/* What RAW would store: the planes themselves when they are bytes. */
static const uint8_t *raw_bytes(job *it, const uint8_t *symbols, size_t count,
                                unsigned bits)
{
    if (bits == 8) return symbols;
    uint8_t *packed = ts_rest_take(&it->rest, count);
    if (packed != NULL) it->with->pack(symbols, count, bits, packed);
    return packed;
}

static size_t try_rans(job *it, const ts_rans_plan *plan,
                       const uint8_t *symbols, size_t count, unsigned bits,
                       size_t room)
{
    ts_rest before = it->rest;
    uint8_t *spare = ts_rest_take(&it->rest, ts_rans_spare(count));
    size_t size = 0;

    room = (size_t)ts_min(room, it->room - it->data);
    if (spare != NULL)
        size = ts_rans_write(
            plan, it->with, symbols, count, bits,
            ts_rans_spread(ts_packer_next(it->packer), count), spare,
            it->out + it->data, room);
    it->rest = before;
    return size;
}

static size_t try_zstd(job *it, int level, const uint8_t *symbols,
                       size_t count, unsigned bits, uint8_t *out, size_t room)
{
    ts_rest before = it->rest;
    const uint8_t *bytes = raw_bytes(it, symbols, count, bits);
    size_t size = (size_t)ts_plane_bytes(count, bits), made = 0;

    if (bytes != NULL)
        made = level == 0
                   ? ts_zstd_literals(it->packer, bytes, size, out, room)
                   : ts_zstd_matches(it->packer, level, bytes, size, out,
                                     room);
    it->rest = before;
    return made;
}

/* ---- which coder ------------------------------------------------------ */

enum {
    LEVEL_FAST = 1,
    LEVEL_PORTABLE = 3,
    LEVEL_SMALL = 9,
    FIXED = 320, /* bytes of a stream whatever it holds: states and a table */
    PROBE = 16384, /* bytes that are packed to see whether matches help */
};

typedef struct {
    ts_coder coder;
    int level;   /* of zstd */
    size_t size; /* estimated */
    ts_rans_plan plan;
} choice;

static void consider(choice *best, ts_coder coder, int level, uint64_t size)
{
    if (size >= best->size) return;
    best->coder = coder;
    best->level = level;
    best->size = (size_t)size;
}

static uint64_t estimated(uint64_t cost, size_t count)
{
    return cost * count / (8 * ONE_BIT) + FIXED;
}

/* What zstd makes of the middle of the plane, for all of it. */
static uint64_t probe(job *it, int level, const uint8_t *symbols, size_t count,
                      unsigned bits)
{
    ts_rest before = it->rest;
    size_t some = (size_t)ts_min(PROBE, count), made = 0;
    size_t from = (count - some) / 2 / 8 * 8;
    size_t raw = (size_t)ts_plane_bytes(some, bits);
    uint8_t *out = ts_rest_take(&it->rest, raw);

    if (out != NULL)
        made = try_zstd(it, level, symbols + from, some, bits, out, raw);
    it->rest = before;
    return made == 0 ? UINT64_MAX : made * (uint64_t)count / some;
}

/* Classes of the symbols of a plane, in memory of the job's; none when that is
 * used up. */
static bool find_classes(job *it, const uint8_t *symbols, size_t count,
                         ts_classes *out)
{
    uint8_t *room = ts_rest_take(&it->rest, ts_classes_room(count));

    if (room == NULL) return false;
    ts_classes_find(symbols, count, sampled(count), room, out);
    return true;
}

/* What tables of so many bits make of it; UINT32_MAX for nothing. */
static uint32_t plan_tables(job *it, const ts_classes *classes, unsigned low,
                            unsigned bits, size_t count, ts_rans_plan *out)
{
    uint8_t *number = ts_rest_take(&it->rest, classes->spans);

    if (number == NULL) return UINT32_MAX;
    return ts_rans_plan_make(classes, low, bits, count, number, out);
}

static void consider_rans(job *it, const ts_classes *classes, unsigned bits,
                          size_t count, choice *best)
{
    ts_rans_plan plan;
    uint32_t cost = plan_tables(it, classes, 0, bits, count, &plan);

    if (cost == UINT32_MAX) return;
    size_t before = best->size;
    consider(best, TS_CODER_RANS, 0, estimated(cost, count));
    if (best->size < before) best->plan = plan;
}

/* A sixty-fourth is the least that is worth decoding for; slower coders have
 * to give more in fast mode. */
static size_t worth(size_t size, unsigned part) { return size - size / part; }

static choice choose(job *it, const uint8_t *symbols, size_t count,
                     unsigned bits, const ts_sample *sample)
{
    bool small = it->mode == TS_PACK_SMALL;
    choice best = {.coder = TS_CODER_RAW,
                   .size = (size_t)ts_plane_bytes(count, bits)};
    uint64_t order0 = entropy(sample);
    ts_classes classes;

    best.size = worth(best.size, 64);
    if (it->mode == TS_PACK_FAST
        && estimated(order0, count) > best.size + FIXED)
        return best; /* most planes of a mantissa end here */
    if (it->mode != TS_PACK_PORTABLE
        && find_classes(it, symbols, count, &classes)) {
        consider_rans(it, &classes, 7, count, &best);
        if (small) consider_rans(it, &classes, 8, count, &best);
    }
    if (best.coder != TS_CODER_RAW && !small)
        best.size = worth(best.size, 32);
    /* Huffman codes have whole bits, 1 to 11 of them. */
    if (bits == 8 && count >= 1024)
        consider(&best, TS_CODER_HUFFMAN, 0,
                 estimated(ts_max(order0, ONE_BIT) * 129 / 128, count)
                     - FIXED / 2);
    if (it->mode == TS_PACK_FAST && best.coder == TS_CODER_RAW) return best;
    if (it->mode == TS_PACK_FAST) best.size = worth(best.size, 8);
    int level = it->mode == TS_PACK_SMALL      ? LEVEL_SMALL
              : it->mode == TS_PACK_PORTABLE ? LEVEL_PORTABLE
                                               : LEVEL_FAST;
    if (it->mode != TS_PACK_FAST || order0 < 2 * ONE_BIT)
        consider(&best, TS_CODER_ZSTD, level,
                 probe(it, level, symbols, count, bits));
    return best;
}

/* Symbols that lie where the packed ones are to go. */
static const uint8_t *out_of_the_way(job *it, const uint8_t *symbols,
                                     size_t count)
{
    if (symbols < it->out || symbols >= it->out + it->room) return symbols;
    uint8_t *copy = ts_rest_take(&it->rest, count);
    if (copy != NULL) memcpy(copy, symbols, count);
    it->full |= copy == NULL;
    return copy;
}

/* One plane in the way chosen, or RAW when that turns out to be no smaller. */
static void put_chosen(job *it, const uint8_t *symbols, size_t count,
                       unsigned bits, const choice *how)
{
    size_t raw = (size_t)ts_plane_bytes(count, bits), made = 0;

    if (how->coder != TS_CODER_RAW)
        symbols = out_of_the_way(it, symbols, count);
    if (it->full) return;
    if (how->coder == TS_CODER_RANS)
        made = try_rans(it, &how->plan, symbols, count, bits, raw);
    else if (how->coder != TS_CODER_RAW)
        made = try_zstd(it, how->level, symbols, count, bits,
                        it->out + it->data,
                        (size_t)ts_min(raw, it->room - it->data));
    if (made == 0 || made >= raw)
        put_raw(it, symbols, count, bits);
    else
        put_plane(it, how->coder, 0, made);
}

static void pack_plane(job *it, const uint8_t *symbols, size_t count,
                       unsigned bits)
{
    ts_sample sample;

    if (it->full) return;
    if (count == 0) {
        put_plane(it, TS_CODER_CONST, 0, 0);
        return;
    }
    ts_sample_plane(symbols, count, sampled(count), &sample);
    if (kinds(&sample) == 1 && all_the_same(symbols, count)) {
        put_plane(it, TS_CODER_CONST, symbols[0], 0);
        return;
    }
    choice how = choose(it, symbols, count, bits, &sample);
    put_chosen(it, symbols, count, bits, &how);
}

/* ---- how the top byte is cut ------------------------------------------ */

/* Cuts and table sizes worth considering: where the exponent ends, and a bit
 * or two of mantissa with it where the byte has them. */
typedef struct {
    uint8_t low, bits;
} cutting;

static unsigned cuttings(const job *it, const array *of, cutting out[4])
{
    unsigned n = 0;

    if (of->pairs) {
        out[n++] = (cutting){4, 7};
        return n;
    }
    if (of->exponent == 5 && of->width == 2) {
        out[n++] = (cutting){2, 7};
        out[n++] = (cutting){3, 7};
    } else if (of->exponent > 0 && of->exponent < 8) {
        out[n++] = (cutting){(uint8_t)(8 - of->exponent), 7};
        out[n++] = (cutting){(uint8_t)(7 - of->exponent), 7};
    } else if (of->exponent == 0 && of->width == 1) {
        out[n++] = (cutting){4, 7};
        out[n++] = (cutting){3, 7};
    }
    out[n++] = (cutting){0, it->mode == TS_PACK_SMALL ? 8 : 7};
    return n;
}

/* The least estimated bits of the top byte. */
static void plan_top(job *it, const array *of, const uint8_t *top,
                     top_plan *out)
{
    ts_classes classes;
    ts_rans_model model;
    ts_sample folded;
    cutting tried[4];
    unsigned count = cuttings(it, of, tried), bits = 0;

    out->low = of->pairs && it->mode != TS_PACK_PORTABLE ? 4 : 0;
    out->cost = UINT64_MAX;
    if (it->mode == TS_PACK_PORTABLE) return; /* never cut */
    if (!find_classes(it, top, of->count, &classes)) return;
    for (unsigned i = 0; i < count; i++) {
        fold(&classes.whole, tried[i].low, &folded);
        uint64_t cost = ts_rans_fit(&folded, tried[i].bits, &model);
        if (cost == UINT32_MAX) continue;
        cost += tried[i].low * ONE_BIT;
        if (cost >= out->cost) continue;
        out->cost = cost;
        out->low = tried[i].low;
        out->sample = folded;
        bits = tried[i].bits;
    }
    if (bits == 0) return;
    out->cost = plan_tables(it, &classes, out->low, bits, of->count,
                            &out->plan);
    if (out->cost < UINT32_MAX)
        out->cost += out->low * ONE_BIT;
    else
        out->cost = UINT64_MAX;
    if (out->low > 0 && !of->pairs
        && out->cost >= 8 * ONE_BIT - ONE_BIT / 8)
        out->low = 0; /* nothing to gain: one plane is simpler than two */
}

/* ---- dense ------------------------------------------------------------ */

static uint8_t layout_of(const array *of, unsigned low)
{
    return (uint8_t)((of->floats ? TS_LAYOUT_ROTATED : TS_LAYOUT_PLANES)
                     | low);
}

/* Does the model that the cut was found with settle the coder, too? */
static bool is_settled(const job *it, const array *of, const top_plan *plan)
{
    if (it->mode != TS_PACK_FAST || plan->cost == UINT64_MAX) return false;
    uint64_t cost = plan->cost - plan->low * ONE_BIT;
    size_t raw = (size_t)ts_plane_bytes(of->count, 8 - plan->low);
    return kinds(&plan->sample) > 1 && cost >= 2 * ONE_BIT
        && estimated(cost, of->count) <= worth(raw, 64);
}

static void pack_top(job *it, const array *of, const uint8_t *upper,
                     const top_plan *plan)
{
    choice how = {.coder = TS_CODER_RANS, .plan = plan->plan};

    if (is_settled(it, of, plan))
        put_chosen(it, upper, of->count, 8 - plan->low, &how);
    else
        pack_plane(it, upper, of->count, 8 - plan->low);
}

/* Where the planes of an array go: those below the top byte straight to where
 * they will lie if they stay as they are, as most do.  When one gets smaller
 * the next ones move down; nothing is ever written over symbols that are
 * still needed, because data never overtakes them. */
static bool place_planes(job *it, const array *of, uint8_t **planes)
{
    size_t at = (size_t)ts_round_up(it->data, TS_FRAME_ALIGN);
    size_t lower = (of->width - 1) * of->count;
    bool direct = of->count >= 4096 && of->count % TS_FRAME_ALIGN == 0
               && at + lower <= it->room;

    memset(it->out + it->data, 0, direct ? at - it->data : 0);
    for (unsigned k = 0; k < of->width; k++) {
        planes[k] = direct && k > 0
                        ? it->out + at + (k - 1) * of->count
                        : ts_rest_take(&it->rest, of->count + TS_FRAME_ALIGN);
        if (planes[k] == NULL) return false;
    }
    return true;
}

/* Planes in the order of their heads; returns the layout. */
static uint8_t pack_planes(job *it, const array *of)
{
    uint8_t *planes[TS_MOST_WIDTH], *upper, *lower;
    ts_rest before = it->rest;
    top_plan plan;

    it->full |= !place_planes(it, of, planes);
    upper = ts_rest_take(&it->rest, of->count);
    lower = ts_rest_take(&it->rest, of->count);
    it->full |= upper == NULL || lower == NULL;
    if (it->full || of->count == 0) {
        for (unsigned k = 0; k < of->width; k++)
            pack_plane(it, of->bytes, 0, 8);
        return layout_of(of, 0);
    }
    it->with->split(of->bytes, of->count, of->width, of->floats, planes);
    plan_top(it, of, planes[0], &plan);
    /* Lower bytes lie first: they are long and seldom packed, so that their
     * ends are those of lines. */
    size_t first = it->heads;
    it->heads += (plan.low > 0 ? 2 : 1) * TS_PLANE_HEAD;
    for (unsigned k = 1; k < of->width; k++)
        pack_plane(it, planes[k], of->count, 8);
    size_t last = it->heads;
    it->heads = first;
    if (plan.low > 0) {
        it->with->cut(planes[0], of->count, plan.low, upper, lower);
        pack_top(it, of, upper, &plan);
        pack_plane(it, lower, of->count, plan.low);
    } else {
        pack_top(it, of, planes[0], &plan);
    }
    it->heads = last;
    it->rest = before;
    return layout_of(of, plan.low);
}

/* ---- sections --------------------------------------------------------- */

static uint8_t *begin_section(job *it)
{
    uint8_t *head = it->out + it->heads;
    it->heads += TS_SECTION_HEAD;
    return head;
}

static void put_section(uint8_t *head, ts_form form, uint8_t layout,
                        unsigned planes, const array *of)
{
    head[0] = (uint8_t)form;
    head[1] = layout;
    head[2] = (uint8_t)planes;
    head[3] = (uint8_t)of->width;
    ts_put_u32(head + 4, (uint32_t)of->count);
}

static unsigned planes_since(const job *it, const uint8_t *head)
{
    size_t since = (size_t)(it->out + it->heads - head) - TS_SECTION_HEAD;
    return (unsigned)(since / TS_PLANE_HEAD);
}

static void pack_dense(job *it, const array *of)
{
    uint8_t *head = begin_section(it);
    uint8_t layout = pack_planes(it, of);
    put_section(head, TS_FORM_DENSE, layout, planes_since(it, head), of);
}

/* Small mode: as every mode would do it, and then as the best did. */
static void pack_smallest(job *it, const array *of)
{
    static const ts_pack_mode modes[] = {TS_PACK_SMALL, TS_PACK_FAST,
                                         TS_PACK_PORTABLE};
    job before = *it, best = *it;
    size_t least = SIZE_MAX;

    for (size_t i = 0; i < TS_COUNT_OF(modes); i++) {
        *it = before;
        it->mode = modes[i];
        pack_dense(it, of);
        if (it->full || it->data >= least) continue;
        least = it->data;
        best.mode = modes[i];
    }
    *it = best;
    pack_dense(it, of);
    it->mode = before.mode;
}

static void pack_elements(job *it, const array *of)
{
    if (it->mode == TS_PACK_SMALL)
        pack_smallest(it, of);
    else
        pack_dense(it, of);
}

static bool is_zero(const uint8_t *element, unsigned width)
{
    uint64_t value = 0;
    memcpy(&value, element, width);
    return value == 0;
}

/* Is a quarter of a sample zero, but not all of it? */
static bool looks_sparse(const array *of)
{
    size_t step = of->count / 256 + 1, seen = 0, zeros = 0;

    for (size_t i = 0; i < of->count; i += step, seen++)
        zeros += is_zero(of->bytes + i * of->width, of->width);
    return of->count >= 1024 && zeros * 4 >= seen && zeros < seen;
}

static size_t gather(const array *of, uint8_t *bitmap, uint8_t *dense)
{
    size_t some = 0;

    memset(bitmap, 0, (of->count + 7) / 8);
    for (size_t i = 0; i < of->count; i++) {
        const uint8_t *element = of->bytes + i * of->width;
        memcpy(dense + some * of->width, element, of->width);
        bool kept = !is_zero(element, of->width);
        bitmap[i / 8] |= (uint8_t)(kept << i % 8);
        some += kept;
    }
    return some;
}

static void pack_sparse(job *it, const array *of)
{
    uint8_t *head = begin_section(it);
    uint8_t *bitmap = ts_rest_take(&it->rest, (of->count + 7) / 8 + 64);
    uint8_t *dense =
        ts_rest_take(&it->rest, (of->count + 1) * of->width + 64);
    array kept = *of;

    if (bitmap == NULL || dense == NULL) {
        it->full = true;
        return;
    }
    kept.count = gather(of, bitmap, dense);
    kept.bytes = dense;
    pack_plane(it, bitmap, (of->count + 7) / 8, 8);
    uint8_t layout = pack_planes(it, &kept);
    put_section(head, TS_FORM_SPARSE, layout, planes_since(it, head), of);
}

/* ---- palettes --------------------------------------------------------- */

typedef struct {
    uint64_t entry[256]; /* ascending */
    unsigned count;
    unsigned most;
} palette;

/* Where value is, or would be. */
static unsigned place_of(const palette *in, uint64_t value)
{
    unsigned from = 0, to = in->count;
    while (from < to) {
        unsigned middle = (from + to) / 2;
        if (in->entry[middle] < value)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

static bool learn(palette *it, uint64_t value)
{
    unsigned at = place_of(it, value);

    if (at < it->count && it->entry[at] == value) return true;
    if (it->count == it->most) return false;
    memmove(it->entry + at + 1, it->entry + at,
            (it->count - at) * sizeof *it->entry);
    it->entry[at] = value;
    it->count++;
    return true;
}

static uint64_t element_at(const array *of, size_t i)
{
    uint64_t value = 0;
    memcpy(&value, of->bytes + i * of->width, of->width);
    return value;
}

/* Does a sample have more than `most` distinct elements for sure?  Elements
 * that share a bit count as one, so the answer errs towards no. */
static bool has_many(const array *of, unsigned most)
{
    uint64_t bits[64] = {0};
    size_t step = of->count / 1024 + 1;
    unsigned distinct = 0;

    for (size_t i = 0; i < of->count && distinct <= most; i += step) {
        uint64_t hash = element_at(of, i) * 0x9E3779B97F4A7C15u >> 52;
        uint64_t bit = (uint64_t)1 << hash % 64;
        distinct += (bits[hash / 64] & bit) == 0;
        bits[hash / 64] |= bit;
    }
    return distinct > most;
}

/* All distinct elements, when they are few; a sample says no fast. */
static bool collect(const array *of, palette *out)
{
    out->count = 0;
    out->most = of->width == 1 ? 4 : 256;
    if (of->count < 1024 || has_many(of, out->most)) return false;
    uint64_t last = element_at(of, 0);
    (void)learn(out, last);
    for (size_t i = 1; i < of->count; i++) {
        uint64_t value = element_at(of, i);
        if (value == last) continue;
        if (!learn(out, value)) return false;
        last = value;
    }
    return true;
}

static void pack_palette(job *it, const array *of, const palette *colors)
{
    uint8_t *head = begin_section(it);
    uint8_t *numbers = ts_rest_take(&it->rest, of->count);
    size_t size = (size_t)colors->count * of->width;

    if (numbers == NULL || !has_room(it, size)) {
        it->full = true;
        return;
    }
    for (unsigned i = 0; i < colors->count; i++)
        memcpy(it->out + it->data + (size_t)i * of->width, &colors->entry[i],
               of->width);
    put_plane(it, TS_CODER_RAW, 0, size);
    for (size_t i = 0; i < of->count; i++)
        numbers[i] = (uint8_t)place_of(colors, element_at(of, i));
    pack_plane(it, numbers, of->count, ts_palette_bits(colors->count));
    put_section(head, TS_FORM_PALETTE, 0, 2, of);
}

/* Palette where there is one, zeros left out where there are many, unless
 * the planes alone are smaller. */
static void pack_section(job *it, const array *of)
{
    job before = *it;
    palette colors;

    if (it->mode != TS_PACK_PORTABLE && collect(of, &colors)) {
        pack_palette(it, of, &colors);
        return;
    }
    pack_elements(it, of);
    if (it->mode == TS_PACK_PORTABLE || !looks_sparse(of)) return;
    size_t dense = it->data;
    job again = before;
    pack_sparse(&again, of);
    if (!again.full && (it->full || again.data < dense)) {
        *it = again;
        return;
    }
    *it = before;
    pack_elements(it, of);
}

/* ---- arrays of a dtype ------------------------------------------------ */

static array array_of(ts_dtype dtype, const uint8_t *in, size_t bytes)
{
    static const uint8_t exponents[TS_DTYPE_COUNT] = {
        [TS_F8_E4M3] = 4, [TS_F8_E4M3FNUZ] = 4, [TS_F8_E5M2] = 5,
        [TS_F8_E5M2FNUZ] = 5, [TS_F16] = 5, [TS_BF16] = 8, [TS_F32] = 8,
        [TS_F64] = 11, [TS_C64] = 8, [TS_C128] = 11,
    };
    array made = {.bytes = in, .width = 1, .pairs = dtype == TS_F4};
    uint32_t size = ts_dtype_block_size(dtype);

    if (ts_dtype_block_count(dtype) == 1)
        made.width = dtype == TS_C64 ? 4 : size > 8 ? 8 : size;
    made.exponent = exponents[dtype];
    made.floats = made.exponent > 0;
    made.count = bytes / made.width;
    return made;
}

static array array_of_field(const ts_field *field, const uint8_t *in,
                            size_t bytes)
{
    ts_field_kind kind = (ts_field_kind)field->kind;
    array made = {.bytes = in,
                  .width = ts_field_width(kind),
                  .pairs = kind == TS_FIELD_PAIRS};

    made.exponent = kind == TS_FIELD_HALF ? 5 : kind == TS_FIELD_FLOAT ? 8 : 0;
    made.floats = made.exponent > 0;
    made.count = bytes / made.width;
    return made;
}

static void pack_fields(job *it, ts_dtype dtype, const ts_field *fields,
                        unsigned count, const uint8_t *in, size_t bytes)
{
    size_t block = ts_dtype_block_size(dtype), blocks = bytes / block;

    for (unsigned i = 0; i < count && !it->full; i++) {
        ts_rest before = it->rest;
        size_t size = fields[i].size;
        uint8_t *field = ts_rest_take(&it->rest, blocks * size);
        if (field == NULL) {
            it->full = true;
            return;
        }
        for (size_t k = 0; k < blocks; k++)
            memcpy(field + k * size, in + k * block + fields[i].offset, size);
        array of = array_of_field(&fields[i], field, blocks * size);
        pack_section(it, &of);
        it->rest = before;
    }
}

/* ---- chunks ----------------------------------------------------------- */

/* One section of one plane: every chunk can be stored so. */
static size_t pack_bytes(const uint8_t *in, size_t size, uint32_t elements,
                         uint8_t *out)
{
    bool constant = all_the_same(in, size);
    uint8_t *section = out + TS_CHUNK_HEAD;
    uint8_t *plane = section + TS_SECTION_HEAD;
    size_t held = constant ? 0 : size;

    memset(out, 0, TS_FRAME_ALIGN);
    ts_put_u32(out, elements);
    out[4] = 1;
    section[0] = TS_FORM_DENSE;
    section[1] = TS_LAYOUT_BYTES;
    section[2] = 1;
    section[3] = 1;
    ts_put_u32(section + 4, (uint32_t)size);
    plane[0] = constant ? TS_CODER_CONST : TS_CODER_RAW;
    plane[1] = constant ? in[0] : 0;
    ts_put_u32(plane + 4, TS_FRAME_ALIGN);
    ts_put_u32(plane + 8, (uint32_t)held);
    memcpy(out + TS_FRAME_ALIGN, in, held);
    return TS_FRAME_ALIGN + held;
}

/* Room for the heads of an array, if it takes all the planes it may. */
static size_t heads_of(unsigned width)
{
    return TS_SECTION_HEAD + (width + 2) * TS_PLANE_HEAD;
}

static size_t all_heads(const ts_field *fields, unsigned count, unsigned width)
{
    size_t size = TS_CHUNK_HEAD + (count == 0 ? heads_of(width) : 0);

    for (unsigned i = 0; i < count; i++)
        size += heads_of(ts_field_width((ts_field_kind)fields[i].kind));
    return (size_t)ts_round_up(size, TS_FRAME_ALIGN);
}

static size_t pack_whole(job *it, ts_dtype dtype, const uint8_t *in,
                         size_t bytes, uint32_t elements)
{
    unsigned fields;
    const ts_field *field = ts_dtype_fields(dtype, &fields);
    array of = array_of(dtype, in, bytes);

    it->heads = TS_CHUNK_HEAD;
    it->data = all_heads(field, fields, of.width);
    if (it->data >= it->room) return 0;
    memset(it->out, 0, it->data);
    ts_put_u32(it->out, elements);
    it->out[4] = (uint8_t)(fields > 0 ? fields : 1);
    if (fields > 0)
        pack_fields(it, dtype, field, fields, in, bytes);
    else
        pack_section(it, &of);
    return it->full ? 0 : it->data;
}

ts_status ts_chunk_pack(ts_pack_mode mode, ts_dtype dtype, const uint8_t *in,
                        uint32_t elements, uint8_t *out, uint32_t *size,
                        ts_packer *packer, ts_error *error)
{
    job it = {.mode = mode,
              .packer = packer,
              .with = ts_planes_here(),
              .out = out};
    uint64_t bytes;
    size_t made = 0;

    (void)ts_dtype_bytes(dtype, elements, &bytes);
    it.room = (size_t)bytes; /* more is no gain */
    TS_TRY(ts_packer_rest(packer, ts_pack_room(bytes), &it.rest, error));
    if (mode != TS_PACK_RAW && !all_the_same(in, (size_t)bytes))
        made = pack_whole(&it, dtype, in, (size_t)bytes, elements);
    if (made == 0) made = pack_bytes(in, (size_t)bytes, elements, out);
    size_t padded = (size_t)ts_round_up(made, TS_FRAME_ALIGN);
    memset(out + made, 0, padded - made);
    *size = (uint32_t)padded;
    return TS_OK;
}
