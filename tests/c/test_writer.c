#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "core/base.h"
#include "formats/formats.h"
#include "io/fault.h"

/* What the formats' writers make, read back by their readers; and what is left
 * of it when a call to the system fails. */

static char path[1000];

static struct {
    int seen, fail_at, os_errno;
    bool no_insert;
} fault;

static bool strikes(void)
{
    if (++fault.seen != fault.fail_at) return false;
    errno = fault.os_errno;
    return true;
}

static ssize_t fake_pwrite(int fd, const void *from, size_t size, off_t offset)
{
    return strikes() ? -1 : ts_real.pwrite(fd, from, size, offset);
}

static int fake_fallocate(int fd, int mode, off_t offset, off_t size)
{
    if (fault.no_insert && mode != 0) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return strikes() ? -1 : ts_real.fallocate(fd, mode, offset, size);
}

static ssize_t fake_copy_range(int fd, off_t from, off_t to, size_t size)
{
    return strikes() ? -1 : ts_real.copy_range(fd, from, to, size);
}

static int fake_fsync(int fd) { return strikes() ? -1 : ts_real.fsync(fd); }

static int fake_renameat(int from, const char *name, int to, const char *other)
{
    return strikes() ? -1 : ts_real.renameat(from, name, to, other);
}

static int fake_ftruncate(int fd, off_t size)
{
    return strikes() ? -1 : ts_real.ftruncate(fd, size);
}

static void install(int fail_at, int os_errno)
{
    fault.seen = 0;
    fault.fail_at = fail_at;
    fault.os_errno = os_errno;
    fault.no_insert = false;
    ts_sys = ts_real;
    ts_sys.pwrite = fake_pwrite;
    ts_sys.fallocate = fake_fallocate;
    ts_sys.copy_range = fake_copy_range;
    ts_sys.fsync = fake_fsync;
    ts_sys.renameat = fake_renameat;
    ts_sys.ftruncate = fake_ftruncate;
}

/* ---- a checkpoint ------------------------------------------------------- */

enum { TENSORS = 700, LONG = 100 };

static const ts_format formats[] = {TS_FORMAT_SAFETENSORS, TS_FORMAT_GGUF,
                                    TS_FORMAT_NPZ};
static const ts_dtype dtypes[] = {TS_F32, TS_F16, TS_I64, TS_I8, TS_F64};

static ts_name name_of(uint32_t i, char room[LONG + 1])
{
    snprintf(room, LONG + 1, "layers.%u.%0*u", i, i % 2 ? 20 : 85, i);
    return (ts_name){room, strlen(room)};
}

static uint8_t byte_of(uint32_t tensor, uint64_t i)
{
    return (uint8_t)((tensor * 31 + i) * 2654435761u >> 11);
}

typedef struct {
    ts_format format;
    bool expect;   /* say beforehand what comes */
    bool unknown;  /* leave the number of rows open */
    bool digests;
} plan;

static void shape_of(uint32_t i, uint64_t shape[2])
{
    shape[0] = i % 7;
    shape[1] = 1 + i % 13;
}

static ts_status put_tensor(ts_writer *writer, const plan *p, uint32_t i,
                            ts_error *error)
{
    char room[LONG + 1];
    uint64_t shape[2], size;
    uint8_t bytes[7 * 13 * 8];
    ts_dtype dtype = dtypes[i % TS_COUNT_OF(dtypes)];

    shape_of(i, shape);
    ts_dtype_bytes(dtype, shape[0] * shape[1], &size);
    for (uint64_t k = 0; k < size; k++) bytes[k] = byte_of(i, k);
    if (p->unknown) shape[0] = TS_ROWS_UNKNOWN;
    TS_TRY(ts_writer_begin(writer, name_of(i, room), dtype, 2, shape, error));
    TS_TRY(ts_writer_write(writer, bytes, size / 3, error));
    TS_TRY(ts_writer_write(writer, bytes + size / 3, size - size / 3, error));
    return ts_writer_end(writer, error);
}

static ts_status expect_all(ts_writer *writer, ts_error *error)
{
    char room[LONG + 1];
    uint64_t shape[2];
    for (uint32_t i = 0; i < TENSORS; i++) {
        shape_of(i, shape);
        TS_TRY(ts_writer_expect(writer, name_of(i, room),
                                dtypes[i % TS_COUNT_OF(dtypes)], 2, shape,
                                error));
    }
    return TS_OK;
}

static ts_status put_text(ts_writer *writer, const char *text, ts_error *error)
{
    ts_value value = {.key = {"k", 1}, .kind = TS_VALUE_STRING,
                      .bytes = (const uint8_t *)text, .size = strlen(text)};
    return ts_writer_value(writer, &value, error);
}

