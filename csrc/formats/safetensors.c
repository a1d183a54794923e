#include "catalog.h"

#include <stdlib.h>

#include "core/base.h"
#include "core/json.h"
#include "core/large.h"

/*  0        8                     8 + N                          end
 *  +--------+---------------------+------------------------------+
 *  | N: u64 | N bytes of JSON     | the tensors, without a hole  |
 *  +--------+---------------------+------------------------------+
 * {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
 * with offsets from 8 + N on, and "__metadata__": strings by strings. */
enum { LENGTH = 8 };

/* Of the header that is read at once, to be counted through while it is in
 * the second-level cache. */
enum { PIECE = 256 << 10 };

_Static_assert((int)TS_JSON_MAX_DEPTH == (int)TS_MAX_DEPTH,
               "one cap for all nesting");

/* No entry is shorter than "":{"dtype":"U8","shape":[],"data_offsets":[0,0]}
 * so a header promises at most a tensor for each so many of its bytes. */
enum { SHORTEST_ENTRY = 49 };

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* The first bytes of a length below the cap are no text and, with the brace,
 * no pickle, zip or GGUF either. */
bool ts_safetensors_matches(const uint8_t *head, size_t size)
{
    return size > LENGTH && ts_load_u64(head) <= TS_MAX_HEADER
        && head[LENGTH] == '{';
}

bool ts_safetensors_resembles(const uint8_t *head, size_t size,
                              uint64_t total)
{
    if (size < LENGTH) return false;
    if (ts_load_u64(head) <= total) return true;
    return size > LENGTH && (head[LENGTH] == '{' || is_blank(head[LENGTH]));
}

/* One walk over one header. */
typedef struct {
    ts_json json;
    ts_draft *draft; /* borrowed */
    uint32_t file;
    uint32_t first;  /* row of this file's first tensor */
    uint64_t data;   /* where the data begins in the file */
    uint64_t room;   /* bytes of data that the file holds */
    uint64_t end;    /* of the tensors so far, while they are in order */
    bool in_order;
    bool has_metadata;
    bool has_frames;   /* each tensor is a frame of the codec */
    ts_name last_dtype; /* nearly always the next one's too */
    ts_dtype dtype;
} walk;

typedef struct {
    ts_dtype dtype;
    uint32_t ndim;
    uint64_t shape[TS_MAX_DIMS];
    uint64_t begin, end; /* from the start of the data */
} entry;

static bool is_word(ts_name name, const char *word, size_t size)
{
    return name.size == size && memcmp(name.bytes, word, size) == 0;
}
#define IS_WORD(name, word) is_word(name, word, sizeof(word) - 1)

/* ---- one tensor ------------------------------------------------------- */

/* The names of dtype.h, less those that only ggml or NumPy have. */
static bool find_dtype(ts_name name, ts_dtype *out)
{
    return ts_dtype_find(name.bytes, name.size, out)
        && ts_dtype_class_of(*out) != TS_CLASS_BLOCK && *out != TS_C128;
}

static ts_status take_dtype(walk *at, entry *out, ts_error *error)
{
    uint64_t position = ts_json_position(&at->json);
    ts_name name;

    TS_TRY(ts_json_string(&at->json, &name, error));
    if (name.size != at->last_dtype.size || name.size == 0
        || memcmp(name.bytes, at->last_dtype.bytes, name.size) != 0) {
        if (!find_dtype(name, &at->dtype))
            return ts_fail_at(error, TS_FORMAT, position,
                              "unknown dtype '%.*s'",
                              (int)ts_min(name.size, 40), name.bytes);
        at->last_dtype = name;
    }
    out->dtype = at->dtype;
    return TS_OK;
}

static ts_status take_shape(walk *at, entry *out, ts_error *error)
{
    bool more;

    TS_TRY(ts_json_u64s(&at->json, out->shape, TS_MAX_DIMS, &out->ndim, &more,
                        error));
    if (!more) return TS_OK;
    return ts_fail_at(error, TS_FORMAT, ts_json_position(&at->json),
                      "shape has more than %d dimensions", TS_MAX_DIMS);
}

