#include "check.h"
#include "open_bytes.h"

#include "core/base.h"
#include "core/utf8.h"
#include "formats/catalog.h"

/* A draft over one memory file of 1000 bytes. */
static ts_draft *draft_of_1000(void)
{
    static uint8_t bytes[1000];
    ts_draft *draft;
    ts_buffer *memory;
    ts_file *file;
    uint32_t index;
    CHECK_OK(ts_buffer_wrap(bytes, sizeof bytes, TS_ORIGIN_FOREIGN, NULL,
                            NULL, &memory, error));
    CHECK_OK(ts_file_wrap(memory, "thousand", &file, error));
    CHECK_OK(ts_draft_new(TS_FORMAT_SAFETENSORS, &draft, error));
    CHECK_OK(ts_draft_file(draft, file, &index, error));
    CHECK(index == 0);
    ts_file_release(file);
    ts_buffer_release(memory);
    return draft;
}

static const uint64_t two_by_three[] = {2, 3};

static ts_tensor row_at(const char *name, uint64_t offset)
{
    return (ts_tensor){.name = name_of(name),
                       .dtype = TS_F32,
                       .ndim = 2,
                       .shape = two_by_three,
                       .offset = offset};
}

static ts_status add(ts_draft *draft, ts_tensor row, ts_error *error)
{
    return ts_draft_tensor(draft, &row, 99, error);
}

static void rows_are_copied_and_computed(void)
{
    ts_draft *draft = draft_of_1000();
    ts_catalog *catalog;
    char name[] = "weight";
    uint64_t shape[] = {2, 3};
    uint32_t found;
    ts_tensor row = row_at(name, 8);
    row.shape = shape;
    CHECK_OK(ts_draft_tensor(draft, &row, 0, error));
    name[0] = 'X';
    shape[0] = 77;
    CHECK(ts_draft_find(draft, name_of("weight"), &found) && found == 0);
    CHECK(ts_draft_count(draft) == 1);
    CHECK_OK(ts_draft_finish(draft, &catalog, error));
    const ts_tensor *kept = ts_catalog_tensor(catalog, 0);
    CHECK(strcmp(kept->name.bytes, "weight") == 0 && kept->shape[0] == 2);
    CHECK(kept->elements == 6 && kept->size == 24 && kept->extent == 24);
    CHECK(kept->alias_of == 0 && kept->strides == NULL);
    CHECK(!ts_catalog_find(catalog, name_of("other"), &found));
    CHECK(ts_catalog_file_count(catalog) == 1);
    CHECK(ts_catalog_memory(catalog) > 4096);
    ts_catalog_retain(catalog);
    ts_catalog_release(catalog);
    CHECK(ts_catalog_count(catalog) == 1);
    ts_catalog_release(catalog);
    ts_catalog_release(NULL);
    ts_draft_free(NULL);
}

static void bad_rows_are_refused(void)
{
    ts_draft *draft = draft_of_1000();
    static const uint64_t ones[40] = {1};
    static const uint64_t huge[] = {1ull << 40, 1ull << 40};
    static const uint64_t hidden[] = {0, 1ull << 40, 1ull << 40};
    static const uint64_t wide[] = {1ull << 62};
    static const uint64_t three[] = {3};
    char longer[TS_MAX_NAME + 1];
    ts_tensor row;

    CHECK_OK(add(draft, row_at("a", 0), error));
    CHECK_FAILS(add(draft, row_at("a", 24), error), TS_FORMAT, "duplicate");
    CHECK_FAILS(add(draft, row_at("\xC3", 24), error), TS_FORMAT, "not UTF-8");
    CHECK_FAILS(add(draft, row_at("b", 977), error), TS_FORMAT,
                "24 bytes at 977 do not lie inside the file's 1000");
    CHECK_FAILS(add(draft, row_at("b", UINT64_MAX), error), TS_FORMAT,
                "do not lie inside");
    memset(longer, 'n', sizeof longer);
    row = row_at("b", 0);
    row.name = (ts_name){longer, sizeof longer};
    CHECK_FAILS(add(draft, row, error), TS_FORMAT, "longer than 4096");
    row.name = (ts_name){"a\0b", 3};
    CHECK_FAILS(add(draft, row, error), TS_FORMAT, "NUL at 1 of 3");
    row = row_at("b", 0);
    row.extent = 25;
    CHECK_FAILS(add(draft, row, error), TS_FORMAT,
                "needs 24 bytes but 25 are given");
    row.extent = 0;
    row.file = 1;
    CHECK_FAILS(add(draft, row, error), TS_ARGUMENT, "file 1 of 1");
    row.file = 0;
    row.shape = huge;
    CHECK_FAILS(add(draft, row, error), TS_FORMAT, "does not fit 64 bits");
    row.shape = hidden;
    row.ndim = 3;
    CHECK_FAILS(add(draft, row, error), TS_FORMAT, "does not fit 64 bits");
    row.shape = wide;
    row.ndim = 1;
    CHECK_FAILS(add(draft, row, error), TS_FORMAT, "do not fit 64 bits");
    row.shape = three;
    row.dtype = TS_F4;
    CHECK_FAILS(add(draft, row, error), TS_FORMAT, "blocks of 2");
    row.shape = ones;
    row.ndim = 33;
    CHECK_FAILS(add(draft, row, error), TS_FORMAT, "33 dimensions");

    ts_error error;
    CHECK(add(draft, row_at("b", 977), &error) == TS_FORMAT);
    CHECK(strcmp(error.tensor, "b") == 0 && error.offset == 99);
    CHECK(ts_draft_count(draft) == 1);
    ts_draft_free(draft);
}

