#include <inttypes.h>
#include <stdio.h>

#include "core/base.h"
#include "writer.h"

/* A zip of stored .npy files, as numpy.savez writes it, but for two things:
 * every array begins on a multiple of 64 bytes in the file, by way of an extra
 * field in the local header, so it can be mapped; and the dates are constant,
 * so equal arrays make equal files.
 *
 *     [local header, name, zip64 sizes, padding | .npy header | elements]*
 *     [central directory] [zip64 end] end
 *
 * Checksum, sizes and number of rows are known when the last row has come:
 * header and .npy header are then written again.
 * Sources: PKWARE APPNOTE.TXT 6.3.10, sections 4.3 to 4.5; NEP 1. */

enum {
    LOCAL_MAGIC = 0x04034b50,
    CENTRAL_MAGIC = 0x02014b50,
    END64_MAGIC = 0x06064b50,
    LOCATOR_MAGIC = 0x07064b50,
    END_MAGIC = 0x06054b50,
    ZIP64 = 45,      /* the version of the specification that brought it */
    MADE_BY = 3 << 8 | ZIP64, /* Unix */
    UTF8 = 0x0800,   /* the flag that names are */
    NEW_YEAR_1980 = 0x0021,
    EXTRA_ZIP64 = 1,
    EXTRA_PADDING = 0xD935, /* what Android's zipalign pads with */
    LOCAL_SIZE = 30,
    ZIP64_SIZE = 4 + 16, /* of the local extra field */
    ALIGNMENT = 64,
    MODE = 0100644, /* a regular file, for who unpacks it */
};

#define FULL32 UINT32_MAX /* "look into the zip64 field" */

static const char suffix[] = ".npy";
#define SUFFIX_SIZE (sizeof suffix - 1)

/* What NumPy calls the dtype; NULL for those it has not. */
static const char *descr_of(ts_dtype dtype)
{
    switch (dtype) {
    case TS_BOOL: return "|b1";
    case TS_U8: return "|u1";
    case TS_I8: return "|i1";
    case TS_U16: return "<u2";
    case TS_I16: return "<i2";
    case TS_U32: return "<u4";
    case TS_I32: return "<i4";
    case TS_U64: return "<u8";
    case TS_I64: return "<i8";
    case TS_F16: return "<f2";
    case TS_F32: return "<f4";
    case TS_F64: return "<f8";
    case TS_C64: return "<c8";
    case TS_C128: return "<c16";
    default: return NULL;
    }
}

/* The reader's rule: no member's name leads out of the folder that somebody
 * unpacks it in. */
static bool leads_out(ts_name name)
{
    const char *at = name.bytes, *end = name.bytes + name.size;

    if (name.size == 0) return true;
    if (*at == '/' || memchr(at, '\\', name.size) != NULL) return true;
    for (const char *slash; at < end; at = slash + 1) {
        slash = memchr(at, '/', (size_t)(end - at));
        if (slash == NULL) slash = end;
        if (slash - at == 2 && at[0] == '.' && at[1] == '.') return true;
    }
    return false;
}

static ts_status admit(const ts_writer *writer, const ts_written *row,
                       ts_error *error)
{
    (void)writer;
    if (leads_out(row->name))
        return ts_fail(error, TS_ARGUMENT,
                       "has a name that cannot be a file's in an archive");
    if (row->name.size + SUFFIX_SIZE > TS_MAX_NAME)
        return ts_fail(error, TS_ARGUMENT,
                       "has a name of %zu bytes, too long for an archive",
                       row->name.size);
    if (descr_of(row->dtype) != NULL) return TS_OK;
    return ts_fail(error, TS_UNSUPPORTED,
                   "is %s, which NumPy has no dtype for: convert it to "
                   "float32, say", ts_dtype_name(row->dtype));
}

/* ---- headers ------------------------------------------------------------ */

/* With the number of rows blank where it is not known, so that the header
 * keeps its length when it is. */
