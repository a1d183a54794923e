#include "check.h"

#include <unistd.h>

#include "blob.h"
#include "codec/codec.h"
#include "stream/stream.h"

static const char *scratch;

/* ---- files of frames ------------------------------------------------------- */

typedef struct {
    const char *name;
    ts_dtype dtype;
    uint32_t ndim;
    uint64_t shape[3];
    uint32_t chunk;        /* elements */
    ts_frame_kind kind;
    const char *base;      /* its name, when not PLAIN */
    unsigned seed;         /* of the bytes, and of those it refers to */
    unsigned base_seed;
} recipe;

static uint64_t elements_of(const recipe *one)
{
    uint64_t elements = 1;
    for (uint32_t i = 0; i < one->ndim; i++) elements *= one->shape[i];
    return elements;
}

static uint64_t size_of(const recipe *one)
{
    uint64_t size = 0;
    CHECK(ts_dtype_bytes(one->dtype, elements_of(one), &size));
    return size;
}

enum { NEAR = 1000 }; /* a seed and this: the bytes of that seed but for some */

/* Floats near one and small integers, so that conversions stay finite. */
static uint8_t *bytes_of(const recipe *one, unsigned seed)
{
    uint64_t size = size_of(one);
    uint8_t *bytes = malloc(size + 1);
    unsigned state = seed % NEAR;
    for (uint64_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)rand_r(&state);
        if (i % 2 == 1 && one->dtype == TS_BF16) bytes[i] = 0x3f;
        if (seed >= NEAR && i % 96 == 0) bytes[i] ^= 1;
    }
    return bytes;
}

static ts_buffer *frame_of(const recipe *one)
{
    uint8_t *bytes = bytes_of(one, one->seed), *base = NULL;
    ts_buffer *frame = NULL;
    ts_frame_spec spec = {
        .dtype = one->dtype,
        .kind = one->kind,
        .mode = TS_PACK_FAST,
        .ndim = one->ndim,
        .shape = one->shape,
        .chunk_elements = one->chunk,
    };
    if (one->base != NULL) {
        uint64_t chunk_bytes = 0;
        CHECK(ts_dtype_bytes(one->dtype, one->chunk, &chunk_bytes));
        base = bytes_of(one, one->base_seed);
        spec.base_name = one->base;
        spec.base_size = strlen(one->base);
        CHECK_OK(ts_frame_digest(base, size_of(one), (uint32_t)chunk_bytes,
                                 &spec.base_digest, error));
    }
    CHECK_OK(ts_compress(&spec, bytes, base, 1, &frame, error));
    free(base);
    free(bytes);
    return frame;
}

enum { PADDING = 192 };

/* Where the frame of tensor `number` begins in the file. */
static size_t places[16];

static blob file_of(const recipe *recipes, size_t count, const char *metadata)
{
    blob header = {0}, data = {0}, file = {0};
    char text[512];
    blob_text(&header, "{\"__metadata__\":{");
    blob_text(&header, metadata);
    blob_text(&header, "}");
    for (size_t i = 0; i < count; i++) {
        static const uint8_t zeros[PADDING];
        ts_buffer *frame = frame_of(&recipes[i]);
        places[i] = data.size;
        blob_add(&data, ts_buffer_data(frame), ts_buffer_size(frame));
        blob_add(&data, zeros, i % 2 * PADDING);
        snprintf(text, sizeof text,
                 ",\"%s\":{\"dtype\":\"U8\",\"shape\":[%zu],\"data_offsets\":"
                 "[%zu,%zu]}",
                 recipes[i].name, data.size - places[i], places[i], data.size);
        blob_text(&header, text);
        ts_buffer_release(frame);
    }
    blob_text(&header, "}");
    while ((8 + header.size) % 64 != 0) blob_text(&header, " ");
    blob_u64(&file, header.size);
    blob_add(&file, header.bytes, header.size);
    for (size_t i = 0; i < count; i++) places[i] += file.size;
    blob_add(&file, data.bytes, data.size);
    free(header.bytes);
    free(data.bytes);
    return file;
}

