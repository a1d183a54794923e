/* json.h -- read JSON by asking for what comes next.  RFC 8259, strictly.
 *
 *     ts_json_start(&json, text, size, 0);
 *     TS_TRY(ts_json_begin_object(&json, error));
 *     for (;;) {
 *         TS_TRY(ts_json_next_key(&json, &key, error));
 *         if (key.bytes == NULL) break;                 the closing brace
 *         TS_TRY(ts_json_u64(&json, &value, error));    or skip, or begin ...
 *     }
 *     return ts_json_finish(&json, error);
 *
 * Nothing is allocated: strings are lent from the text, and a string with
 * escapes is decoded where it stands, so THE TEXT IS WRITTEN TO and each
 * value can be asked for once.  After an error the walk is over.  Duplicate
 * keys are the caller's business: only it knows which names matter. */
#ifndef TS_CORE_JSON_H
#define TS_CORE_JSON_H

#include <stdbool.h>

#include "names.h"

enum { TS_JSON_MAX_DEPTH = 64 };

typedef struct {
    uint8_t *start, *at, *end; /* borrowed: the text */
    uint64_t base;             /* of the text in its file, for errors */
    uint32_t depth;            /* objects and arrays that are open */
    bool first;                /* no comma is due before the next entry */
} ts_json;

/* base is added to every position in an error. */
void ts_json_start(ts_json *json, void *text, size_t size, uint64_t base);

/* Position, in the file, of the next value or bracket: blanks are passed. */
uint64_t ts_json_position(ts_json *json);

/* The first character of the next value, as it stands in the text; 0 at the
 * end.  '{' '[' '"' 't' 'f' 'n' '-' or a digit, when all is well. */
char ts_json_peek(ts_json *json);

ts_status ts_json_begin_object(ts_json *json, ts_error *error);
/* Ends with key->bytes NULL, the closing brace taken. */
ts_status ts_json_next_key(ts_json *json, ts_name *key, ts_error *error);

ts_status ts_json_begin_array(ts_json *json, ts_error *error);
/* Ends with *more false, the closing bracket taken. */
ts_status ts_json_next_item(ts_json *json, bool *more, ts_error *error);

/* Valid UTF-8; may hold NUL, when it was written as an escape. */
ts_status ts_json_string(ts_json *json, ts_name *out, ts_error *error);
/* A whole number from 0 to 2^64 - 1; fractions and exponents are errors. */
ts_status ts_json_u64(ts_json *json, uint64_t *out, ts_error *error);
/* An array of them: *count go to out, which has room for so many.  With *more
 * another one stands there, not taken, and the array is not closed. */
ts_status ts_json_u64s(ts_json *json, uint64_t *out, uint32_t room,
                       uint32_t *count, bool *more, ts_error *error);
ts_status ts_json_bool(ts_json *json, bool *out, ts_error *error);
ts_status ts_json_null(ts_json *json, ts_error *error);

/* Whole numbers exactly while they fit, doubles (correctly rounded, in any
 * locale) for everything else.  Beyond the largest double is an error. */
typedef enum { TS_JSON_UINT, TS_JSON_INT, TS_JSON_FLOAT } ts_json_kind;
typedef struct {
    ts_json_kind kind; /* INT only when negative */
    union {
        uint64_t u;
        int64_t i;
        double f;
    };
} ts_json_value;
ts_status ts_json_number(ts_json *json, ts_json_value *out, ts_error *error);

/* Pass over any one value, checking it all; *text (may be NULL) is the value
 * as it was written. */
ts_status ts_json_skip(ts_json *json, ts_name *text, ts_error *error);

/* Only blanks may follow. */
ts_status ts_json_finish(ts_json *json, ts_error *error);

#endif