static void strides_are_measured(void)
{
    ts_draft *draft = draft_of_1000();
    ts_tensor row = row_at("transposed", 0);
    static const int64_t across[] = {1, 2}, plain[] = {3, 1}, back[] = {-1, 1};
    static const int64_t same[] = {0, 1}, far[] = {200, 1};
    static const int64_t beyond[] = {INT64_MAX, INT64_MAX};
    ts_catalog *catalog;

    row.strides = across;
    CHECK_OK(ts_draft_tensor(draft, &row, 0, error));
    row.name = name_of("plain");
    row.strides = plain;
    CHECK_OK(ts_draft_tensor(draft, &row, 0, error));
    row.name = name_of("expanded");
    row.strides = same;
    row.offset = 988;
    CHECK_OK(ts_draft_tensor(draft, &row, 0, error));
    row.name = name_of("far");
    row.strides = far;
    row.offset = 188; /* 203 elements: 812 bytes */
    CHECK_OK(ts_draft_tensor(draft, &row, 0, error));
    row.name = name_of("refused");
    row.offset = 189;
    CHECK_FAILS(ts_draft_tensor(draft, &row, 0, error), TS_FORMAT,
                "812 bytes at 189");
    row.strides = back;
    CHECK_FAILS(ts_draft_tensor(draft, &row, 0, error), TS_FORMAT,
                "-1 of dimension 0 is negative");
    row.strides = beyond;
    CHECK_FAILS(ts_draft_tensor(draft, &row, 0, error), TS_FORMAT,
                "does not fit 64 bits");
    row.strides = across;
    row.dtype = TS_F4;
    CHECK_FAILS(ts_draft_tensor(draft, &row, 0, error), TS_FORMAT,
                "F4 cannot have strides");

    CHECK_OK(ts_draft_finish(draft, &catalog, error));
    CHECK(ts_catalog_tensor(catalog, 0)->extent == 24);
    CHECK(ts_catalog_tensor(catalog, 0)->strides[1] == 2);
    CHECK(ts_catalog_tensor(catalog, 1)->strides == NULL);
    CHECK(ts_catalog_tensor(catalog, 2)->extent == 12);
    CHECK(ts_catalog_tensor(catalog, 2)->size == 24);
    CHECK(ts_catalog_tensor(catalog, 3)->extent == 812);
    ts_catalog_release(catalog);
}

static void deflated_rows_keep_their_extent(void)
{
    ts_draft *draft = draft_of_1000();
    ts_tensor row = row_at("packed", 900);
    static const uint64_t bomb[] = {100000, 1000};
    row.storage = TS_DEFLATED;
    row.skip = 80;
    row.extent = 100;
    CHECK_OK(ts_draft_tensor(draft, &row, 0, error));
    CHECK(ts_draft_row(draft, 0)->extent == 100);
    CHECK(ts_draft_row(draft, 0)->size == 24);
    row.name = name_of("bomb");
    row.shape = bomb;
    CHECK_FAILS(ts_draft_tensor(draft, &row, 0, error), TS_FORMAT,
                "100 bytes of DEFLATE cannot hold 400000000");
    row.extent = 101;
    row.shape = two_by_three;
    CHECK_FAILS(ts_draft_tensor(draft, &row, 0, error), TS_FORMAT,
                "101 bytes at 900");
    ts_draft_free(draft);
}