static ts_status take_offsets(walk *at, entry *out, ts_error *error)
{
    uint64_t position = ts_json_position(&at->json), pair[2];
    uint32_t count;
    bool more;

    TS_TRY(ts_json_u64s(&at->json, pair, 2, &count, &more, error));
    if (more || count != 2)
        return ts_fail_at(error, TS_FORMAT, position,
                          "data_offsets are not two numbers");
    if (pair[0] > pair[1])
        return ts_fail_at(error, TS_FORMAT, position,
                          "data_offsets [%llu, %llu] end before they begin",
                          (unsigned long long)pair[0],
                          (unsigned long long)pair[1]);
    if (pair[1] > at->room)
        return ts_fail_at(error, TS_FORMAT, position,
                          "data_offsets [%llu, %llu] end past the %llu bytes "
                          "of data that the file holds",
                          (unsigned long long)pair[0],
                          (unsigned long long)pair[1],
                          (unsigned long long)at->room);
    out->begin = pair[0];
    out->end = pair[1];
    return TS_OK;
}

enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4 };

static unsigned field_of(ts_name key)
{
    if (IS_WORD(key, "dtype")) return DTYPE;
    if (IS_WORD(key, "shape")) return SHAPE;
    if (IS_WORD(key, "data_offsets")) return OFFSETS;
    return 0;
}

static ts_status take_field(walk *at, unsigned field, entry *out,
                            ts_error *error)
{
    switch (field) {
    case DTYPE: return take_dtype(at, out, error);
    case SHAPE: return take_shape(at, out, error);
    case OFFSETS: return take_offsets(at, out, error);
    default: return ts_json_skip(&at->json, NULL, error);
    }
}

static ts_status take_entry(walk *at, entry *out, ts_error *error)
{
    uint64_t position = ts_json_position(&at->json);
    unsigned seen = 0;

    TS_TRY(ts_json_begin_object(&at->json, error));
    for (;;) {
        ts_name key;
        TS_TRY(ts_json_next_key(&at->json, &key, error));
        if (key.bytes == NULL) break;
        unsigned field = field_of(key);
        if (seen & field)
            return ts_fail_at(error, TS_FORMAT, ts_json_position(&at->json),
                              "its %.*s is given twice", (int)key.size,
                              key.bytes);
        seen |= field;
        TS_TRY(take_field(at, field, out, error));
    }
    if (seen == (DTYPE | SHAPE | OFFSETS)) return TS_OK;
    return ts_fail_at(error, TS_FORMAT, position, "it has no %s",
                      !(seen & DTYPE)   ? "dtype"
                      : !(seen & SHAPE) ? "shape"
                                        : "data_offsets");
}

static ts_status add_entry(walk *at, ts_name name, const entry *in,
                           uint64_t position, ts_error *error)
{
    ts_tensor row = {
        .name = name,
        .dtype = in->dtype,
        .file = at->file,
        .ndim = in->ndim,
        .shape = in->shape,
        .offset = at->data + in->begin, /* fits: begin is in the file */
        .extent = in->end - in->begin,
    };

    TS_TRY(ts_draft_tensor(at->draft, &row, position, error));
    /* To the draft an extent of 0 means "compute it". */
    uint64_t size =
        ts_draft_row(at->draft, ts_draft_count(at->draft) - 1)->size;
    if (size != row.extent)
        return ts_fail_at(error, TS_FORMAT, position,
                          "its shape needs %llu bytes but data_offsets "
                          "[%llu, %llu] hold none",
                          (unsigned long long)size,
                          (unsigned long long)in->begin,
                          (unsigned long long)in->end);
    at->in_order &= in->begin == at->end;
    at->end = in->end;
    return TS_OK;
}

static ts_status take_tensor(walk *at, ts_name name, uint64_t position,
                             ts_error *error)
{
    entry read;
    read.ndim = 0;
    read.begin = read.end = 0;
    ts_status status = ts_draft_announce(at->draft, name, error);

    if (status == TS_OK) status = take_entry(at, &read, error);
    if (status == TS_OK)
        status = add_entry(at, name, &read, position, error);
    return ts_error_in_tensor(error, status, name.bytes, name.size);
}

/* ---- the header ------------------------------------------------------- */

