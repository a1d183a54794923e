#include <stdio.h>

#include "core/base.h"
#include "core/utf8.h"
#include "torch.h"

/* What a checkpoint says besides tensors: epochs, losses, options.  Numbers,
 * texts and lists of one kind become values; an object of another library
 * becomes the text "<module.name>". */

typedef struct {
    ts_arena *arena;
    uint64_t *left;
    ts_error *error;
} maker;

/* Memory for a value's bytes; NULL when they are more than may be spent. */
static ts_status spend(maker *m, uint64_t size, uint8_t **out)
{
    *out = NULL;
    if (size > *m->left) {
        *m->left = 0;
        return TS_OK;
    }
    *m->left -= size;
    return ts_arena_take(m->arena, size, out, m->error);
}

static void set_bytes(ts_value *out, const uint8_t *bytes, uint64_t size)
{
    *out = (ts_value){.kind = TS_VALUE_ARRAY, .item = TS_VALUE_UINT,
                      .item_size = 1, .count = size, .bytes = bytes,
                      .size = size};
}

/* Text in the pickle is checked by nobody before; what is no UTF-8 (Python 2
 * wrote bytes so) stays bytes. */
static void set_text(ts_value *out, const uint8_t *bytes, uint64_t size)
{
    if (ts_utf8_valid((const char *)bytes, (size_t)size) < size) {
        set_bytes(out, bytes, size);
        return;
    }
    *out = (ts_value){.kind = TS_VALUE_STRING, .bytes = bytes, .size = size};
}

static ts_status copy_text(maker *m, ts_value *out, const char *text)
{
    uint8_t *bytes;
    size_t size = strlen(text);
    TS_TRY(spend(m, size + 1, &bytes));
    if (bytes == NULL) return TS_OK;
    memcpy(bytes, text, size + 1);
    set_text(out, bytes, size);
    return TS_OK;
}

/* An integer beyond 64 bits, as Python's hex() shows it. */
static ts_status make_big(maker *m, const ts_pickle_node *node, ts_value *out)
{
    uint8_t *start, *at;
    bool negative = node->bytes[node->size - 1] >= 0x80;
    unsigned carry = negative;
    uint64_t room = 2 * node->size + 3; /* the digits, "0x" and a sign */

    TS_TRY(spend(m, room, &start));
    if (start == NULL) return TS_OK;
    at = start + room;
    for (uint64_t i = 0; i < node->size; i++) {
        unsigned byte = node->bytes[i];
        if (negative) byte = (byte ^ 0xFF) + carry;
        carry = byte >> 8;
        *--at = (uint8_t)"0123456789abcdef"[byte & 15];
        *--at = (uint8_t)"0123456789abcdef"[byte >> 4 & 15];
    }
    while (at + 1 < start + room && *at == '0') at++;
    *--at = 'x';
    *--at = '0';
    if (negative) *--at = '-';
    set_text(out, at, (uint64_t)(start + room - at));
    return TS_OK;
}

/* What pickles before protocol 3 do to bytes: encode(text, "latin1").  NULL
 * bytes when it is something else. */
static ts_status latin1(maker *m, const ts_pickle_node *call,
                        const uint8_t **bytes, uint64_t *size)
{
    const ts_pickle_node *text = ts_pickle_item(call->arguments, 0);
    uint8_t *out;

    *bytes = NULL;
    *size = 0;
    if (text == NULL || text->kind != TS_PICKLE_STRING
        || !ts_torch_is_text(ts_pickle_item(call->arguments, 1), "latin1"))
        return TS_OK;
    TS_TRY(spend(m, text->size, &out));
    if (out == NULL) return TS_OK;
    for (uint64_t i = 0; i < text->size; i++) {
        unsigned byte = text->bytes[i];
        if (byte >= 0x80) { /* two bytes of UTF-8: U+0080 to U+00FF */
            if ((byte != 0xC2 && byte != 0xC3) || ++i == text->size)
                return TS_OK;
            byte = (byte & 3) << 6 | (text->bytes[i] & 0x3F);
        }
        out[(*size)++] = (uint8_t)byte;
    }
    *bytes = out;
    return TS_OK;
}

/* type is a NumPy type string of a kind and a width. */
static void set_number(ts_value *out, const char *type, const uint8_t *bytes)
{
    unsigned width = (unsigned)(type[1] - '0'), unused = 64 - 8 * width;
    uint64_t bits = 0;
    float single;

    memcpy(&bits, bytes, width);
    switch (type[0]) {
    case 'b':
        out->kind = TS_VALUE_BOOL;
        out->b = bits != 0;
        break;
    case 'u':
        out->kind = TS_VALUE_UINT;
        out->u = bits;
        break;
    case 'i':
        out->kind = TS_VALUE_INT;
        out->i = (int64_t)(bits << unused) >> unused;
        break;
    default:
        out->kind = TS_VALUE_FLOAT;
        memcpy(&out->f, &bits, sizeof out->f);
        memcpy(&single, &bits, sizeof single);
        if (width == 4) out->f = (double)single;
    }
}

