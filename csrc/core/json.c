#include "json.h"

#include <assert.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>

#include "base.h"
#include "utf8.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

void ts_json_start(ts_json *json, void *text, size_t size, uint64_t base)
{
    uint8_t *start = text;

    *json = (ts_json){.start = start, .at = start, .end = start + size};
    json->base = base;
}

static uint64_t position_of(const ts_json *json, const uint8_t *at)
{
    return json->base + (uint64_t)(at - json->start);
}

static void pass_blanks(ts_json *json)
{
    while (json->at < json->end && *json->at <= ' ') {
        uint8_t c = *json->at;
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t') return;
        json->at++;
    }
}

/* The next character that is not blank; 0 at the end.  A NUL in the text is
 * 0 too, and nobody's first character. */
static uint8_t peek(ts_json *json)
{
    pass_blanks(json);
    return json->at < json->end ? *json->at : 0;
}

char ts_json_peek(ts_json *json) { return (char)peek(json); }

uint64_t ts_json_position(ts_json *json)
{
    pass_blanks(json);
    return position_of(json, json->at);
}

static ts_status wrong(ts_json *json, const char *wanted, ts_error *error)
{
    uint8_t found = peek(json);
    uint64_t at = position_of(json, json->at);

    if (json->at == json->end)
        return ts_fail_at(error, TS_FORMAT, at,
                          "JSON ends where %s should stand", wanted);
    if (found > ' ' && found < 0x7F)
        return ts_fail_at(error, TS_FORMAT, at,
                          "JSON has '%c' where %s should stand", found,
                          wanted);
    return ts_fail_at(error, TS_FORMAT, at,
                      "JSON has byte 0x%02x where %s should stand", found,
                      wanted);
}

static ts_status expect(ts_json *json, char bracket, const char *name,
                        ts_error *error)
{
    if (peek(json) != (uint8_t)bracket) return wrong(json, name, error);
    json->at++;
    return TS_OK;
}

/* ---- objects and arrays ----------------------------------------------- */

static ts_status begin(ts_json *json, char bracket, const char *name,
                       ts_error *error)
{
    TS_TRY(expect(json, bracket, name, error));
    if (json->depth == TS_JSON_MAX_DEPTH)
        return ts_fail_at(error, TS_FORMAT, position_of(json, json->at) - 1,
                          "JSON is nested deeper than %d",
                          TS_JSON_MAX_DEPTH);
    json->depth++;
    json->first = true;
    return TS_OK;
}

/* The comma before the next entry, or the end of them. */
static ts_status next(ts_json *json, char bracket, const char *name,
                      bool *more, ts_error *error)
{
    assert(json->depth > 0);
    *more = peek(json) != (uint8_t)bracket;
    if (!*more) {
        json->at++;
        json->depth--;
        json->first = false;
        return TS_OK;
    }
    if (!json->first) TS_TRY(expect(json, ',', name, error));
    json->first = false;
    return TS_OK;
}

ts_status ts_json_begin_object(ts_json *json, ts_error *error)
{
    return begin(json, '{', "an object", error);
}

ts_status ts_json_begin_array(ts_json *json, ts_error *error)
{
    return begin(json, '[', "an array", error);
}

ts_status ts_json_next_item(ts_json *json, bool *more, ts_error *error)
{
    return next(json, ']', "a comma or ']'", more, error);
}

/* ---- strings ---------------------------------------------------------- */

/* The first quote, backslash or control character from at on, or end.
 * *high becomes true when a byte above 0x7F is passed. */