static void put_npy(const ts_written *row, ts_bytes *out)
{
    enum { PREFIX = 10, ROWS = 20 };
    ts_bytes text = {0};
    size_t size;

    ts_bytes_text(&text, "{'descr': '");
    ts_bytes_text(&text, descr_of(row->dtype));
    ts_bytes_text(&text, "', 'fortran_order': False, 'shape': (");
    size = text.size;
    for (uint32_t i = 0; i < row->ndim; i++) {
        ts_bytes_number(&text, row->shape[i]);
        if (i == 0) size = text.size - size;
        ts_bytes_text(&text, i + 1 < row->ndim ? ", " : ",");
    }
    ts_bytes_text(&text, "), }");
    /* As if the first number had the most digits there are. */
    if (row->ndim > 0 && size < ROWS) ts_bytes_fill(&text, ' ', ROWS - size);
    ts_bytes_fill(&text, ' ',
                  (size_t)(ts_round_up(PREFIX + text.size + 1, ALIGNMENT)
                           - PREFIX - text.size - 1));
    ts_bytes_u8(&text, '\n');
    ts_bytes_text(out, "\x93NUMPY");
    ts_bytes_u16(out, 1); /* version 1.0 */
    ts_bytes_u16(out, (uint16_t)text.size); /* at most 32 numbers */
    ts_bytes_put(out, text.data, text.size);
    out->failed = out->failed || text.failed;
    ts_bytes_free(&text);
}

static uint64_t member_size(const ts_written *row)
{
    return row->data + row->size;
}

/* The part that local header and directory have in common. */
static void put_facts(const ts_written *row, uint32_t packed, uint16_t extra,
                      ts_bytes *out)
{
    ts_bytes_u16(out, ZIP64);
    ts_bytes_u16(out, UTF8);
    ts_bytes_u16(out, 0); /* stored */
    ts_bytes_u16(out, 0); /* midnight */
    ts_bytes_u16(out, NEW_YEAR_1980);
    ts_bytes_u32(out, row->crc32);
    ts_bytes_u32(out, packed);
    ts_bytes_u32(out, packed);
    ts_bytes_u16(out, (uint16_t)(row->name.size + SUFFIX_SIZE));
    ts_bytes_u16(out, extra);
}

static void put_name(const ts_written *row, ts_bytes *out)
{
    ts_bytes_put(out, row->name.bytes, row->name.size);
    ts_bytes_text(out, suffix);
}

/* Sizes always in the zip64 field: whether they need it is not known yet. */
static void put_local(const ts_written *row, ts_bytes *out)
{
    uint64_t front =
        LOCAL_SIZE + row->name.size + SUFFIX_SIZE + ZIP64_SIZE + 4;
    uint64_t padding = ts_round_up(row->member + front, ALIGNMENT)
                     - row->member - front;

    ts_bytes_u32(out, LOCAL_MAGIC);
    put_facts(row, FULL32, (uint16_t)(ZIP64_SIZE + 4 + padding), out);
    put_name(row, out);
    ts_bytes_u16(out, EXTRA_ZIP64);
    ts_bytes_u16(out, 16);
    ts_bytes_u64(out, member_size(row));
    ts_bytes_u64(out, member_size(row));
    ts_bytes_u16(out, EXTRA_PADDING);
    ts_bytes_u16(out, (uint16_t)padding);
    ts_bytes_fill(out, 0, (size_t)padding);
}

/* ---- members ------------------------------------------------------------ */

static ts_status begin_body(ts_writer *writer, ts_error *error)
{
    (void)writer, (void)error;
    return TS_OK;
}

/* Both headers; `npy` is where the second begins among them. */
static ts_status put_front(ts_written *row, ts_bytes *out, size_t *npy,
                           ts_error *error)
{
    put_local(row, out);
    *npy = out->size;
    put_npy(row, out);
    row->data = out->size - *npy;
    return ts_bytes_check(out, error);
}

static ts_status begin(ts_writer *writer, ts_written *row, ts_error *error)
{
    ts_bytes out = {0};
    size_t npy;

    row->member = ts_output_size(writer->output);
    ts_checksum_reset(writer->crc32);
    ts_status status = put_front(row, &out, &npy, error);
    if (status == TS_OK)
        status = ts_output_append(writer->output, out.data, out.size, error);
    ts_bytes_free(&out);
    return status;
}

