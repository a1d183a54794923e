#include "check.h"
#include "open_bytes.h"

#include "core/base.h"

enum { ROOM = 1 << 16 };

static uint8_t bytes[ROOM];

/* A length, the header, and `data` bytes behind it. */
static size_t make(const char *header, size_t header_size, size_t data)
{
    uint64_t length = header_size;
    memset(bytes, 0x5A, sizeof bytes);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, header_size);
    return 8 + header_size + data;
}

static ts_status open_header(const char *header, size_t data,
                             ts_catalog **out, ts_error *error)
{
    size_t size = make(header, strlen(header), data);
    return open_bytes(bytes, size, "m.safetensors", out, error);
}

#define ONE(name, dtype, shape, begin, end)                                   \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape                  \
    ",\"data_offsets\":[" #begin "," #end "]}"

static void an_empty_file_holds_nothing(void)
{
    ts_catalog *catalog;
    CHECK_OK(open_header("{}      ", 0, &catalog, error));
    CHECK(ts_catalog_count(catalog) == 0);
    CHECK(ts_catalog_value_count(catalog) == 0);
    CHECK(ts_catalog_format(catalog) == TS_FORMAT_SAFETENSORS);
    ts_catalog_release(catalog);
    CHECK_OK(open_header("{\"__metadata__\":{}}", 0, &catalog, error));
    CHECK(ts_catalog_count(catalog) == 0);
    ts_catalog_release(catalog);
}

static void tensors_are_listed(void)
{
    ts_catalog *catalog;
    uint32_t row;
    CHECK_OK(open_header("{\"__metadata__\":{\"format\":\"pt\",\"k\":\"\"},"
                         ONE("a.weight", "I32", "[2,2]", 0, 16) ","
                         ONE("scalar", "BF16", "[]", 16, 18) ","
                         ONE("none", "F32", "[0,7]", 18, 18) "}",
                         18, &catalog, error));
    CHECK(ts_catalog_count(catalog) == 3);
    CHECK(ts_catalog_find(catalog, name_of("scalar"), &row) && row == 1);
    const ts_tensor *a = ts_catalog_tensor(catalog, 0);
    CHECK(a->dtype == TS_I32 && a->ndim == 2 && a->elements == 4);
    CHECK(a->offset == ts_catalog_tensor(catalog, 1)->offset - 16);
    const ts_tensor *scalar = ts_catalog_tensor(catalog, 1);
    CHECK(scalar->ndim == 0 && scalar->elements == 1 && scalar->size == 2);
    const ts_tensor *none = ts_catalog_tensor(catalog, 2);
    CHECK(none->elements == 0 && none->extent == 0 && none->shape[1] == 7);
    CHECK(ts_catalog_value_count(catalog) == 2);
    const ts_value *value = ts_catalog_value(catalog, 0);
    CHECK(value->kind == TS_VALUE_STRING && value->size == 2
          && memcmp(value->bytes, "pt", 2) == 0);
    ts_catalog_release(catalog);
}

static void every_dtype_of_the_format_opens(void)
{
    static const struct {
        const char *name;
        uint32_t bytes; /* of eight elements */
    } rows[] = {
        {"BOOL", 8},       {"U8", 8},          {"I8", 8},
        {"U16", 16},       {"I16", 16},        {"U32", 32},
        {"I32", 32},       {"U64", 64},        {"I64", 64},
        {"F4", 4},         {"F6_E2M3", 6},     {"F6_E3M2", 6},
        {"F8_E4M3", 8},    {"F8_E5M2", 8},     {"F8_E8M0", 8},
        {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"F16", 16},
        {"BF16", 16},      {"F32", 32},        {"F64", 64},
        {"C64", 64},
    };
    for (size_t i = 0; i < TS_COUNT_OF(rows); i++) {
        char header[200];
        ts_catalog *catalog;
        snprintf(header, sizeof header,
                 "{\"t\":{\"dtype\":\"%s\",\"shape\":[8],"
                 "\"data_offsets\":[0,%u]}}",
                 rows[i].name, rows[i].bytes);
        CHECK_OK(open_header(header, rows[i].bytes, &catalog, error));
        const ts_tensor *row = ts_catalog_tensor(catalog, 0);
        CHECK(strcmp(ts_dtype_name(row->dtype), rows[i].name) == 0);
        CHECK(row->size == rows[i].bytes);
        ts_catalog_release(catalog);
    }
}