static void tied_tensors_are_aliases(void)
{
    ts_draft *draft = draft_of_1000();
    static const uint64_t six[] = {6}, none[] = {0};
    ts_catalog *catalog;
    ts_tensor flat = row_at("flat", 48), empty = row_at("empty", 48);
    flat.ndim = 1;
    flat.shape = six;
    empty.ndim = 1;
    empty.shape = none;
    CHECK_OK(add(draft, row_at("first", 48), error));
    CHECK_OK(add(draft, row_at("other", 0), error));
    CHECK_OK(add(draft, flat, error));
    CHECK_OK(add(draft, row_at("tied", 48), error));
    CHECK_OK(add(draft, row_at("again", 48), error));
    CHECK_OK(add(draft, empty, error));
    empty.name = name_of("empty too");
    CHECK_OK(add(draft, empty, error));
    CHECK_OK(ts_draft_finish(draft, &catalog, error));
    static const uint32_t expected[] = {0, 1, 2, 0, 0, 5, 6};
    for (uint32_t i = 0; i < TS_COUNT_OF(expected); i++)
        CHECK(ts_catalog_tensor(catalog, i)->alias_of == expected[i],
              "row %u: %u", i, ts_catalog_tensor(catalog, i)->alias_of);
    ts_catalog_release(catalog);
}

static ts_value string_of(const char *key, const char *text)
{
    return (ts_value){.key = name_of(key),
                      .kind = TS_VALUE_STRING,
                      .bytes = (const uint8_t *)text,
                      .size = strlen(text)};
}

static ts_status give(ts_draft *draft, const char *key, const char *text,
                      ts_error *error)
{
    ts_value value = string_of(key, text);
    return ts_draft_value(draft, &value, 5, error);
}

static void metadata_is_kept_once(void)
{
    ts_draft *draft = draft_of_1000();
    ts_catalog *catalog;
    uint32_t index;
    CHECK_OK(give(draft, "format", "pt", error));
    CHECK_OK(give(draft, "", "empty key", error));
    CHECK_FAILS(give(draft, "format", "np", error), TS_FORMAT,
                "'format' is given twice");
    CHECK_FAILS(give(draft, "k", "\xFF", error), TS_FORMAT,
                "metadata 'k' is not UTF-8");
    CHECK_FAILS(give(draft, "\xFF", "", error), TS_FORMAT,
                "metadata key is not UTF-8");
    /* The next file may say it again, but also only once. */
    ts_buffer *memory;
    ts_file *file;
    CHECK_OK(ts_buffer_new(8, 8, &memory, error));
    CHECK_OK(ts_file_wrap(memory, "second", &file, error));
    CHECK_OK(ts_draft_file(draft, file, &index, error));
    ts_file_release(file);
    ts_buffer_release(memory);
    CHECK_OK(give(draft, "format", "tf", error));
    CHECK_FAILS(give(draft, "format", "tf", error), TS_FORMAT, "twice");
    for (int i = 0; i < 100; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        CHECK_OK(give(draft, key, key, error));
    }
    CHECK(ts_draft_find_value(draft, "k77") != NULL);
    CHECK(ts_draft_find_value(draft, "k777") == NULL);
    CHECK_OK(ts_draft_finish(draft, &catalog, error));
    CHECK(ts_catalog_value_count(catalog) == 102);
    const ts_value *value = ts_catalog_value(catalog, 0);
    CHECK(value->size == 2 && memcmp(value->bytes, "pt", 2) == 0);
    ts_catalog_release(catalog);
}

static void many_rows_are_all_found(void)
{
    enum { N = 5000 };
    for (int expected = 0; expected <= N; expected += N) {
        ts_draft *draft = draft_of_1000();
        ts_catalog *catalog;
        char name[16];
        uint32_t row;
        CHECK_OK(ts_draft_expect(draft, (uint64_t)expected, error));
        for (int i = 0; i < N; i++) {
            snprintf(name, sizeof name, "t.%d", i);
            CHECK_OK(add(draft, row_at(name, (uint64_t)(i % 900)), error));
        }
        CHECK_OK(ts_draft_finish(draft, &catalog, error));
        for (uint32_t i = 0; i < N; i++) {
            snprintf(name, sizeof name, "t.%u", i);
            CHECK(ts_catalog_find(catalog, name_of(name), &row) && row == i);
            CHECK(ts_catalog_tensor(catalog, i)->alias_of == i % 900);
        }
        ts_catalog_release(catalog);
    }
    ts_draft *draft = draft_of_1000();
    CHECK_FAILS(ts_draft_expect(draft, TS_MAX_TENSORS + 1, error), TS_FORMAT,
                "1048577 tensors");
    CHECK_FAILS(ts_draft_expect(draft, UINT64_MAX, error), TS_FORMAT,
                "more than the 1048576");
    ts_draft_free(draft);
}

