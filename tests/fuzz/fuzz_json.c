#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A heap block of exactly this size: the parser writes to its text. */
static uint8_t *copy_of(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    if (copy == NULL) abort();
    if (size > 0) memcpy(copy, data, size);
    return copy;
}

static void judge_string(const ts_json *json, ts_name name)
{
    const uint8_t *bytes = (const uint8_t *)name.bytes;
    if (bytes < json->start || bytes + name.size > json->at) abort();
    if (ts_utf8_valid(bytes, name.size) != name.size) abort();
}

/* One value, asked for piece by piece.  False after an error; *strict when it
 * was one that passing over the value need not see: a number out of range. */
static bool pull(ts_json *json, bool *strict)
{
    ts_json_value number;
    ts_name name;
    bool more, truth;

    switch (ts_json_peek(json)) {
    case '{':
        if (ts_json_begin_object(json, NULL) != TS_OK) return false;
        for (;;) {
            if (ts_json_next_key(json, &name, NULL) != TS_OK) return false;
            if (name.bytes == NULL) return true;
            judge_string(json, name);
            if (!pull(json, strict)) return false;
        }
    case '[':
        if (ts_json_begin_array(json, NULL) != TS_OK) return false;
        for (;;) {
            if (ts_json_next_item(json, &more, NULL) != TS_OK) return false;
            if (!more) return true;
            if (!pull(json, strict)) return false;
        }
    case '"':
        if (ts_json_string(json, &name, NULL) != TS_OK) return false;
        judge_string(json, name);
        return true;
    case 't':
    case 'f': return ts_json_bool(json, &truth, NULL) == TS_OK;
    case 'n': return ts_json_null(json, NULL) == TS_OK;
    default: break;
    }
    ts_error error = {0};
    if (ts_json_number(json, &number, &error) == TS_OK) return true;
    *strict = strstr(error.message, "beyond the largest") != NULL
           || strstr(error.message, "511 characters") != NULL;
    return false;
}

/* Passing over a document and walking through it agree on whether it is one. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *first = copy_of(data, size), *second = copy_of(data, size);
    bool strict = false, skipped, pulled;
    ts_error error = {0};
    ts_name text;
    ts_json json;

    ts_json_start(&json, first, size, 0);
    skipped = ts_json_skip(&json, &text, &error) == TS_OK
           && ts_json_finish(&json, &error) == TS_OK;
    if (memcmp(first, data, size) != 0) abort(); /* skipping writes nothing */
    if (!skipped && (error.offset > size || error.message[0] == '\0')) abort();
    ts_json_start(&json, second, size, 0);
    pulled = pull(&json, &strict) && ts_json_finish(&json, NULL) == TS_OK;
    if (pulled != skipped && !(skipped && strict)) abort();
    free(first);
    free(second);
    return 0;
}
