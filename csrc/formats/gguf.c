#include <stdio.h>
#include <stdlib.h>

#include "catalog.h"
#include "core/base.h"
#include "gguf.h"

/* GGUF, versions 2 and 3, as ggml/src/gguf.cpp reads it:
 *
 *     "GGUF"  u32 version  u64 tensors  u64 keys
 *     keys    x { string key; u32 type; value }
 *     tensors x { string name; u32 n; u64 ne[n]; u32 type; u64 offset }
 *     padding to the alignment, then the data; offsets count from there
 *
 * A string is a u64 length and its bytes; an array is a u32 type, a u64 count
 * and its items.  ne[0] is the fastest dimension, so shapes are reversed here.
 *
 * Stricter than llama.cpp in three things: a bool is 0 or 1, no bytes follow
 * the last tensor but padding (a second file can hide there), and general.
 * alignment has an upper bound.  More lenient in one: names may be TS_MAX_NAME
 * long, not 63 bytes, since converters of image models write longer ones. */

enum {
    DEFAULT_ALIGNMENT = TS_GGUF_ALIGNMENT,
    MAX_NE = TS_GGUF_MAX_DIMS,
    FIRST_WINDOW = 1 << 20,
    HEAD = 24,        /* magic, version, both counts */
    MIN_KEY = 8 + 4 + 1, /* string, type, the shortest value */
    MIN_TENSOR = 8 + 4 + 4 + 8,
};

static const struct {
    uint8_t size, kind;
} scalars[TS_GGUF_COUNT] = {
    [TS_GGUF_U8] = {1, TS_VALUE_UINT}, [TS_GGUF_I8] = {1, TS_VALUE_INT},
    [TS_GGUF_U16] = {2, TS_VALUE_UINT}, [TS_GGUF_I16] = {2, TS_VALUE_INT},
    [TS_GGUF_U32] = {4, TS_VALUE_UINT}, [TS_GGUF_I32] = {4, TS_VALUE_INT},
    [TS_GGUF_F32] = {4, TS_VALUE_FLOAT}, [TS_GGUF_BOOL] = {1, TS_VALUE_BOOL},
    [TS_GGUF_U64] = {8, TS_VALUE_UINT}, [TS_GGUF_I64] = {8, TS_VALUE_INT},
    [TS_GGUF_F64] = {8, TS_VALUE_FLOAT},
};

/* One key, found in the header; its bytes stay where they are. */
typedef struct {
    uint64_t key, key_size; /* offset in the header, bytes */
    uint64_t value, size;   /* of a string's or an array's contents */
    uint64_t count;         /* of an array */
    uint32_t type, item;
} entry;

/* One file: the whole model, or a part of a split one. */
typedef struct {
    ts_file *file; /* borrowed: the draft retains it */
    uint32_t index;
    uint8_t *bytes; /* owned: the header, as far as it was read */
    uint64_t have, at, most;
    ts_arena *arena; /* owned: entries, keys */
    entry *entries;
    ts_names *keys;
    uint64_t key_count, tensor_count;
    uint64_t alignment;
    uint64_t split_no, split_count; /* 0 and 0 when it is no part */
    uint64_t split_tensors;         /* of all parts; UINT64_MAX: not said */
    ts_error *error;
} part;

/* ---- the header, window by window -------------------------------------- */

static ts_status read_more(part *p, uint64_t need)
{
    uint64_t room = ts_max(p->have * 2, FIRST_WINDOW);
    uint8_t *grown;

    room = ts_min(ts_max(room, need), p->most);
    grown = realloc(p->bytes, (size_t)room);
    if (grown == NULL)
        return ts_fail(p->error, TS_NOMEM, "cannot allocate %llu bytes",
                       (unsigned long long)room);
    p->bytes = grown;
    TS_TRY(ts_file_read(p->file, p->have, grown + p->have,
                        (size_t)(room - p->have), p->error));
    p->have = room;
    return TS_OK;
}

