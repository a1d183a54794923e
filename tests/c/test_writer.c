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
    bool packed;
    uint64_t budget;
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
    ts_writer_options options = {
        .format = p->format, .digests = p->digests, .packed = p->packed,
        .mode = TS_PACK_FAST, .budget = p->budget};
    ts_writer *writer;
    TS_TRY(ts_writer_new(path, &options, &writer, error));
    ts_status status = write_all(writer, p, error);
    if (status == TS_OK) status = ts_writer_publish(writer, NULL, error);
    if (status == TS_OK && p->digests) {
        uint8_t bytes[7 * 13 * 8];
        for (uint32_t i = 0; i < TENSORS; i++) {
            ts_writer_row row = ts_writer_row_of(writer, i);
            for (uint64_t k = 0; k < row.size; k++) bytes[k] = byte_of(i, k);
            CHECK(p->packed
                  || row.digest
                         == ts_checksum_of(TS_CHECKSUM_XXH3, bytes, row.size));
        }
    }
    ts_writer_free(writer);
    return status;
}

static ts_status read_tensor(const ts_file *file, const ts_tensor *tensor,
                             uint8_t *bytes, ts_error *error)
{
    uint8_t stored[8192];
    ts_frame *frame;

    if (tensor->storage == TS_STORED)
        return ts_file_read(file, tensor->offset, bytes, tensor->size, error);
    CHECK(tensor->extent <= sizeof stored);
    TS_TRY(ts_file_read(file, tensor->offset, stored, tensor->extent, error));
    TS_TRY(ts_frame_open_bytes(stored, tensor->extent, true, &frame, error));
    ts_status status =
        ts_decompress(frame, stored, NULL, 1, 0, bytes, error);
    ts_frame_free(frame);
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
    CHECK(read_tensor(ts_catalog_file(catalog, tensor->file), tensor, bytes,
                      &error)
          == TS_OK, "%s", error.message);
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
    if (value != NULL && value->key.size > 1)
        value = ts_catalog_value(catalog, 1); /* behind what frames say */
    CHECK(value == NULL
          || memcmp(value->bytes, "known at the end: \"\n", 20) == 0);
    ts_catalog_release(catalog);
    return whole;
}

static void what_is_written_is_read(void)
{
    for (size_t f = 0; f < TS_COUNT_OF(formats); f++)
        for (int way = 0; way < 8; way++) {
            plan p = {formats[f], way & 1, way & 2, way & 4, false, 0};
            install(0, 0);
            fault.no_insert = way & 4;
            CHECK_OK(save(&p, error));
            CHECK(is_whole(p.format), "%s, way %d", ts_format_name(p.format),
                  way);
        }
}

static void frames_are_written_and_read(void)
{
    for (int way = 0; way < 8; way++) {
        plan p = {TS_FORMAT_SAFETENSORS, way & 1, way & 2, way & 4, true,
                  way & 1 ? TS_MIB : 64 * TS_MIB};
        install(0, 0);
        CHECK_OK(save(&p, error));
        CHECK(is_whole(p.format), "way %d", way);
    }
}

/* Large enough for many chunks, in pieces that never fit them. */
static void a_large_tensor_is_packed_by_all(void)
{
    enum { SIZE = 3 * 1000 * 1000 };
    const size_t pieces[] = {1, 999999, 65536, 3000, 2000000};
    const int threads[] = {1, 2, 7};
    uint8_t *in = malloc(SIZE), *out = malloc(SIZE);
    uint64_t shape[2] = {0, 1000};

    for (size_t i = 0; i < SIZE; i++) in[i] = byte_of(1, i * i);
    for (size_t t = 0; t < TS_COUNT_OF(threads); t++)
        for (int way = 0; way < 4; way++) {
            ts_writer_options options = {
                .format = TS_FORMAT_SAFETENSORS, .packed = true,
                .mode = TS_PACK_RAW, .threads = threads[t],
                .budget = way & 1 ? TS_MIB : 8 * TS_MIB};
            ts_writer *writer;
            ts_catalog *catalog;
            ts_frame *frame;
            shape[0] = way & 2 ? TS_ROWS_UNKNOWN : SIZE / 2000;
            CHECK_OK(ts_writer_new(path, &options, &writer, error));
            CHECK_OK(ts_writer_begin(writer, (ts_name){"t", 1}, TS_BF16, 2,
                                     shape, error));
            for (size_t at = 0, i = 0; at < SIZE; i++) {
                size_t part =
                    ts_min(pieces[i % TS_COUNT_OF(pieces)], SIZE - at);
                CHECK_OK(ts_writer_write(writer, in + at, part, error));
                at += part;
            }
            CHECK_OK(ts_writer_end(writer, error));
            CHECK_OK(ts_writer_publish(writer, NULL, error));
            ts_writer_free(writer);
            CHECK_OK(ts_catalog_open(path, &catalog, error));
            const ts_tensor *tensor = ts_catalog_tensor(catalog, 0);
            CHECK(tensor->size == SIZE && tensor->shape[0] == SIZE / 2000);
            CHECK(tensor->offset % 4096 == 0);
            uint8_t *stored = malloc(tensor->extent);
            CHECK_OK(ts_file_read(ts_catalog_file(catalog, 0), tensor->offset,
                                  stored, tensor->extent, error));
            CHECK_OK(ts_frame_open_bytes(stored, tensor->extent, true, &frame,
                                         error));
            CHECK_OK(ts_decompress(frame, stored, NULL, 1, 0, out, error));
            CHECK(memcmp(in, out, SIZE) == 0);
            ts_frame_free(frame);
            free(stored);
            ts_catalog_release(catalog);
        }
    free(in);
    free(out);
}