/* scalar(dtype("f8"), bytes): the numbers that training scripts leave behind,
 * such as the best loss.  Leaves *out alone when it is of another type. */
static ts_status make_scalar(maker *m, const ts_pickle_node *node,
                             ts_value *out)
{
    static const char *const types[] = {"b1", "u1", "u2", "u4", "u8", "i1",
                                        "i2", "i4", "i8", "f4", "f8"};
    const ts_pickle_node *dtype = ts_pickle_item(node->arguments, 0);
    const ts_pickle_node *data = ts_pickle_item(node->arguments, 1);
    const uint8_t *bytes = NULL;
    uint64_t size = 0;

    if (data == NULL || !ts_torch_calls(dtype, TS_TORCH_NUMPY_DTYPE))
        return TS_OK;
    if (dtype->state != NULL && dtype->state->kind == TS_PICKLE_TUPLE
        && ts_torch_is_text(ts_pickle_item(dtype->state, 1), ">"))
        return TS_OK;
    if (ts_torch_calls(data, TS_TORCH_ENCODE)) {
        TS_TRY(latin1(m, data, &bytes, &size));
    } else if (data->kind == TS_PICKLE_BYTES
               || data->kind == TS_PICKLE_STRING) {
        bytes = data->bytes;
        size = data->size;
    }
    for (size_t i = 0; bytes != NULL && i < TS_COUNT_OF(types); i++)
        if (ts_torch_is_text(ts_pickle_item(dtype->arguments, 0), types[i])
            && size == (uint64_t)(types[i][1] - '0'))
            set_number(out, types[i], bytes);
    return TS_OK;
}

/* device("cuda", 0) is "cuda:0". */
static ts_status make_device(maker *m, const ts_pickle_node *node,
                             ts_value *out)
{
    char text[64];
    const ts_pickle_node *type = ts_pickle_item(node->arguments, 0);
    const ts_pickle_node *number = ts_pickle_item(node->arguments, 1);

    if (type == NULL || type->kind != TS_PICKLE_STRING || type->size > 32)
        return TS_OK;
    if (number == NULL || number->kind != TS_PICKLE_INT) {
        set_text(out, type->bytes, type->size);
        return TS_OK;
    }
    snprintf(text, sizeof text, "%.*s:%lld", (int)type->size,
             (const char *)type->bytes, (long long)number->i);
    return copy_text(m, out, text);
}

/* A complex number is an array of two. */
static ts_status make_complex(maker *m, const ts_pickle_node *node,
                              ts_value *out)
{
    const ts_pickle_node *real = ts_pickle_item(node->arguments, 0);
    const ts_pickle_node *imaginary = ts_pickle_item(node->arguments, 1);
    uint8_t *bytes;

    if (real == NULL || imaginary == NULL || real->kind != TS_PICKLE_FLOAT
        || imaginary->kind != TS_PICKLE_FLOAT)
        return TS_OK;
    TS_TRY(spend(m, 16, &bytes));
    if (bytes == NULL) return TS_OK;
    memcpy(bytes, &real->f, 8);
    memcpy(bytes + 8, &imaginary->f, 8);
    *out = (ts_value){.kind = TS_VALUE_ARRAY, .item = TS_VALUE_FLOAT,
                      .item_size = 8, .count = 2, .bytes = bytes, .size = 16};
    return TS_OK;
}

static ts_status make_call(maker *m, const ts_pickle_node *node, ts_value *out)
{
    char text[96];
    const ts_pickle_global *row = ts_torch_global(node);
    const uint8_t *bytes;
    uint64_t size;

    switch ((ts_torch_what)row->what) {
    case TS_TORCH_DEVICE: TS_TRY(make_device(m, node, out)); break;
    case TS_TORCH_COMPLEX: TS_TRY(make_complex(m, node, out)); break;
    case TS_TORCH_NUMPY_SCALAR: TS_TRY(make_scalar(m, node, out)); break;
    case TS_TORCH_NUMPY_ARRAY: return copy_text(m, out, "<numpy.ndarray>");
    case TS_TORCH_ENCODE:
        TS_TRY(latin1(m, node, &bytes, &size));
        if (bytes != NULL) set_bytes(out, bytes, size);
        break;
    default: break;
    }
    if (out->kind != TS_VALUE_NONE) return TS_OK;
    snprintf(text, sizeof text, "<%s.%s>", row->module, row->name);
    return copy_text(m, out, text);
}

