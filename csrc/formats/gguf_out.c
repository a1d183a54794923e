#include <inttypes.h>

#include "core/base.h"
#include "gguf.h"
#include "writer.h"

/* GGUF version 3; gguf.c draws it.  The data begins at the first multiple of
 * the alignment behind the header, so a header that turns out shorter than the
 * room it was given ends in one more key, `padding_key`, an array of zeros. */

static const char padding_key[] = "tensorstream.padding";

enum {
    VERSION = 3,
    HEAD = 24,             /* magic, version, both counts */
    ARRAY = 8 + 4 + 4 + 8, /* length of the key, type, item type, count */
    PADDING = ARRAY + sizeof padding_key - 1,
};

static bool find_id(ts_dtype dtype, uint32_t *id)
{
    ts_dtype other;
    for (*id = 0; *id <= TS_GGUF_LAST_DTYPE; ++*id)
        if (ts_gguf_dtype(*id, &other) && other == dtype) return true;
    return false;
}

static ts_status admit(const ts_writer *writer, const ts_written *row,
                       ts_error *error)
{
    uint32_t id, block = ts_dtype_block_count(row->dtype);
    (void)writer;

    if (!find_id(row->dtype, &id))
        return ts_fail(error, TS_UNSUPPORTED,
                       "is %s, which GGUF has no type for",
                       ts_dtype_name(row->dtype));
    if (row->ndim > TS_GGUF_MAX_DIMS)
        return ts_fail(error, TS_UNSUPPORTED,
                       "has %u dimensions, where GGUF has at most %d",
                       row->ndim, TS_GGUF_MAX_DIMS);
    uint64_t fastest = row->ndim > 0 ? row->shape[row->ndim - 1] : 1;
    if (fastest == TS_ROWS_UNKNOWN || fastest % block == 0) return TS_OK;
    return ts_fail(error, TS_ARGUMENT,
                   "has rows of %" PRIu64 " elements, no whole number of %s "
                   "blocks of %u", fastest, ts_dtype_name(row->dtype), block);
}

/* A scalar is written as one dimension of 1: gguf-py reads no other. */
static uint32_t dims_of(const ts_written *row)
{
    return row->ndim > 0 ? row->ndim : 1;
}

static uint64_t entry_size(const ts_written *row)
{
    return 8 + row->name.size + 4 + 8 * (uint64_t)dims_of(row) + 4 + 8;
}

/* ---- keys --------------------------------------------------------------- */

static bool number_type(uint8_t kind, uint8_t width, ts_gguf_type *out)
{
    static const struct {
        uint8_t kind, width, type;
    } types[] = {
        {TS_VALUE_BOOL, 1, TS_GGUF_BOOL}, {TS_VALUE_UINT, 1, TS_GGUF_U8},
        {TS_VALUE_UINT, 2, TS_GGUF_U16},  {TS_VALUE_UINT, 4, TS_GGUF_U32},
        {TS_VALUE_UINT, 8, TS_GGUF_U64},  {TS_VALUE_INT, 1, TS_GGUF_I8},
        {TS_VALUE_INT, 2, TS_GGUF_I16},   {TS_VALUE_INT, 4, TS_GGUF_I32},
        {TS_VALUE_INT, 8, TS_GGUF_I64},   {TS_VALUE_FLOAT, 4, TS_GGUF_F32},
        {TS_VALUE_FLOAT, 8, TS_GGUF_F64},
    };
    for (size_t i = 0; i < TS_COUNT_OF(types); i++)
        if (types[i].kind == kind && types[i].width == width) {
            *out = (ts_gguf_type)types[i].type;
            return true;
        }
    return false;
}

static void put_string(ts_bytes *out, ts_name text)
{
    ts_bytes_u64(out, text.size);
    ts_bytes_put(out, text.bytes, text.size);
}

/* The bits of a number, of which as many bytes are written as it is wide. */
static uint64_t number_bits(const ts_value *value)
{
    uint64_t bits = 0;
    float single = (float)value->f;

    switch (value->kind) {
    case TS_VALUE_BOOL: return value->b;
    case TS_VALUE_INT: return (uint64_t)value->i;
    case TS_VALUE_UINT: return value->u;
    default:
        if (value->item_size == 4)
            memcpy(&bits, &single, sizeof single);
        else
            memcpy(&bits, &value->f, sizeof bits);
        return bits;
    }
}

static ts_status fail_type(const ts_value *value, ts_error *error)
{
    return ts_fail(error, TS_UNSUPPORTED,
                   "metadata '%.*s' is of a type that GGUF has not",
                   (int)ts_min(value->key.size, 200), value->key.bytes);
}

static ts_status put_array(ts_bytes *out, const ts_value *value,
                           ts_error *error)
{
    ts_gguf_type type = TS_GGUF_STRING;

    if (value->item != TS_VALUE_STRING
        && !number_type(value->item, value->item_size, &type))
        return fail_type(value, error);
    ts_bytes_u32(out, TS_GGUF_ARRAY);
    ts_bytes_u32(out, type);
    ts_bytes_u64(out, value->count);
    ts_bytes_put(out, value->bytes, (size_t)value->size);
    return TS_OK;
}

static ts_status put_value(ts_bytes *out, const ts_value *value,
                           ts_error *error)
{
    ts_gguf_type type;
    uint64_t bits;

    put_string(out, value->key);
    if (value->kind == TS_VALUE_ARRAY) return put_array(out, value, error);
    if (value->kind == TS_VALUE_STRING) {
        ts_bytes_u32(out, TS_GGUF_STRING);
        put_string(out, (ts_name){(const char *)value->bytes,
                                  (size_t)value->size});
        return TS_OK;
    }
    if (!number_type(value->kind, value->item_size, &type))
        return fail_type(value, error);
    bits = number_bits(value);
    ts_bytes_u32(out, type);
    ts_bytes_put(out, &bits, value->item_size);
    return TS_OK;
}

