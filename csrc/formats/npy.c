#include "catalog.h"

#include <stdlib.h>

#include "core/base.h"

/*  0      6      8        10 or 12            total % 64 == 0
 *  +------+------+--------+-------------------+---------------+
 *  |\x93  |major |length  | {'descr': '<f4',  |  the elements |
 *  |NUMPY |minor |u16/u32 |  ...}  spaces \n  |               |
 *  +------+------+--------+-------------------+---------------+
 * u16 in version 1, u32 in 2 and 3.  numpy/lib/format.py, NEP 1. */
static const uint8_t magic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};

enum { MAX_LITERAL = 10000 };
_Static_assert(TS_NPY_HEAD == MAX_LITERAL + 12, "magic, version, length");

bool ts_npy_matches(const uint8_t *head, size_t size)
{
    return size >= sizeof magic && memcmp(head, magic, sizeof magic) == 0;
}

/* ---- the literal ------------------------------------------------------ */

/* A walk over the text of a Python dict. */
typedef struct {
    const uint8_t *start; /* of the file, for positions */
    const uint8_t *at, *end;
} literal;

static uint64_t position(const literal *text)
{
    return (uint64_t)(text->at - text->start);
}

static void skip_blanks(literal *text)
{
    while (text->at < text->end
           && (*text->at == ' ' || *text->at == '\t' || *text->at == '\n'
               || *text->at == '\r'))
        text->at++;
}

/* The next character that is not blank; 0 at the end. */
static uint8_t peek(literal *text)
{
    skip_blanks(text);
    return text->at < text->end ? *text->at : 0;
}

static bool take(literal *text, char wanted)
{
    if (peek(text) != (uint8_t)wanted) return false;
    text->at++;
    return true;
}

static ts_status wrong(literal *text, const char *wanted, ts_error *error)
{
    uint8_t found = peek(text);

    if (text->at == text->end)
        return ts_fail_at(error, TS_FORMAT, position(text),
                          "the header ends where %s should stand", wanted);
    return ts_fail_at(error, TS_FORMAT, position(text),
                      "the header has 0x%02x ('%c') where %s should stand",
                      found, found >= 0x20 && found < 0x7F ? found : '?',
                      wanted);
}

/* Between quotes, without escapes: none of ours needs one. */
static ts_status take_string(literal *text, ts_name *out, ts_error *error)
{
    uint8_t quote = peek(text);
    const uint8_t *close;

    if (quote != '\'' && quote != '"')
        return wrong(text, "a quoted string", error);
    text->at++;
    close = memchr(text->at, quote, (size_t)(text->end - text->at));
    if (close == NULL)
        return ts_fail_at(error, TS_FORMAT, position(text),
                          "a string in the header has no closing quote");
    *out = (ts_name){(const char *)text->at, (size_t)(close - text->at)};
    text->at = close + 1;
    return TS_OK;
}

static bool is_word(ts_name name, const char *word)
{
    return name.size == strlen(word)
        && memcmp(name.bytes, word, name.size) == 0;
}

static ts_status take_bool(literal *text, bool *out, ts_error *error)
{
    ts_name word = {(const char *)text->at, 0};

    peek(text);
    word.bytes = (const char *)text->at;
    while (text->at < text->end
           && ((*text->at | 0x20) >= 'a' && (*text->at | 0x20) <= 'z'))
        text->at++;
    word.size = (size_t)((const char *)text->at - word.bytes);
    *out = is_word(word, "True");
    if (*out || is_word(word, "False")) return TS_OK;
    text->at = (const uint8_t *)word.bytes;
    return wrong(text, "True or False", error);
}

static ts_status take_size(literal *text, uint64_t *out, ts_error *error)
{
    uint8_t digit = peek(text);
    uint64_t at = position(text);

    if (digit < '0' || digit > '9')
        return wrong(text, "a size of the shape", error);
    for (*out = 0; text->at < text->end; text->at++) {
        digit = *text->at;
        if (digit < '0' || digit > '9') break;
        if (!ts_mul(*out, 10, out) || !ts_add(*out, digit - '0', out))
            return ts_fail_at(error, TS_FORMAT, at,
                              "a size of the shape does not fit 64 bits");
    }
    if (text->at < text->end && *text->at == 'L') text->at++; /* Python 2 */
    return TS_OK;
}