/* Make the next `size` bytes of the header present and step over them. */
static ts_status take(part *p, uint64_t size, const char *what, uint64_t *at)
{
    if (size > p->most - p->at) {
        if (p->most < ts_file_size(p->file))
            return ts_fail_at(p->error, TS_FORMAT, p->at,
                              "GGUF header is longer than %llu bytes",
                              (unsigned long long)p->most);
        return ts_fail_at(p->error, TS_FORMAT, p->at,
                          "GGUF file ends inside %s: it needs %llu bytes at "
                          "%llu of %llu", what, (unsigned long long)size,
                          (unsigned long long)p->at,
                          (unsigned long long)p->most);
    }
    if (p->at + size > p->have) TS_TRY(read_more(p, p->at + size));
    *at = p->at;
    p->at += size;
    return TS_OK;
}

static ts_status take_u32(part *p, const char *what, uint32_t *out)
{
    uint64_t at;
    TS_TRY(take(p, 4, what, &at));
    *out = ts_load_u32(p->bytes + at);
    return TS_OK;
}

static ts_status take_u64(part *p, const char *what, uint64_t *out)
{
    uint64_t at;
    TS_TRY(take(p, 8, what, &at));
    *out = ts_load_u64(p->bytes + at);
    return TS_OK;
}

static ts_status take_string(part *p, const char *what, uint64_t *at,
                             uint64_t *size)
{
    TS_TRY(take_u64(p, what, size));
    return take(p, *size, what, at);
}

static ts_name name_at(const part *p, uint64_t at, uint64_t size)
{
    return (ts_name){(const char *)p->bytes + at, (size_t)size};
}

/* ---- magic, version, counts -------------------------------------------- */

bool ts_gguf_matches(const uint8_t *head, size_t size)
{
    return size >= 4
        && (memcmp(head, "GGUF", 4) == 0 || memcmp(head, "FUGG", 4) == 0);
}

static ts_status check_version(part *p, uint32_t version)
{
    if (p->bytes[0] == 'F' || (version != 0 && (version & 0xFFFF) == 0))
        return ts_fail_at(p->error, TS_FORMAT, 4,
                          "GGUF file is big-endian; convert it to "
                          "little-endian (gguf-convert-endian)");
    if (version == 1)
        return ts_fail_at(p->error, TS_FORMAT, 4,
                          "GGUF version 1 (32-bit counts, August 2023) is no "
                          "longer read; convert the model again");
    if (version != 2 && version != 3)
        return ts_fail_at(p->error, TS_FORMAT, 4,
                          "GGUF version %u is neither 2 nor 3", version);
    return TS_OK;
}

/* A count is believed only as far as the rest of the file could hold it. */
static ts_status check_count(part *p, const char *what, uint64_t count,
                             uint64_t least)
{
    if (count > (p->most - p->at) / least)
        return ts_fail_at(p->error, TS_FORMAT, p->at,
                          "GGUF header promises %llu %s, but %llu bytes "
                          "follow", (unsigned long long)count, what,
                          (unsigned long long)(p->most - p->at));
    return TS_OK;
}

static ts_status read_head(part *p)
{
    uint64_t magic;
    uint32_t version;

    TS_TRY(take(p, 4, "its magic", &magic));
    if (!ts_gguf_matches(p->bytes, 4))
        return ts_fail_at(p->error, TS_FORMAT, 0,
                          "does not begin with the magic GGUF");
    TS_TRY(take_u32(p, "its version", &version));
    TS_TRY(check_version(p, version));
    TS_TRY(take_u64(p, "its counts", &p->tensor_count));
    TS_TRY(take_u64(p, "its counts", &p->key_count));
    TS_TRY(check_count(p, "tensors", p->tensor_count, MIN_TENSOR));
    TS_TRY(check_count(p, "keys", p->key_count, MIN_KEY));
    if (p->tensor_count > TS_MAX_TENSORS)
        return ts_fail_at(p->error, TS_FORMAT, 8,
                          "GGUF header promises %llu tensors, more than %d",
                          (unsigned long long)p->tensor_count,
                          TS_MAX_TENSORS);
    return TS_OK;
}

/* ---- keys and values --------------------------------------------------- */

static ts_status bad_type(part *p, uint32_t type)
{
    return ts_fail_at(p->error, TS_FORMAT, p->at - 4,
                      "GGUF value has the type %u, which does not exist",
                      type);
}

