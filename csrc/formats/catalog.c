#include "catalog.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "core/base.h"
#include "core/large.h"
#include "core/utf8.h"

/* Names of one kind and how many the index can take before it is made anew,
 * twice as large. */
typedef struct {
    ts_names *names; /* in the arena; NULL before the first name */
    uint32_t room;
} name_index;

struct ts_catalog {
    atomic_size_t refs;
    ts_format format;
    ts_arena *arena;    /* owned: names, shapes, strides, value bytes */
    ts_tensor *rows;    /* owned */
    ts_value *values;   /* owned */
    ts_file **files;    /* owned, each retained */
    ts_catalog *base;   /* retained; NULL when it was not opened over one */
    uint32_t row_count, value_count, file_count;
    uint32_t row_room, value_room, file_room;
    name_index row_names, value_names;
};

struct ts_draft {
    ts_catalog *catalog; /* owned until finished; one reference */
    ts_open_options asked; /* base is the catalog's */
    uint32_t *given;     /* owned: per value, file_count when last given */
    uint32_t given_room;
    ts_name next;        /* borrowed: announced, see ts_draft_announce */
    uint32_t next_code;  /* its hash in the index of rows */
    bool framed;         /* some row is a frame */
};

const char *ts_format_name(ts_format format)
{
    static const char *const names[] = {
        "safetensors", "shards", "gguf", "torch", "npy", "npz", "memory",
    };
    return names[format];
}

/* ---- catalogs --------------------------------------------------------- */

ts_catalog *ts_catalog_retain(ts_catalog *catalog)
{
    atomic_fetch_add_explicit(&catalog->refs, 1, memory_order_relaxed);
    return catalog;
}

void ts_catalog_release(ts_catalog *catalog)
{
    if (catalog == NULL) return;
    if (atomic_fetch_sub_explicit(&catalog->refs, 1, memory_order_acq_rel)
        != 1)
        return;
    for (uint32_t i = 0; i < catalog->file_count; i++)
        ts_file_release(catalog->files[i]);
    ts_catalog_release(catalog->base);
    free(catalog->files);
    free(catalog->rows);
    free(catalog->values);
    ts_arena_free(catalog->arena);
    free(catalog);
}

ts_format ts_catalog_format(const ts_catalog *catalog)
{
    return catalog->format;
}

uint32_t ts_catalog_count(const ts_catalog *catalog)
{
    return catalog->row_count;
}

const ts_tensor *ts_catalog_tensor(const ts_catalog *catalog, uint32_t row)
{
    return &catalog->rows[row];
}

bool ts_catalog_find(const ts_catalog *catalog, ts_name name, uint32_t *row)
{
    return catalog->row_names.names != NULL
        && ts_names_find(catalog->row_names.names, name, row);
}

uint32_t ts_catalog_file_count(const ts_catalog *catalog)
{
    return catalog->file_count;
}

ts_file *ts_catalog_file(const ts_catalog *catalog, uint32_t index)
{
    return catalog->files[index];
}

uint32_t ts_catalog_value_count(const ts_catalog *catalog)
{
    return catalog->value_count;
}

const ts_value *ts_catalog_value(const ts_catalog *catalog, uint32_t index)
{
    return &catalog->values[index];
}

uint64_t ts_catalog_memory(const ts_catalog *catalog)
{
    return sizeof *catalog + ts_arena_size(catalog->arena)
         + (uint64_t)catalog->row_room * sizeof *catalog->rows
         + (uint64_t)catalog->value_room * sizeof *catalog->values
         + (uint64_t)catalog->file_room * sizeof(void *);
}

/* ---- drafts ----------------------------------------------------------- */