/* () (3,) (3, 4) (3, 4,): but (3) is a number, not a tuple. */
static ts_status take_shape(literal *text, ts_npy *out, ts_error *error)
{
    if (!take(text, '(')) return wrong(text, "the shape, a tuple,", error);
    for (out->ndim = 0; !take(text, ')');) {
        if (out->ndim == TS_MAX_DIMS)
            return ts_fail_at(error, TS_FORMAT, position(text),
                              "more than %d dimensions", TS_MAX_DIMS);
        TS_TRY(take_size(text, &out->shape[out->ndim++], error));
        if (!take(text, ',') && (out->ndim < 2 || peek(text) != ')'))
            return wrong(text, "a comma in the shape", error);
    }
    return TS_OK;
}

/* ---- dtypes ----------------------------------------------------------- */

typedef struct {
    const char *name;
    uint8_t dtype;
} dtype_name;

/* Without the sign of the byte order.  The last one is how ml_dtypes writes
 * float8_e5m2, and nothing else. */
static const dtype_name numbers[] = {
    {"b1", TS_BOOL}, {"u1", TS_U8},  {"i1", TS_I8},  {"u2", TS_U16},
    {"i2", TS_I16},  {"u4", TS_U32}, {"i4", TS_I32}, {"u8", TS_U64},
    {"i8", TS_I64},  {"f2", TS_F16}, {"f4", TS_F32}, {"f8", TS_F64},
    {"c8", TS_C64},  {"c16", TS_C128}, {"f1", TS_F8_E5M2},
};

static const dtype_name words[] = {
    {"bfloat16", TS_BF16},
    {"float8_e4m3fn", TS_F8_E4M3},
    {"float8_e5m2", TS_F8_E5M2},
    {"float8_e8m0fnu", TS_F8_E8M0},
    {"float8_e4m3fnuz", TS_F8_E4M3FNUZ},
    {"float8_e5m2fnuz", TS_F8_E5M2FNUZ},
};

static bool find(const dtype_name *table, size_t count, ts_name name,
                 ts_dtype *out)
{
    for (size_t i = 0; i < count; i++)
        if (is_word(name, table[i].name)) {
            *out = (ts_dtype)table[i].dtype;
            return true;
        }
    return false;
}

/* Why a dtype that is a dtype cannot be opened. */
static ts_status refuse(ts_name descr, char kind, uint64_t at, ts_error *error)
{
    const char *what = NULL;

    if (kind == 'O')
        return ts_fail_at(error, TS_UNSUPPORTED, at,
                          "an array of Python objects (dtype object) is a "
                          "pickle, which is never run");
    if (kind == 'V')
        return ts_fail_at(
            error, TS_UNSUPPORTED, at,
            "dtype '%.*s' is raw bytes without a type: numpy.save forgets "
            "the names of the ml_dtypes types (bfloat16 becomes V2); save "
            "an integer view of the array, or a safetensors file",
            (int)ts_min(descr.size, 20), descr.bytes);
    if (kind == 'S' || kind == 'a' || kind == 'U') what = "text";
    if (kind == 'M' || kind == 'm') what = "dates or times";
    if (kind == 'f' || kind == 'c') what = "floats wider than 64 bits";
    if (what != NULL)
        return ts_fail_at(error, TS_UNSUPPORTED, at,
                          "dtype '%.*s' holds %s, which are no tensor here",
                          (int)ts_min(descr.size, 20), descr.bytes, what);
    return ts_fail_at(error, TS_FORMAT, at, "unknown dtype '%.*s'",
                      (int)ts_min(descr.size, 40), descr.bytes);
}

