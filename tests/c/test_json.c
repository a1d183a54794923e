#include "check.h"

#include <locale.h>

#include "core/base.h"
#include "core/json.h"

/* A writable copy in a block of exactly its size, and a walk over it. */
static uint8_t *text;
static ts_json json;

static void over_bytes(const char *bytes, size_t size)
{
    free(text);
    text = malloc(size > 0 ? size : 1);
    memcpy(text, bytes, size);
    ts_json_start(&json, text, size, 1000);
}

static void over(const char *words) { over_bytes(words, strlen(words)); }

static bool says(ts_name name, const char *words)
{
    return name.size == strlen(words)
        && memcmp(name.bytes, words, name.size) == 0;
}

static ts_status skip_all(const char *words, ts_error *error)
{
    over(words);
    TS_TRY(ts_json_skip(&json, NULL, error));
    return ts_json_finish(&json, error);
}

static void a_document_is_walked(void)
{
    ts_name key, name;
    uint64_t number;
    bool more, truth;
    over(" { \"a\" : [ 1 , 23 ] , \"\" : \"x\" , \"t\":true,\"n\":null } \n");
    CHECK(ts_json_peek(&json) == '{' && ts_json_position(&json) == 1001);
    CHECK_OK(ts_json_begin_object(&json, error));
    CHECK_OK(ts_json_next_key(&json, &key, error));
    CHECK(says(key, "a"));
    CHECK_OK(ts_json_begin_array(&json, error));
    CHECK_OK(ts_json_next_item(&json, &more, error));
    CHECK_OK(ts_json_u64(&json, &number, error));
    CHECK(more && number == 1);
    CHECK_OK(ts_json_next_item(&json, &more, error));
    CHECK_OK(ts_json_u64(&json, &number, error));
    CHECK(more && number == 23);
    CHECK_OK(ts_json_next_item(&json, &more, error));
    CHECK(!more);
    CHECK_OK(ts_json_next_key(&json, &key, error));
    CHECK(key.bytes != NULL && key.size == 0);
    CHECK_OK(ts_json_string(&json, &name, error));
    CHECK(says(name, "x"));
    CHECK_OK(ts_json_next_key(&json, &key, error));
    CHECK_OK(ts_json_bool(&json, &truth, error));
    CHECK(says(key, "t") && truth);
    CHECK_OK(ts_json_next_key(&json, &key, error));
    CHECK_OK(ts_json_null(&json, error));
    CHECK_OK(ts_json_next_key(&json, &key, error));
    CHECK(key.bytes == NULL);
    CHECK_OK(ts_json_finish(&json, error));
}

static void strings_are_decoded_in_place(void)
{
    static const struct {
        const char *written, *meant;
        size_t size;
    } rows[] = {
        {"\"plain\"", "plain", 5},
        {"\"\"", "", 0},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8},
        {"\"\\u0041\\u00e9\\u20AC\"", "A\xC3\xA9\xE2\x82\xAC", 6},
        {"\"\\ud83d\\uDE00!\"", "\xF0\x9F\x98\x80!", 5},
        {"\"a\\u0000b\"", "a\0b", 3},
        {"\"caf\xC3\xA9 \\n and then some more text\"",
         "caf\xC3\xA9 \n and then some more text", 31},
        {"\"0123456789abcdef0123456789abcde\\\\\"",
         "0123456789abcdef0123456789abcde\\", 32},
        {"\"\x7F\"", "\x7F", 1},
    };
    for (size_t i = 0; i < TS_COUNT_OF(rows); i++) {
        ts_name name;
        over(rows[i].written);
        CHECK_OK(ts_json_string(&json, &name, error));
        CHECK(name.size == rows[i].size
                  && memcmp(name.bytes, rows[i].meant, name.size) == 0,
              "row %zu: %.*s", i, (int)name.size, name.bytes);
        CHECK_OK(ts_json_finish(&json, error));
        CHECK_OK(skip_all(rows[i].written, error));
    }
}