static ts_status take_frames_version(walk *at, ts_name text, uint64_t position,
                                     ts_error *error)
{
    if (!IS_WORD(text, TS_FRAMES_VERSION))
        return ts_fail_at(error, TS_UNSUPPORTED, position,
                          "its tensors are frames of version '%.*s', this "
                          "program reads version " TS_FRAMES_VERSION,
                          (int)ts_min(text.size, 20), text.bytes);
    at->has_frames = true;
    return TS_OK;
}

static ts_status take_string_value(walk *at, ts_name key, ts_error *error)
{
    uint64_t position = ts_json_position(&at->json);
    ts_name text;

    if (ts_json_peek(&at->json) != '"')
        return ts_fail_at(error, TS_FORMAT, position,
                          "__metadata__ '%.*s' is not a string",
                          (int)ts_min(key.size, 100), key.bytes);
    TS_TRY(ts_json_string(&at->json, &text, error));
    if (IS_WORD(key, TS_FRAMES_KEY))
        TS_TRY(take_frames_version(at, text, position, error));
    ts_value value = {
        .key = key,
        .kind = TS_VALUE_STRING,
        .bytes = (const uint8_t *)text.bytes,
        .size = text.size,
    };
    return ts_draft_value(at->draft, &value, position, error);
}

static ts_status take_metadata(walk *at, uint64_t position, ts_error *error)
{
    if (at->has_metadata)
        return ts_fail_at(error, TS_FORMAT, position,
                          "__metadata__ is given twice");
    at->has_metadata = true;
    TS_TRY(ts_json_begin_object(&at->json, error));
    for (;;) {
        ts_name key;
        TS_TRY(ts_json_next_key(&at->json, &key, error));
        if (key.bytes == NULL) return TS_OK;
        TS_TRY(take_string_value(at, key, error));
    }
}

static ts_status take_header(walk *at, ts_error *error)
{
    TS_TRY(ts_json_begin_object(&at->json, error));
    for (;;) {
        ts_name key;
        TS_TRY(ts_json_next_key(&at->json, &key, error));
        if (key.bytes == NULL) break;
        uint64_t position =
            at->json.base + (uint64_t)((const uint8_t *)key.bytes - 1
                                       - at->json.start);
        if (IS_WORD(key, "__metadata__"))
            TS_TRY(take_metadata(at, position, error));
        else
            TS_TRY(take_tensor(at, key, position, error));
    }
    return ts_json_finish(&at->json, error);
}

/* ---- no holes, no overlaps, nothing behind ---------------------------- */

static int compare(uint64_t a, uint64_t b) { return (a > b) - (a < b); }

static int compare_places(const void *a, const void *b, void *draft)
{
    uint32_t x, y;

    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    const ts_tensor *left = ts_draft_row(draft, x);
    const ts_tensor *right = ts_draft_row(draft, y);
    int order = compare(left->offset, right->offset);
    if (order == 0) order = compare(left->size, right->size);
    return order != 0 ? order : compare(x, y);
}

static ts_status misplaced(const walk *at, const ts_tensor *row,
                           const ts_tensor *before, ts_error *error)
{
    bool hole = row->offset > at->data + at->end;
    uint64_t begin = row->offset - at->data;
    ts_name last = before != NULL ? before->name : (ts_name){"", 0};
    ts_status status = ts_fail_at(
        error, TS_FORMAT, row->offset,
        "data_offsets begin at %llu where %llu should stand%s%.*s%s: %s of "
        "%llu bytes",
        (unsigned long long)begin, (unsigned long long)at->end,
        before != NULL ? ", the end of '" : "", (int)ts_min(last.size, 100),
        last.bytes, before != NULL ? "'" : "", hole ? "a hole" : "an overlap",
        (unsigned long long)(hole ? begin - at->end : at->end - begin));
    return ts_error_in_tensor(error, status, row->name.bytes, row->name.size);
}

/* Walk the tensors in the order of their bytes: each begins where the one
 * before it ended.  at->end becomes the end of the last. */
static ts_status check_each(walk *at, const uint32_t *order, uint32_t count,
                            ts_error *error)
{
    const ts_tensor *before = NULL;

    at->end = 0;
    for (uint32_t i = 0; i < count; i++) {
        const ts_tensor *row = ts_draft_row(at->draft, order[i]);
        if (row->offset != at->data + at->end)
            return misplaced(at, row, before, error);
        at->end += row->size;
        before = row;
    }
    return TS_OK;
}