#define FRAMES "\"" TS_FRAMES_KEY "\":\"" TS_FRAMES_VERSION "\""

static ts_catalog *open_blob(const blob *file, const char *name,
                             const ts_open_options *options)
{
    char path[512];
    ts_catalog *catalog = NULL;
    snprintf(path, sizeof path, "%s/%s", scratch, name);
    FILE *out = fopen(path, "wb");
    CHECK(out != NULL && fwrite(file->bytes, 1, file->size, out) == file->size);
    if (out != NULL) fclose(out);
    CHECK_OK(ts_catalog_open_with(path, options, &catalog, error));
    return catalog;
}

static const recipe plain[] = {
    {"embed", TS_BF16, 2, {1001, 256}, 8192, 0, NULL, 1, 0},
    {"layers.0.w", TS_F32, 2, {300, 333}, 1000, 0, NULL, 2, 0},
    {"layers.0.scalar", TS_F64, 0, {0}, 64, 0, NULL, 3, 0},
    {"layers.1.none", TS_I64, 1, {0}, 64, 0, NULL, 4, 0},
    {"layers.1.q", TS_Q8_0, 2, {7, 3200}, 3200, 0, NULL, 5, 0},
    {"head", TS_I8, 3, {5, 77, 31}, 131072, 0, NULL, 6, 0},
};

/* ---- reading ---------------------------------------------------------------- */

static ts_stream_options options_of(ts_sink sink)
{
    return (ts_stream_options){.sink = sink,
                               .form = TS_FORM_RAW,
                               .budget = 4 * TS_MIB,
                               .threads = 2,
                               .engine = TS_ENGINE_AUTO};
}

static ts_status wait_for(ts_stream *stream, ts_error *error)
{
    bool done = false;
    while (!done) TS_TRY(ts_stream_wait(stream, 1000, &done, error));
    return TS_OK;
}

/* All bytes of a row, by the sink that writes into memory. */
static ts_status read_row(ts_catalog *catalog, uint32_t row, uint8_t *into,
                          uint64_t chunk, int threads, ts_error *error)
{
    ts_stream_options options = options_of(TS_SINK_INTO);
    ts_wanted wanted = {row, 0, ts_catalog_tensor(catalog, row)->elements,
                        into};
    ts_stream *stream;
    options.chunk_size = chunk;
    options.threads = threads;
    TS_TRY(ts_stream_new(catalog, &wanted, 1, &options, &stream, error));
    ts_status status = wait_for(stream, error);
    ts_stream_free(stream);
    return status;
}

static void check_row(ts_catalog *catalog, uint32_t row, const recipe *one,
                      unsigned seed)
{
    static const uint64_t chunks[] = {0, 4096, 5000, 100000};
    uint64_t size = size_of(one);
    uint8_t *want = bytes_of(one, seed), *got = malloc(size + 1);

    for (size_t i = 0; i < TS_COUNT_OF(chunks); i++)
        for (int threads = 1; threads <= 3; threads++) {
            memset(got, 0xAA, size + 1);
            CHECK_OK(read_row(catalog, row, got, chunks[i], threads, error));
            CHECK(memcmp(got, want, size) == 0, "%s, chunks of %llu",
                  one->name, (unsigned long long)chunks[i]);
            CHECK(got[size] == 0xAA);
        }
    free(got);
    free(want);
}