static ts_status check_bools(part *p, uint64_t at, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        if (p->bytes[at + i] > 1)
            return ts_fail_at(p->error, TS_FORMAT, at + i,
                              "GGUF bool is %u, neither 0 nor 1",
                              p->bytes[at + i]);
    return TS_OK;
}

/* The strings of an array, length by length.  A vocabulary holds 256,000. */
static ts_status skip_strings(part *p, uint64_t count)
{
    uint64_t at, size;
    for (uint64_t i = 0; i < count; i++)
        TS_TRY(take_string(p, "an array of strings", &at, &size));
    return TS_OK;
}

static ts_status read_array(part *p, entry *e)
{
    uint64_t size;

    TS_TRY(take_u32(p, "an array", &e->item));
    if (e->item == TS_GGUF_ARRAY)
        return ts_fail_at(p->error, TS_FORMAT, p->at - 4,
                          "GGUF array holds arrays, which no reader takes");
    if (e->item >= TS_GGUF_COUNT) return bad_type(p, e->item);
    TS_TRY(take_u64(p, "an array", &e->count));
    TS_TRY(check_count(p, "items of an array", e->count,
                       e->item == TS_GGUF_STRING ? 8 : scalars[e->item].size));
    e->value = p->at;
    if (e->item == TS_GGUF_STRING) {
        TS_TRY(skip_strings(p, e->count));
    } else {
        size = e->count * scalars[e->item].size;
        TS_TRY(take(p, size, "an array", &e->value));
        if (e->item == TS_GGUF_BOOL)
            TS_TRY(check_bools(p, e->value, e->count));
    }
    e->size = p->at - e->value;
    return TS_OK;
}

static ts_status read_value(part *p, entry *e)
{
    TS_TRY(take_u32(p, "a value", &e->type));
    if (e->type == TS_GGUF_ARRAY) return read_array(p, e);
    if (e->type == TS_GGUF_STRING)
        return take_string(p, "a string", &e->value, &e->size);
    if (e->type >= TS_GGUF_COUNT) return bad_type(p, e->type);
    e->size = scalars[e->type].size;
    TS_TRY(take(p, e->size, "a value", &e->value));
    return e->type == TS_GGUF_BOOL ? check_bools(p, e->value, 1) : TS_OK;
}

/* The bytes of the header may move while it is read, so the index of keys
 * keeps copies. */
static ts_status read_entry(part *p, entry *e)
{
    uint64_t at = p->at;
    uint32_t number;
    bool added;
    char *copy;

    TS_TRY(take_string(p, "a key", &e->key, &e->key_size));
    ts_name key = name_at(p, e->key, e->key_size);
    TS_TRY(ts_check_name(key, "GGUF key", at, p->error));
    if (key.size == 0)
        return ts_fail_at(p->error, TS_FORMAT, at, "GGUF key is empty");
    TS_TRY(ts_arena_copy(p->arena, key.bytes, key.size, &copy, p->error));
    key.bytes = copy;
    ts_names_add(p->keys, key, &number, &added);
    if (!added)
        return ts_fail_at(p->error, TS_FORMAT, at,
                          "GGUF key '%.*s' is given twice",
                          (int)ts_min(key.size, 200), copy);
    return read_value(p, e);
}

/* The value of a key that must be of one type; false when it is absent. */
static ts_status find_number(part *p, const char *key, uint32_t type,
                             const char *type_name, bool *found,
                             uint64_t *out)
{
    uint32_t number;

    *found = ts_names_find(p->keys, (ts_name){key, strlen(key)}, &number);
    if (!*found) return TS_OK;
    const entry *e = &p->entries[number];
    if (e->type != type)
        return ts_fail_at(p->error, TS_FORMAT, e->value,
                          "GGUF key %s is of type %u, not a %s", key, e->type,
                          type_name);
    *out = 0;
    memcpy(out, p->bytes + e->value, e->size);
    return TS_OK;
}

static ts_status read_alignment(part *p)
{
    bool found;
    p->alignment = DEFAULT_ALIGNMENT;
    TS_TRY(find_number(p, "general.alignment", TS_GGUF_U32, "u32", &found,
                       &p->alignment));
    if (ts_is_power_of_two(p->alignment) && p->alignment <= TS_MAX_ALIGNMENT)
        return TS_OK;
    return ts_fail(p->error, TS_FORMAT,
                   "general.alignment %llu is no power of two up to %d",
                   (unsigned long long)p->alignment, TS_MAX_ALIGNMENT);
}