static void bad_strings_are_refused(void)
{
    static const struct {
        const char *written, *words;
        uint64_t at;
    } rows[] = {
        {"\"open", "no closing quote", 1000},
        {"\"", "no closing quote", 1000},
        {"\"ends in \\", "no closing quote", 1000},
        {"\"a\nb\"", "control character 0x0a", 1002},
        {"\"a\x01\"", "control character 0x01", 1002},
        {"\"\\x41\"", "unknown escape", 1001},
        {"\"\\\n\"", "unknown escape", 1001},
        {"\"\\\xC3\xA9\"", "unknown escape", 1001},
        {"\"\\u12\"", "\\u without four hex digits", 1001},
        {"\"\\u12g4\"", "\\u without four hex digits", 1001},
        {"\"\\ud83d\"", "half a surrogate pair", 1001},
        {"\"\\ud83d\\n1234\"", "half a surrogate pair", 1001},
        {"\"\\ud83d\\u0041\"", "half a surrogate pair", 1001},
        {"\"\\udE00\"", "half a surrogate pair", 1001},
        {"\"ab\xFF\"", "not UTF-8: byte 0xff", 1003},
        {"\"ab\xC3\"", "not UTF-8: byte 0xc3", 1003},
        {"\"0123456789abcdefgh\xC0\x80\"", "not UTF-8: byte 0xc0", 1019},
        {"\"\xED\xA0\x80\"", "not UTF-8: byte 0xed", 1001},
        {"7", "'7' where a string", 1000},
    };
    for (size_t i = 0; i < TS_COUNT_OF(rows); i++) {
        ts_error place;
        ts_name name;
        over(rows[i].written);
        CHECK_FAILS(ts_json_string(&json, &name, error), TS_FORMAT,
                    rows[i].words);
        over(rows[i].written);
        CHECK(ts_json_string(&json, &name, &place) == TS_FORMAT
                  && place.offset == rows[i].at,
              "row %zu at %llu", i, (unsigned long long)place.offset);
    }
}

static void quotes_are_found_at_every_distance(void)
{
    char written[100];
    for (size_t size = 0; size < 60; size++) {
        ts_name name;
        memset(written, 'x', sizeof written);
        written[0] = '"';
        written[size + 1] = '"';
        over_bytes(written, size + 2);
        CHECK_OK(ts_json_string(&json, &name, error));
        CHECK(name.size == size);
        written[size + 1] = '\x1F';
        over_bytes(written, size + 2);
        CHECK_FAILS(ts_json_string(&json, &name, error), TS_FORMAT, "0x1f");
        over_bytes(written, size + 1);
        CHECK_FAILS(ts_json_string(&json, &name, error), TS_FORMAT,
                    "no closing quote");
    }
}

static void whole_numbers_are_exact(void)
{
    static const struct {
        const char *written;
        uint64_t value;
    } rows[] = {
        {"0", 0},
        {"7", 7},
        {"1234567", 1234567},
        {"12345678", 12345678},
        {"123456789", 123456789},
        {"9007199254740993", 9007199254740993u},
        {"99999999999999999", 99999999999999999u},
        {"18446744073709551615", UINT64_MAX},
        {"1844674407370955161", 1844674407370955161u},
    };
    uint64_t value;
    for (size_t i = 0; i < TS_COUNT_OF(rows); i++) {
        char padded[64];
        over(rows[i].written);
        CHECK_OK(ts_json_u64(&json, &value, error));
        CHECK(value == rows[i].value, "%s", rows[i].written);
        snprintf(padded, sizeof padded, "%s,             ", rows[i].written);
        over(padded);
        CHECK_OK(ts_json_u64(&json, &value, error));
        CHECK(value == rows[i].value, "%s", padded);
        CHECK(ts_json_peek(&json) == ',');
    }
    static const struct {
        const char *written, *words;
    } bad[] = {
        {"-1", "-1 is not a whole number from 0 up"},
        {"1.0", "1.0 is not a whole number"},
        {"1e3", "1e3 is not a whole number"},
        {"01", "01 begins with a 0"},
        {"18446744073709551616", "does not fit 64 bits"},
        {"99999999999999999999999999999999", "does not fit 64 bits"},
        {"184467440737095516150", "does not fit 64 bits"},
        {"\"1\"", "'\"' where a whole number"},
        {"", "ends where a whole number"},
        {"NaN", "'N' where a whole number"},
    };
    for (size_t i = 0; i < TS_COUNT_OF(bad); i++) {
        over(bad[i].written);
        CHECK_FAILS(ts_json_u64(&json, &value, error), TS_FORMAT,
                    bad[i].words);
    }
}

/* Eight digits are taken at a time: every length, before every byte, with
 * more text behind or without. */
static void digits_end_where_they_end(void)
{
    static const char digits[] = "1928374655647382910";
    uint64_t value;

    for (int size = 1; size <= 19; size++)
        for (int after = 0; after < 256; after++)
            for (int rest = 0; rest <= 16; rest += 8) {
                char written[64], number[32];
                if (after != 0 && strchr("0123456789.eE", after) != NULL)
                    continue;
                snprintf(number, sizeof number, "%.*s", size, digits);
                memcpy(written, number, (size_t)size);
                written[size] = (char)after;
                memset(written + size + 1, '1', 16);
                over_bytes(written, (size_t)(size + 1 + rest));
                CHECK_OK(ts_json_u64(&json, &value, error));
                CHECK(value == strtoull(number, NULL, 10)
                          && json.at == json.start + size,
                      "%s, then byte %d and %d more", number, after, rest);
            }
}

