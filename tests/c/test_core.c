#include "check.h"

#include "core/arena.h"
#include "core/base.h"
#include "core/buffer.h"
#include "core/cpu.h"
#include "core/dtype.h"
#include "core/names.h"
#include "core/status.h"

static void sizes_do_not_wrap(void)
{
    uint64_t out;
    CHECK(ts_mul(1u << 31, 1u << 31, &out) && out == 1ull << 62);
    CHECK(!ts_mul(1ull << 32, 1ull << 32, &out));
    CHECK(!ts_add(UINT64_MAX, 1, &out));
    CHECK(ts_round_up(1, 4096) == 4096 && ts_round_up(4096, 4096) == 4096);
    CHECK(ts_round_down(4097, 4096) == 4096);
    CHECK(ts_is_power_of_two(1) && !ts_is_power_of_two(0)
          && !ts_is_power_of_two(12));
}

static void dtypes_know_their_bytes(void)
{
    uint64_t bytes;
    ts_dtype dtype;
    CHECK(ts_dtype_bytes(TS_BF16, 3, &bytes) && bytes == 6);
    CHECK(ts_dtype_bytes(TS_F4, 6, &bytes) && bytes == 3);
    CHECK(!ts_dtype_bytes(TS_F4, 5, &bytes));
    CHECK(ts_dtype_bytes(TS_Q4_K, 512, &bytes) && bytes == 288);
    CHECK(!ts_dtype_bytes(TS_Q4_K, 255, &bytes));
    CHECK(!ts_dtype_bytes(TS_F64, UINT64_MAX / 4, &bytes));
    CHECK(ts_dtype_find("F8_E4M3", 7, &dtype) && dtype == TS_F8_E4M3);
    CHECK(!ts_dtype_find("F8_E4M", 6, &dtype));
    for (int i = 0; i < TS_DTYPE_COUNT; i++) {
        const char *name = ts_dtype_name((ts_dtype)i);
        CHECK(ts_dtype_find(name, strlen(name), &dtype) && (int)dtype == i);
    }
}

static void errors_keep_the_innermost_place(void)
{
    ts_error error;
    ts_fail_at(&error, TS_FORMAT, 77, "shape of %d", 3);
    ts_error_in_tensor(&error, TS_FORMAT, "inner", 5);
    ts_error_in_tensor(&error, TS_FORMAT, "outer", 5);
    ts_error_in_file(&error, TS_FORMAT, "a.safetensors");
    CHECK(error.offset == 77 && strcmp(error.tensor, "inner") == 0);
    CHECK(strcmp(error.file, "a.safetensors") == 0);
    CHECK(ts_fail(NULL, TS_IO, "nobody listens") == TS_IO);

    char longer[1000];
    memset(longer, 'x', sizeof longer);
    longer[0] = 'A';
    longer[999] = 'Z';
    error.tensor[0] = '\0';
    ts_error_in_tensor(&error, TS_FORMAT, longer, sizeof longer);
    CHECK(error.tensor[0] == 'A' && strchr(error.tensor, 'Z') != NULL);
    CHECK(strlen(error.tensor) == sizeof error.tensor - 1);
}

static void arenas_give_and_copy(void)
{
    ts_arena *arena;
    char *text;
    uint64_t *numbers;
    void *nothing;
    CHECK_OK(ts_arena_new(&arena, error));
    for (int i = 0; i < 10000; i++)
        CHECK_OK(ts_arena_copy(arena, "hello", 5, &text, error));
    CHECK(strcmp(text, "hello") == 0);
    CHECK_OK(ts_arena_take_array(arena, 100000, 8, &numbers, error));
    CHECK(numbers[0] == 0 && numbers[99999] == 0);
    CHECK_OK(ts_arena_take(arena, 0, &nothing, error));
    CHECK(nothing != NULL);
    CHECK_FAILS(ts_arena_take_array(arena, UINT64_MAX / 4, 8, &nothing, error),
                TS_NOMEM, "cannot allocate");
    CHECK(ts_arena_size(arena) >= 800000 + 160000);
    ts_arena_free(arena);
    ts_arena_free(NULL);
}