/* Writers put tensors in the order of their offsets; who does not, pays for
 * a sort. */
static ts_status sort_and_check(walk *at, ts_error *error)
{
    uint32_t count = ts_draft_count(at->draft) - at->first;
    uint32_t *order = malloc(count * sizeof *order);
    ts_status status;

    if (order == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate the order of %u rows",
                       count);
    for (uint32_t i = 0; i < count; i++) order[i] = at->first + i;
    qsort_r(order, count, sizeof *order, compare_places, at->draft);
    status = check_each(at, order, count, error);
    free(order);
    return status;
}

static ts_status check_places(walk *at, ts_error *error)
{
    if (!at->in_order) TS_TRY(sort_and_check(at, error));
    if (at->end < at->room)
        return ts_fail_at(error, TS_FORMAT, at->data + at->end,
                          "%llu bytes follow the last tensor",
                          (unsigned long long)(at->room - at->end));
    return TS_OK;
}

/* ---- the file --------------------------------------------------------- */

/* Read the header, and count the braces meanwhile: each tensor brings one.
 * Names may hold some too, which costs a little memory and nothing else. */
static ts_status read_text(ts_file *file, uint8_t *text, size_t size,
                           uint64_t *braces, ts_error *error)
{
    *braces = 0;
    for (size_t at = 0; at < size; at += PIECE) {
        size_t piece = ts_min(size - at, PIECE);
        TS_TRY(ts_file_read(file, LENGTH + at, text + at, piece, error));
        *braces += ts_count_byte(text + at, piece, '{');
    }
    return TS_OK;
}

static ts_status parse(ts_file *file, uint32_t index, ts_draft *draft,
                       uint8_t *text, size_t size, ts_error *error)
{
    uint64_t braces, most = ts_min(size / SHORTEST_ENTRY + 1, TS_MAX_TENSORS);
    walk at = {
        .draft = draft,
        .file = index,
        .first = ts_draft_count(draft),
        .data = LENGTH + size,
        .room = ts_file_size(file) - LENGTH - size,
        .in_order = true,
    };

    TS_TRY(read_text(file, text, size, &braces, error));
    TS_TRY(ts_draft_expect(draft, ts_min(braces, most), error));
    ts_json_start(&at.json, text, size, LENGTH);
    TS_TRY(take_header(&at, error));
    TS_TRY(check_places(&at, error));
    if (!at.has_frames || ts_draft_asked(draft)->as_stored) return TS_OK;
    return ts_framed_adopt(file, draft, at.first, error);
}

static ts_status read_length(ts_file *file, size_t *out, ts_error *error)
{
    uint64_t total = ts_file_size(file), size;
    uint8_t bytes[LENGTH];

    if (total < LENGTH)
        return ts_fail_at(error, TS_FORMAT, 0,
                          "%llu bytes are too few for a header's length",
                          (unsigned long long)total);
    TS_TRY(ts_file_read(file, 0, bytes, LENGTH, error));
    size = ts_load_u64(bytes);
    if (size > TS_MAX_HEADER)
        return ts_fail_at(error, TS_FORMAT, 0,
                          "a header of %llu bytes is longer than %u",
                          (unsigned long long)size, TS_MAX_HEADER);
    if (size > total - LENGTH)
        return ts_fail_at(error, TS_FORMAT, 0,
                          "a header of %llu bytes ends past the file's %llu",
                          (unsigned long long)size,
                          (unsigned long long)total);
    *out = (size_t)size;
    return TS_OK;
}

ts_status ts_safetensors_parse(ts_file *file, uint32_t index, ts_draft *draft,
                               ts_error *error)
{
    size_t size = 0;
    uint8_t *text;
    ts_status status;

    ts_draft_format(draft, TS_FORMAT_SAFETENSORS);
    TS_TRY(read_length(file, &size, error));
    text = ts_large_new(size);
    if (text == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate %zu bytes", size);
    status = parse(file, index, draft, text, size, error);
    free(text);
    return status;
}