static void arrays_of_numbers_are_taken_at_once(void)
{
    uint64_t values[3];
    uint32_t count;
    bool more;

    over(" [ 12 , 3,456 ] 7");
    CHECK_OK(ts_json_u64s(&json, values, 3, &count, &more, error));
    CHECK(count == 3 && !more && values[0] == 12 && values[1] == 3
          && values[2] == 456 && ts_json_peek(&json) == '7');
    over("[]");
    CHECK_OK(ts_json_u64s(&json, values, 3, &count, &more, error));
    CHECK(count == 0 && !more);
    over("[1,2,3]");
    CHECK_OK(ts_json_u64s(&json, values, 2, &count, &more, error));
    CHECK(count == 2 && more && ts_json_peek(&json) == '3');
    over("[1,-2]");
    CHECK_FAILS(ts_json_u64s(&json, values, 3, &count, &more, error),
                TS_FORMAT, "-2 is not a whole number");
    over("[1 2]");
    CHECK_FAILS(ts_json_u64s(&json, values, 3, &count, &more, error),
                TS_FORMAT, "'2' where a comma or ']'");
    over("{}");
    CHECK_FAILS(ts_json_u64s(&json, values, 3, &count, &more, error),
                TS_FORMAT, "'{' where an array");
}

static void numbers_keep_their_kind(void)
{
    static const struct {
        const char *written;
        ts_json_kind kind;
        double f;
    } rows[] = {
        {"0", TS_JSON_UINT, 0},
        {"18446744073709551615", TS_JSON_UINT, 18446744073709551615.0},
        {"18446744073709551616", TS_JSON_FLOAT, 18446744073709551616.0},
        {"-0", TS_JSON_INT, 0},
        {"-9223372036854775808", TS_JSON_INT, -9223372036854775808.0},
        {"-9223372036854775809", TS_JSON_FLOAT, -9223372036854775809.0},
        {"1.5", TS_JSON_FLOAT, 1.5},
        {"-2.5E+3", TS_JSON_FLOAT, -2500},
        {"1e-2", TS_JSON_FLOAT, 0.01},
        {"5e-324", TS_JSON_FLOAT, 5e-324},
        {"1e-999", TS_JSON_FLOAT, 0},
        {"0.1000000000000000055511151231257827", TS_JSON_FLOAT, 0.1},
        {"1.7976931348623157e308", TS_JSON_FLOAT, 1.7976931348623157e308},
    };
    /* In a locale where 1.5 is written 1,5, if the machine has one. */
    setlocale(LC_ALL, "de_DE.UTF-8");
    for (size_t i = 0; i < TS_COUNT_OF(rows); i++) {
        ts_json_value value;
        over(rows[i].written);
        CHECK_OK(ts_json_number(&json, &value, error));
        CHECK_OK(ts_json_finish(&json, error));
        CHECK(value.kind == rows[i].kind, "%s", rows[i].written);
        double got = value.kind == TS_JSON_UINT  ? (double)value.u
                   : value.kind == TS_JSON_INT   ? (double)value.i
                                                 : value.f;
        CHECK(got == rows[i].f, "%s: %.17g", rows[i].written, got);
    }
    setlocale(LC_ALL, "C");
}