static void names_are_found_once(void)
{
    enum { N = 20000 };
    static char names[N][12];
    ts_arena *arena;
    ts_names *index;
    uint32_t row;
    bool added;
    CHECK_OK(ts_arena_new(&arena, error));
    CHECK_OK(ts_names_new(arena, N, &index, error));
    for (uint32_t i = 0; i < N; i++) {
        int size = snprintf(names[i], sizeof names[i], "t%u", i);
        ts_names_add(index, (ts_name){names[i], (size_t)size}, &row, &added);
        CHECK(added && row == i);
    }
    ts_names_add(index, (ts_name){"t777", 4}, &row, &added);
    CHECK(!added && row == 777);
    CHECK(ts_names_find(index, (ts_name){"t19999", 6}, &row) && row == 19999);
    CHECK(!ts_names_find(index, (ts_name){"t20000", 6}, &row));
    CHECK(!ts_names_find(index, (ts_name){"", 0}, &row));
    ts_arena_free(arena);
}

/* Up to the last that an index has room for, at capacities on both sides of
 * where it doubles, with names of every length up to three times 16 bytes. */
static void a_full_index_finds_all(void)
{
    static const uint32_t capacities[] = {1, 2, 10, 11, 21, 22, 85, 86, 1000};
    static char text[48];
    ts_arena *arena;
    uint32_t row;
    bool added;

    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)('a' + i % 23);
    CHECK_OK(ts_arena_new(&arena, error));
    for (size_t c = 0; c < TS_COUNT_OF(capacities); c++) {
        uint32_t n = capacities[c];
        ts_names *index;
        CHECK_OK(ts_names_new(arena, n, &index, error));
        for (int again = 0; again < 2; again++)
            for (uint32_t i = 0; i < n; i++) {
                char name[64];
                int size = snprintf(name, sizeof name, "%u%.*s", i,
                                    (int)(i % 48), text);
                char *kept;
                CHECK_OK(ts_arena_copy(arena, name, (size_t)size, &kept,
                                       error));
                ts_names_add(index, (ts_name){kept, (size_t)size}, &row,
                             &added);
                CHECK(row == i && added == (again == 0), "%u of %u", i, n);
            }
        CHECK(!ts_names_find(index, (ts_name){"another", 7}, &row));
    }
    ts_arena_free(arena);
}

static int ended;
static void end(void *context, uint8_t *data, size_t size)
{
    CHECK(context == &ended && data != NULL && size == 3);
    ended++;
}

static void buffers_end_once(void)
{
    ts_buffer *buffer;
    uint8_t bytes[3];
    CHECK_OK(ts_buffer_wrap(bytes, 3, TS_ORIGIN_FOREIGN, end, &ended, &buffer,
                            error));
    ts_buffer_retain(buffer);
    ts_buffer_release(buffer);
    CHECK(ended == 0 && ts_buffer_size(buffer) == 3);
    ts_buffer_release(buffer);
    CHECK(ended == 1);
    ts_buffer_release(NULL);

    CHECK_OK(ts_buffer_new(100, 4096, &buffer, error));
    CHECK((uintptr_t)ts_buffer_data(buffer) % 4096 == 0);
    CHECK(ts_buffer_origin(buffer) == TS_ORIGIN_HEAP);
    ts_buffer_release(buffer);
    CHECK_FAILS(ts_buffer_new(0, 64, &buffer, error), TS_ARGUMENT, "one byte");
    CHECK_FAILS(ts_buffer_new(8, 24, &buffer, error), TS_ARGUMENT,
                "alignment 24");
}

static void the_simd_mask_is_obeyed(void)
{
    const char *mask = getenv("TENSORSTREAM_SIMD");
    if (mask != NULL && strcmp(mask, "scalar") == 0)
        CHECK(ts_cpu_simd() == TS_SIMD_SCALAR);
    CHECK(ts_cpu_count() >= 1);
}

int main(void)
{
    RUN(sizes_do_not_wrap);
    RUN(dtypes_know_their_bytes);
    RUN(errors_keep_the_innermost_place);
    RUN(arenas_give_and_copy);
    RUN(names_are_found_once);
    RUN(a_full_index_finds_all);
    RUN(buffers_end_once);
    RUN(the_simd_mask_is_obeyed);
    CHECK_END();
}