/* Equal content is stored once, though nobody said so. */
static void equal_tensors_refer_to_the_first(void)
{
    ts_writer_options options = {.format = TS_FORMAT_SAFETENSORS,
                                 .packed = true, .mode = TS_PACK_FAST};
    static uint8_t bytes[100000];
    uint64_t shape[2] = {10, 10000};
    const char *const names[] = {"a", "b", "c", "d", "e"};
    ts_writer *writer;
    ts_catalog *catalog;

    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = byte_of(9, i);
    CHECK_OK(ts_writer_new(path, &options, &writer, error));
    for (uint32_t i = 0; i < 4; i++) {
        if (i == 2) bytes[77777] ^= 1; /* c differs, d is c in another shape */
        if (i == 3) shape[0] = 100, shape[1] = 1000;
        CHECK_OK(ts_writer_begin(writer, (ts_name){names[i], 1}, TS_U8, 2,
                                 shape, error));
        CHECK_OK(ts_writer_write(writer, bytes, sizeof bytes, error));
        CHECK_OK(ts_writer_end(writer, error));
        CHECK(ts_writer_row_of(writer, i).repeats == (i % 2 == 1));
        CHECK((ts_writer_row_of(writer, i).stored < 1000) == (i % 2 == 1));
    }
    CHECK_OK(ts_writer_repeat(writer, (ts_name){"e", 1}, (ts_name){"c", 1},
                              error));
    CHECK_FAILS(ts_writer_repeat(writer, (ts_name){"f", 1}, (ts_name){"b", 1},
                                 error),
                TS_ARGUMENT, "repeats another");
    ts_writer_free(writer);
    CHECK_OK(ts_writer_new(path, &options, &writer, error));
    shape[0] = 1;
    shape[1] = sizeof bytes;
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_OK(ts_writer_begin(writer, (ts_name){names[i], 1}, TS_U8, 2,
                                 shape, error));
        CHECK_OK(ts_writer_write(writer, bytes, sizeof bytes, error));
        CHECK_OK(ts_writer_end(writer, error));
    }
    CHECK_OK(ts_writer_publish(writer, NULL, error));
    CHECK(ts_writer_size(writer) < 2 * sizeof bytes);
    ts_writer_free(writer);
    CHECK_OK(ts_catalog_open(path, &catalog, error));
    CHECK(ts_catalog_tensor(catalog, 2)->alias_of == 0);
    ts_catalog_release(catalog);
}

/* ---- over a base ---------------------------------------------------------- */

enum { LARGE = 1200000 };

static const char long_name[] =
    "a.tensor.whose.name.makes.the.front.of.its.frame.one.line.longer.weight";

/* Byte i of a tensor: of the base, or of what was made of it. */
static uint8_t tuned_byte(size_t tensor, size_t i, bool is_base)
{
    uint8_t byte = (uint8_t)(i * i * 2654435761u >> 21);
    if (is_base) return byte;
    if (tensor == 1) return (uint8_t)(byte + i * 40503u / 7); /* unrelated */
    return byte ^ (uint8_t)(i % 997 == 0);
}