ts_status ts_draft_new(ts_format format, ts_draft **out, ts_error *error)
{
    ts_draft *draft = calloc(1, sizeof *draft);
    ts_catalog *catalog = calloc(1, sizeof *catalog);
    ts_status status;

    *out = NULL;
    if (draft == NULL || catalog == NULL) {
        free(catalog);
        free(draft);
        return ts_fail(error, TS_NOMEM, "cannot allocate a catalog");
    }
    atomic_init(&catalog->refs, 1);
    catalog->format = format;
    draft->catalog = catalog;
    status = ts_arena_new(&catalog->arena, error);
    if (status == TS_OK)
        *out = draft;
    else
        ts_draft_free(draft);
    return status;
}

void ts_draft_free(ts_draft *draft)
{
    if (draft == NULL) return;
    ts_catalog_release(draft->catalog);
    free(draft->given);
    free(draft);
}

void ts_draft_options(ts_draft *draft, const ts_open_options *options)
{
    draft->asked = *options;
    if (options->base != NULL)
        draft->catalog->base = ts_catalog_retain(options->base);
}

const ts_open_options *ts_draft_asked(const ts_draft *draft)
{
    return &draft->asked;
}

ts_arena *ts_draft_arena(ts_draft *draft) { return draft->catalog->arena; }

void ts_draft_format(ts_draft *draft, ts_format format)
{
    draft->catalog->format = format;
}

/* Make room for at least `want` elements in a heap array that doubles. */
static ts_status reserve(void *array, uint32_t *room, uint32_t want,
                         size_t width, ts_error *error)
{
    void *old, *grown;
    uint64_t next = ts_max(want, ts_max(8, (uint64_t)*room * 2));

    if (want <= *room) return TS_OK;
    grown = ts_large_new((size_t)next * width);
    if (grown == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate %llu x %zu bytes",
                       (unsigned long long)next, width);
    memcpy(&old, array, sizeof old);
    if (*room > 0) memcpy(grown, old, (size_t)*room * width);
    free(old);
    memcpy(array, &grown, sizeof grown);
    *room = (uint32_t)next;
    return TS_OK;
}

typedef ts_name (*name_of)(const ts_catalog *catalog, uint32_t number);

static ts_name row_name(const ts_catalog *catalog, uint32_t number)
{
    return catalog->rows[number].name;
}

static ts_name value_name(const ts_catalog *catalog, uint32_t number)
{
    return catalog->values[number].key;
}

/* Make the index able to take `want` names, of which `count` are known. */
static ts_status reserve_names(ts_catalog *catalog, name_index *index,
                               uint32_t count, uint32_t want, name_of name,
                               ts_error *error)
{
    ts_names *grown;
    uint32_t number, room;
    bool added;

    if (want <= index->room) return TS_OK;
    room = (uint32_t)ts_max(want, ts_max(8, (uint64_t)index->room * 2));
    TS_TRY(ts_names_new(catalog->arena, room, &grown, error));
    for (uint32_t i = 0; i < count; i++)
        ts_names_add(grown, name(catalog, i), &number, &added);
    index->names = grown;
    index->room = room;
    return TS_OK;
}

static ts_status reserve_rows(ts_catalog *catalog, uint32_t want,
                              ts_error *error)
{
    TS_TRY(reserve(&catalog->rows, &catalog->row_room, want,
                   sizeof *catalog->rows, error));
    return reserve_names(catalog, &catalog->row_names, catalog->row_count,
                         want, row_name, error);
}

ts_status ts_draft_announce(ts_draft *draft, ts_name name, ts_error *error)
{
    ts_catalog *catalog = draft->catalog;

    if (catalog->row_count < TS_MAX_TENSORS) /* else adding it will fail */
        TS_TRY(reserve_rows(catalog, catalog->row_count + 1, error));
    draft->next = name;
    draft->next_code = ts_names_hash(catalog->row_names.names, name);
    return TS_OK;
}