static void tensors_are_what_their_frames_say(void)
{
    blob file = file_of(plain, TS_COUNT_OF(plain), FRAMES);
    ts_catalog *catalog =
        open_blob(&file, "plain.safetensors", &(ts_open_options){0});

    CHECK(ts_catalog_count(catalog) == TS_COUNT_OF(plain));
    for (uint32_t i = 0; i < TS_COUNT_OF(plain); i++) {
        const ts_tensor *row = ts_catalog_tensor(catalog, i);
        CHECK(row->dtype == plain[i].dtype && row->ndim == plain[i].ndim);
        CHECK(row->size == size_of(&plain[i]) && row->alias_of == i);
        CHECK(row->storage == TS_FRAMED && row->frame != NULL);
        check_row(catalog, i, &plain[i], plain[i].seed);
    }
    ts_catalog_release(catalog);
    free(file.bytes);
}

/* Chunks as floats, in order, each once; what neighbours share is whole. */
static void they_stream_as_floats(void)
{
    blob file = file_of(plain, 2, FRAMES);
    ts_catalog *catalog =
        open_blob(&file, "floats.safetensors", &(ts_open_options){0});
    ts_wanted wanted[2] = {{0, 0, elements_of(&plain[0]), NULL},
                           {1, 0, elements_of(&plain[1]), NULL}};
    uint8_t *want = bytes_of(&plain[0], plain[0].seed);
    ts_stream_options options = options_of(TS_SINK_ARRAYS);
    uint64_t elements = 0, chunks = 0;
    ts_stream *stream;
    ts_next got;

    options.form = TS_FORM_FLOATS;
    options.dtype = TS_F32;
    options.chunk_size = 60000;
    CHECK_OK(ts_stream_new(catalog, wanted, 2, &options, &stream, error));
    for (;;) {
        do
            CHECK_OK(ts_stream_next(stream, 1000, &got, error));
        while (got.pending);
        if (got.done) break;
        const ts_chunk *chunk = &got.delivery.chunk;
        const float *values =
            (const float *)(const void *)ts_buffer_data(got.delivery.buffer);
        if (chunk->row == 0) {
            CHECK(chunk->start % 8192 == 0, "cut where chunks begin");
            for (uint64_t k = chunk->start; k < chunk->stop; k++) {
                uint32_t bits = (uint32_t)want[2 * k] << 16
                              | (uint32_t)want[2 * k + 1] << 24;
                CHECK(memcmp(&values[k - chunk->start], &bits, 4) == 0);
            }
        }
        elements += chunk->stop - chunk->start;
        chunks++;
        ts_buffer_release(got.delivery.buffer);
    }
    CHECK(elements == elements_of(&plain[0]) + elements_of(&plain[1]));
    CHECK(chunks > 10);
    ts_progress progress;
    ts_stream_progress(stream, &progress);
    CHECK(progress.memory_peak <= 4 * TS_MIB);
    CHECK(progress.file_bytes == progress.file_bytes_total);
    ts_stream_free(stream);
    free(want);
    ts_catalog_release(catalog);
    free(file.bytes);
}

/* Rows quantised while they pass are the rows quantised at once, wherever the
 * chunks of the frame end. */