static ts_status take_dtype(literal *text, ts_npy *out, ts_error *error)
{
    uint8_t first = peek(text);
    uint64_t at = position(text);
    ts_name descr = {0}, name;

    if (first == '[' || first == '(' || first == '{')
        return ts_fail_at(error, TS_UNSUPPORTED, at,
                          "a structured dtype holds records, which are no "
                          "tensor here");
    TS_TRY(take_string(text, &descr, error));
    if (find(words, TS_COUNT_OF(words), descr, &out->dtype)) return TS_OK;
    name = descr;
    first = name.size > 0 ? (uint8_t)name.bytes[0] : 0;
    if (first == '<' || first == '>' || first == '=' || first == '|') {
        name.bytes++;
        name.size--;
    }
    if (!find(numbers, TS_COUNT_OF(numbers), name, &out->dtype))
        return refuse(descr, name.size > 0 ? name.bytes[0] : 0, at, error);
    out->swapped = first == '>' && ts_dtype_block_size(out->dtype) > 1;
    return TS_OK;
}

/* ---- the header ------------------------------------------------------- */

/* The three fields, in any order, each once. */
enum { DESCR = 1, ORDER = 2, SHAPE = 4 };

static ts_status take_field(literal *text, unsigned *seen, ts_npy *out,
                            ts_error *error)
{
    uint64_t at = (peek(text), position(text));
    unsigned field = 0;
    ts_name key = {NULL, 0};

    TS_TRY(take_string(text, &key, error));
    if (is_word(key, "descr")) field = DESCR;
    if (is_word(key, "fortran_order")) field = ORDER;
    if (is_word(key, "shape")) field = SHAPE;
    if (field == 0)
        return ts_fail_at(error, TS_FORMAT, at,
                          "the header has an unknown field '%.*s'",
                          (int)ts_min(key.size, 60), key.bytes);
    if (*seen & field)
        return ts_fail_at(error, TS_FORMAT, at,
                          "the header gives '%.*s' twice", (int)key.size,
                          key.bytes);
    *seen |= field;
    if (!take(text, ':')) return wrong(text, "a colon", error);
    if (field == DESCR) return take_dtype(text, out, error);
    if (field == ORDER) return take_bool(text, &out->fortran, error);
    return take_shape(text, out, error);
}

static ts_status take_header(literal *text, ts_npy *out, ts_error *error)
{
    unsigned seen = 0;

    if (!take(text, '{')) return wrong(text, "a dict, '{',", error);
    while (!take(text, '}')) {
        TS_TRY(take_field(text, &seen, out, error));
        if (!take(text, ',') && peek(text) != '}')
            return wrong(text, "a comma or '}'", error);
    }
    if (seen != (DESCR | ORDER | SHAPE))
        return ts_fail_at(error, TS_FORMAT, position(text),
                          "the header lacks '%s'",
                          !(seen & DESCR)   ? "descr"
                          : !(seen & ORDER) ? "fortran_order"
                                            : "shape");
    skip_blanks(text);
    if (text->at < text->end)
        return wrong(text, "the end of the header", error);
    return TS_OK;
}

/* Product and bytes; as in the draft, zeros do not hide an overflow. */
static ts_status count(ts_npy *out, ts_error *error)
{
    uint64_t product = 1;
    bool empty = false;

    for (uint32_t i = 0; i < out->ndim; i++) {
        empty |= out->shape[i] == 0;
        if (out->shape[i] != 0 && !ts_mul(product, out->shape[i], &product))
            return ts_fail(error, TS_FORMAT,
                           "the product of the shape does not fit 64 bits");
    }
    out->elements = empty ? 0 : product;
    if (product > INT64_MAX
        || !ts_dtype_bytes(out->dtype, out->elements, &out->size))
        return ts_fail(error, TS_FORMAT,
                       "%llu elements of %s do not fit 64 bits",
                       (unsigned long long)product,
                       ts_dtype_name(out->dtype));
    return TS_OK;
}