static ts_status write_all(ts_writer *writer, const plan *p, ts_error *error)
{
    bool text = p->format != TS_FORMAT_NPZ;
    if (text) TS_TRY(put_text(writer, "v", error));
    if (p->expect) TS_TRY(expect_all(writer, error));
    for (uint32_t i = 0; i < TENSORS; i++)
        TS_TRY(put_tensor(writer, p, i, error));
    if (text) TS_TRY(put_text(writer, "known at the end: \"\n", error));
    return TS_OK;
}

static ts_status save(const plan *p, ts_error *error)
{
    ts_writer_options options = {.format = p->format, .digests = p->digests};
    ts_writer *writer;
    TS_TRY(ts_writer_new(path, &options, &writer, error));
    ts_status status = write_all(writer, p, error);
    if (status == TS_OK) status = ts_writer_publish(writer, NULL, error);
    if (status == TS_OK && p->digests) {
        uint8_t bytes[7 * 13 * 8];
        for (uint32_t i = 0; i < TENSORS; i++) {
            ts_writer_row row = ts_writer_row_of(writer, i);
            for (uint64_t k = 0; k < row.size; k++) bytes[k] = byte_of(i, k);
            CHECK(row.digest
                  == ts_checksum_of(TS_CHECKSUM_XXH3, bytes, row.size));
        }
    }
    ts_writer_free(writer);
    return status;
}

static void check_tensor(const ts_catalog *catalog, uint32_t i)
{
    char room[LONG + 1];
    uint64_t shape[2];
    uint8_t bytes[7 * 13 * 8];
    uint32_t row;
    ts_error error = {0};
    shape_of(i, shape);
    if (!ts_catalog_find(catalog, name_of(i, room), &row)) {
        CHECK(false, "%s is missing", room);
        return;
    }
    const ts_tensor *tensor = ts_catalog_tensor(catalog, row);
    CHECK(row == i && tensor->dtype == dtypes[i % TS_COUNT_OF(dtypes)]);
    CHECK(tensor->ndim == 2 && tensor->shape[0] == shape[0]
          && tensor->shape[1] == shape[1]);
    CHECK(ts_file_read(ts_catalog_file(catalog, tensor->file), tensor->offset,
                       bytes, tensor->size, &error)
          == TS_OK);
    for (uint64_t k = 0; k < tensor->size; k++)
        if (bytes[k] != byte_of(i, k)) {
            CHECK(false, "%s: byte %llu", room, (unsigned long long)k);
            return;
        }
}

static bool is_whole(ts_format format)
{
    ts_catalog *catalog;
    ts_error error = {0};
    if (ts_catalog_open(path, &catalog, &error) != TS_OK) return false;
    bool whole = ts_catalog_count(catalog) == TENSORS;
    CHECK(ts_catalog_format(catalog) == format);
    for (uint32_t i = 0; whole && i < TENSORS; i++) check_tensor(catalog, i);
    const ts_value *value =
        format == TS_FORMAT_NPZ ? NULL : ts_catalog_value(catalog, 0);
    CHECK(value == NULL
          || memcmp(value->bytes, "known at the end: \"\n", 20) == 0);
    ts_catalog_release(catalog);
    return whole;
}

static void what_is_written_is_read(void)
{
    for (size_t f = 0; f < TS_COUNT_OF(formats); f++)
        for (int way = 0; way < 8; way++) {
            plan p = {formats[f], way & 1, way & 2, way & 4};
            install(0, 0);
            fault.no_insert = way & 4;
            CHECK_OK(save(&p, error));
            CHECK(is_whole(p.format), "%s, way %d", ts_format_name(p.format),
                  way);
        }
}

static bool is_old(void)
{
    char found[8] = "";
    FILE *file = fopen(path, "rb");
    if (file == NULL) return false;
    size_t size = fread(found, 1, sizeof found, file);
    fclose(file);
    return size == 3 && memcmp(found, "old", 3) == 0;
}

static void any_call_may_fail(void)
{
    const int refusals[] = {EIO, ENOSPC};
    for (size_t f = 0; f < TS_COUNT_OF(formats); f++)
        for (size_t i = 0; i < TS_COUNT_OF(refusals); i++) {
            plan p = {formats[f], i > 0, true, false};
            int at = 0;
            do {
                FILE *file = fopen(path, "wb");
                fputs("old", file);
                fclose(file);
                install(++at, refusals[i]);
                ts_error error = {0};
                ts_status status = save(&p, &error);
                CHECK(status == TS_OK || status == TS_IO);
                CHECK(status == TS_OK || error.os_errno == refusals[i]);
                CHECK(status == TS_OK || strcmp(error.file, path) == 0);
                CHECK(is_old() ? status != TS_OK : is_whole(p.format),
                      "%s, call %d", ts_format_name(p.format), at);
            } while (fault.seen >= at && at < 40);
        }
    install(0, 0);
}