static ts_status end(ts_writer *writer, ts_written *row, ts_error *error)
{
    uint64_t data = ts_checksum_value(writer->crc32), whole = 0;
    ts_bytes out = {0};
    size_t npy;
    ts_status status = put_front(row, &out, &npy, error);

    if (status == TS_OK) {
        uint64_t head = ts_checksum_of(TS_CHECKSUM_CRC32, out.data + npy,
                                       out.size - npy);
        (void)ts_checksum_combine(TS_CHECKSUM_CRC32, head, data, row->size,
                                  &whole);
        row->crc32 = (uint32_t)whole;
        out.size = 0;
        status = put_front(row, &out, &npy, error);
    }
    if (status == TS_OK)
        status = ts_output_patch(writer->output, row->member, out.data,
                                 out.size, error);
    ts_bytes_free(&out);
    return status;
}

/* ---- the directory ------------------------------------------------------ */

static void put_central(const ts_written *row, ts_bytes *out)
{
    uint64_t size = member_size(row);
    bool large = size >= FULL32, far = row->member >= FULL32;
    uint16_t fields = (uint16_t)(16 * large + 8 * far);

    ts_bytes_u32(out, CENTRAL_MAGIC);
    ts_bytes_u16(out, MADE_BY);
    put_facts(row, large ? FULL32 : (uint32_t)size,
              fields > 0 ? (uint16_t)(4 + fields) : 0, out);
    ts_bytes_u16(out, 0); /* no comment */
    ts_bytes_u16(out, 0); /* on the first disk */
    ts_bytes_u16(out, 0); /* not marked as text */
    ts_bytes_u32(out, (uint32_t)MODE << 16);
    ts_bytes_u32(out, far ? FULL32 : (uint32_t)row->member);
    put_name(row, out);
    if (fields == 0) return;
    ts_bytes_u16(out, EXTRA_ZIP64);
    ts_bytes_u16(out, fields);
    if (large) ts_bytes_u64(out, size);
    if (large) ts_bytes_u64(out, size);
    if (far) ts_bytes_u64(out, row->member);
}

static void put_end64(const ts_writer *writer, uint64_t at, uint64_t size,
                      ts_bytes *out)
{
    ts_bytes_u32(out, END64_MAGIC);
    ts_bytes_u64(out, 44); /* bytes of this record that follow */
    ts_bytes_u16(out, MADE_BY);
    ts_bytes_u16(out, ZIP64);
    ts_bytes_u32(out, 0);
    ts_bytes_u32(out, 0);
    ts_bytes_u64(out, writer->count);
    ts_bytes_u64(out, writer->count);
    ts_bytes_u64(out, size);
    ts_bytes_u64(out, at);
    ts_bytes_u32(out, LOCATOR_MAGIC);
    ts_bytes_u32(out, 0);
    ts_bytes_u64(out, at + size);
    ts_bytes_u32(out, 1);
}

static void put_end(const ts_writer *writer, uint64_t at, uint64_t size,
                    ts_bytes *out)
{
    uint16_t count = (uint16_t)ts_min(writer->count, UINT16_MAX);

    if (count == UINT16_MAX || at >= FULL32 || size >= FULL32)
        put_end64(writer, at, size, out);
    ts_bytes_u32(out, END_MAGIC);
    ts_bytes_u16(out, 0);
    ts_bytes_u16(out, 0);
    ts_bytes_u16(out, count);
    ts_bytes_u16(out, count);
    ts_bytes_u32(out, (uint32_t)ts_min(size, FULL32));
    ts_bytes_u32(out, (uint32_t)ts_min(at, FULL32));
    ts_bytes_u16(out, 0);
}

static ts_status finish(ts_writer *writer, ts_error *error)
{
    uint64_t at = ts_output_size(writer->output);
    ts_bytes out = {0};

    for (uint32_t i = 0; i < writer->count; i++)
        put_central(&writer->rows[i], &out);
    put_end(writer, at, out.size, &out);
    ts_status status = ts_bytes_check(&out, error);
    if (status == TS_OK)
        status = ts_output_append(writer->output, out.data, out.size, error);
    ts_bytes_free(&out);
    return status;
}

const ts_write_format ts_write_npz = {
    .format = TS_FORMAT_NPZ,
    .admit = admit,
    .begin_body = begin_body,
    .begin = begin,
    .end = end,
    .finish = finish,
};