static void check_encoding(ts_catalog *catalog, const char *scheme,
                           uint64_t group)
{
    ts_stream_options options = options_of(TS_SINK_ARRAYS);
    uint64_t rows = plain[0].shape[0], columns = plain[0].shape[1];
    uint8_t *bytes = bytes_of(&plain[0], plain[0].seed);
    uint64_t codes = 0, scales = 0, at = 0, row = 0;
    ts_wanted wanted = {0, 0, rows * columns, NULL};
    ts_quantize how;
    ts_stream *stream;
    ts_next got;

    CHECK_OK(ts_quantize_find(scheme, strlen(scheme), TS_BF16, columns, group,
                              false, &how, error));
    CHECK(ts_quantize_sizes(&how, rows, &codes, &scales));
    uint8_t *want = malloc(codes);
    float *want_scales = malloc(scales * 4 + 4);
    CHECK_OK(ts_quantize_run(&how, bytes, rows,
                             &(ts_quantized){want, want_scales, NULL}, error));
    options.form = TS_FORM_SCHEME;
    options.chunk_size = 50000;
    snprintf(options.encoding.scheme, sizeof options.encoding.scheme, "%s",
             scheme);
    options.encoding.group = group;
    CHECK_OK(ts_stream_new(catalog, &wanted, 1, &options, &stream, error));
    for (;;) {
        do
            CHECK_OK(ts_stream_next(stream, 1000, &got, error));
        while (got.pending);
        if (got.done) break;
        const ts_chunk *chunk = &got.delivery.chunk;
        const uint8_t *data = ts_buffer_data(got.delivery.buffer);
        uint64_t count = chunk->stop - chunk->start, part = codes, own = 0;
        if (scales > 0)
            CHECK(ts_quantize_sizes(&how, count / columns, &part, &own));
        else
            part = count * codes / (rows * columns);
        CHECK(memcmp(data, want_scales + row, own * 4) == 0);
        CHECK(memcmp(data + own * 4, want + at, part) == 0);
        CHECK(ts_buffer_size(got.delivery.buffer) == part + own * 4);
        at += part;
        row += own;
        ts_buffer_release(got.delivery.buffer);
    }
    CHECK(at == codes && row == scales);
    ts_stream_free(stream);
    free(want_scales);
    free(want);
    free(bytes);
}

static void they_are_quantised_as_they_pass(void)
{
    recipe uneven = plain[0];
    uneven.chunk = 1000; /* no whole number of rows or blocks */
    const recipe *both[] = {&plain[0], &uneven};

    for (size_t i = 0; i < TS_COUNT_OF(both); i++) {
        blob file = file_of(both[i], 1, FRAMES);
        ts_catalog *catalog = NULL;
        CHECK_OK(open_bytes(file.bytes, file.size, "q", &catalog, error));
        check_encoding(catalog, "q8_0", TS_GROUP_NONE);
        check_encoding(catalog, "int8", TS_GROUP_ROW);
        check_encoding(catalog, "nf4", TS_GROUP_NONE);
        check_encoding(catalog, "int4", 32);
        ts_catalog_release(catalog);
        free(file.bytes);
    }
}

/* ---- repeats and differences -------------------------------------------- */

static const recipe first[] = {
    {"a", TS_BF16, 2, {100, 300}, 4096, 0, NULL, 11, 0},
    {"b", TS_F32, 1, {5000}, 1024, 0, NULL, 12, 0},
};

static void a_repeat_is_the_tensor_it_repeats(void)
{
    static const recipe tied[] = {
        {"a", TS_BF16, 2, {100, 300}, 4096, TS_FRAME_PLAIN, NULL, 11, 0},
        {"again", TS_BF16, 1, {30000}, 4096, TS_FRAME_SAME, "a", 11, 11},
    };
    blob file = file_of(tied, 2, FRAMES);
    ts_catalog *catalog =
        open_blob(&file, "tied.safetensors", &(ts_open_options){0});

    CHECK(ts_catalog_tensor(catalog, 1)->offset
          == ts_catalog_tensor(catalog, 0)->offset);
    check_row(catalog, 1, &tied[1], 11);
    ts_catalog_release(catalog);
    free(file.bytes);
}