static uint8_t *scan(uint8_t *at, const uint8_t *end, bool *high)
{
    unsigned above = 0;
#if defined(__SSE2__)
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\'),
                  control = _mm_set1_epi8(0x1F);
    while (end - at >= 16) {
        __m128i block = _mm_loadu_si128((const __m128i *)at);
        __m128i stop = _mm_or_si128(
            _mm_or_si128(_mm_cmpeq_epi8(block, quote),
                         _mm_cmpeq_epi8(block, slash)),
            _mm_cmpeq_epi8(_mm_min_epu8(block, control), block));
        unsigned stops = (unsigned)_mm_movemask_epi8(stop);
        unsigned highs = (unsigned)_mm_movemask_epi8(block);
        if (stops != 0) {
            above |= highs & ((stops & -stops) - 1);
            *high |= above != 0;
            return at + __builtin_ctz(stops);
        }
        above |= highs;
        at += 16;
    }
#endif
    for (; at < end && *at != '"' && *at != '\\' && *at >= 0x20; at++)
        above |= *at & 0x80u;
    *high |= above != 0;
    return (uint8_t *)at;
}

static ts_status bad_escape(const ts_json *json, const uint8_t *at,
                            const char *what, ts_error *error)
{
    return ts_fail_at(error, TS_FORMAT, position_of(json, at),
                      "JSON string has %s", what);
}

/* Four hex digits; false when they are not. */
static bool hex4(const uint8_t *at, const uint8_t *end, uint32_t *out)
{
    *out = 0;
    if (end - at < 4) return false;
    for (int i = 0; i < 4; i++) {
        uint8_t c = at[i], lower = c | 0x20;
        uint32_t digit;
        if (c >= '0' && c <= '9')
            digit = c - (uint32_t)'0';
        else if (lower >= 'a' && lower <= 'f')
            digit = lower - (uint32_t)'a' + 10;
        else
            return false;
        *out = *out << 4 | digit;
    }
    return true;
}

/* \uXXXX at `at`, or two of them that are a surrogate pair. */
static ts_status code_point(const ts_json *json, const uint8_t **at,
                            const uint8_t *end, uint32_t *code,
                            ts_error *error)
{
    const uint8_t *start = *at;
    uint32_t low;

    if (!hex4(start + 2, end, code))
        return bad_escape(json, start, "\\u without four hex digits", error);
    *at += 6;
    if (*code < 0xD800 || *code > 0xDFFF) return TS_OK;
    if (*code > 0xDBFF || end - *at < 6 || (*at)[0] != '\\'
        || (*at)[1] != 'u' || !hex4(*at + 2, end, &low) || low < 0xDC00
        || low > 0xDFFF)
        return bad_escape(json, start, "half a surrogate pair", error);
    *at += 6;
    *code = 0x10000 + ((*code - 0xD800) << 10) + (low - 0xDC00);
    return TS_OK;
}