static void blanks_order_and_extra_fields_do_not_matter(void)
{
    ts_catalog *catalog;
    /* Fields in another order, offsets that fall, unknown fields. */
    CHECK_OK(open_header(
        " \t\r\n{ \"b\" : { \"data_offsets\" : [ 4 , 6 ] , \"more\" : "
        "{\"dtype\":[1,{}]} , \"shape\" : [ 2 ] , \"dtype\" : \"U8\" } ,\n"
        "\"z\":{\"shape\":[0],\"dtype\":\"F64\",\"data_offsets\":[4,4]},"
        "\"a\":{\"shape\":[1],\"dtype\":\"F32\",\"data_offsets\":[0,4]}} \n",
        6, &catalog, error));
    CHECK(ts_catalog_count(catalog) == 3);
    CHECK(ts_catalog_tensor(catalog, 0)->offset
          == ts_catalog_tensor(catalog, 2)->offset + 4);
    ts_catalog_release(catalog);
}

static void escaped_names_are_decoded(void)
{
    ts_catalog *catalog;
    uint32_t row;
    CHECK_OK(open_header("{" ONE("\\u0061\\ud83d\\ude00.w", "U8", "[1]", 0, 1)
                         "," ONE("\xC3\xA9", "U8", "[1]", 1, 2) "}",
                         2, &catalog, error));
    CHECK(ts_catalog_find(catalog, name_of("a\xF0\x9F\x98\x80.w"), &row));
    CHECK(ts_catalog_find(catalog, name_of("\xC3\xA9"), &row));
    ts_catalog_release(catalog);
}

static void lengths_must_fit(void)
{
    ts_catalog *catalog;
    size_t size = make("{}", 2, 0);
    CHECK_FAILS(open_bytes(bytes, 8, "m", &catalog, error), TS_FORMAT,
                "2 bytes ends past the file's 8");
    uint64_t length = 100000001;
    memcpy(bytes, &length, 8);
    CHECK_FAILS(open_bytes(bytes, size, "m", &catalog, error), TS_FORMAT,
                "header of 100000001 bytes is longer than 100000000");
    length = UINT64_MAX;
    memcpy(bytes, &length, 8);
    CHECK_FAILS(open_bytes(bytes, size, "m", &catalog, error), TS_FORMAT,
                "18446744073709551615 bytes is longer");
    length = 100000000;
    memcpy(bytes, &length, 8);
    CHECK_FAILS(open_bytes(bytes, size, "m", &catalog, error), TS_FORMAT,
                "100000000 bytes ends past the file's 10");
    CHECK_FAILS(open_bytes(bytes, 7, "m", &catalog, error), TS_FORMAT, "");
    CHECK_FAILS(open_header("", 0, &catalog, error), TS_FORMAT,
                "JSON ends where an object");
}