static void bad_values_are_refused(void)
{
    static const struct {
        const char *written, *words;
    } rows[] = {
        {"", "ends where a value"},
        {"  ", "ends where a value"},
        {"NaN", "'N' where a value"},
        {"Infinity", "'I' where a value"},
        {"-Infinity", "has no digits"},
        {"-", "has no digits"},
        {"+1", "'+' where a value"},
        {".5", "'.' where a value"},
        {"1.", "no digits after its point"},
        {"1.e5", "no digits after its point"},
        {"1e", "no digits in its exponent"},
        {"1e+", "no digits in its exponent"},
        {"-01", "begins with a 0"},
        {"0x10", "'x' where the end of the text"},
        {"tru", "'t' where true or false"},
        {"nul", "'n' where null"},
        {"truex", "'x' where the end"},
        {"'a'", "''' where a value"},
        {"[1,]", "']' where a value"},
        {"[,1]", "',' where a value"},
        {"[1 2]", "'2' where a comma or ']'"},
        {"[1}", "'}' where a comma or ']'"},
        {"[", "ends where a value"},
        {"[1", "ends where a comma or ']'"},
        {"{\"a\":1,}", "'}' where a key"},
        {"{,}", "',' where a key"},
        {"{\"a\" 1}", "'1' where a colon"},
        {"{\"a\":}", "'}' where a value"},
        {"{a:1}", "'a' where a key"},
        {"{1:1}", "'1' where a key"},
        {"{\"a\":1 \"b\":2}", "where a comma or '}'"},
        {"{\"a\":1]", "']' where a comma or '}'"},
        {"{} {}", "'{' where the end"},
        {"1 // no comments", "'/' where the end"},
        {"\xEF\xBB\xBF{}", "byte 0xef where a value"},
    };
    for (size_t i = 0; i < TS_COUNT_OF(rows); i++)
        CHECK_FAILS(skip_all(rows[i].written, error), TS_FORMAT,
                    rows[i].words);
    over_bytes("[1\0]", 4);
    CHECK_FAILS(ts_json_skip(&json, NULL, error), TS_FORMAT, "byte 0x00");
    ts_json_value value;
    over("1e999");
    CHECK_FAILS(ts_json_number(&json, &value, error), TS_FORMAT,
                "beyond the largest double");
}

static void anything_can_be_passed_over(void)
{
    ts_name written, key;
    CHECK_OK(skip_all(" [ ] ", error));
    CHECK_OK(skip_all("{}", error));
    CHECK_OK(skip_all("[[],{},[{}],{\"a\":[[1,-2.5e-3],{\"b\":null}]}]",
                      error));
    CHECK_OK(skip_all("{\"a\":{\"b\":{\"c\":[]},\"d\":{}},\"e\":false}",
                      error));
    over("{\"k\": {\"x\": [1, \"\\u0041\"]} , \"next\": 1}");
    CHECK_OK(ts_json_begin_object(&json, error));
    CHECK_OK(ts_json_next_key(&json, &key, error));
    CHECK_OK(ts_json_skip(&json, &written, error));
    CHECK(says(written, "{\"x\": [1, \"\\u0041\"]}"));
    CHECK_OK(ts_json_next_key(&json, &key, error));
    CHECK(says(key, "next"));
}

static void depth_is_capped(void)
{
    char deep[200];
    ts_error place;
    memset(deep, '[', TS_JSON_MAX_DEPTH);
    memset(deep + TS_JSON_MAX_DEPTH, ']', TS_JSON_MAX_DEPTH);
    over_bytes(deep, 2 * TS_JSON_MAX_DEPTH);
    CHECK_OK(ts_json_skip(&json, NULL, error));
    CHECK_OK(ts_json_finish(&json, error));
    memset(deep, '[', sizeof deep);
    over_bytes(deep, sizeof deep);
    CHECK_FAILS(ts_json_skip(&json, NULL, error), TS_FORMAT,
                "nested deeper than 64");
    over_bytes(deep, sizeof deep);
    ts_json_skip(&json, NULL, &place);
    CHECK(place.offset == 1000 + TS_JSON_MAX_DEPTH);
}

/* Every prefix of a good document fails in peace, and every byte of it may
 * become any other. */
static void damaged_documents_do_no_harm(void)
{
    static const char good[] =
        "{\"a\\n\":[1,-2.5e3,{\"b\":\"\\ud83d\\ude00\"}],\"c\":true}";
    for (size_t size = 0; size < sizeof good - 1; size++) {
        over_bytes(good, size);
        CHECK(ts_json_skip(&json, NULL, NULL) == TS_FORMAT);
    }
    for (size_t i = 0; i < sizeof good - 1; i++)
        for (int byte = 0; byte < 256; byte++) {
            over_bytes(good, sizeof good - 1);
            text[i] = (uint8_t)byte;
            if (ts_json_skip(&json, NULL, NULL) == TS_OK)
                ts_json_finish(&json, NULL);
        }
}

int main(void)
{
    RUN(a_document_is_walked);
    RUN(strings_are_decoded_in_place);
    RUN(bad_strings_are_refused);
    RUN(quotes_are_found_at_every_distance);
    RUN(whole_numbers_are_exact);
    RUN(digits_end_where_they_end);
    RUN(arrays_of_numbers_are_taken_at_once);
    RUN(numbers_keep_their_kind);
    RUN(bad_values_are_refused);
    RUN(anything_can_be_passed_over);
    RUN(depth_is_capped);
    RUN(damaged_documents_do_no_harm);
    free(text);
    CHECK_END();
}