static ts_status make_global(maker *m, const ts_pickle_node *node,
                             ts_value *out)
{
    char text[96];
    const ts_pickle_global *row = ts_torch_global(node);
    snprintf(text, sizeof text, "%s.%s", row->module, row->name);
    return copy_text(m, out, text);
}

/* ---- lists ------------------------------------------------------------- */

/* The lists of an optimizer hold a number for each parameter, those of a
 * tokenizer a text for each word. */
bool ts_torch_is_flat(const ts_pickle_node *node)
{
    if (node->kind != TS_PICKLE_LIST && node->kind != TS_PICKLE_TUPLE)
        return false;
    if (node->count == 0) return true;
    uint8_t kind = node->first->items[0]->kind;
    if (kind != TS_PICKLE_NONE && kind != TS_PICKLE_BOOL
        && kind != TS_PICKLE_INT && kind != TS_PICKLE_FLOAT
        && kind != TS_PICKLE_STRING)
        return false;
    for (ts_pickle_run *run = node->first; run != NULL; run = run->next)
        for (uint64_t i = 0; i < run->count; i++)
            if (run->items[i]->kind != kind) return false;
    return true;
}

/* The bytes of one item: `at` is NULL to only count them. */
static uint64_t pack(const ts_pickle_node *item, uint8_t *at)
{
    switch ((ts_pickle_kind)item->kind) {
    case TS_PICKLE_NONE: return 0;
    case TS_PICKLE_BOOL:
        if (at != NULL) *at = item->i != 0;
        return 1;
    case TS_PICKLE_STRING:
        if (at != NULL) memcpy(at, &item->size, 8);
        if (at != NULL && item->size > 0)
            memcpy(at + 8, item->bytes, (size_t)item->size);
        return 8 + item->size;
    default:
        if (at != NULL) memcpy(at, &item->i, 8); /* or .f */
        return 8;
    }
}

static uint64_t pack_all(const ts_pickle_node *list, uint8_t *at)
{
    uint64_t size = 0;
    for (ts_pickle_run *run = list->first; run != NULL; run = run->next)
        for (uint64_t i = 0; i < run->count; i++)
            size += pack(run->items[i], at == NULL ? NULL : at + size);
    return size;
}

static ts_status make_list(maker *m, const ts_pickle_node *list, ts_value *out)
{
    uint8_t *bytes;
    uint64_t size = pack_all(list, NULL);

    TS_TRY(spend(m, size, &bytes));
    if (bytes == NULL) return TS_OK;
    pack_all(list, bytes);
    *out = (ts_value){.kind = TS_VALUE_ARRAY, .count = list->count,
                      .bytes = bytes, .size = size};
    if (list->count == 0) return TS_OK;
    switch ((ts_pickle_kind)list->first->items[0]->kind) {
    case TS_PICKLE_BOOL: out->item = TS_VALUE_BOOL; out->item_size = 1; break;
    case TS_PICKLE_INT: out->item = TS_VALUE_INT; out->item_size = 8; break;
    case TS_PICKLE_FLOAT:
        out->item = TS_VALUE_FLOAT;
        out->item_size = 8;
        break;
    case TS_PICKLE_STRING: out->item = TS_VALUE_STRING; break;
    default: break;
    }
    return TS_OK;
}

ts_status ts_torch_value(const ts_pickle_node *node, ts_arena *arena,
                         uint64_t *left, ts_value *out, ts_error *error)
{
    maker m = {arena, left, error};

    *out = (ts_value){.kind = TS_VALUE_NONE};
    switch ((ts_pickle_kind)node->kind) {
    case TS_PICKLE_BOOL:
        out->kind = TS_VALUE_BOOL;
        out->b = node->i != 0;
        break;
    case TS_PICKLE_INT:
        out->kind = TS_VALUE_INT;
        out->i = node->i;
        break;
    case TS_PICKLE_FLOAT:
        out->kind = TS_VALUE_FLOAT;
        out->f = node->f;
        break;
    case TS_PICKLE_STRING: set_text(out, node->bytes, node->size); break;
    case TS_PICKLE_BYTES: set_bytes(out, node->bytes, node->size); break;
    case TS_PICKLE_BIG: return make_big(&m, node, out);
    case TS_PICKLE_GLOBAL: return make_global(&m, node, out);
    case TS_PICKLE_CALL: return make_call(&m, node, out);
    case TS_PICKLE_LIST:
    case TS_PICKLE_TUPLE: return make_list(&m, node, out);
    default: break;
    }
    return TS_OK;
}