/* What safetensors' own tests refuse, and what it passes over in silence. */
static void bad_headers_are_refused(void)
{
    static const struct {
        const char *header;
        size_t data;
        const char *words;
    } rows[] = {
        {"\xFF\xFF", 0, "byte 0xff where an object"},
        {"not json", 0, "'n' where an object"},
        {"[]", 0, "'[' where an object"},
        {"{", 0, "JSON ends where a key"},
        {"{} x", 0, "'x' where the end of the text"},
        {"{\"a\":3}", 0, "'3' where an object"},
        {"{\"a\":null}", 0, "'n' where an object"},
        {"{\"a\":{}}", 0, "it has no dtype"},
        {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,0]}}", 0,
         "it has no shape"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[]}}", 0,
         "it has no data_offsets"},
        {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\"}}", 0,
         "its dtype is given twice"},
        {"{" ONE("a", "F7", "[1]", 0, 1) "}", 1, "unknown dtype 'F7'"},
        {"{" ONE("a", "", "[1]", 0, 1) "}", 1, "unknown dtype ''"},
        {"{" ONE("a", "f32", "[1]", 0, 4) "}", 4, "unknown dtype 'f32'"},
        {"{" ONE("a", "Q4_0", "[32]", 0, 18) "}", 18, "unknown dtype 'Q4_0'"},
        {"{" ONE("a", "C128", "[1]", 0, 16) "}", 16, "unknown dtype 'C128'"},
        {"{" ONE("a", "U8", "[-1]", 0, 1) "}", 1, "-1 is not a whole number"},
        {"{" ONE("a", "U8", "[1.0]", 0, 1) "}", 1,
         "1.0 is not a whole number"},
        {"{" ONE("a", "U8", "1", 0, 1) "}", 1, "'1' where an array"},
        {"{" ONE("a", "U8", "[\"1\"]", 0, 1) "}", 1, "where a whole number"},
        {"{\"a\":{\"dtype\":1}}", 0, "'1' where a string"},
        {"{\"a\":{\"data_offsets\":[0]}}", 0, "not two numbers"},
        {"{\"a\":{\"data_offsets\":[]}}", 0, "not two numbers"},
        {"{\"a\":{\"data_offsets\":[0,1,2]}}", 2, "not two numbers"},
        {"{" ONE("a", "U8", "[1]", 1, 0) "}", 1,
         "data_offsets [1, 0] end before they begin"},
        {"{" ONE("a", "U8", "[1]", 0, -1) "}", 1, "-1 is not"},
        {"{" ONE("a", "I32", "[2,2]", 0, 16) "}", 15,
         "[0, 16] end past the 15 bytes of data"},
        {"{" ONE("a", "I32", "[2,2]", 0, 16) "}", 17,
         "1 bytes follow the last tensor"},
        {"{}", 1, "1 bytes follow the last tensor"},
        {"{" ONE("a", "I32", "[2,2]", 0, 20) "}", 20,
         "needs 16 bytes but 20 are given"},
        {"{" ONE("a", "I32", "[2,2]", 0, 12) "}", 12,
         "needs 16 bytes but 12 are given"},
        {"{" ONE("a", "I32", "[2,2]", 0, 0) "}", 0,
         "its 16 bytes at"},
        {"{" ONE("a", "I32", "[2]", 0, 0) "," ONE("b", "I32", "[2]", 0, 8) "}",
         8, "needs 8 bytes but data_offsets [0, 0] hold none"},
        {"{" ONE("a", "I32", "[0]", 0, 4) "}", 4,
         "needs 0 bytes but 4 are given"},
        {"{" ONE("a", "F4", "[3]", 0, 2) "}", 2, "whole number of blocks of 2"},
        {"{" ONE("a", "F6_E2M3", "[2]", 0, 2) "}", 2, "blocks of 4"},
        {"{" ONE("a", "F4", "[4]", 0, 4) "}", 4,
         "needs 2 bytes but 4 are given"},
        {"{" ONE("a", "I32", "[2,18446744073709551614]", 0, 16) "}", 16,
         "does not fit 64 bits"},
        {"{" ONE("a", "I32", "[2,9223372036854775807]", 0, 16) "}", 16,
         "do not fit 64 bits"},
        {"{" ONE("a", "I32", "[18446744073709551616]", 0, 16) "}", 16,
         "does not fit 64 bits"},
        {"{" ONE("a", "U8", "[1]", 0, 1) "," ONE("a", "U8", "[1]", 1, 2) "}",
         2, "duplicate"},
        {"{" ONE("a", "U8", "[1]", 0, 1) "," ONE("\\u0061", "U8", "[1]", 1, 2)
         "}",
         2, "duplicate"},
        {"{" ONE("a", "U8", "[1]", 1, 2) "}", 2,
         "begin at 1 where 0 should stand: a hole of 1 bytes"},
        {"{" ONE("a", "U8", "[2]", 0, 2) "," ONE("b", "U8", "[1]", 3, 4) "}",
         4, "begin at 3 where 2 should stand, the end of 'a': a hole of 1"},
        {"{" ONE("a", "U8", "[2]", 0, 2) "," ONE("b", "U8", "[2]", 1, 3) "}",
         3, "begin at 1 where 2 should stand, the end of 'a': an overlap of 1"},
        {"{" ONE("a", "U8", "[2]", 0, 2) "," ONE("b", "U8", "[2]", 0, 2) "}",
         2, "an overlap of 2"},
        {"{" ONE("a", "U8", "[2]", 0, 2) "," ONE("b", "U8", "[0]", 1, 1) "}",
         2, "an overlap of 1"},
        {"{\"__metadata__\":{\"k\":1}}", 0, "'k' is not a string"},
        {"{\"__metadata__\":{\"k\":null}}", 0, "'k' is not a string"},
        {"{\"__metadata__\":[]}", 0, "'[' where an object"},
        {"{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0,
         "'k' is given twice"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0,
         "__metadata__ is given twice"},
        {"{" ONE("a\\u0000b", "U8", "[1]", 0, 1) "}", 1, "holds a NUL"},
        {"{" ONE("a\xFF", "U8", "[1]", 0, 1) "}", 1, "not UTF-8: byte 0xff"},
        {"{\"a\":{\"x\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["
         "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
         0, "nested deeper than 64"},
        {"{" ONE("a", "U8",
                 "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
                 "1,1,1,1,1]",
                 0, 1) "}",
         1, "more than 32 dimensions"},
    };
    for (size_t i = 0; i < TS_COUNT_OF(rows); i++) {
        ts_catalog *catalog;
        CHECK_FAILS(open_header(rows[i].header, rows[i].data, &catalog,
                                error),
                    TS_FORMAT, rows[i].words);
        CHECK(catalog == NULL, "%s", rows[i].header);
    }
}

