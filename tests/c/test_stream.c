#include "check.h"

#include <pthread.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "codec/codec.h"
#include "core/base.h"
#include "stream/stream.h"

static const char *scratch;

/* ---- a checkpoint in memory: pseudo-random bytes of a few tensors ---------- */

enum { TENSORS = 5 };

static const struct {
    const char *name;
    ts_dtype dtype;
    uint32_t ndim;
    uint64_t shape[3];
} made[TENSORS] = {
    {"model.embed_tokens.weight", TS_BF16, 2, {1001, 257}},
    {"model.layers.0.mlp.up_proj.weight", TS_F16, 2, {300, 4096}},
    {"model.layers.0.scalar", TS_F32, 0, {0}},
    {"model.layers.1.ids", TS_I64, 1, {12345}},
    {"lm_head.weight", TS_F32, 3, {7, 99, 64}},
};

static ts_buffer *memories[TENSORS];

static ts_catalog *checkpoint(void)
{
    ts_catalog_builder *builder;
    ts_catalog *catalog = NULL;
    unsigned seed = 42;
    CHECK_OK(ts_catalog_builder_new(TS_FORMAT_MEMORY, &builder, error));
    for (int i = 0; i < TENSORS; i++) {
        uint64_t elements = 1, size = 0;
        for (uint32_t d = 0; d < made[i].ndim; d++)
            elements *= made[i].shape[d];
        CHECK(ts_dtype_bytes(made[i].dtype, elements, &size));
        CHECK_OK(ts_buffer_new(size, 64, &memories[i], error));
        uint8_t *data = ts_buffer_data(memories[i]);
        for (uint64_t k = 0; k < size; k++) data[k] = (uint8_t)rand_r(&seed);
        CHECK_OK(ts_catalog_builder_add(
            builder, (ts_name){made[i].name, strlen(made[i].name)},
            made[i].dtype, made[i].ndim, made[i].shape, memories[i], error));
        ts_buffer_release(memories[i]); /* the catalog holds it */
    }
    CHECK_OK(ts_catalog_builder_finish(builder, &catalog, error));
    return catalog;
}

static void want_all(const ts_catalog *catalog, ts_wanted *wanted)
{
    for (uint32_t i = 0; i < ts_catalog_count(catalog); i++)
        wanted[i] = (ts_wanted){i, 0, ts_catalog_tensor(catalog, i)->elements,
                                NULL};
}

static ts_stream_options options_of(ts_sink sink)
{
    return (ts_stream_options){.sink = sink,
                               .budget = TS_MIB,
                               .threads = 2,
                               .engine = TS_ENGINE_AUTO};
}

/* The next chunk, however long it takes. */
static ts_status next(ts_stream *stream, ts_next *out, ts_error *error)
{
    do
        TS_TRY(ts_stream_next(stream, 1000, out, error));
    while (out->pending);
    return TS_OK;
}

/* ---- what must hold ---------------------------------------------------------- */

static void all_bytes_come_once_and_in_order(void)
{
    static const uint64_t chunks[] = {0, 4096, 5000, 100000};
    ts_catalog *catalog = checkpoint();
    ts_wanted wanted[TENSORS];
    want_all(catalog, wanted);
    for (int threads = 1; threads <= 4; threads++)
        for (size_t k = 0; k < TS_COUNT_OF(chunks); k++) {
            ts_stream_options options = options_of(TS_SINK_ARRAYS);
            ts_stream *stream;
            ts_next got;
            uint32_t item = 0;
            uint64_t at = 0;
            options.threads = threads;
            options.chunk_size = chunks[k];
            CHECK_OK(ts_stream_new(catalog, wanted, TENSORS, &options, &stream,
                                   error));
            for (;;) {
                CHECK_OK(next(stream, &got, error));
                if (got.done) break;
                const ts_chunk *chunk = &got.delivery.chunk;
                uint32_t width = got.delivery.recipe->widths.out_size;
                CHECK(chunk->item == item && chunk->start == at);
                CHECK(memcmp(ts_buffer_data(got.delivery.buffer),
                             ts_buffer_data(memories[item])
                                 + chunk->start * width,
                             (chunk->stop - chunk->start) * width)
                      == 0);
                ts_buffer_release(got.delivery.buffer);
                at = chunk->is_last ? 0 : chunk->stop;
                item += chunk->is_last;
            }
            CHECK(item == TENSORS);
            ts_progress progress;
            ts_stream_progress(stream, &progress);
            CHECK(progress.file_bytes == progress.file_bytes_total);
            CHECK(progress.elements == progress.elements_total);
            CHECK(progress.items == TENSORS);
            CHECK(progress.memory_peak <= TS_MIB);
            ts_stream_free(stream);
        }
    ts_catalog_release(catalog);
}