static ts_status put_tuned(ts_writer *writer, const char *name, size_t tensor,
                           bool is_base, size_t size, ts_error *error)
{
    uint64_t shape[2] = {size / 2000, 1000};
    uint8_t *bytes = malloc(size);

    for (size_t i = 0; i < size; i++) bytes[i] = tuned_byte(tensor, i, is_base);
    ts_status status = ts_writer_begin(
        writer, (ts_name){name, strlen(name)}, TS_BF16, 2, shape, error);
    if (status == TS_OK) status = ts_writer_write(writer, bytes, 77777, error);
    if (status == TS_OK)
        status =
            ts_writer_write(writer, bytes + 77777, size - 77777, error);
    free(bytes);
    return status == TS_OK ? ts_writer_end(writer, error) : status;
}

/* budget 0: not packed. */
static ts_catalog *base_at(const char *where, uint64_t budget)
{
    ts_writer_options options = {.format = TS_FORMAT_SAFETENSORS,
                                 .packed = budget > 0,
                                 .mode = TS_PACK_FAST, .budget = budget};
    ts_writer *writer;
    ts_catalog *catalog;

    CHECK_OK(ts_writer_new(where, &options, &writer, error));
    CHECK_OK(put_tuned(writer, "near", 0, true, LARGE, error));
    CHECK_OK(put_tuned(writer, long_name, 1, true, LARGE, error));
    CHECK_OK(put_tuned(writer, "longer", 2, true, LARGE, error));
    CHECK_OK(ts_writer_publish(writer, NULL, error));
    ts_writer_free(writer);
    CHECK_OK(ts_catalog_open(where, &catalog, error));
    return catalog;
}

static void check_tuned(const ts_catalog *catalog, uint32_t number,
                        size_t tensor)
{
    const ts_tensor *row = ts_catalog_tensor(catalog, number);
    uint8_t *bytes = malloc(row->size);
    ts_unpacking_needs needs = {0};
    ts_unpacking *unpacking;
    ts_reader *reader;
    size_t wrong = 0;

    ts_unpacking_need(&needs, row);
    CHECK_OK(ts_unpacking_new(&needs, 0, &unpacking, error));
    CHECK_OK(ts_reader_new(TS_ENGINE_PREAD, &reader, error));
    CHECK_OK(ts_unpacking_read(unpacking, reader,
                               ts_catalog_file(catalog, row->file), row, 0,
                               row->size, bytes, error));
    for (size_t i = 0; i < row->size; i++)
        wrong += bytes[i] != tuned_byte(tensor, i, false);
    CHECK(wrong == 0, "%zu bytes of tensor %u", wrong, number);
    ts_reader_free(reader);
    ts_unpacking_free(unpacking);
    free(bytes);
}

static void check_over(const char *where, ts_catalog *base)
{
    const ts_value *value;
    ts_catalog *catalog;
    uint32_t i = 0;

    CHECK_OK(ts_catalog_open_with(where, &(ts_open_options){.base = base},
                                  &catalog, error));
    CHECK(ts_catalog_count(catalog) == 4);
    check_tuned(catalog, 0, 0);
    check_tuned(catalog, 1, 1);
    check_tuned(catalog, 2, 2);
    check_tuned(catalog, 3, 0); /* a repeat of a difference */
    CHECK(ts_catalog_tensor(catalog, 0)->frame->is_delta);
    CHECK(ts_catalog_tensor(catalog, 1)->frame->base_name.size == 0);
    CHECK(ts_catalog_tensor(catalog, 2)->frame->base_name.size == 0);
    CHECK(ts_catalog_tensor(catalog, 3)->alias_of == 0);
    do value = ts_catalog_value(catalog, i++);
    while (value->key.size != sizeof TS_FRAMES_BASE - 1);
    CHECK(value->size == 9 && memcmp(value->bytes, "the other", 9) == 0);
    ts_catalog_release(catalog);
}