static ts_status read_split(part *p)
{
    bool no, count, tensors;
    TS_TRY(find_number(p, "split.no", TS_GGUF_U16, "u16", &no, &p->split_no));
    TS_TRY(find_number(p, "split.count", TS_GGUF_U16, "u16", &count,
                       &p->split_count));
    TS_TRY(find_number(p, "split.tensors.count", TS_GGUF_I32, "i32", &tensors,
                       &p->split_tensors));
    if (!tensors) p->split_tensors = UINT64_MAX;
    if (p->split_count == 0) return TS_OK;
    if (!no || p->split_no >= p->split_count)
        return ts_fail(p->error, TS_FORMAT,
                       "split.no %llu is not below split.count %llu",
                       (unsigned long long)p->split_no,
                       (unsigned long long)p->split_count);
    return TS_OK;
}

/* Head and keys of a file: afterwards the tensors come next. */
static ts_status read_keys(part *p)
{
    p->most = ts_min(ts_file_size(p->file), TS_MAX_HEADER);
    TS_TRY(read_head(p));
    TS_TRY(ts_arena_new(&p->arena, p->error));
    TS_TRY(ts_arena_take_array(p->arena, p->key_count, sizeof *p->entries,
                               &p->entries, p->error));
    TS_TRY(ts_names_new(p->arena, (uint32_t)p->key_count, &p->keys,
                        p->error));
    for (uint64_t i = 0; i < p->key_count; i++)
        TS_TRY(read_entry(p, &p->entries[i]));
    TS_TRY(read_alignment(p));
    return read_split(p);
}

static ts_value value_of(const part *p, const entry *e)
{
    const uint8_t *at = p->bytes + e->value;
    ts_value value = {.key = name_at(p, e->key, e->key_size)};
    uint64_t bits = 0;
    unsigned unused;
    float single;

    if (e->type == TS_GGUF_STRING || e->type == TS_GGUF_ARRAY) {
        value.bytes = at;
        value.size = e->size;
        value.kind = TS_VALUE_STRING;
        if (e->type == TS_GGUF_STRING) return value;
        value.kind = TS_VALUE_ARRAY;
        value.count = e->count;
        value.item = e->item == TS_GGUF_STRING ? (uint8_t)TS_VALUE_STRING
                                               : scalars[e->item].kind;
        value.item_size = scalars[e->item].size;
        return value;
    }
    memcpy(&bits, at, e->size);
    unused = 64 - 8 * (unsigned)e->size;
    value.kind = scalars[e->type].kind;
    value.item_size = scalars[e->type].size;
    switch (value.kind) {
    case TS_VALUE_BOOL: value.b = bits != 0; break;
    case TS_VALUE_INT: value.i = (int64_t)(bits << unused) >> unused; break;
    case TS_VALUE_FLOAT:
        memcpy(&single, &bits, sizeof single);
        memcpy(&value.f, &bits, sizeof value.f);
        if (e->type == TS_GGUF_F32) value.f = (double)single;
        break;
    default: value.u = bits; break;
    }
    return value;
}

static ts_status add_values(part *p, ts_draft *draft)
{
    for (uint64_t i = 0; i < p->key_count; i++) {
        ts_value value = value_of(p, &p->entries[i]);
        TS_TRY(ts_draft_value(draft, &value, p->entries[i].key, p->error));
    }
    return TS_OK;
}

/* ---- tensors ----------------------------------------------------------- */