static ts_status put_values(const ts_writer *writer, ts_bytes *out,
                            ts_error *error)
{
    for (uint32_t i = 0; i < writer->value_count; i++)
        TS_TRY(put_value(out, &writer->values[i], error));
    return ts_bytes_check(out, error);
}

/* ---- the body ----------------------------------------------------------- */

static ts_status read_alignment(ts_writer *writer, ts_error *error)
{
    const ts_value *value = ts_writer_find_value(writer, "general.alignment");

    writer->alignment = TS_GGUF_ALIGNMENT;
    if (value == NULL) return TS_OK;
    if (value->kind == TS_VALUE_UINT && value->item_size == 4
        && ts_is_power_of_two(value->u) && value->u <= TS_OUTPUT_GRAIN) {
        writer->alignment = value->u;
        return TS_OK;
    }
    return ts_fail(error, TS_ARGUMENT,
                   "general.alignment must be a u32 and a power of two up to "
                   "%d", TS_OUTPUT_GRAIN);
}

/* Exactly the header when it is known, so that it needs no padding. */
static ts_status begin_body(ts_writer *writer, ts_error *error)
{
    ts_bytes values = {0};
    uint64_t room = HEAD;

    TS_TRY(read_alignment(writer, error));
    ts_status status = put_values(writer, &values, error);
    room += values.size;
    ts_bytes_free(&values);
    TS_TRY(status);
    room += writer->expected_header > 0 ? writer->expected_header
                                        : TS_WRITE_ROOM;
    return ts_output_zeros(writer->output,
                           ts_round_up(room, writer->alignment), error);
}

static ts_status begin(ts_writer *writer, ts_written *row, ts_error *error)
{
    (void)row;
    return ts_writer_align(writer, writer->alignment, error);
}

/* Also behind the last: some readers map whole multiples. */
static ts_status end(ts_writer *writer, ts_written *row, ts_error *error)
{
    (void)row;
    return ts_writer_align(writer, writer->alignment, error);
}

/* ---- the header --------------------------------------------------------- */

static void put_entry(const ts_written *row, ts_bytes *out)
{
    uint32_t id = 0;

    (void)find_id(row->dtype, &id); /* admitted, so there is one */
    put_string(out, row->name);
    ts_bytes_u32(out, dims_of(row));
    if (row->ndim == 0) ts_bytes_u64(out, 1);
    for (uint32_t i = row->ndim; i > 0; i--)
        ts_bytes_u64(out, row->shape[i - 1]);
    ts_bytes_u32(out, id);
    ts_bytes_u64(out, row->offset);
}

static void put_padding(ts_bytes *out, uint64_t size)
{
    put_string(out, (ts_name){padding_key, sizeof padding_key - 1});
    ts_bytes_u32(out, TS_GGUF_ARRAY);
    ts_bytes_u32(out, TS_GGUF_U8);
    ts_bytes_u64(out, size - PADDING);
    ts_bytes_fill(out, 0, (size_t)(size - PADDING));
}

/* Bytes of padding that make a header of `size` reach the body. */
static uint64_t padding_for(const ts_writer *writer, uint64_t size)
{
    uint64_t aligned = ts_round_up(size, writer->alignment);
    return aligned == writer->body ? 0 : writer->body - size;
}

static ts_status write_header(ts_writer *writer, ts_bytes *keys,
                              ts_bytes *entries, ts_error *error)
{
    uint64_t size = HEAD + keys->size + entries->size, padding;
    ts_bytes out = {0};

    TS_TRY(ts_writer_make_room(writer, size, error));
    padding = padding_for(writer, size);
    if (padding > 0 && padding < PADDING)
        TS_TRY(ts_writer_make_room(writer, size + PADDING, error));
    padding = padding_for(writer, size);
    if (writer->body > TS_MAX_HEADER)
        return ts_fail(error, TS_ARGUMENT, "needs a header of %" PRIu64
                       " bytes, more than %u", writer->body, TS_MAX_HEADER);
    ts_bytes_text(&out, "GGUF");
    ts_bytes_u32(&out, VERSION);
    ts_bytes_u64(&out, writer->count);
    ts_bytes_u64(&out, writer->value_count + (padding > 0));
    ts_bytes_put(&out, keys->data, keys->size);
    if (padding > 0) put_padding(&out, padding);
    ts_bytes_put(&out, entries->data, entries->size);
    if (!out.failed) ts_bytes_fill(&out, 0, (size_t)writer->body - out.size);
    ts_status status = ts_bytes_check(&out, error);
    if (status == TS_OK)
        status = ts_output_patch(writer->output, 0, out.data, out.size, error);
    ts_bytes_free(&out);
    return status;
}

static ts_status finish(ts_writer *writer, ts_error *error)
{
    ts_bytes keys = {0}, entries = {0};
    ts_status status = put_values(writer, &keys, error);

    for (uint32_t i = 0; i < writer->count; i++)
        put_entry(&writer->rows[i], &entries);
    if (status == TS_OK) status = ts_bytes_check(&entries, error);
    if (status == TS_OK) status = write_header(writer, &keys, &entries, error);
    ts_bytes_free(&keys);
    ts_bytes_free(&entries);
    return status;
}

const ts_write_format ts_write_gguf = {
    .format = TS_FORMAT_GGUF,
    .admit = admit,
    .entry = entry_size,
    .begin_body = begin_body,
    .begin = begin,
    .end = end,
    .finish = finish,
};
