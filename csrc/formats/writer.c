#include "writer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base.h"
#include "core/utf8.h"

/* ---- life --------------------------------------------------------------- */

static ts_status find_format(ts_format format, const ts_write_format **out,
                             ts_error *error)
{
    static const ts_write_format *const all[] = {
        &ts_write_safetensors, &ts_write_gguf, &ts_write_npz};

    for (size_t i = 0; i < TS_COUNT_OF(all); i++)
        if (all[i]->format == format) {
            *out = all[i];
            return TS_OK;
        }
    return ts_fail(error, TS_UNSUPPORTED, "files of the format %s are read, "
                   "not written", ts_format_name(format));
}

static ts_status put_text(ts_writer *writer, const char *key, ts_name text,
                          ts_error *error)
{
    ts_value value = {.key = {key, strlen(key)}, .kind = TS_VALUE_STRING,
                      .bytes = (const uint8_t *)text.bytes,
                      .size = text.size};
    return ts_writer_value(writer, &value, error);
}

/* It is written at the end, if any tensor needs the base. */
static ts_status keep_base_name(ts_writer *writer, const char *name,
                                ts_error *error)
{
    char *copy;
    TS_TRY(ts_arena_copy(writer->arena, name, strlen(name), &copy, error));
    writer->base_name = (ts_name){copy, strlen(name)};
    return TS_OK;
}

static ts_status start_packing(ts_writer *writer,
                               const ts_writer_options *options,
                               ts_error *error)
{
    if (options->format != TS_FORMAT_SAFETENSORS)
        return ts_fail(error, TS_UNSUPPORTED,
                       "%s files hold no compressed tensors, safetensors do",
                       ts_format_name(options->format));
    writer->packed = true;
    TS_TRY(ts_press_new(options->mode, options->threads, options->budget,
                        options->base, &writer->press, error));
    if (options->base != NULL)
        TS_TRY(keep_base_name(writer, options->base_name, error));
    return put_text(writer, TS_FRAMES_KEY,
                    (ts_name){TS_FRAMES_VERSION, sizeof TS_FRAMES_VERSION - 1},
                    error);
}

static ts_status start(ts_writer *writer, const char *path,
                       const ts_writer_options *options, ts_error *error)
{
    TS_TRY(find_format(options->format, &writer->format, error));
    TS_TRY(ts_arena_new(&writer->arena, error));
    if (options->digests && !options->packed) /* a frame has its own */
        TS_TRY(ts_checksum_new(TS_CHECKSUM_XXH3, &writer->checksum, error));
    if (options->format == TS_FORMAT_NPZ)
        TS_TRY(ts_checksum_new(TS_CHECKSUM_CRC32, &writer->crc32, error));
    if (options->packed)
        TS_TRY(start_packing(writer, options, error));
    return ts_output_new(path, &writer->output, error);
}