static ts_status find_literal(const uint8_t *head, size_t size, literal *out,
                              ts_error *error)
{
    size_t length, start;

    if (!ts_npy_matches(head, size))
        return ts_fail_at(error, TS_FORMAT, 0, "no NumPy magic");
    if (size < 8 || head[6] < 1 || head[6] > 3 || head[7] != 0)
        return ts_fail_at(error, TS_FORMAT, 6,
                          "version %d.%d of the npy format is not 1.0, 2.0 "
                          "or 3.0",
                          size > 6 ? head[6] : 0, size > 7 ? head[7] : 0);
    start = head[6] == 1 ? 10 : 12;
    if (size < start)
        return ts_fail_at(error, TS_FORMAT, 8,
                          "the file ends inside its header's length");
    length = head[6] == 1 ? ts_load_u16(head + 8) : ts_load_u32(head + 8);
    if (length > MAX_LITERAL)
        return ts_fail_at(error, TS_FORMAT, 8,
                          "a header of %zu bytes is longer than %d", length,
                          MAX_LITERAL);
    if (length > size - start)
        return ts_fail_at(error, TS_FORMAT, 8,
                          "a header of %zu bytes at %zu ends past the file's "
                          "%zu",
                          length, start, size);
    *out = (literal){head, head + start, head + start + length};
    return TS_OK;
}

ts_status ts_npy_header(const uint8_t *head, size_t size, ts_npy *out,
                        ts_error *error)
{
    literal text = {head, head, head};

    *out = (ts_npy){.ndim = 0};
    TS_TRY(find_literal(head, size, &text, error));
    out->data = (uint64_t)(text.end - head);
    TS_TRY(take_header(&text, out, error));
    return count(out, error);
}

/* Zeros count as ones, so that the strides of an empty array make sense. */
void ts_npy_strides(const ts_npy *npy, int64_t strides[TS_MAX_DIMS])
{
    int64_t step = 1;

    for (uint32_t i = 0; i < npy->ndim; i++) {
        strides[i] = step;
        if (npy->shape[i] != 0) step *= (int64_t)npy->shape[i];
    }
}

/* ---- a bare file ------------------------------------------------------ */

static ts_status check_end(const ts_file *file, const ts_npy *npy,
                           ts_error *error)
{
    uint64_t total = ts_file_size(file), end;

    if (!ts_add(npy->data, npy->size, &end) || end > total)
        return ts_fail_at(error, TS_FORMAT, npy->data,
                          "the header tells of %llu bytes of data but %llu "
                          "follow",
                          (unsigned long long)npy->size,
                          (unsigned long long)(total - npy->data));
    if (end < total)
        return ts_fail_at(error, TS_FORMAT, end,
                          "%llu bytes follow the data; NumPy would pass over "
                          "them, but what wrote this file and what its "
                          "header says do not agree",
                          (unsigned long long)(total - end));
    return TS_OK;
}

static ts_status parse(const ts_file *file, uint32_t index, ts_name name,
                       const ts_npy *npy, ts_draft *draft, ts_error *error)
{
    int64_t strides[TS_MAX_DIMS];
    ts_tensor row = {
        .name = name,
        .dtype = npy->dtype,
        .file = index,
        .ndim = npy->ndim,
        .shape = npy->shape,
        .strides = npy->fortran ? strides : NULL,
        .offset = npy->data,
        .storage = npy->swapped ? TS_SWAPPED : TS_STORED,
    };

    if (npy->fortran) ts_npy_strides(npy, strides);
    TS_TRY(check_end(file, npy, error));
    return ts_draft_tensor(draft, &row, 8, error);
}

ts_status ts_npy_parse(ts_file *file, uint32_t index, ts_name name,
                       ts_draft *draft, ts_error *error)
{
    size_t size = (size_t)ts_min(ts_file_size(file), TS_NPY_HEAD);
    uint8_t *head = malloc(size > 0 ? size : 1);
    ts_npy npy;
    ts_status status;

    if (head == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate %zu bytes", size);
    ts_draft_format(draft, TS_FORMAT_NPY);
    status = ts_file_read(file, 0, head, size, error);
    if (status == TS_OK) status = ts_npy_header(head, size, &npy, error);
    if (status == TS_OK)
        status = parse(file, index, name, &npy, draft, error);
    free(head);
    return status;
}