static void kept_memory_is_never_overwritten(void)
{
    enum { KEPT = 64 };
    ts_catalog *catalog = checkpoint();
    ts_wanted wanted[TENSORS];
    ts_stream_options options = options_of(TS_SINK_ARRAYS);
    ts_stream *stream;
    ts_next got, kept[KEPT];
    int count = 0;
    ts_error failure = {0};

    want_all(catalog, wanted);
    options.chunk_size = 32 * TS_KIB;
    CHECK_OK(ts_stream_new(catalog, wanted, TENSORS, &options, &stream,
                           error));
    ts_status status = TS_OK;
    while (count < KEPT) {
        status = next(stream, &got, &failure);
        if (status != TS_OK || got.done) break;
        kept[count++] = got;
    }
    CHECK(status == TS_BUDGET, "kept %d, then %s", count, failure.message);
    CHECK(strstr(failure.message, "model.embed_tokens.weight") != NULL,
          "names what is held: %s", failure.message);
    for (int i = 0; i < count; i++) {
        const ts_delivery *one = &kept[i].delivery;
        uint32_t width = one->recipe->widths.out_size;
        CHECK(memcmp(ts_buffer_data(one->buffer),
                     ts_buffer_data(memories[one->chunk.item])
                         + one->chunk.start * width,
                     (one->chunk.stop - one->chunk.start) * width)
              == 0);
    }
    /* With some of it let go, the stream goes on where it was. */
    uint64_t at = kept[count - 1].delivery.chunk.stop;
    for (int i = 0; i < count; i++) ts_buffer_release(kept[i].delivery.buffer);
    CHECK_OK(next(stream, &got, error));
    CHECK(got.delivery.chunk.start == at || got.delivery.chunk.start == 0);
    uint64_t width = got.delivery.recipe->widths.out_size;
    ts_stream_free(stream);
    /* and what is kept outlives the stream (its recipes do not) */
    CHECK(ts_buffer_data(got.delivery.buffer)[0]
          == ts_buffer_data(memories[got.delivery.chunk.item])
                 [got.delivery.chunk.start * width]);
    ts_buffer_release(got.delivery.buffer);
    ts_catalog_release(catalog);
}

static void floats_are_converted_and_integers_left(void)
{
    ts_catalog *catalog = checkpoint();
    ts_wanted wanted[TENSORS];
    ts_stream_options options = options_of(TS_SINK_ARRAYS);
    ts_stream *stream;
    ts_next got;
    want_all(catalog, wanted);
    options.form = TS_FORM_FLOATS;
    options.dtype = TS_F32;
    CHECK_OK(ts_stream_new(catalog, wanted, TENSORS, &options, &stream,
                           error));
    for (;;) {
        CHECK_OK(next(stream, &got, error));
        if (got.done) break;
        const ts_delivery *one = &got.delivery;
        const ts_chunk *chunk = &one->chunk;
        const uint8_t *source = ts_buffer_data(memories[chunk->item]);
        CHECK(one->recipe->to == (chunk->item == 3 ? TS_I64 : TS_F32));
        if (chunk->item == 0)
            for (uint64_t i = chunk->start; i < chunk->stop; i++) {
                uint32_t bits = ts_load_u32(ts_buffer_data(one->buffer)
                                            + (i - chunk->start) * 4);
                CHECK(bits == (uint32_t)ts_load_u16(source + i * 2) << 16);
            }
        ts_buffer_release(one->buffer);
    }
    ts_stream_free(stream);
    ts_catalog_release(catalog);
}

static ts_status run_to_end(ts_stream *stream, ts_error *error)
{
    bool done = false;
    while (!done) TS_TRY(ts_stream_wait(stream, 1000, &done, error));
    return TS_OK;
}