ts_status ts_draft_expect(ts_draft *draft, uint64_t tensors, ts_error *error)
{
    uint64_t want;

    if (!ts_add(draft->catalog->row_count, tensors, &want)
        || want > TS_MAX_TENSORS)
        return ts_fail(error, TS_FORMAT,
                       "%llu tensors are more than the %d that one "
                       "checkpoint may hold",
                       (unsigned long long)tensors, TS_MAX_TENSORS);
    return reserve_rows(draft->catalog, (uint32_t)want, error);
}

ts_status ts_draft_file(ts_draft *draft, ts_file *file, uint32_t *index,
                        ts_error *error)
{
    ts_catalog *catalog = draft->catalog;
    /* Each array in memory is a file of its own. */
    uint32_t most = catalog->format == TS_FORMAT_MEMORY ? TS_MAX_TENSORS
                                                        : TS_MAX_FILES;

    if (catalog->file_count == most)
        return ts_fail(error, TS_FORMAT,
                       "more than %u files in one checkpoint", most);
    TS_TRY(reserve(&catalog->files, &catalog->file_room,
                   catalog->file_count + 1, sizeof(ts_file *), error));
    *index = catalog->file_count++;
    catalog->files[*index] = ts_file_retain(file);
    return TS_OK;
}

ts_status ts_check_name(ts_name name, const char *what, uint64_t at,
                        ts_error *error)
{
    size_t valid;
    const char *nul;

    if (name.size > TS_MAX_NAME)
        return ts_fail_at(error, TS_FORMAT, at,
                          "%s of %zu bytes is longer than %d", what,
                          name.size, TS_MAX_NAME);
    if (name.size == 0) return TS_OK;
    valid = ts_utf8_valid(name.bytes, name.size);
    if (valid < name.size)
        return ts_fail_at(error, TS_FORMAT, at,
                          "%s is not UTF-8: byte 0x%02x at %zu of %zu", what,
                          (unsigned char)name.bytes[valid], valid, name.size);
    nul = memchr(name.bytes, '\0', name.size);
    if (nul != NULL)
        return ts_fail_at(error, TS_FORMAT, at, "%s holds a NUL at %zu of %zu",
                          what, (size_t)(nul - name.bytes), name.size);
    return TS_OK;
}

/* ---- rows ------------------------------------------------------------- */

/* The product of the dimensions that are not zero must fit even when one is:
 * strides and row sizes are computed from parts of it. */
static ts_status count_elements(ts_tensor *row, uint64_t at, ts_error *error)
{
    uint64_t product = 1;
    bool empty = false;

    if (row->ndim > TS_MAX_DIMS)
        return ts_fail_at(error, TS_FORMAT, at,
                          "%u dimensions are more than %d", row->ndim,
                          TS_MAX_DIMS);
    for (uint32_t i = 0; i < row->ndim; i++) {
        empty |= row->shape[i] == 0;
        if (row->shape[i] != 0 && !ts_mul(product, row->shape[i], &product))
            return ts_fail_at(error, TS_FORMAT, at,
                              "the product of its shape does not fit 64 bits "
                              "(dimension %u is %llu)",
                              i, (unsigned long long)row->shape[i]);
    }
    row->elements = empty ? 0 : product;
    return TS_OK;
}

static ts_status count_bytes(ts_tensor *row, uint64_t at, ts_error *error)
{
    uint32_t block = ts_dtype_block_count(row->dtype);

    if (ts_dtype_bytes(row->dtype, row->elements, &row->size)) return TS_OK;
    if (row->elements % block != 0)
        return ts_fail_at(error, TS_FORMAT, at,
                          "%llu elements of %s are no whole number of "
                          "blocks of %u",
                          (unsigned long long)row->elements,
                          ts_dtype_name(row->dtype), block);
    return ts_fail_at(error, TS_FORMAT, at,
                      "%llu elements of %s do not fit 64 bits",
                      (unsigned long long)row->elements,
                      ts_dtype_name(row->dtype));
}