static void errors_tell_the_place(void)
{
    ts_catalog *catalog;
    ts_error error;
    CHECK(open_header("{" ONE("a", "U8", "[2]", 0, 2) ","
                      ONE("b", "U9", "[1]", 2, 3) "}",
                      3, &catalog, &error)
          == TS_FORMAT);
    CHECK(strcmp(error.tensor, "b") == 0);
    CHECK(strcmp(error.file, "m.safetensors") == 0);
    const char *dtype = strstr((const char *)bytes + 8, "\"U9\"");
    CHECK(error.offset == (uint64_t)(dtype - (const char *)bytes));
}

static void ten_tensors_on_one_range_are_refused(void)
{
    char header[2000] = "{";
    ts_catalog *catalog;
    for (int i = 0; i < 10; i++)
        snprintf(header + strlen(header), sizeof header - strlen(header),
                 "%s\"weight_%d\":{\"dtype\":\"F32\",\"shape\":[2,2],"
                 "\"data_offsets\":[0,16]}",
                 i > 0 ? "," : "", i);
    strcat(header, "}");
    CHECK_FAILS(open_header(header, 16, &catalog, error), TS_FORMAT,
                "the end of 'weight_0': an overlap of 16 bytes");
}

static void a_cut_file_is_refused_everywhere(void)
{
    static const char header[] = "{" ONE("a", "I32", "[2,2]", 0, 16) "}";
    size_t size = make(header, sizeof header - 1, 16);
    for (size_t cut = 0; cut < size; cut++) {
        ts_catalog *catalog;
        CHECK(open_bytes(bytes, cut, "m", &catalog, NULL) == TS_FORMAT,
              "%zu bytes", cut);
    }
}

static void any_byte_may_be_wrong(void)
{
    static const char header[] =
        "{\"__metadata__\":{\"k\":\"v\"}," ONE("a", "I32", "[2,2]", 0, 16) "}";
    size_t size = make(header, sizeof header - 1, 16);
    for (size_t i = 0; i < size - 16; i++)
        for (int byte = 0; byte < 256; byte += 3) {
            ts_catalog *catalog;
            uint8_t old = bytes[i];
            bytes[i] = (uint8_t)byte;
            if (open_bytes(bytes, size, "m", &catalog, NULL) == TS_OK)
                ts_catalog_release(catalog);
            bytes[i] = old;
        }
}

/* Most headers that a length may begin with look like something else. */
static void a_length_that_looks_like_text_is_a_length(void)
{
    static const size_t lengths[] = {0x20, 0x7B, 0x0A0A, 0x280, 0x7B0D};
    for (size_t i = 0; i < TS_COUNT_OF(lengths); i++) {
        static char header[ROOM];
        ts_catalog *catalog;
        memset(header, ' ', lengths[i]);
        memcpy(header, "{}", 2);
        size_t size = make(header, lengths[i], 0);
        CHECK_OK(open_bytes(bytes, size, "m", &catalog, error));
        CHECK(ts_catalog_format(catalog) == TS_FORMAT_SAFETENSORS);
        ts_catalog_release(catalog);
    }
}

static void memory_is_what_the_file_deserves(void)
{
    ts_catalog *catalog;
    CHECK_OK(open_header("{}", 0, &catalog, error));
    CHECK(ts_catalog_memory(catalog) < 16384, "%llu",
          (unsigned long long)ts_catalog_memory(catalog));
    ts_catalog_release(catalog);
}

int main(void)
{
    RUN(an_empty_file_holds_nothing);
    RUN(tensors_are_listed);
    RUN(every_dtype_of_the_format_opens);
    RUN(blanks_order_and_extra_fields_do_not_matter);
    RUN(escaped_names_are_decoded);
    RUN(lengths_must_fit);
    RUN(bad_headers_are_refused);
    RUN(errors_tell_the_place);
    RUN(ten_tensors_on_one_range_are_refused);
    RUN(a_cut_file_is_refused_everywhere);
    RUN(any_byte_may_be_wrong);
    RUN(a_length_that_looks_like_text_is_a_length);
    RUN(memory_is_what_the_file_deserves);
    CHECK_END();
}