static void arrays_in_memory_become_a_catalog(void)
{
    static uint8_t bytes[64];
    ts_catalog_builder *builder;
    ts_catalog *catalog;
    ts_buffer *whole, *again, *other;
    CHECK_OK(ts_buffer_wrap(bytes, 64, TS_ORIGIN_FOREIGN, NULL, NULL, &whole,
                            error));
    CHECK_OK(ts_buffer_wrap(bytes, 64, TS_ORIGIN_FOREIGN, NULL, NULL, &again,
                            error));
    CHECK_OK(ts_buffer_new(64, 64, &other, error));
    CHECK_OK(ts_catalog_builder_new(TS_FORMAT_MEMORY, &builder, error));
    CHECK_OK(ts_catalog_builder_add(builder, name_of("embed"), TS_F32, 2,
                                    two_by_three, whole, error));
    CHECK_OK(ts_catalog_builder_add(builder, name_of("other"), TS_F32, 2,
                                    two_by_three, other, error));
    CHECK_OK(ts_catalog_builder_add(builder, name_of("head"), TS_F32, 2,
                                    two_by_three, again, error));
    CHECK_FAILS(ts_catalog_builder_add(builder, name_of("wide"), TS_C128, 2,
                                       two_by_three, other, error),
                TS_FORMAT, "96 bytes at 0 do not lie inside the file's 64");
    ts_buffer_release(whole);
    ts_buffer_release(again);
    ts_buffer_release(other);
    CHECK_OK(ts_catalog_builder_finish(builder, &catalog, error));
    CHECK(ts_catalog_format(catalog) == TS_FORMAT_MEMORY);
    CHECK(ts_catalog_count(catalog) == 3);
    CHECK(ts_catalog_tensor(catalog, 2)->alias_of == 0);
    CHECK(ts_catalog_tensor(catalog, 1)->alias_of == 1);
    CHECK(ts_file_memory(ts_catalog_file(catalog, 1)) == other);
    ts_catalog_release(catalog);

    CHECK_OK(ts_catalog_builder_new(TS_FORMAT_MEMORY, &builder, error));
    ts_catalog_builder_free(builder);
    ts_catalog_builder_free(NULL);
}

static void unknown_files_are_named_so(void)
{
    ts_catalog *catalog;
    CHECK_FAILS(open_bytes("", 0, "x", &catalog, error), TS_FORMAT,
                "an empty file");
    CHECK_FAILS(open_bytes("hello, world", 12, "x", &catalog, error),
                TS_FORMAT, "12 bytes that begin with 0x68");
    CHECK_FAILS(ts_catalog_open("/nowhere/at/all", &catalog, error), TS_IO,
                "");
    CHECK(catalog == NULL);
    ts_error error;
    open_bytes("hello, world", 12, "greeting", &catalog, &error);
    CHECK(strcmp(error.file, "greeting") == 0);
    for (int format = 0; format <= TS_FORMAT_MEMORY; format++)
        CHECK(strlen(ts_format_name((ts_format)format)) > 2);
}

static void utf8_is_judged_to_the_letter(void)
{
    static const struct {
        const char *text;
        size_t size, valid;
    } rows[] = {
        {"plain ascii, longer than eight", 30, 30},
        {"a\0b", 3, 3},
        {"\xC3\xA9", 2, 2},
        {"\xE2\x82\xAC", 3, 3},
        {"\xF0\x9F\x98\x80", 4, 4},
        {"\xF4\x8F\xBF\xBF", 4, 4},
        {"\xEF\xBF\xBF", 3, 3},
        {"\xC0\x80", 2, 0},          /* overlong NUL */
        {"\xC1\xBF", 2, 0},          /* overlong */
        {"\xE0\x9F\xBF", 3, 0},      /* overlong */
        {"\xF0\x8F\xBF\xBF", 4, 0},  /* overlong */
        {"\xED\xA0\x80", 3, 0},      /* surrogate */
        {"\xF4\x90\x80\x80", 4, 0},  /* above U+10FFFF */
        {"\xF5\x80\x80\x80", 4, 0},
        {"\x80", 1, 0},
        {"12345678\xC3", 9, 8},      /* cut short */
        {"1234567\xE2\x82", 9, 7},
        {"\xE2\x28\xA1", 3, 0},
        {"\xE2\x82\x28", 3, 0},
    };
    for (size_t i = 0; i < TS_COUNT_OF(rows); i++)
        CHECK(ts_utf8_valid(rows[i].text, rows[i].size) == rows[i].valid,
              "row %zu", i);
    for (uint32_t code = 0; code <= 0x10FFFF; code++) {
        uint8_t out[4];
        bool surrogate = code >= 0xD800 && code <= 0xDFFF;
        size_t size = ts_utf8_put(code, out);
        if ((ts_utf8_valid(out, size) == size) == surrogate)
            CHECK(false, "U+%04X", code);
    }
}

int main(void)
{
    RUN(utf8_is_judged_to_the_letter);
    RUN(rows_are_copied_and_computed);
    RUN(bad_rows_are_refused);
    RUN(strides_are_measured);
    RUN(deflated_rows_keep_their_extent);
    RUN(tied_tensors_are_aliases);
    RUN(metadata_is_kept_once);
    RUN(many_rows_are_all_found);
    RUN(arrays_in_memory_become_a_catalog);
    RUN(unknown_files_are_named_so);
    CHECK_END();
}