/* Strides that say what C order says anyway are dropped. */
static bool is_contiguous(const ts_tensor *row)
{
    uint64_t step = 1;

    if (row->elements <= 1) return true;
    for (uint32_t i = row->ndim; i-- > 0;) {
        if (row->shape[i] != 1 && (uint64_t)row->strides[i] != step)
            return false;
        step *= row->shape[i]; /* fits: elements does */
    }
    return true;
}

/* Elements from the first to the last that the strides reach, both counted.
 * A stride of 0 repeats a dimension, as torch's expand does. */
static ts_status strided_span(const ts_tensor *row, uint64_t at,
                              uint64_t *span, ts_error *error)
{
    uint64_t reach;

    *span = 1;
    for (uint32_t i = 0; i < row->ndim; i++)
        if (!ts_mul(row->shape[i] - 1, (uint64_t)row->strides[i], &reach)
            || !ts_add(*span, reach, span))
            return ts_fail_at(error, TS_FORMAT, at,
                              "stride %lld over dimension %u of %llu does "
                              "not fit 64 bits",
                              (long long)row->strides[i], i,
                              (unsigned long long)row->shape[i]);
    return TS_OK;
}

static ts_status check_strides(ts_tensor *row, uint64_t at, ts_error *error)
{
    for (uint32_t i = 0; i < row->ndim; i++)
        if (row->strides[i] < 0)
            return ts_fail_at(error, TS_FORMAT, at,
                              "stride %lld of dimension %u is negative",
                              (long long)row->strides[i], i);
    if (is_contiguous(row))
        row->strides = NULL;
    else if (ts_dtype_block_count(row->dtype) != 1)
        return ts_fail_at(error, TS_FORMAT, at, "%s cannot have strides",
                          ts_dtype_name(row->dtype));
    return TS_OK;
}

/* DEFLATE spends at least a bit on 129 bytes: RFC 1951, a match of 258 bytes
 * costs one bit of length and one of distance. */
static ts_status check_deflated(const ts_tensor *row, uint64_t at,
                                ts_error *error)
{
    uint64_t holds, most;

    if (!ts_add(row->skip, row->size, &holds)
        || (ts_mul(row->extent, 1032, &most) && holds > most))
        return ts_fail_at(error, TS_FORMAT, at,
                          "%llu bytes of DEFLATE cannot hold %llu",
                          (unsigned long long)row->extent,
                          (unsigned long long)row->size);
    return TS_OK;
}

static ts_status find_extent(ts_tensor *row, uint64_t at, ts_error *error)
{
    uint64_t span, extent = row->size;

    if (row->storage == TS_FRAMED) return TS_OK; /* the frame's own size */
    if (ts_tensor_is_deflated(row)) return check_deflated(row, at, error);
    if (row->strides != NULL) {
        TS_TRY(strided_span(row, at, &span, error));
        if (!ts_dtype_bytes(row->dtype, span, &extent))
            return ts_fail_at(error, TS_FORMAT, at,
                              "a span of %llu elements of %s does not fit 64 "
                              "bits",
                              (unsigned long long)span,
                              ts_dtype_name(row->dtype));
    }
    if (row->extent != 0 && row->extent != extent)
        return ts_fail_at(error, TS_FORMAT, at,
                          "its shape needs %llu bytes but %llu are given",
                          (unsigned long long)extent,
                          (unsigned long long)row->extent);
    row->extent = extent;
    return TS_OK;
}

static ts_status check_inside(const ts_draft *draft, const ts_tensor *row,
                              uint64_t at, ts_error *error)
{
    uint64_t end, size;

    if (row->file >= draft->catalog->file_count)
        return ts_fail(error, TS_ARGUMENT, "file %u of %u does not exist",
                       row->file, draft->catalog->file_count);
    size = ts_file_size(draft->catalog->files[row->file]);
    if (!ts_add(row->offset, row->extent, &end) || end > size)
        return ts_fail_at(error, TS_FORMAT, at,
                          "its %llu bytes at %llu do not lie inside the "
                          "file's %llu",
                          (unsigned long long)row->extent,
                          (unsigned long long)row->offset,
                          (unsigned long long)size);
    return TS_OK;
}