static void a_difference_needs_its_base(void)
{
    static const recipe tuned[] = {
        {"a", TS_BF16, 2, {100, 300}, 4096, TS_FRAME_DELTA, "a", NEAR + 11,
         11},
        {"b", TS_F32, 1, {5000}, 1024, TS_FRAME_SAME, "b", 12, 12},
        {"c", TS_BF16, 2, {100, 300}, 4096, TS_FRAME_DELTA, "d", NEAR + 32,
         32},
        {"d", TS_BF16, 2, {100, 300}, 4096, TS_FRAME_PLAIN, NULL, 32, 0},
    };
    blob below = file_of(first, 2, FRAMES), file = file_of(tuned, 4, FRAMES);
    ts_catalog *base =
        open_blob(&below, "base.safetensors", &(ts_open_options){0});
    ts_catalog *alone =
        open_blob(&file, "tuned.safetensors", &(ts_open_options){0});
    ts_catalog *over = open_blob(&file, "tuned.safetensors",
                                 &(ts_open_options){.base = base});
    uint8_t *into = malloc(size_of(&tuned[0]));

    CHECK_FAILS(read_row(alone, 0, into, 0, 1, error), TS_ARGUMENT,
                "it holds only what differs from 'a' of another checkpoint");
    CHECK_FAILS(read_row(alone, 1, into, 0, 1, error), TS_ARGUMENT,
                "open this one over that (base=)");
    check_row(alone, 2, &tuned[2], NEAR + 32); /* its base is in the same file */
    ts_catalog_release(alone);
    ts_catalog_release(base); /* the other keeps it */
    for (uint32_t i = 0; i < 4; i++)
        check_row(over, i, &tuned[i], tuned[i].seed);
    ts_catalog_release(over);
    free(into);
    free(below.bytes);
    free(file.bytes);
}

static void a_base_of_other_content_is_refused(void)
{
    static const recipe wrong[] = {
        {"a", TS_BF16, 2, {100, 300}, 4096, TS_FRAME_PLAIN, NULL, 11, 0},
        {"again", TS_BF16, 1, {30000}, 4096, TS_FRAME_SAME, "a", 99, 99},
    };
    blob file = file_of(wrong, 2, FRAMES);
    ts_catalog *catalog;

    CHECK_FAILS(open_bytes(file.bytes, file.size, "wrong", &catalog, error),
                TS_FORMAT, "it refers to a 'a' of other content");
    free(file.bytes);
}

/* ---- damage ------------------------------------------------------------------ */

static void each_flipped_bit_is_found_and_stays_where_it_is(void)
{
    static const recipe two[] = {
        {"w", TS_F32, 2, {40, 100}, 1000, TS_FRAME_PLAIN, NULL, 7, 0},
        {"v", TS_BF16, 1, {777}, 256, TS_FRAME_PLAIN, NULL, 8, 0},
    };
    blob file = file_of(two, 2, FRAMES);
    size_t begin = places[0], end = file.size;
    unsigned state = 5;

    for (int round = 0; round < 400; round++) {
        size_t at = begin + (size_t)rand_r(&state) % (end - begin);
        uint8_t bit = (uint8_t)(1u << rand_r(&state) % 8);
        ts_damages damages = {0};
        ts_catalog *catalog;
        file.bytes[at] ^= bit;
        ts_error why;
        if (open_bytes(file.bytes, file.size, "flipped", &catalog, &why)
            == TS_OK) {
            uint32_t row = at >= places[1];
            CHECK_OK(ts_damage_find(catalog, row, &damages, error));
            CHECK(damages.count == 1, "byte %zu: %zu damages", at,
                  damages.count);
            if (damages.count == 1 && damages.items[0].chunk < 1000)
                CHECK(damages.items[0].elements
                      <= (row == 0 ? 1000u : 256u));
            CHECK_OK(ts_damage_find(catalog, 1 - row, &damages, error));
            CHECK(damages.count == 1, "the other tensor is sound");
            ts_damages_free(&damages);
            ts_catalog_release(catalog);
        } else {
            CHECK(why.message[0] != '\0');
        }
        file.bytes[at] ^= bit;
    }
    free(file.bytes);
}