/* One escape: moves *at behind it and gives its character. */
static ts_status escape(const ts_json *json, const uint8_t **at,
                        const uint8_t *end, uint32_t *code, ts_error *error)
{
    static const char letters[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
    uint8_t letter = (*at)[1]; /* the scan has seen it */
    const char *found;

    if (letter == 'u') return code_point(json, at, end, code, error);
    found = memchr(letters, letter, sizeof letters - 1);
    if (found == NULL)
        return bad_escape(json, *at, "an unknown escape", error);
    *code = (uint8_t)means[found - letters];
    *at += 2;
    return TS_OK;
}

/* Check all escapes of [start, close).  With keep, decode them in place:
 * what an escape means is never longer than the escape. */
static ts_status unescape(const ts_json *json, uint8_t *start,
                          const uint8_t *close, bool keep, size_t *size,
                          ts_error *error)
{
    const uint8_t *at = start;
    uint8_t *to = start, character[4];
    uint32_t code = 0;

    while (at < close) {
        const uint8_t *slash = memchr(at, '\\', (size_t)(close - at));
        size_t plain = (size_t)((slash != NULL ? slash : close) - at);
        if (keep) memmove(to, at, plain);
        to += plain;
        at += plain;
        if (slash == NULL) break;
        TS_TRY(escape(json, &at, close, &code, error));
        size_t width = ts_utf8_put(code, character);
        if (keep) memcpy(to, character, width);
        to += width;
    }
    *size = (size_t)(to - start);
    return TS_OK;
}

static ts_status bad_end(const ts_json *json, const uint8_t *open,
                         const uint8_t *stop, ts_error *error)
{
    if (stop >= json->end)
        return ts_fail_at(error, TS_FORMAT, position_of(json, open),
                          "JSON string has no closing quote");
    return ts_fail_at(error, TS_FORMAT, position_of(json, stop),
                      "JSON string has the control character 0x%02x", *stop);
}

static ts_status bad_text(const ts_json *json, const uint8_t *start,
                          size_t valid, ts_error *error)
{
    return ts_fail_at(error, TS_FORMAT, position_of(json, start + valid),
                      "JSON string is not UTF-8: byte 0x%02x", start[valid]);
}

static ts_status take_string(ts_json *json, bool keep, ts_name *out,
                             ts_error *error)
{
    bool high = false, escapes = false;
    uint8_t *start, *stop;
    size_t size, valid;

    TS_TRY(expect(json, '"', "a string", error));
    start = json->at;
    for (stop = start;;) {
        stop = scan(stop, json->end, &high);
        if (stop == json->end || *stop < 0x20)
            return bad_end(json, start - 1, stop, error);
        if (*stop == '"') break;
        escapes = true;
        if (json->end - stop < 2)
            return bad_end(json, start - 1, json->end, error);
        stop += 2;
        if (stop[-1] < 0x20 || stop[-1] > 0x7E)
            return bad_escape(json, stop - 2, "an unknown escape", error);
    }
    size = (size_t)(stop - start);
    valid = high ? ts_utf8_valid(start, size) : size;
    if (valid < size) return bad_text(json, start, valid, error);
    if (escapes) TS_TRY(unescape(json, start, stop, keep, &size, error));
    *out = (ts_name){(const char *)start, size};
    json->at = stop + 1;
    return TS_OK;
}

ts_status ts_json_string(ts_json *json, ts_name *out, ts_error *error)
{
    return take_string(json, true, out, error);
}

static ts_status next_key(ts_json *json, bool keep, ts_name *key, bool *more,
                          ts_error *error)
{
    TS_TRY(next(json, '}', "a comma or '}'", more, error));
    if (!*more) return TS_OK;
    if (peek(json) != '"') return wrong(json, "a key", error);
    TS_TRY(take_string(json, keep, key, error));
    return expect(json, ':', "a colon", error);
}

ts_status ts_json_next_key(ts_json *json, ts_name *key, ts_error *error)
{
    bool more;

    TS_TRY(next_key(json, true, key, &more, error));
    if (!more) *key = (ts_name){NULL, 0};
    return TS_OK;
}

/* ---- words ------------------------------------------------------------ */

static bool take_word(ts_json *json, const char *word)
{
    size_t size = strlen(word);

    pass_blanks(json);
    if ((size_t)(json->end - json->at) < size
        || memcmp(json->at, word, size) != 0)
        return false;
    json->at += size;
    return true;
}

ts_status ts_json_bool(ts_json *json, bool *out, ts_error *error)
{
    *out = take_word(json, "true");
    if (*out || take_word(json, "false")) return TS_OK;
    return wrong(json, "true or false", error);
}

ts_status ts_json_null(ts_json *json, ts_error *error)
{
    return take_word(json, "null") ? TS_OK : wrong(json, "null", error);
}

/* ---- numbers ---------------------------------------------------------- */

static bool is_digit(const ts_json *json, const uint8_t *at)
{
    return at < json->end && *at >= '0' && *at <= '9';
}

static ts_status bad_number(const ts_json *json, const uint8_t *start,
                            const char *why, ts_error *error)
{
    size_t size = 0;
    while (start + size < json->end && size < 40
           && strchr("+-.0123456789eE", start[size]) != NULL
           && start[size] != '\0')
        size++;
    return ts_fail_at(error, TS_FORMAT, position_of(json, start),
                      "JSON number %.*s %s", (int)size, (const char *)start,
                      why);
}

/* How many digits eight bytes begin with, 0 to 8, and their value: pairs,
 * fours and eights are added up inside one word, to the right of as many zeros
 * as digits are missing.  Up to the first byte that is no digit none carries
 * into the next, so that byte is found exactly. */
static unsigned take_eight(const uint8_t *at, uint64_t *out)
{
    uint64_t text = ts_load_u64(at), digits = text - 0x3030303030303030u;
    uint64_t others =
        ((text + 0x4646464646464646u) | digits) & 0x8080808080808080u;
    unsigned count = others == 0 ? 8 : (unsigned)__builtin_ctzll(others) / 8;

    if (count == 0) return 0;
    digits <<= 64 - 8 * count;
    digits = digits * (1 + (10 << 8)) >> 8 & 0x00FF00FF00FF00FFu;
    digits = digits * (1 + (100 << 16)) >> 16 & 0x0000FFFF0000FFFFu;
    *out = digits * (1 + ((uint64_t)10000 << 32)) >> 32;
    return count;
}

/* As many digits as there are; *fits tells whether *out is their value. */
static void take_digits(const ts_json *json, const uint8_t **at,
                        uint64_t *out, bool *fits)
{
    static const uint32_t powers[] = {
        1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};
    const uint8_t *p = *at;
    uint64_t value = 0, part;
    unsigned count = 8;

    *fits = true;
    while (count == 8 && json->end - p >= 8
           && value < UINT64_MAX / 1000000000) {
        count = take_eight(p, &part);
        if (count > 0) value = value * powers[count] + part;
        p += count;
    }
    for (; count == 8 && is_digit(json, p); p++) {
        uint64_t digit = (uint64_t)(*p - '0');
        if (value > (UINT64_MAX - digit) / 10) *fits = false;
        value = value * 10 + digit;
    }
    *out = value;
    *at = p;
}

ts_status ts_json_u64(ts_json *json, uint64_t *out, ts_error *error)
{
    const uint8_t *start, *at;
    bool fits;

    if (peek(json) == '-')
        return bad_number(json, json->at, "is not a whole number from 0 up",
                          error);
    start = at = json->at;
    take_digits(json, &at, out, &fits);
    if (at == start) return wrong(json, "a whole number", error);
    if (*start == '0' && at > start + 1)
        return bad_number(json, start, "begins with a 0", error);
    if (!fits) return bad_number(json, start, "does not fit 64 bits", error);
    if (at < json->end && (*at == '.' || *at == 'e' || *at == 'E'))
        return bad_number(json, start, "is not a whole number", error);
    json->at += at - start;
    return TS_OK;
}

ts_status ts_json_u64s(ts_json *json, uint64_t *out, uint32_t room,
                       uint32_t *count, bool *more, ts_error *error)
{
    TS_TRY(ts_json_begin_array(json, error));
    for (*count = 0;; ++*count) {
        TS_TRY(ts_json_next_item(json, more, error));
        if (!*more || *count == room) return TS_OK;
        TS_TRY(ts_json_u64(json, &out[*count], error));
    }
}

/* Find where a number ends, by RFC 8259's grammar. */
static ts_status number_end(const ts_json *json, const uint8_t *start,
                            const uint8_t **end, bool *whole, ts_error *error)
{
    const uint8_t *at = start + (*start == '-'), *digits = at;

    while (is_digit(json, at)) at++;
    if (at == digits) return bad_number(json, start, "has no digits", error);
    if (*digits == '0' && at > digits + 1)
        return bad_number(json, start, "begins with a 0", error);
    *whole = true;
    if (at < json->end && *at == '.') {
        *whole = false;
        for (digits = ++at; is_digit(json, at);) at++;
        if (at == digits)
            return bad_number(json, start, "has no digits after its point",
                              error);
    }
    if (at < json->end && (*at == 'e' || *at == 'E')) {
        *whole = false;
        at++;
        if (at < json->end && (*at == '+' || *at == '-')) at++;
        for (digits = at; is_digit(json, at);) at++;
        if (at == digits)
            return bad_number(json, start, "has no digits in its exponent",
                              error);
    }
    *end = at;
    return TS_OK;
}

/* strtod is right to the last bit but obeys the locale of the process, where
 * the point may be a comma; so it gets one of its own. */
static ts_status to_double(const ts_json *json, const uint8_t *start,
                           size_t size, double *out, ts_error *error)
{
    char text[512];
    locale_t c;

    if (size >= sizeof text)
        return bad_number(json, start, "has more than 511 characters", error);
    memcpy(text, start, size);
    text[size] = '\0';
    c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (c == (locale_t)0)
        return ts_fail(error, TS_NOMEM, "cannot make a locale");
    *out = strtod_l(text, NULL, c);
    freelocale(c);
    if (isinf(*out))
        return bad_number(json, start, "is beyond the largest double", error);
    return TS_OK;
}

static bool to_whole(const ts_json *json, const uint8_t *start,
                     ts_json_value *out)
{
    bool negative = *start == '-', fits;
    const uint8_t *at = start + negative;
    uint64_t size;

    take_digits(json, &at, &size, &fits);
    if (!fits || (negative && size > (uint64_t)1 << 63)) return false;
    if (negative)
        *out = (ts_json_value){.kind = TS_JSON_INT, .i = (int64_t)(0 - size)};
    else
        *out = (ts_json_value){.kind = TS_JSON_UINT, .u = size};
    return true;
}

ts_status ts_json_number(ts_json *json, ts_json_value *out, ts_error *error)
{
    uint8_t first = peek(json);
    const uint8_t *end = json->at;
    bool whole;

    if (first != '-' && (first < '0' || first > '9'))
        return wrong(json, "a number", error);
    TS_TRY(number_end(json, json->at, &end, &whole, error));
    if (!whole || !to_whole(json, json->at, out)) {
        out->kind = TS_JSON_FLOAT;
        TS_TRY(to_double(json, json->at, (size_t)(end - json->at), &out->f,
                         error));
    }
    json->at += end - json->at;
    return TS_OK;
}

/* ---- any value -------------------------------------------------------- */

static ts_status skip_number(ts_json *json, ts_error *error)
{
    const uint8_t *end = json->at;
    bool whole;

    TS_TRY(number_end(json, json->at, &end, &whole, error));
    json->at += end - json->at;
    return TS_OK;
}

/* A scalar, or the opening bracket of an object or an array. */
static ts_status skip_one(ts_json *json, bool *object, ts_error *error)
{
    ts_name ignored;
    bool truth;
    uint8_t first = peek(json);

    *object = first == '{';
    switch (first) {
    case '{': return ts_json_begin_object(json, error);
    case '[': return ts_json_begin_array(json, error);
    case '"': return take_string(json, false, &ignored, error);
    case 't':
    case 'f': return ts_json_bool(json, &truth, error);
    case 'n': return ts_json_null(json, error);
    default: break;
    }
    if (first != '-' && (first < '0' || first > '9'))
        return wrong(json, "a value", error);
    return skip_number(json, error);
}

ts_status ts_json_skip(ts_json *json, ts_name *text, ts_error *error)
{
    uint32_t floor = json->depth, depth;
    uint64_t objects = 0; /* bit d: what is open at depth d + 1 */
    const uint8_t *start = (pass_blanks(json), json->at);
    ts_name key;
    bool object, more;

    do {
        depth = json->depth;
        TS_TRY(skip_one(json, &object, error));
        if (json->depth > depth)
            objects = (objects & ~((uint64_t)1 << depth))
                    | (uint64_t)object << depth;
        for (more = false; json->depth > floor && !more;)
            if (objects >> (json->depth - 1) & 1)
                TS_TRY(next_key(json, false, &key, &more, error));
            else
                TS_TRY(ts_json_next_item(json, &more, error));
    } while (json->depth > floor);
    if (text != NULL)
        *text = (ts_name){(const char *)start, (size_t)(json->at - start)};
    return TS_OK;
}

ts_status ts_json_finish(ts_json *json, ts_error *error)
{
    pass_blanks(json);
    if (json->at < json->end)
        return wrong(json, "the end of the text", error);
    return TS_OK;
}