static ts_status keep(ts_arena *arena, const void *from, uint32_t count,
                      void *out, ts_error *error)
{
    void *kept;

    TS_TRY(ts_arena_take(arena, (uint64_t)count * 8, &kept, error));
    if (count > 0) memcpy(kept, from, (size_t)count * 8);
    memcpy(out, &kept, sizeof kept);
    return TS_OK;
}

/* The row's own copies of what the caller lent. */
static ts_status keep_row(ts_arena *arena, ts_tensor *row, ts_error *error)
{
    char *name;

    TS_TRY(ts_arena_copy(arena, row->name.bytes, row->name.size, &name,
                         error));
    row->name.bytes = name;
    TS_TRY(keep(arena, row->shape, row->ndim, &row->shape, error));
    if (row->strides != NULL)
        TS_TRY(keep(arena, row->strides, row->ndim, &row->strides, error));
    return TS_OK;
}

static ts_status add_row(ts_draft *draft, ts_tensor *row, uint64_t at,
                         ts_error *error)
{
    ts_catalog *catalog = draft->catalog;
    uint32_t number;
    bool added;

    if (catalog->row_count == TS_MAX_TENSORS)
        return ts_fail_at(error, TS_FORMAT, at, "more than %d tensors",
                          TS_MAX_TENSORS);
    if (draft->next.bytes != row->name.bytes
        || draft->next.size != row->name.size)
        TS_TRY(ts_draft_announce(draft, row->name, error));
    draft->next = (ts_name){NULL, 0};
    TS_TRY(count_elements(row, at, error));
    TS_TRY(count_bytes(row, at, error));
    if (row->strides != NULL) TS_TRY(check_strides(row, at, error));
    TS_TRY(find_extent(row, at, error));
    TS_TRY(check_inside(draft, row, at, error));
    TS_TRY(keep_row(catalog->arena, row, error));
    ts_names_add_hashed(catalog->row_names.names, row->name,
                        draft->next_code, &number, &added);
    if (!added)
        return ts_fail_at(error, TS_FORMAT, at,
                          "its name is a duplicate: tensor %u has it too",
                          number);
    row->alias_of = number;
    catalog->rows[catalog->row_count++] = *row;
    return TS_OK;
}

ts_status ts_draft_tensor(ts_draft *draft, const ts_tensor *row, uint64_t at,
                          ts_error *error)
{
    ts_tensor copy = *row;
    ts_status status = ts_check_name(row->name, "a tensor's name", at, error);

    if (status == TS_OK) status = add_row(draft, &copy, at, error);
    return ts_error_in_tensor(error, status, row->name.bytes, row->name.size);
}

static ts_status keep_frame(ts_arena *arena, const ts_framing *from,
                            const ts_framing **out, ts_error *error)
{
    void *kept;
    char *name;

    TS_TRY(ts_arena_copy(arena, from->base_name.bytes, from->base_name.size,
                         &name, error));
    TS_TRY(ts_arena_take(arena, sizeof *from, &kept, error));
    ts_framing *frame = kept;
    *frame = *from;
    frame->base_name.bytes = name;
    *out = frame;
    return TS_OK;
}

static ts_status reveal(ts_draft *draft, ts_tensor *row, uint64_t at,
                        ts_error *error)
{
    ts_arena *arena = draft->catalog->arena;

    TS_TRY(count_elements(row, at, error));
    TS_TRY(count_bytes(row, at, error));
    TS_TRY(check_inside(draft, row, at, error));
    TS_TRY(keep(arena, row->shape, row->ndim, &row->shape, error));
    if (row->frame == NULL) return TS_OK;
    return keep_frame(arena, row->frame, &row->frame, error);
}