static void a_damaged_chunk_leaves_its_neighbours(void)
{
    blob file = file_of(&plain[1], 1, FRAMES);
    uint64_t size = size_of(&plain[1]);
    uint8_t *want = bytes_of(&plain[1], plain[1].seed), *got = malloc(size);
    ts_damages damages = {0};
    ts_catalog *catalog;

    file.bytes[file.size / 2] ^= 1;
    CHECK_OK(open_bytes(file.bytes, file.size, "damaged", &catalog, error));
    CHECK_OK(ts_damage_find(catalog, 0, &damages, error));
    CHECK(damages.count == 1);
    uint64_t from = damages.items[0].first * 4;
    uint64_t to = from + damages.items[0].elements * 4;
    CHECK(to - from == 4000 && strstr(damages.items[0].error.message, "chunk"));
    ts_stream_options options = options_of(TS_SINK_INTO);
    ts_wanted around[2] = {{0, 0, from / 4, got},
                           {0, to / 4, size / 4, got + to}};
    ts_stream *stream;
    CHECK_OK(ts_stream_new(catalog, around, 2, &options, &stream, error));
    CHECK_OK(wait_for(stream, error));
    CHECK(memcmp(got, want, from) == 0);
    CHECK(memcmp(got + to, want + to, size - to) == 0);
    CHECK_FAILS(read_row(catalog, 0, got, 0, 1, error), TS_CORRUPT, "chunk");
    ts_stream_free(stream);
    ts_damages_free(&damages);
    ts_catalog_release(catalog);
    free(got);
    free(want);
    free(file.bytes);
}

/* ---- what is refused --------------------------------------------------------- */

static void what_is_no_frame_is_refused(void)
{
    blob file = file_of(plain, 2, "\"" TS_FRAMES_KEY "\":\"7\"");
    ts_catalog *catalog;

    CHECK_FAILS(open_bytes(file.bytes, file.size, "new", &catalog, error),
                TS_UNSUPPORTED, "frames of version '7'");
    free(file.bytes);
    file = file_of(plain, 2, FRAMES);
    file.bytes[places[1]] ^= 0xff;
    CHECK_FAILS(open_bytes(file.bytes, file.size, "magic", &catalog, error),
                TS_FORMAT, "");
    catalog = open_blob(&file, "lenient.safetensors",
                        &(ts_open_options){.lenient = true});
    CHECK(ts_catalog_tensor(catalog, 0)->dtype == TS_BF16);
    CHECK(ts_catalog_tensor(catalog, 1)->dtype == TS_U8);
    ts_catalog_release(catalog);
    file.bytes[places[1]] ^= 0xff;
    catalog = open_blob(&file, "stored.safetensors",
                        &(ts_open_options){.as_stored = true});
    CHECK(ts_catalog_tensor(catalog, 0)->dtype == TS_U8);
    CHECK(ts_catalog_tensor(catalog, 0)->storage == TS_STORED);
    ts_catalog_release(catalog);
    free(file.bytes);
}

static void chunks_too_large_for_the_budget_are_named(void)
{
    static const recipe large = {"w",  TS_F32, 1, {1 << 20}, 1 << 20, 0,
                                 NULL, 3,      0};
    blob file = file_of(&large, 1, FRAMES);
    uint8_t *into = malloc(size_of(&large));
    ts_catalog *catalog;

    CHECK_OK(open_bytes(file.bytes, file.size, "large", &catalog, error));
    CHECK_FAILS(read_row(catalog, 0, into, 0, 2, error), TS_ARGUMENT,
                "to unpack compressed chunks of 4194304 bytes at least");
    ts_catalog_release(catalog);
    free(into);
    free(file.bytes);
}

int main(int argc, char **argv)
{
    scratch = argc > 1 ? argv[1] : "/tmp";
    RUN(tensors_are_what_their_frames_say);
    RUN(they_stream_as_floats);
    RUN(they_are_quantised_as_they_pass);
    RUN(a_repeat_is_the_tensor_it_repeats);
    RUN(a_difference_needs_its_base);
    RUN(a_base_of_other_content_is_refused);
    RUN(each_flipped_bit_is_found_and_stays_where_it_is);
    RUN(a_damaged_chunk_leaves_its_neighbours);
    RUN(what_is_no_frame_is_refused);
    RUN(chunks_too_large_for_the_budget_are_named);
    CHECK_END();
}