static void differences_to_a_base(void)
{
    const int threads[] = {1, 2, 7};
    char below[4096];

    snprintf(below, sizeof below, "%s.base", path);
    for (int way = 0; way < 2; way++) {
        ts_catalog *base = base_at(below, way * 4 * TS_MIB);
        for (size_t t = 0; t < TS_COUNT_OF(threads); t++) {
            ts_writer_options options = {
                .format = TS_FORMAT_SAFETENSORS, .packed = true,
                .mode = TS_PACK_FAST, .threads = threads[t],
                .budget = t == 1 ? 32 * TS_MIB : 4 * TS_MIB, .base = base,
                .base_name = "the other"};
            ts_writer *writer;
            install(0, 0);
            CHECK_OK(ts_writer_new(path, &options, &writer, error));
            CHECK_OK(put_tuned(writer, "near", 0, false, LARGE, error));
            CHECK_OK(put_tuned(writer, long_name, 1, false, LARGE, error));
            CHECK_OK(put_tuned(writer, "longer", 2, false, LARGE + 2000,
                               error));
            CHECK_OK(ts_writer_repeat(writer, (ts_name){"tied", 4},
                                      (ts_name){"near", 4}, error));
            CHECK(ts_writer_row_of(writer, 0).differs);
            CHECK(ts_writer_row_of(writer, 0).stored < LARGE / 20);
            CHECK(!ts_writer_row_of(writer, 1).differs);
            CHECK(!ts_writer_row_of(writer, 2).differs);
            CHECK_OK(ts_writer_publish(writer, NULL, error));
            ts_writer_free(writer);
            check_over(path, base);
        }
        ts_catalog_release(base);
    }
    unlink(below);
}

static void bases_that_cannot_be(void)
{
    ts_writer_options options = {
        .format = TS_FORMAT_SAFETENSORS, .packed = true, .mode = TS_PACK_FAST,
        .budget = 3 * TS_MIB, .base_name = "the other"};
    char below[4096];
    ts_writer *writer;
    ts_catalog *over;

    install(0, 0);
    snprintf(below, sizeof below, "%s.base", path);
    options.base = base_at(below, 64 * TS_MIB); /* chunks of 256 KiB */
    CHECK_FAILS(ts_writer_new(path, &options, &writer, error), TS_BUDGET,
                "the base has chunks of 262144 bytes");
    options.budget = 64 * TS_MIB;
    CHECK_OK(ts_writer_new(path, &options, &writer, error));
    CHECK_OK(put_tuned(writer, "near", 0, false, LARGE, error));
    CHECK_OK(ts_writer_publish(writer, NULL, error));
    ts_writer_free(writer);
    CHECK_OK(ts_catalog_open_with(
        path, &(ts_open_options){.base = options.base}, &over, error));
    ts_catalog_release(options.base);
    options.base = over;
    CHECK_FAILS(ts_writer_new(below, &options, &writer, error), TS_ARGUMENT,
                "what differs from the other, in 'near': give that one");
    ts_catalog_release(over);
    unlink(below);
}

static void what_only_frames_can(void)
{
    ts_writer_options options = {.format = TS_FORMAT_GGUF, .packed = true};
    ts_value value = {.key = {TS_FRAMES_KEY, sizeof TS_FRAMES_KEY - 1},
                      .kind = TS_VALUE_STRING};
    uint64_t shape[1] = {256};
    ts_writer *writer;

    CHECK_FAILS(ts_writer_new(path, &options, &writer, error), TS_UNSUPPORTED,
                "gguf files hold no compressed tensors");
    options.format = TS_FORMAT_SAFETENSORS;
    CHECK_OK(ts_writer_new(path, &options, &writer, error));
    CHECK_OK(ts_writer_begin(writer, (ts_name){"q", 1}, TS_Q4_K, 1, shape,
                             error));
    ts_writer_free(writer);
    options.packed = false;
    CHECK_OK(ts_writer_new(path, &options, &writer, error));
    CHECK_FAILS(ts_writer_value(writer, &value, error), TS_ARGUMENT,
                "kept for compressed");
    CHECK_FAILS(ts_writer_begin(writer, (ts_name){"q", 1}, TS_Q4_K, 1, shape,
                                error),
                TS_UNSUPPORTED, "no code for");
    ts_writer_free(writer);
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
    for (size_t f = 0; f <= TS_COUNT_OF(formats); f++)
        for (size_t i = 0; i < TS_COUNT_OF(refusals); i++) {
            plan p = {formats[f % TS_COUNT_OF(formats)], i > 0, true, false,
                      f == TS_COUNT_OF(formats), TS_MIB};
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
    RUN(frames_are_written_and_read);
    RUN(a_large_tensor_is_packed_by_all);
    RUN(equal_tensors_refer_to_the_first);
    RUN(differences_to_a_base);
    RUN(bases_that_cannot_be);
    RUN(what_only_frames_can);
    RUN(any_call_may_fail);
    RUN(tensors_that_cannot_be);
    RUN(metadata_that_cannot_be);
    unlink(path);
    CHECK_END();
}