ts_status ts_draft_reveal(ts_draft *draft, uint32_t number,
                          const ts_tensor *facts, uint64_t at,
                          ts_error *error)
{
    ts_tensor row = draft->catalog->rows[number];

    row.dtype = facts->dtype;
    row.file = facts->file;
    row.ndim = facts->ndim;
    row.shape = facts->shape;
    row.offset = facts->offset;
    row.extent = facts->extent;
    row.storage = facts->storage;
    row.frame = facts->frame;
    TS_TRY(reveal(draft, &row, at, error));
    draft->catalog->rows[number] = row;
    draft->framed |= row.frame != NULL;
    return TS_OK;
}

uint32_t ts_draft_count(const ts_draft *draft)
{
    return draft->catalog->row_count;
}

const ts_tensor *ts_draft_row(const ts_draft *draft, uint32_t row)
{
    return &draft->catalog->rows[row];
}

bool ts_draft_find(const ts_draft *draft, ts_name name, uint32_t *row)
{
    return ts_catalog_find(draft->catalog, name, row);
}

/* ---- metadata --------------------------------------------------------- */

static ts_status reserve_values(ts_draft *draft, uint32_t want,
                                ts_error *error)
{
    ts_catalog *catalog = draft->catalog;

    TS_TRY(reserve(&catalog->values, &catalog->value_room, want,
                   sizeof *catalog->values, error));
    TS_TRY(reserve(&draft->given, &draft->given_room, want,
                   sizeof *draft->given, error));
    return reserve_names(catalog, &catalog->value_names, catalog->value_count,
                         want, value_name, error);
}

static ts_status check_value(const ts_value *value, uint64_t at,
                             ts_error *error)
{
    size_t valid;

    TS_TRY(ts_check_name(value->key, "a metadata key", at, error));
    if (value->kind != TS_VALUE_STRING || value->size == 0) return TS_OK;
    valid = ts_utf8_valid(value->bytes, (size_t)value->size);
    if (valid == value->size) return TS_OK;
    return ts_fail_at(error, TS_FORMAT, at,
                      "metadata '%.*s' is not UTF-8: byte 0x%02x at %zu of "
                      "%llu",
                      (int)ts_min(value->key.size, 100), value->key.bytes,
                      value->bytes[valid], valid,
                      (unsigned long long)value->size);
}

ts_status ts_draft_value(ts_draft *draft, const ts_value *value, uint64_t at,
                         ts_error *error)
{
    ts_catalog *catalog = draft->catalog;
    ts_value copy = *value;
    uint32_t number;
    bool added;
    char *kept;

    TS_TRY(check_value(value, at, error));
    if (catalog->value_names.names != NULL
        && ts_names_find(catalog->value_names.names, value->key, &number)) {
        if (draft->given[number] == catalog->file_count)
            return ts_fail_at(error, TS_FORMAT, at,
                              "metadata '%.*s' is given twice",
                              (int)ts_min(value->key.size, 200),
                              value->key.bytes);
        draft->given[number] = catalog->file_count;
        return TS_OK;
    }
    TS_TRY(reserve_values(draft, catalog->value_count + 1, error));
    TS_TRY(ts_arena_copy(catalog->arena, value->key.bytes, value->key.size,
                         &kept, error));
    copy.key.bytes = kept;
    TS_TRY(ts_arena_copy(catalog->arena, value->bytes, (size_t)value->size,
                         &kept, error));
    copy.bytes = (const uint8_t *)kept;
    ts_names_add(catalog->value_names.names, copy.key, &number, &added);
    draft->given[number] = catalog->file_count;
    catalog->values[catalog->value_count++] = copy;
    return TS_OK;
}

const ts_value *ts_draft_find_value(const ts_draft *draft, const char *key)
{
    const ts_catalog *catalog = draft->catalog;
    ts_name name = {key, strlen(key)};
    uint32_t number;

    if (catalog->value_names.names == NULL
        || !ts_names_find(catalog->value_names.names, name, &number))
        return NULL;
    return &catalog->values[number];
}