static void looking_gives_the_checksum_of_the_whole(void)
{
    static const ts_checksum_kind kinds[] = {
        TS_CHECKSUM_CRC32, TS_CHECKSUM_CRC32C, TS_CHECKSUM_XXH3,
        TS_CHECKSUM_SUM64};
    ts_catalog *catalog = checkpoint();
    ts_wanted wanted[TENSORS];
    want_all(catalog, wanted);
    for (size_t k = 0; k < TS_COUNT_OF(kinds); k++)
        for (int threads = 1; threads <= 3; threads++) {
            ts_stream_options options = options_of(TS_SINK_LOOK);
            ts_stream *stream;
            options.looks.checksum = kinds[k];
            options.looks.stats = true;
            options.threads = threads;
            options.chunk_size = 20000;
            CHECK_OK(ts_stream_new(catalog, wanted, TENSORS, &options, &stream,
                                   error));
            CHECK_OK(run_to_end(stream, error));
            for (uint32_t i = 0; i < TENSORS; i++) {
                ts_outcome outcome;
                ts_stats stats;
                ts_stream_outcome(stream, i, &outcome);
                uint64_t want = ts_checksum_of(kinds[k],
                                               ts_buffer_data(memories[i]),
                                               ts_buffer_size(memories[i]));
                CHECK(outcome.checksum == want, "%s of tensor %u",
                      ts_checksum_name(kinds[k]), i);
                ts_stats_begin(&stats);
                CHECK_OK(ts_stats_add(
                    &stats, made[i].dtype, ts_buffer_data(memories[i]),
                    ts_catalog_tensor(catalog, i)->elements, error));
                CHECK(stats.count == outcome.stats.count
                      && stats.nan_count == outcome.stats.nan_count
                      && stats.inf_count == outcome.stats.inf_count);
                CHECK(stats.min == outcome.stats.min
                      && stats.max == outcome.stats.max);
            }
            ts_stream_free(stream);
        }
    ts_catalog_release(catalog);
}

static void memory_of_the_caller_is_filled(void)
{
    ts_catalog *catalog = checkpoint();
    ts_wanted wanted[TENSORS];
    ts_stream_options options = options_of(TS_SINK_INTO);
    ts_stream *stream;
    uint8_t *into[TENSORS];
    want_all(catalog, wanted);
    for (int i = 0; i < TENSORS; i++) {
        into[i] = calloc(1, ts_buffer_size(memories[i]));
        wanted[i].into = into[i];
    }
    CHECK_OK(ts_stream_new(catalog, wanted, TENSORS, &options, &stream,
                           error));
    CHECK_OK(run_to_end(stream, error));
    ts_stream_free(stream);
    for (int i = 0; i < TENSORS; i++) {
        CHECK(memcmp(into[i], ts_buffer_data(memories[i]),
                     ts_buffer_size(memories[i]))
              == 0);
        free(into[i]);
    }
    ts_catalog_release(catalog);
}

static void a_stream_can_start_in_the_middle(void)
{
    ts_catalog *catalog = checkpoint();
    ts_stream_options options = options_of(TS_SINK_ARRAYS);
    ts_wanted wanted[2] = {{1, 777, 2000, NULL}, {0, 5, 5, NULL}};
    ts_stream *stream;
    ts_next got;
    uint32_t item;
    uint64_t element;
    CHECK_OK(ts_stream_new(catalog, wanted, 2, &options, &stream, error));
    ts_stream_position(stream, &item, &element);
    CHECK(item == 0 && element == 777);
    CHECK_OK(next(stream, &got, error));
    CHECK(got.delivery.chunk.start == 777 && got.delivery.chunk.stop == 2000);
    CHECK(memcmp(ts_buffer_data(got.delivery.buffer),
                 ts_buffer_data(memories[1]) + 777 * 2, 1223 * 2)
          == 0);
    ts_buffer_release(got.delivery.buffer);
    CHECK_OK(next(stream, &got, error));
    CHECK(got.delivery.buffer == NULL && !got.done, "an empty range");
    CHECK_OK(next(stream, &got, error));
    CHECK(got.done);
    ts_stream_position(stream, &item, &element);
    CHECK(item == 2);
    ts_stream_free(stream);

    wanted[0].stop = 1 << 30;
    CHECK_FAILS(ts_stream_new(catalog, wanted, 2, &options, &stream, error),
                TS_ARGUMENT, "777 to 1073741824 of 1228800");
    options.budget = TS_MIB - 1;
    CHECK_FAILS(ts_stream_new(catalog, wanted, 2, &options, &stream, error),
                TS_ARGUMENT, "at least 1048576");
    ts_catalog_release(catalog);
}

static void *cancel_soon(void *stream)
{
    usleep(20000);
    ts_stream_cancel(stream);
    return NULL;
}

static void cancelling_wakes_who_waits(void)
{
    ts_catalog *catalog = checkpoint();
    ts_wanted wanted[TENSORS];
    ts_stream_options options = options_of(TS_SINK_ARRAYS);
    ts_stream *stream;
    ts_next got = {0};
    pthread_t thread;
    ts_error failure = {0};
    ts_status status = TS_OK;
    want_all(catalog, wanted);
    options.chunk_size = 4096;
    CHECK_OK(ts_stream_new(catalog, wanted, TENSORS, &options, &stream,
                           error));
    pthread_create(&thread, NULL, cancel_soon, stream);
    while (status == TS_OK && !got.done) {
        status = next(stream, &got, &failure);
        if (status == TS_OK && !got.done) {
            ts_buffer_release(got.delivery.buffer);
            usleep(1000);
        }
    }
    CHECK(status == TS_CANCELLED, "%s", failure.message);
    pthread_join(thread, NULL);
    ts_stream_free(stream);
    ts_catalog_release(catalog);
}