/* ids are never indexes: an unknown one falls through to an error. */
bool ts_gguf_dtype(uint32_t id, ts_dtype *out)
{
    switch (id) {
    case 0: *out = TS_F32; return true;
    case 1: *out = TS_F16; return true;
    case 2: *out = TS_Q4_0; return true;
    case 3: *out = TS_Q4_1; return true;
    case 6: *out = TS_Q5_0; return true;
    case 7: *out = TS_Q5_1; return true;
    case 8: *out = TS_Q8_0; return true;
    case 9: *out = TS_Q8_1; return true;
    case 10: *out = TS_Q2_K; return true;
    case 11: *out = TS_Q3_K; return true;
    case 12: *out = TS_Q4_K; return true;
    case 13: *out = TS_Q5_K; return true;
    case 14: *out = TS_Q6_K; return true;
    case 15: *out = TS_Q8_K; return true;
    case 16: *out = TS_IQ2_XXS; return true;
    case 17: *out = TS_IQ2_XS; return true;
    case 18: *out = TS_IQ3_XXS; return true;
    case 19: *out = TS_IQ1_S; return true;
    case 20: *out = TS_IQ4_NL; return true;
    case 21: *out = TS_IQ3_S; return true;
    case 22: *out = TS_IQ2_S; return true;
    case 23: *out = TS_IQ4_XS; return true;
    case 24: *out = TS_I8; return true;
    case 25: *out = TS_I16; return true;
    case 26: *out = TS_I32; return true;
    case 27: *out = TS_I64; return true;
    case 28: *out = TS_F64; return true;
    case 29: *out = TS_IQ1_M; return true;
    case 30: *out = TS_BF16; return true;
    case 34: *out = TS_TQ1_0; return true;
    case 35: *out = TS_TQ2_0; return true;
    case 39: *out = TS_MXFP4; return true;
    case 40: *out = TS_NVFP4; return true;
    case 41: *out = TS_Q1_0; return true;
    case 42: *out = TS_Q2_0; return true;
    default: return false;
    }
}

/* Types that ggml once had; the numbers are not given out again. */
static const char *removed_type(uint32_t id)
{
    switch (id) {
    case 4: return "Q4_2";
    case 5: return "Q4_3";
    case 31: return "Q4_0_4_4";
    case 32: return "Q4_0_4_8";
    case 33: return "Q4_0_8_8";
    case 36: return "IQ4_NL_4_4";
    case 37: return "IQ4_NL_4_8";
    case 38: return "IQ4_NL_8_8";
    default: return NULL;
    }
}

static ts_status read_type(part *p, ts_dtype *out)
{
    uint32_t id;
    TS_TRY(take_u32(p, "a tensor", &id));
    if (ts_gguf_dtype(id, out)) return TS_OK;
    if (removed_type(id) != NULL)
        return ts_fail_at(p->error, TS_FORMAT, p->at - 4,
                          "is of ggml type %u (%s), which ggml has removed",
                          id, removed_type(id));
    return ts_fail_at(p->error, TS_FORMAT, p->at - 4,
                      "is of ggml type %u, which does not exist", id);
}

/* ne[] reversed into shape[]; ggml computes with int64, so do we. */
static ts_status read_shape(part *p, uint64_t *shape, uint32_t *ndim)
{
    uint64_t product = 1;

    TS_TRY(take_u32(p, "a tensor", ndim));
    if (*ndim > MAX_NE)
        return ts_fail_at(p->error, TS_FORMAT, p->at - 4,
                          "has %u dimensions, more than %d", *ndim, MAX_NE);
    for (uint32_t i = 0; i < *ndim; i++) {
        uint64_t ne;
        TS_TRY(take_u64(p, "a tensor", &ne));
        if (ne > INT64_MAX)
            return ts_fail_at(p->error, TS_FORMAT, p->at - 8,
                              "has the negative dimension ne[%u] = %lld", i,
                              (long long)ne);
        if (ne > 0 && (!ts_mul(product, ne, &product) || product > INT64_MAX))
            return ts_fail_at(p->error, TS_FORMAT, p->at - 8,
                              "has more than 2^63 elements, at ne[%u] = %llu",
                              i, (unsigned long long)ne);
        shape[*ndim - 1 - i] = ne;
    }
    return TS_OK;
}

/* Rows of blocks: a block never spans two rows. */
static ts_status check_row(part *p, const ts_tensor *row)
{
    uint64_t fastest = row->ndim > 0 ? row->shape[row->ndim - 1] : 1;
    uint32_t block = ts_dtype_block_count(row->dtype);
    if (fastest % block == 0) return TS_OK;
    return ts_fail_at(p->error, TS_FORMAT, p->at,
                      "has rows of %llu elements, no whole number of %s "
                      "blocks of %u", (unsigned long long)fastest,
                      ts_dtype_name(row->dtype), block);
}