/* ---- what is refused ---------------------------------------------------- */

static void tensors_that_cannot_be(void)
{
    ts_writer_options options = {.format = TS_FORMAT_SAFETENSORS};
    uint64_t shape[TS_MAX_DIMS + 1] = {2, UINT64_MAX / 2, 3};
    ts_writer *writer;
    ts_name name = {"t", 1};

    CHECK_OK(ts_writer_new(path, &options, &writer, error));
    CHECK_FAILS(ts_writer_begin(writer, name, TS_F32, 3, shape, error),
                TS_ARGUMENT, "more than 2^63 elements");
    CHECK_FAILS(ts_writer_begin(writer, name, TS_F32, 33, shape, error),
                TS_ARGUMENT, "33 dimensions, more than 32");
    CHECK_FAILS(ts_writer_begin(writer, name, TS_F6_E2M3, 1, shape, error),
                TS_ARGUMENT, "no whole number of F6_E2M3 blocks of 4");
    CHECK_FAILS(ts_writer_begin(writer, name, TS_Q4_K, 0, shape, error),
                TS_ARGUMENT, "no whole number of Q4_K");
    CHECK_FAILS(ts_writer_begin(writer, (ts_name){"\xff", 1}, TS_U8, 1, shape,
                                error),
                TS_ARGUMENT, "not UTF-8");
    CHECK_FAILS(ts_writer_begin(writer, (ts_name){"a\0b", 3}, TS_U8, 1, shape,
                                error),
                TS_ARGUMENT, "holds a NUL");
    CHECK_FAILS(ts_writer_write(writer, "x", 1, error), TS_ARGUMENT,
                "no tensor has been begun");
    CHECK_FAILS(ts_writer_end(writer, error), TS_ARGUMENT, "begun");
    CHECK_OK(ts_writer_begin(writer, name, TS_U8, 1, shape, error));
    CHECK_FAILS(ts_writer_write(writer, "xyz", 3, error), TS_ARGUMENT,
                "gets 3 bytes after 0 of the 2");
    CHECK_FAILS(ts_writer_finish(writer, error), TS_ARGUMENT,
                "not complete");
    CHECK_FAILS(ts_writer_begin(writer, name, TS_U8, 1, shape, error),
                TS_ARGUMENT, "while 't' is not complete");
    CHECK_OK(ts_writer_write(writer, "xy", 2, error));
    CHECK_OK(ts_writer_end(writer, error));
    CHECK_OK(ts_writer_finish(writer, error));
    CHECK_FAILS(ts_writer_begin(writer, (ts_name){"u", 1}, TS_U8, 1, shape,
                                error),
                TS_CLOSED, "after the end");
    ts_writer_free(writer);
    options.format = TS_FORMAT_TORCH;
    CHECK_FAILS(ts_writer_new(path, &options, &writer, error), TS_UNSUPPORTED,
                "torch are read, not written");
}

static void metadata_that_cannot_be(void)
{
    ts_writer_options options = {.format = TS_FORMAT_SAFETENSORS};
    ts_value number = {.key = {"n", 1}, .kind = TS_VALUE_UINT, .item_size = 3};
    ts_value alignment = {.key = {"general.alignment", 17},
                          .kind = TS_VALUE_UINT, .item_size = 4, .u = 48};
    ts_writer *writer;

    CHECK_OK(ts_writer_new(path, &options, &writer, error));
    CHECK_FAILS(ts_writer_value(writer, &number, error), TS_ARGUMENT,
                "metadata 'n' is not a string");
    CHECK_FAILS(put_text(writer, "\xc3", error), TS_ARGUMENT, "not UTF-8");
    ts_writer_free(writer);
    options.format = TS_FORMAT_GGUF;
    CHECK_OK(ts_writer_new(path, &options, &writer, error));
    CHECK_OK(ts_writer_value(writer, &number, error));
    CHECK_FAILS(ts_writer_finish(writer, error), TS_UNSUPPORTED,
                "of a type that GGUF has not");
    ts_writer_free(writer);
    CHECK_OK(ts_writer_new(path, &options, &writer, error));
    CHECK_OK(ts_writer_value(writer, &alignment, error));
    CHECK_FAILS(ts_writer_finish(writer, error), TS_ARGUMENT,
                "general.alignment must be");
    ts_writer_free(writer);
}

int main(int count, char **arguments)
{
    snprintf(path, sizeof path, "%s/scratch_writer",
             count > 1 ? arguments[1] : ".");
    RUN(what_is_written_is_read);
    RUN(any_call_may_fail);
    RUN(tensors_that_cannot_be);
    RUN(metadata_that_cannot_be);
    unlink(path);
    CHECK_END();
}