ts_status ts_writer_new(const char *path, const ts_writer_options *options,
                        ts_writer **out, ts_error *error)
{
    ts_writer *writer = calloc(1, sizeof *writer);
    ts_status status;

    *out = NULL;
    if (writer == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate a writer");
    status = start(writer, path, options, error);
    if (status == TS_OK)
        *out = writer;
    else
        ts_writer_free(writer);
    return status;
}

void ts_writer_free(ts_writer *writer)
{
    if (writer == NULL) return;
    ts_press_free(writer->press);
    ts_output_free(writer->output);
    ts_checksum_free(writer->checksum);
    ts_checksum_free(writer->crc32);
    ts_arena_free(writer->arena);
    free(writer->rows);
    free(writer->values);
    free(writer->originals);
    free(writer);
}

/* ---- tables that grow --------------------------------------------------- */

/* Room for one more item in a table of ours. */
static ts_status reserve(void *table, uint32_t count, uint32_t *room,
                         size_t width, ts_error *error)
{
    void **items = table;
    if (count < *room) return TS_OK;
    uint32_t want = *room == 0 ? 64 : 2 * *room;
    void *grown = realloc(*items, want * width);
    if (grown == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate %u rows", want);
    *items = grown;
    *room = want;
    return TS_OK;
}

/* An index has the size that it was made with, so it is made anew at twice
 * the size.  The old one stays in the arena: in all, no more than the last. */
static ts_status index_name(ts_writer *writer, ts_names **names,
                            uint32_t *room, uint32_t count,
                            ts_name (*name_of)(const ts_writer *, uint32_t),
                            ts_name name, uint32_t *found, bool *added,
                            ts_error *error)
{
    if (count == *room) {
        uint32_t want = *room == 0 ? 64 : 2 * *room;
        TS_TRY(ts_names_new(writer->arena, want, names, error));
        for (uint32_t i = 0; i < count; i++)
            ts_names_add(*names, name_of(writer, i), found, added);
        *room = want;
    }
    ts_names_add(*names, name, found, added);
    return TS_OK;
}

static ts_name row_name(const ts_writer *writer, uint32_t row)
{
    return writer->rows[row].name;
}

static ts_name value_name(const ts_writer *writer, uint32_t value)
{
    return writer->values[value].key;
}

static ts_status copy_name(ts_writer *writer, ts_name name, ts_name *out,
                           ts_error *error)
{
    char *copy;
    TS_TRY(ts_arena_copy(writer->arena, name.bytes, name.size, &copy, error));
    *out = (ts_name){copy, name.size};
    return TS_OK;
}

/* ---- metadata ----------------------------------------------------------- */

static ts_status check_text(ts_name text, const char *what, uint64_t most,
                            ts_error *error)
{
    if (text.size > most)
        return ts_fail(error, TS_ARGUMENT,
                       "%s of %zu bytes is longer than %" PRIu64, what,
                       text.size, most);
    size_t valid = text.size == 0 ? 0 : ts_utf8_valid(text.bytes, text.size);
    if (valid == text.size) return TS_OK;
    return ts_fail(error, TS_ARGUMENT, "%s is not UTF-8: byte %zu of %zu",
                   what, valid, text.size);
}

static ts_status check_name(ts_name name, const char *what, ts_error *error)
{
    TS_TRY(check_text(name, what, TS_MAX_NAME, error));
    if (name.size == 0 || memchr(name.bytes, '\0', name.size) == NULL)
        return TS_OK;
    return ts_fail(error, TS_ARGUMENT, "%s holds a NUL", what);
}

/* A plain file that said so could not be read. */
static bool is_frames_key(ts_name key)
{
    return key.size == sizeof TS_FRAMES_KEY - 1
        && memcmp(key.bytes, TS_FRAMES_KEY, key.size) == 0;
}

static ts_status check_value(const ts_writer *writer, const ts_value *value,
                             ts_error *error)
{
    ts_name text = {(const char *)value->bytes, (size_t)value->size};

    TS_TRY(check_name(value->key, "a metadata key", error));
    if (!writer->packed && is_frames_key(value->key))
        return ts_fail(error, TS_ARGUMENT,
                       "metadata '" TS_FRAMES_KEY "' is kept for compressed "
                       "files");
    if (value->kind == TS_VALUE_STRING)
        return check_text(text, "a metadata string", TS_MAX_HEADER, error);
    if (writer->format->format == TS_FORMAT_GGUF) return TS_OK;
    return ts_fail(error, TS_ARGUMENT,
                   "metadata '%.*s' is not a string, and a %s file holds no "
                   "other", (int)ts_min(value->key.size, 200),
                   value->key.bytes, ts_format_name(writer->format->format));
}

const ts_value *ts_writer_find_value(const ts_writer *writer, const char *key)
{
    ts_name name = {key, strlen(key)};
    uint32_t number;
    if (writer->value_names == NULL) return NULL;
    if (!ts_names_find(writer->value_names, name, &number)) return NULL;
    return &writer->values[number];
}

ts_status ts_writer_value(ts_writer *writer, const ts_value *value,
                          ts_error *error)
{
    ts_value copy = *value;
    char *bytes = NULL;
    uint32_t number;
    bool added;

    TS_TRY(check_value(writer, value, error));
    TS_TRY(copy_name(writer, value->key, &copy.key, error));
    TS_TRY(reserve(&writer->values, writer->value_count, &writer->value_room,
                   sizeof *writer->values, error));
    TS_TRY(index_name(writer, &writer->value_names, &writer->value_names_room,
                      writer->value_count, value_name, copy.key, &number,
                      &added, error));
    if (value->bytes != NULL)
        TS_TRY(ts_arena_copy(writer->arena, value->bytes, (size_t)value->size,
                             &bytes, error));
    copy.bytes = (const uint8_t *)bytes;
    writer->values[number] = copy;
    writer->value_count += added;
    return TS_OK;
}

/* ---- what a tensor may be ----------------------------------------------- */

/* Elements and bytes of all rows; UINT64_MAX bytes when the number of rows is
 * not known.  *unit is the bytes of one row then. */
static ts_status measure(const ts_written *row, uint64_t *size, uint64_t *unit,
                         ts_error *error)
{
    bool unknown = row->ndim > 0 && row->shape[0] == TS_ROWS_UNKNOWN;
    uint64_t elements = 1;

    for (uint32_t i = unknown; i < row->ndim; i++)
        if (!ts_mul(elements, row->shape[i], &elements)
            || elements > INT64_MAX)
            return ts_fail(error, TS_ARGUMENT, "has more than 2^63 elements");
    if (!ts_dtype_bytes(row->dtype, elements, unit) || *unit > INT64_MAX)
        return ts_fail(error, TS_ARGUMENT,
                       "%s%" PRIu64 " elements are no whole number of %s "
                       "blocks of %u", unknown ? "a row of " : "", elements,
                       ts_dtype_name(row->dtype),
                       ts_dtype_block_count(row->dtype));
    *size = unknown ? UINT64_MAX : *unit;
    return TS_OK;
}

static ts_status check_row(const ts_writer *writer, ts_written *row,
                           ts_error *error)
{
    uint64_t unit;

    TS_TRY(check_name(row->name, "a tensor's name", error));
    if (row->ndim > TS_MAX_DIMS)
        return ts_fail(error, TS_ARGUMENT, "has %u dimensions, more than %d",
                       row->ndim, TS_MAX_DIMS);
    TS_TRY(measure(row, &row->size, &unit, error));
    return writer->format->admit(writer, row, error);
}

static ts_status in_tensor(const ts_writer *writer, ts_name name,
                           ts_status status, ts_error *error)
{
    ts_error_in_tensor(error, status, name.bytes, name.size);
    return ts_error_in_file(error, status, ts_output_path(writer->output));
}

ts_status ts_writer_expect(ts_writer *writer, ts_name name, ts_dtype dtype,
                           uint32_t ndim, const uint64_t *shape,
                           ts_error *error)
{
    uint64_t copy[TS_MAX_DIMS];
    ts_written row = {
        .name = name, .dtype = dtype, .ndim = ndim, .shape = copy};

    if (ndim <= TS_MAX_DIMS) memcpy(copy, shape, ndim * sizeof *shape);
    ts_status status = check_row(writer, &row, error);
    if (status != TS_OK) return in_tensor(writer, name, status, error);
    if (writer->format->entry != NULL)
        writer->expected_header += writer->format->entry(&row);
    if (row.size != UINT64_MAX
        && !ts_add(writer->expected_body, row.size, &writer->expected_body))
        writer->expected_body = UINT64_MAX;
    return TS_OK;
}

/* ---- the body ----------------------------------------------------------- */

uint64_t ts_writer_body_size(const ts_writer *writer)
{
    return ts_output_size(writer->output) - writer->body;
}

ts_status ts_writer_align(ts_writer *writer, uint64_t alignment,
                          ts_error *error)
{
    uint64_t size = ts_writer_body_size(writer);
    uint64_t padding = ts_round_up(size, alignment) - size;
    return ts_output_zeros(writer->output, padding, error);
}

ts_status ts_writer_make_room(ts_writer *writer, uint64_t size,
                              ts_error *error)
{
    if (size <= writer->body) return TS_OK;
    uint64_t by = ts_round_up(size - writer->body, TS_OUTPUT_GRAIN);
    TS_TRY(ts_output_shift(writer->output, writer->body, by, error));
    writer->body += by;
    return TS_OK;
}

/* Everything that a format can know before the first tensor is known now. */
static ts_status begin_body(ts_writer *writer, ts_error *error)
{
    uint64_t total;

    if (writer->began) return TS_OK;
    TS_TRY(writer->format->begin_body(writer, error));
    writer->body = ts_output_size(writer->output);
    writer->began = true;
    if (!ts_add(writer->body, writer->expected_body, &total)
        || total > INT64_MAX)
        return ts_fail(error, TS_ARGUMENT, "would have more than 2^63 bytes");
    /* What is packed needs less, nobody knows how much. */
    if (writer->expected_body > 0 && !writer->packed)
        TS_TRY(ts_output_reserve(writer->output, total, error));
    return TS_OK;
}

static ts_status check_may_begin(const ts_writer *writer, ts_error *error)
{
    if (writer->open) {
        ts_name other = row_name(writer, writer->count - 1);
        return ts_fail(error, TS_ARGUMENT,
                       "begins while '%.*s' is not complete",
                       (int)ts_min(other.size, 100), other.bytes);
    }
    if (writer->complete)
        return ts_fail(error, TS_CLOSED, "comes after the end of the file");
    if (writer->count == TS_MAX_TENSORS)
        return ts_fail(error, TS_ARGUMENT, "is one more than %d tensors",
                       TS_MAX_TENSORS);
    return TS_OK;
}

/* Into the table; *row becomes the one there. */
static ts_status keep_row(ts_writer *writer, ts_written **row, ts_error *error)
{
    ts_written *one = *row;
    uint64_t *shape;
    uint32_t number;
    bool added;

    TS_TRY(copy_name(writer, one->name, &one->name, error));
    TS_TRY(ts_arena_take_array(writer->arena, one->ndim, sizeof *shape, &shape,
                               error));
    if (one->ndim > 0) memcpy(shape, one->shape, one->ndim * sizeof *shape);
    one->shape = shape;
    TS_TRY(reserve(&writer->rows, writer->count, &writer->room,
                   sizeof *writer->rows, error));
    TS_TRY(index_name(writer, &writer->row_names, &writer->row_names_room,
                      writer->count, row_name, one->name, &number, &added,
                      error));
    if (!added) return ts_fail(error, TS_ARGUMENT, "is already in the file");
    writer->rows[writer->count] = *one;
    *row = &writer->rows[writer->count];
    return TS_OK;
}

/* Large frames begin on whole pages of the file, so that O_DIRECT can read
 * them.  Nothing may lie between two tensors: the zeros are the end of the one
 * before, whose frame says where it is over. */
static ts_status align_frame(ts_writer *writer, uint64_t size, ts_error *error)
{
    enum { LEAST = 64 << 10, PAGE = 4096 };
    if (size < LEAST || writer->count == 0) return TS_OK;
    uint64_t before = ts_writer_body_size(writer);
    TS_TRY(ts_writer_align(writer, PAGE, error));
    writer->rows[writer->count - 1].stored +=
        ts_writer_body_size(writer) - before;
    return TS_OK;
}

static ts_status add_row(ts_writer *writer, ts_written *row, ts_error *error)
{
    TS_TRY(check_may_begin(writer, error));
    TS_TRY(check_row(writer, row, error));
    TS_TRY(begin_body(writer, error));
    TS_TRY(keep_row(writer, &row, error));
    TS_TRY(writer->format->begin(writer, row, error));
    if (writer->press != NULL) TS_TRY(align_frame(writer, row->size, error));
    row->offset = ts_writer_body_size(writer);
    writer->count++;
    writer->open = true;
    writer->got = 0;
    if (writer->checksum != NULL) ts_checksum_reset(writer->checksum);
    if (writer->press == NULL) return TS_OK;
    return ts_press_begin(writer->press, writer->output, row->name, row->dtype,
                          row->ndim, row->shape, error);
}

ts_status ts_writer_begin(ts_writer *writer, ts_name name, ts_dtype dtype,
                          uint32_t ndim, const uint64_t *shape,
                          ts_error *error)
{
    uint64_t copy[TS_MAX_DIMS];
    ts_written row = {
        .name = name, .dtype = dtype, .ndim = ndim, .shape = copy};

    if (ndim <= TS_MAX_DIMS) memcpy(copy, shape, ndim * sizeof *shape);
    return in_tensor(writer, name, add_row(writer, &row, error), error);
}

static ts_status take(ts_writer *writer, ts_written *row, const void *bytes,
                      uint64_t size, ts_error *error)
{
    if (size > row->size - writer->got)
        return ts_fail(error, TS_ARGUMENT,
                       "gets %" PRIu64 " bytes after %" PRIu64 " of the "
                       "%" PRIu64 " that its shape holds", size, writer->got,
                       row->size);
    if (writer->press != NULL)
        TS_TRY(ts_press_add(writer->press, bytes, size, error));
    else
        TS_TRY(ts_output_append(writer->output, bytes, size, error));
    if (writer->checksum != NULL)
        ts_checksum_add(writer->checksum, bytes, (size_t)size);
    if (writer->crc32 != NULL)
        ts_checksum_add(writer->crc32, bytes, (size_t)size);
    writer->got += size;
    return TS_OK;
}

static ts_status check_open(const ts_writer *writer, ts_error *error)
{
    if (writer->open) return TS_OK;
    ts_status status =
        ts_fail(error, TS_ARGUMENT, "no tensor has been begun");
    return ts_error_in_file(error, status, ts_output_path(writer->output));
}

ts_status ts_writer_write(ts_writer *writer, const void *bytes, uint64_t size,
                          ts_error *error)
{
    TS_TRY(check_open(writer, error));
    ts_written *row = &writer->rows[writer->count - 1];
    return in_tensor(writer, row->name, take(writer, row, bytes, size, error),
                     error);
}

/* The rows that came, where their number was not known. */
static ts_status close_shape(ts_writer *writer, ts_written *row,
                             ts_error *error)
{
    uint64_t unit;

    TS_TRY(measure(row, &row->size, &unit, error));
    if (row->size == UINT64_MAX) {
        if (unit > 0 ? writer->got % unit != 0 : writer->got != 0)
            return ts_fail(error, TS_ARGUMENT,
                           "got %" PRIu64 " bytes, no whole number of rows of "
                           "%" PRIu64, writer->got, unit);
        row->shape[0] = unit > 0 ? writer->got / unit : 0;
        row->size = writer->got;
    }
    if (writer->got != row->size)
        return ts_fail(error, TS_ARGUMENT,
                       "got %" PRIu64 " of the %" PRIu64 " bytes that its "
                       "shape holds", writer->got, row->size);
    return TS_OK;
}

/* ---- frames ------------------------------------------------------------- */

static uint64_t position(const ts_writer *writer, const ts_written *row)
{
    return writer->body + row->offset;
}

/* A frame in the place of the row's own: the bytes are those of `first`. */
static ts_status repeat(ts_writer *writer, ts_written *row,
                        const ts_written *first, ts_error *error)
{
    TS_TRY(ts_press_repeat(writer->press, writer->output, row->dtype,
                           row->ndim, row->shape, first->name.bytes,
                           first->name.size, &first->frame, error));
    row->repeats = true;
    row->digest = first->digest;
    row->stored = ts_writer_body_size(writer) - row->offset;
    return TS_OK;
}

/* The same bytes in the file?  The packing of equal elements is equal, and that
 * of equal differences to equal bases, so this proves what equal digests only
 * make likely. */
static ts_status compare(ts_writer *writer, const ts_written *a,
                         const ts_written *b, bool *same, ts_error *error)
{
    enum { PIECE = 32 << 10 };
    uint64_t size = a->frame.chunks_size;
    uint8_t one[PIECE], other[PIECE];

    *same = size == b->frame.chunks_size && size > 0
         && a->frame.chunk_elements == b->frame.chunk_elements
         && a->frame.differs == b->frame.differs
         && a->frame.base_digest == b->frame.base_digest;
    for (uint64_t at = 0; *same && at < size; at += PIECE) {
        uint64_t part = ts_min(PIECE, size - at);
        TS_TRY(ts_output_look(writer->output, a->frame.chunks + at, one, part,
                              error));
        TS_TRY(ts_output_look(writer->output, b->frame.chunks + at, other,
                              part, error));
        *same = memcmp(one, other, (size_t)part) == 0;
    }
    return TS_OK;
}

enum { CONTENT_KEY = 17 };

static void put_key(const ts_written *row, char key[CONTENT_KEY])
{
    memcpy(key, &row->digest, 8);
    memcpy(key + 8, &row->size, 8);
    key[16] = (char)row->dtype;
}

static ts_name content_name(const ts_writer *writer, uint32_t content)
{
    return (ts_name){writer->rows[writer->originals[content]].content,
                     CONTENT_KEY};
}

/* A tensor that some earlier one equals is taken back, and refers to it. */
static ts_status find_equal(ts_writer *writer, ts_written *row,
                            ts_error *error)
{
    enum { LEAST = 4096 }; /* below, the reference would not be shorter */
    char key[CONTENT_KEY];
    uint32_t found;
    bool added, same;

    if (row->size < LEAST) return TS_OK;
    put_key(row, key);
    TS_TRY(ts_arena_copy(writer->arena, key, CONTENT_KEY, &row->content,
                         error));
    TS_TRY(reserve(&writer->originals, writer->content_count,
                   &writer->content_room, sizeof *writer->originals, error));
    TS_TRY(index_name(writer, &writer->contents, &writer->contents_room,
                      writer->content_count, content_name,
                      (ts_name){row->content, CONTENT_KEY}, &found, &added,
                      error));
    if (added) {
        writer->originals[writer->content_count++] = writer->count - 1;
        return TS_OK;
    }
    const ts_written *first = &writer->rows[writer->originals[found]];
    TS_TRY(compare(writer, row, first, &same, error));
    if (!same) return TS_OK;
    TS_TRY(ts_output_rewind(writer->output, position(writer, row), error));
    return repeat(writer, row, first, error);
}

static ts_status end_frame(ts_writer *writer, ts_written *row, ts_error *error)
{
    TS_TRY(ts_press_end(writer->press, &row->frame, error));
    row->digest = row->frame.digest;
    row->stored = ts_writer_body_size(writer) - row->offset;
    TS_TRY(find_equal(writer, row, error));
    writer->differs |= row->frame.differs;
    return TS_OK;
}

static ts_status add_repeat(ts_writer *writer, ts_name name, ts_name of,
                            ts_error *error)
{
    uint32_t number;

    TS_TRY(check_may_begin(writer, error));
    TS_TRY(check_name(name, "a tensor's name", error));
    if (writer->press == NULL || writer->row_names == NULL
        || !ts_names_find(writer->row_names, of, &number))
        return ts_fail(error, TS_ARGUMENT,
                       "repeats '%.*s', which is no frame in this file",
                       (int)ts_min(of.size, 100), of.bytes);
    ts_written copy = writer->rows[number], *row = &copy;
    copy.name = name;
    copy.offset = ts_writer_body_size(writer);
    TS_TRY(keep_row(writer, &row, error));
    writer->count++;
    const ts_written *first = &writer->rows[number];
    if (!first->repeats) return repeat(writer, row, first, error);
    return ts_fail(error, TS_ARGUMENT,
                   "repeats a tensor that repeats another");
}

ts_status ts_writer_repeat(ts_writer *writer, ts_name name, ts_name of,
                           ts_error *error)
{
    return in_tensor(writer, name, add_repeat(writer, name, of, error), error);
}

/* ---- the end of a tensor ------------------------------------------------ */

static ts_status end_row(ts_writer *writer, ts_written *row, ts_error *error)
{
    TS_TRY(close_shape(writer, row, error));
    row->stored = ts_writer_body_size(writer) - row->offset;
    if (writer->checksum != NULL)
        row->digest = ts_checksum_value(writer->checksum);
    if (writer->press != NULL) TS_TRY(end_frame(writer, row, error));
    TS_TRY(writer->format->end(writer, row, error));
    writer->open = false;
    return TS_OK;
}

ts_status ts_writer_end(ts_writer *writer, ts_error *error)
{
    TS_TRY(check_open(writer, error));
    ts_written *row = &writer->rows[writer->count - 1];
    return in_tensor(writer, row->name, end_row(writer, row, error), error);
}

/* ---- the end ------------------------------------------------------------ */

/* Threads and slots are of no more use; what the tensors come to when they are
 * unpacked stands in the metadata for who only reads that. */
static ts_status end_packing(ts_writer *writer, ts_error *error)
{
    char text[24];
    uint64_t size = 0;

    for (uint32_t i = 0; i < writer->count; i++) size += writer->rows[i].size;
    snprintf(text, sizeof text, "%" PRIu64, size);
    TS_TRY(put_text(writer, TS_FRAMES_BYTES,
                    (ts_name){text, strlen(text)}, error));
    if (writer->differs)
        TS_TRY(put_text(writer, TS_FRAMES_BASE, writer->base_name, error));
    ts_press_free(writer->press);
    writer->press = NULL;
    return TS_OK;
}

static ts_status finish(ts_writer *writer, ts_error *error)
{
    if (writer->open)
        return ts_fail(error, TS_ARGUMENT,
                       "the last tensor is not complete");
    if (!writer->complete) {
        TS_TRY(begin_body(writer, error));
        if (writer->press != NULL) TS_TRY(end_packing(writer, error));
        TS_TRY(writer->format->finish(writer, error));
        writer->complete = true;
    }
    return ts_output_seal(writer->output, error);
}

ts_status ts_writer_rest(ts_writer *writer, ts_error *error)
{
    ts_status status = ts_output_rest(writer->output, error);
    return ts_error_in_file(error, status, ts_output_path(writer->output));
}

ts_status ts_writer_finish(ts_writer *writer, ts_error *error)
{
    ts_status status = finish(writer, error);
    return ts_error_in_file(error, status, ts_output_path(writer->output));
}

ts_status ts_writer_publish(ts_writer *writer, const char *name,
                            ts_error *error)
{
    TS_TRY(ts_writer_finish(writer, error));
    return ts_output_publish(writer->output, name, error);
}

uint32_t ts_writer_count(const ts_writer *writer) { return writer->count; }

ts_writer_row ts_writer_row_of(const ts_writer *writer, uint32_t row)
{
    const ts_written *one = &writer->rows[row];
    return (ts_writer_row){
        .name = one->name, .dtype = one->dtype, .size = one->size,
        .stored = one->stored, .digest = one->digest,
        .repeats = one->repeats,
        .differs = one->frame.differs && !one->repeats};
}

uint64_t ts_writer_size(const ts_writer *writer)
{
    return ts_output_size(writer->output);
}

const char *ts_writer_path(const ts_writer *writer)
{
    return ts_output_path(writer->output);
}