/* The offset is told although it follows from what came before: offsets that
 * say otherwise would let tensors overlap or hide holes. */
static ts_status check_offset(part *p, const ts_tensor *row, uint64_t *end)
{
    uint64_t offset, elements = 1, size, next;

    TS_TRY(take_u64(p, "a tensor", &offset));
    for (uint32_t i = 0; i < row->ndim; i++) elements *= row->shape[i];
    if (offset != *end)
        return ts_fail_at(p->error, TS_FORMAT, p->at - 8,
                          "has the offset %llu, where the tensors before it "
                          "end at %llu", (unsigned long long)offset,
                          (unsigned long long)*end);
    if (!ts_dtype_bytes(row->dtype, elements, &size)
        || !ts_add(offset, size, &next) || next > INT64_MAX)
        return ts_fail_at(p->error, TS_FORMAT, p->at - 8,
                          "ends past 2^63 bytes");
    *end = ts_round_up(next, p->alignment);
    return TS_OK;
}

/* Where in the header a tensor's entry stands, and where its data: known only
 * once all entries are read, since the data starts after them. */
static ts_status read_tensor(part *p, ts_tensor *row, uint64_t *shape,
                             uint64_t *name_at_byte, uint64_t *end)
{
    uint64_t at, size;

    TS_TRY(take_string(p, "a tensor's name", &at, &size));
    *name_at_byte = at;
    row->name = name_at(p, at, size);
    TS_TRY(ts_check_name(row->name, "GGUF tensor's name", at, p->error));
    row->offset = *end;
    ts_status status = read_shape(p, shape, &row->ndim);
    row->shape = shape;
    if (status == TS_OK) status = read_type(p, &row->dtype);
    if (status == TS_OK) status = check_row(p, row);
    if (status == TS_OK) status = check_offset(p, row, end);
    row->name = name_at(p, at, size); /* the header may have moved */
    return ts_error_in_tensor(p->error, status, row->name.bytes,
                              row->name.size);
}

/* Once over the entries: without a draft it checks them and finds where they
 * end, with one it adds them, now that the data's place is known. */
static ts_status read_tensors(part *p, uint64_t data, ts_draft *draft,
                              uint64_t *end)
{
    uint64_t shape[MAX_NE], at;

    *end = 0;
    for (uint64_t i = 0; i < p->tensor_count; i++) {
        ts_tensor row = {.file = p->index};
        TS_TRY(read_tensor(p, &row, shape, &at, end));
        if (draft == NULL) continue;
        row.offset += data;
        TS_TRY(ts_draft_tensor(draft, &row, at, p->error));
    }
    return TS_OK;
}

/* Only padding may follow the last tensor, and may be missing. */
static ts_status check_end(part *p, uint64_t data, uint64_t end)
{
    uint64_t total = ts_file_size(p->file);
    if (!ts_add(data, end, &end) || total <= end) return TS_OK;
    return ts_fail_at(p->error, TS_FORMAT, end,
                      "%llu bytes follow the last tensor, where only padding "
                      "to %llu may", (unsigned long long)(total - end),
                      (unsigned long long)p->alignment);
}

static ts_status add_tensors(part *p, ts_draft *draft)
{
    uint64_t start = p->at, end;

    TS_TRY(read_tensors(p, 0, NULL, &end));
    uint64_t data = ts_round_up(p->at, p->alignment);
    p->at = start;
    TS_TRY(read_tensors(p, data, draft, &end));
    return check_end(p, data, end);
}

/* ---- split models ------------------------------------------------------ */

static void close_part(part *p)
{
    free(p->bytes);
    ts_arena_free(p->arena);
    p->bytes = NULL;
    p->arena = NULL;
}

/* What llama.cpp's gguf-split appends: -00002-of-00003.gguf */
enum { SUFFIX = sizeof "-00002-of-00003.gguf" - 1 };

static void suffix_of(uint64_t no, uint64_t count, char out[64])
{
    snprintf(out, 64, "-%05llu-of-%05llu.gguf", (unsigned long long)no + 1,
             (unsigned long long)count);
}