static void a_forked_child_is_told_so(void)
{
    ts_catalog *catalog = checkpoint();
    ts_wanted wanted[TENSORS];
    ts_stream_options options = options_of(TS_SINK_ARRAYS);
    ts_stream *stream;
    ts_next got;
    int result = -1;
    want_all(catalog, wanted);
    CHECK_OK(ts_stream_new(catalog, wanted, TENSORS, &options, &stream,
                           error));
    CHECK_OK(next(stream, &got, error));
    pid_t child = fork();
    if (child == 0) {
        ts_error failure;
        ts_next other;
        bool told = ts_stream_next(stream, 100, &other, &failure) == TS_CLOSED;
        bool readable = ts_buffer_data(got.delivery.buffer)[0]
                     == ts_buffer_data(memories[0])[0];
        ts_buffer_release(got.delivery.buffer);
        ts_stream_free(stream);
        _exit(told && readable ? 0 : 1);
    }
    waitpid(child, &result, 0);
    CHECK(result == 0);
    ts_buffer_release(got.delivery.buffer);
    ts_stream_free(stream);
    ts_catalog_release(catalog);
}

/* ---- a real file that changes under us ------------------------------------ */

static void a_file_cut_short_is_noticed(void)
{
    static const char header[] =
        "{\"layers.0.w\":{\"dtype\":\"U8\",\"shape\":[8388608],"
        "\"data_offsets\":[0,8388608]}}";
    char path[4096];
    uint64_t size = sizeof header - 1;
    ts_catalog *catalog;
    ts_stream *stream;
    ts_next got;
    ts_error failure = {0};
    ts_status status = TS_OK;

    snprintf(path, sizeof path, "%s/shrinks.safetensors", scratch);
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL);
    fwrite(&size, 1, 8, file);
    fwrite(header, 1, size, file);
    for (int i = 0; i < 8388608 / 4096; i++) {
        char page[4096] = {0};
        fwrite(page, 1, sizeof page, file);
    }
    fclose(file);

    CHECK_OK(ts_catalog_open(path, &catalog, error));
    ts_wanted wanted = {0, 0, 8388608, NULL};
    ts_stream_options options = options_of(TS_SINK_ARRAYS);
    CHECK_OK(ts_stream_new(catalog, &wanted, 1, &options, &stream, error));
    CHECK_OK(next(stream, &got, error));
    ts_buffer_release(got.delivery.buffer);
    CHECK(truncate(path, 4 << 20) == 0);
    for (;;) {
        status = next(stream, &got, &failure);
        if (status != TS_OK || got.done) break;
        ts_buffer_release(got.delivery.buffer);
    }
    CHECK(status == TS_CHANGED, "%s", failure.message);
    CHECK(strcmp(failure.tensor, "layers.0.w") == 0);
    CHECK(strstr(failure.file, "shrinks") != NULL, "%s", failure.file);
    ts_stream_free(stream);
    ts_catalog_release(catalog);
    remove(path);
}

static void forecasts_read_nothing(void)
{
    ts_catalog *catalog = checkpoint();
    ts_wanted wanted[TENSORS];
    ts_stream_options options = options_of(TS_SINK_ARRAYS);
    ts_forecast forecast;
    want_all(catalog, wanted);
    CHECK_OK(ts_stream_forecast(catalog, wanted, TENSORS, &options, &forecast,
                                error));
    CHECK(forecast.peak_memory <= TS_MIB && forecast.chunks >= TENSORS);
    CHECK(forecast.file_bytes
          == 1001 * 257 * 2 + 300 * 4096 * 2 + 4 + 12345 * 8 + 7 * 99 * 64 * 4);
    ts_catalog_release(catalog);
}

int main(int count, char **arguments)
{
    scratch = count > 1 ? arguments[1] : ".";
    RUN(all_bytes_come_once_and_in_order);
    RUN(kept_memory_is_never_overwritten);
    RUN(floats_are_converted_and_integers_left);
    RUN(looking_gives_the_checksum_of_the_whole);
    RUN(memory_of_the_caller_is_filled);
    RUN(a_stream_can_start_in_the_middle);
    RUN(cancelling_wakes_who_waits);
    RUN(a_forked_child_is_told_so);
    RUN(a_file_cut_short_is_noticed);
    RUN(forecasts_read_nothing);
    CHECK_END();
}
