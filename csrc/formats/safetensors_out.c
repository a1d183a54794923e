#include <inttypes.h>

#include "core/base.h"
#include "writer.h"

/* | u64 length | {"__metadata__":{...},"name":{...},...}  spaces | body |
 *
 * Readers take no holes between tensors and nothing behind the last, but
 * spaces behind the JSON: that is where room for a header hides that turned
 * out shorter. */

/* {"dtype":"F8_E4M3FNUZ","shape":[],"data_offsets":[,]}, and the two quotes,
 * colon and comma around its name. */
enum { ENTRY = 64, DIGITS = 20, EMPTY = 64, RAW_BYTES = 64 };

static bool has_code(ts_dtype dtype)
{
    return ts_dtype_class_of(dtype) != TS_CLASS_BLOCK && dtype != TS_C128;
}

static bool is_reserved(ts_name name)
{
    static const char word[] = "__metadata__";
    return name.size == sizeof word - 1
        && memcmp(name.bytes, word, name.size) == 0;
}

static ts_status admit(const ts_writer *writer, const ts_written *row,
                       ts_error *error)
{
    if (is_reserved(row->name))
        return ts_fail(error, TS_ARGUMENT,
                       "has the name that safetensors keeps for metadata");
    if (writer->packed || has_code(row->dtype)) return TS_OK;
    return ts_fail(error, TS_UNSUPPORTED,
                   "is %s, which safetensors has no code for",
                   ts_dtype_name(row->dtype));
}

static uint64_t digits_of(uint64_t number)
{
    uint64_t digits = 1;
    for (; number >= 10; number /= 10) digits++;
    return digits;
}

/* Bytes of the text as a JSON string may be, without the quotes. */
static uint64_t json_size(ts_name text)
{
    uint64_t size = text.size;
    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = (unsigned char)text.bytes[i];
        size += c < 0x20 ? 5 : c == '"' || c == '\\';
    }
    return size;
}

static uint64_t entry_size(const ts_written *row)
{
    uint64_t size = ENTRY + 3 * DIGITS + json_size(row->name);
    for (uint32_t i = 0; i < row->ndim; i++)
        size += 1 + digits_of(row->shape[i]);
    return size;
}

static uint64_t values_size(const ts_writer *writer)
{
    uint64_t size = EMPTY + (writer->packed ? RAW_BYTES : 0)
                  + json_size(writer->base_name) + sizeof TS_FRAMES_BASE + 6;
    for (uint32_t i = 0; i < writer->value_count; i++) {
        const ts_value *value = &writer->values[i];
        ts_name text = {(const char *)value->bytes, (size_t)value->size};
        size += json_size(value->key) + json_size(text) + 6;
    }
    return size;
}

static uint64_t header_room(const ts_writer *writer)
{
    uint64_t room = values_size(writer) + writer->expected_header;
    return writer->expected_header > 0 ? room : room + TS_WRITE_ROOM;
}

static ts_status begin_body(ts_writer *writer, ts_error *error)
{
    uint64_t room = ts_round_up(header_room(writer), TS_OUTPUT_GRAIN);
    return ts_output_zeros(writer->output, room, error);
}

static ts_status begin(ts_writer *writer, ts_written *row, ts_error *error)
{
    (void)writer, (void)row, (void)error;
    return TS_OK;
}

static ts_status end(ts_writer *writer, ts_written *row, ts_error *error)
{
    (void)writer, (void)row, (void)error;
    return TS_OK;
}

/* ---- the header --------------------------------------------------------- */

static void put_values(const ts_writer *writer, ts_bytes *out)
{
    ts_bytes_text(out, "\"__metadata__\":{");
    for (uint32_t i = 0; i < writer->value_count; i++) {
        const ts_value *value = &writer->values[i];
        if (i > 0) ts_bytes_u8(out, ',');
        ts_bytes_json(out, value->key);
        ts_bytes_u8(out, ':');
        ts_bytes_json(out, (ts_name){(const char *)value->bytes,
                                     (size_t)value->size});
    }
    ts_bytes_u8(out, '}');
}

/* A frame is so many bytes to others. */
static void put_entry(const ts_written *row, bool packed, ts_bytes *out)
{
    const uint64_t *shape = packed ? &row->stored : row->shape;
    uint32_t ndim = packed ? 1 : row->ndim;

    ts_bytes_json(out, row->name);
    ts_bytes_text(out, ":{\"dtype\":\"");
    ts_bytes_text(out, ts_dtype_name(packed ? TS_U8 : row->dtype));
    ts_bytes_text(out, "\",\"shape\":[");
    for (uint32_t i = 0; i < ndim; i++) {
        if (i > 0) ts_bytes_u8(out, ',');
        ts_bytes_number(out, shape[i]);
    }
    ts_bytes_text(out, "],\"data_offsets\":[");
    ts_bytes_number(out, row->offset);
    ts_bytes_u8(out, ',');
    ts_bytes_number(out, row->offset + row->stored);
    ts_bytes_text(out, "]}");
}

static void put_header(const ts_writer *writer, ts_bytes *out)
{
    ts_bytes_u64(out, 0); /* the length, in its time */
    ts_bytes_u8(out, '{');
    if (writer->value_count > 0) put_values(writer, out);
    for (uint32_t i = 0; i < writer->count; i++) {
        if (i > 0 || writer->value_count > 0) ts_bytes_u8(out, ',');
        put_entry(&writer->rows[i], writer->packed, out);
    }
    ts_bytes_u8(out, '}');
}

static ts_status write_header(ts_writer *writer, ts_bytes *out,
                              ts_error *error)
{
    TS_TRY(ts_bytes_check(out, error));
    TS_TRY(ts_writer_make_room(writer, out->size, error));
    if (writer->body - 8 > TS_MAX_HEADER)
        return ts_fail(error, TS_ARGUMENT,
                       "needs a header of %" PRIu64 " bytes, more than the %u "
                       "that safetensors readers take", writer->body - 8,
                       TS_MAX_HEADER);
    ts_bytes_fill(out, ' ', (size_t)writer->body - out->size);
    TS_TRY(ts_bytes_check(out, error));
    uint64_t length = writer->body - 8;
    memcpy(out->data, &length, sizeof length);
    return ts_output_patch(writer->output, 0, out->data, out->size, error);
}

static ts_status finish(ts_writer *writer, ts_error *error)
{
    ts_bytes out = {0};

    put_header(writer, &out);
    ts_status status = write_header(writer, &out, error);
    ts_bytes_free(&out);
    return status;
}

const ts_write_format ts_write_safetensors = {
    .format = TS_FORMAT_SAFETENSORS,
    .admit = admit,
    .entry = entry_size,
    .begin_body = begin_body,
    .begin = begin,
    .end = end,
    .finish = finish,
};