/* ---- aliases ---------------------------------------------------------- */

static int compare(uint64_t a, uint64_t b) { return (a > b) - (a < b); }

static int compare_bytes(const void *a, const void *b, size_t size)
{
    if (a == NULL || b == NULL) return compare(a != NULL, b != NULL);
    return memcmp(a, b, size);
}

/* Where a tensor's bytes are.  Two files are two places, but memory that
 * plays several files is one. */
typedef struct {
    uint64_t file; /* 0 for memory */
    uint64_t at;   /* an address, or an offset */
} place;

static place place_of(const ts_catalog *catalog, const ts_tensor *row)
{
    ts_buffer *memory = ts_file_memory(catalog->files[row->file]);

    if (memory == NULL) return (place){(uint64_t)row->file + 1, row->offset};
    return (place){0, (uintptr_t)ts_buffer_data(memory) + row->offset};
}

static int compare_places(place a, place b)
{
    int order = compare(a.file, b.file);
    return order != 0 ? order : compare(a.at, b.at);
}

/* 0 for rows that are the same tensor: same bytes, read the same way. */
static int compare_rows(const ts_catalog *catalog, const ts_tensor *a,
                        const ts_tensor *b)
{
    int order = compare_places(place_of(catalog, a), place_of(catalog, b));
    if (order == 0) order = compare(a->skip, b->skip);
    if (order == 0) order = compare(a->storage, b->storage);
    if (order == 0) order = compare(a->dtype, b->dtype);
    if (order == 0) order = compare(a->ndim, b->ndim);
    if (order == 0)
        order = compare_bytes(a->shape, b->shape, (size_t)a->ndim * 8);
    if (order == 0)
        order = compare_bytes(a->strides, b->strides, (size_t)a->ndim * 8);
    return order;
}

static int compare_numbers(const void *a, const void *b, void *context)
{
    const ts_catalog *catalog = context;
    uint32_t x, y;

    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    int order = compare_rows(catalog, &catalog->rows[x], &catalog->rows[y]);
    return order != 0 ? order : compare(x, y);
}

/* Most files hold their tensors one behind the other, and then none can be
 * on another's bytes. */
static bool rising(const ts_catalog *catalog)
{
    place last = {0, 0};

    for (uint32_t i = 0; i < catalog->row_count; i++) {
        const ts_tensor *row = &catalog->rows[i];
        if (row->size == 0) continue;
        place next = place_of(catalog, row);
        if (compare_places(last, next) >= 0) return false;
        last = next;
    }
    return true;
}

static ts_status find_aliases(ts_catalog *catalog, ts_error *error)
{
    uint32_t count = 0, *order;
    ts_tensor *rows = catalog->rows;

    if (rising(catalog)) return TS_OK;
    order = malloc(catalog->row_count * sizeof *order);
    if (order == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate the order of %u rows",
                       catalog->row_count);
    for (uint32_t i = 0; i < catalog->row_count; i++)
        if (rows[i].size > 0) order[count++] = i;
    qsort_r(order, count, sizeof *order, compare_numbers, catalog);
    for (uint32_t i = 1; i < count; i++)
        if (compare_rows(catalog, &rows[order[i - 1]], &rows[order[i]])
            == 0)
            rows[order[i]].alias_of = rows[order[i - 1]].alias_of;
    free(order);
    return TS_OK;
}

ts_status ts_draft_finish(ts_draft *draft, ts_catalog **out, ts_error *error)
{
    ts_catalog *catalog = draft->catalog;
    ts_status status = TS_OK;

    *out = NULL;
    if (draft->framed)
        status = ts_framed_resolve(draft, catalog, catalog->base, error);
    if (status == TS_OK) status = find_aliases(catalog, error);
    if (status == TS_OK) {
        *out = catalog;
        draft->catalog = NULL;
    }
    ts_draft_free(draft);
    return status;
}