/* The last part of the path, without the suffix that this part must have. */
static ts_status find_stem(part *p, ts_name *stem)
{
    char suffix[64];
    const char *path = ts_file_path(p->file);
    const char *slash = strrchr(path, '/');

    stem->bytes = slash != NULL ? slash + 1 : path;
    stem->size = strlen(stem->bytes);
    suffix_of(p->split_no, p->split_count, suffix);
    if (stem->size < SUFFIX || stem->size > 255
        || strcmp(stem->bytes + stem->size - SUFFIX, suffix) != 0)
        return ts_fail(p->error, TS_FORMAT,
                       "GGUF part %llu of %llu must be called *%s, so that "
                       "the others can be found",
                       (unsigned long long)p->split_no + 1,
                       (unsigned long long)p->split_count, suffix);
    stem->size -= SUFFIX;
    return TS_OK;
}

static ts_status check_part(const part *p, const part *first, uint64_t no)
{
    if (p->split_no == no && p->split_count == first->split_count
        && p->split_tensors == first->split_tensors)
        return TS_OK;
    return ts_fail(p->error, TS_FORMAT,
                   "says it is part %llu of %llu, where part %llu of %llu is "
                   "expected", (unsigned long long)p->split_no + 1,
                   (unsigned long long)p->split_count,
                   (unsigned long long)no + 1,
                   (unsigned long long)first->split_count);
}

/* Part `no` of the model that `opened` belongs to: its tensors, and from the
 * first part the metadata. */
static ts_status add_part(part *opened, ts_name stem, uint64_t no,
                          ts_draft *draft)
{
    char name[256 + 64];
    part fresh = {.error = opened->error}, *p = &fresh;
    ts_file *file = NULL;
    ts_status status = TS_OK;

    if (no == opened->split_no) {
        p = opened;
    } else {
        memcpy(name, stem.bytes, stem.size);
        suffix_of(no, opened->split_count, name + stem.size);
        status = ts_file_open_beside(opened->file, name, strlen(name), &file,
                                     p->error);
        if (status == TS_OK)
            status = ts_draft_file(draft, file, &p->index, p->error);
        p->file = file;
        if (status == TS_OK) status = read_keys(p);
        if (status == TS_OK) status = check_part(p, opened, no);
    }
    if (status == TS_OK && no == 0) status = add_values(p, draft);
    if (status == TS_OK) status = ts_draft_expect(draft, p->tensor_count,
                                                  p->error);
    if (status == TS_OK) status = add_tensors(p, draft);
    if (file != NULL) ts_error_in_file(p->error, status, ts_file_path(file));
    close_part(p);
    ts_file_release(file);
    return status;
}

static ts_status add_split(part *opened, ts_draft *draft)
{
    ts_name stem;
    uint32_t before = ts_draft_count(draft);

    if (opened->split_count > TS_MAX_FILES)
        return ts_fail(opened->error, TS_FORMAT,
                       "GGUF model has %llu parts, more than %d",
                       (unsigned long long)opened->split_count, TS_MAX_FILES);
    TS_TRY(find_stem(opened, &stem));
    for (uint64_t no = 0; no < opened->split_count; no++)
        TS_TRY(add_part(opened, stem, no, draft));
    uint64_t count = ts_draft_count(draft) - before;
    if (opened->split_tensors != UINT64_MAX && opened->split_tensors != count)
        return ts_fail(opened->error, TS_FORMAT,
                       "split.tensors.count is %llu, but the %llu parts hold "
                       "%llu", (unsigned long long)opened->split_tensors,
                       (unsigned long long)opened->split_count,
                       (unsigned long long)count);
    return TS_OK;
}

static ts_status parse(part *p, ts_draft *draft)
{
    TS_TRY(read_keys(p));
    ts_draft_format(draft, TS_FORMAT_GGUF);
    if (p->split_count > 1) return add_split(p, draft);
    TS_TRY(add_values(p, draft));
    TS_TRY(ts_draft_expect(draft, p->tensor_count, p->error));
    return add_tensors(p, draft);
}

ts_status ts_gguf_parse(ts_file *file, uint32_t index, ts_draft *draft,
                        ts_error *error)
{
    part p = {.file = file, .index = index, .error = error};
    ts_status status = parse(&p, draft);
    close_part(&p);
    return status;
}
