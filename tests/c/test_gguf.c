#include <stdio.h>
#include <unistd.h>

#include "blob.h"
#include "check.h"

/* Sources of the cases: the 33 kinds of llama.cpp's tests/test-gguf.cpp, and
 * the published weaknesses of GGUF readers as classes: counts whose product
 * wraps, lengths near 2^64, nested arrays, dimensions larger than the data. */

static void string(blob *b, const char *text)
{
    blob_u64(b, strlen(text));
    blob_text(b, text);
}

static void head(blob *b, uint32_t version, uint64_t tensors, uint64_t keys)
{
    blob_text(b, "GGUF");
    blob_u32(b, version);
    blob_u64(b, tensors);
    blob_u64(b, keys);
}

static void key_u32(blob *b, const char *key, uint32_t value)
{
    string(b, key);
    blob_u32(b, 4);
    blob_u32(b, value);
}

static void key_u16(blob *b, const char *key, unsigned value)
{
    string(b, key);
    blob_u32(b, 2);
    blob_u16(b, value);
}

static void tensor(blob *b, const char *name, uint64_t ne0, uint64_t ne1,
                   uint32_t type, uint64_t offset)
{
    string(b, name);
    blob_u32(b, 2);
    blob_u64(b, ne0);
    blob_u64(b, ne1);
    blob_u32(b, type);
    blob_u64(b, offset);
}

static void pad(blob *b, size_t alignment)
{
    blob_fill(b, (b->size + alignment - 1) / alignment * alignment);
}

/* ---- the kinds of llama.cpp's own test --------------------------------- */

static void bad_magic(blob *b)
{
    head(b, 3, 0, 0);
    b->bytes[0] = 'X';
}

static void version_0(blob *b) { head(b, 0, 0, 0); }
static void version_1(blob *b) { head(b, 1, 0, 0); }
static void version_future(blob *b) { head(b, 4, 0, 0); }
static void version_swapped(blob *b) { head(b, 3u << 24, 0, 0); }
static void magic_swapped(blob *b)
{
    head(b, 3, 0, 0);
    memcpy(b->bytes, "FUGG", 4);
}
static void bad_n_tensors(blob *b) { head(b, 3, UINT64_MAX, 0); }
static void bad_n_keys(blob *b) { head(b, 3, 0, UINT64_MAX); }
static void nothing(blob *b) { head(b, 3, 0, 0); }
static void nothing_v2(blob *b) { head(b, 2, 0, 0); }

static void bad_key_size(blob *b)
{
    head(b, 3, 0, 1);
    blob_u64(b, UINT64_MAX);
    blob_fill(b, 100);
}

static void empty_key(blob *b)
{
    head(b, 3, 0, 1);
    key_u32(b, "", 1);
}

static void bad_value_type(blob *b)
{
    head(b, 3, 0, 1);
    string(b, "key");
    blob_u32(b, 13);
    blob_u64(b, 0);
}

static void bad_item_type(blob *b)
{
    head(b, 3, 0, 1);
    string(b, "key");
    blob_u32(b, 9);
    blob_u32(b, UINT32_MAX);
    blob_u64(b, 1);
    blob_u64(b, 0);
}

static void duplicate_key(blob *b)
{
    head(b, 3, 0, 2);
    key_u32(b, "key", 1);
    key_u32(b, "key", 2);
}

static void bad_alignment(blob *b)
{
    head(b, 3, 0, 1);
    key_u32(b, "general.alignment", 13);
}

static void zero_alignment(blob *b)
{
    head(b, 3, 0, 1);
    key_u32(b, "general.alignment", 0);
}

static void huge_alignment(blob *b)
{
    head(b, 3, 0, 1);
    key_u32(b, "general.alignment", 1u << 31);
}

static void wrong_type_alignment(blob *b)
{
    head(b, 3, 0, 1);
    key_u16(b, "general.alignment", 32);
}

static void good_keys(blob *b)
{
    head(b, 3, 0, 2);
    key_u32(b, "a", 1);
    key_u16(b, "b", 2);
}

static void bad_name_size(blob *b)
{
    head(b, 3, 1, 0);
    blob_u64(b, UINT64_MAX / 2);
    blob_fill(b, 100);
}

static void long_name(blob *b)
{
    head(b, 3, 1, 0);
    blob_u64(b, TS_MAX_NAME + 1);
    blob_fill(b, b->size + TS_MAX_NAME + 200);
}

static void bad_n_dims(blob *b)
{
    head(b, 3, 1, 0);
    string(b, "t");
    blob_u32(b, 5);
    for (int i = 0; i < 5; i++) blob_u64(b, 1);
    blob_u32(b, 0);
    blob_u64(b, 0);
    blob_fill(b, 200);
}

static void huge_n_dims(blob *b)
{
    head(b, 3, 1, 0);
    string(b, "t");
    blob_u32(b, UINT32_MAX);
    blob_fill(b, 200);
}

static void one_tensor(blob *b, uint64_t ne0, uint64_t ne1, uint32_t type,
                       uint64_t offset)
{
    head(b, 3, 1, 0);
    tensor(b, "t", ne0, ne1, type, offset);
    pad(b, 32);
}

static void bad_shape(blob *b) { one_tensor(b, 4, UINT64_MAX, 0, 0); }
static void bad_first_dim(blob *b) { one_tensor(b, 1ull << 63, 0, 0, 0); }
static void zero_dim(blob *b) { one_tensor(b, 0, 7, 0, 0); }
static void too_many(blob *b) { one_tensor(b, 1ull << 32, 1ull << 32, 0, 0); }

/* Product of the dimensions wraps to 4. */
static void wrapping(blob *b)
{
    head(b, 3, 1, 0);
    string(b, "t");
    blob_u32(b, 3);
    blob_u64(b, 4194305);
    blob_u64(b, 4194305);
    blob_u64(b, 211106198978564);
    blob_u32(b, 0);
    blob_u64(b, 0);
    blob_fill(b, 256);
}

static void too_many_bytes(blob *b) { one_tensor(b, 1ull << 61, 1, 27, 0); }
static void bad_type(blob *b) { one_tensor(b, 32, 1, 43, 0); }
static void worse_type(blob *b) { one_tensor(b, 32, 1, UINT32_MAX, 0); }
static void removed_type(blob *b) { one_tensor(b, 32, 1, 31, 0); }
static void half_block(blob *b) { one_tensor(b, 48, 2, 2, 0); }

static void bad_offset(blob *b)
{
    one_tensor(b, 8, 1, 0, 32);
    blob_fill(b, b->size + 64);
}

static void overlapping(blob *b)
{
    head(b, 3, 2, 0);
    tensor(b, "t", 8, 1, 0, 0);
    tensor(b, "u", 8, 1, 0, 0);
    pad(b, 32);
    blob_fill(b, b->size + 64);
}

static void hole(blob *b)
{
    head(b, 3, 2, 0);
    tensor(b, "t", 8, 1, 0, 0);
    tensor(b, "u", 8, 1, 0, 64);
    pad(b, 32);
    blob_fill(b, b->size + 96);
}

static void duplicate_name(blob *b)
{
    head(b, 3, 2, 0);
    tensor(b, "t", 8, 1, 0, 0);
    tensor(b, "t", 8, 1, 0, 32);
    pad(b, 32);
    blob_fill(b, b->size + 64);
}

/* Offsets as for an alignment of 32, but the key says 64. */
static void tensors_bad_alignment(blob *b)
{
    head(b, 3, 2, 1);
    key_u32(b, "general.alignment", 64);
    tensor(b, "t", 8, 1, 0, 0);
    tensor(b, "u", 8, 1, 0, 32);
    pad(b, 64);
    blob_fill(b, b->size + 128);
}

static void custom_alignment(blob *b)
{
    head(b, 3, 2, 1);
    key_u32(b, "general.alignment", 64);
    tensor(b, "t", 8, 1, 0, 0);
    tensor(b, "u", 8, 1, 0, 64);
    pad(b, 64);
    blob_fill(b, b->size + 128);
}

static void good_tensors(blob *b)
{
    head(b, 3, 3, 1);
    key_u32(b, "a", 1);
    tensor(b, "f", 3, 2, 0, 0);
    tensor(b, "q", 64, 2, 2, 32);
    tensor(b, "i", 5, 1, 24, 128);
    pad(b, 32);
    blob_fill(b, b->size + 160);
}

static void not_enough_data(blob *b)
{
    one_tensor(b, 8, 4, 0, 0);
    blob_fill(b, b->size + 127);
}

static void no_last_padding(blob *b)
{
    one_tensor(b, 5, 1, 24, 0);
    blob_fill(b, b->size + 5);
}

static void trailing_bytes(blob *b)
{
    one_tensor(b, 5, 1, 24, 0);
    blob_fill(b, b->size + 33);
}

/* Sizes that fit one by one, but whose sum wraps around to a small one. */
static void sum_overflows(blob *b)
{
    head(b, 3, 3, 0);
    tensor(b, "t", 1ull << 62, 1, 24, 0);
    tensor(b, "u", 1ull << 62, 1, 24, 1ull << 62);
    tensor(b, "v", 1ull << 62, 1, 24, 1ull << 63);
    pad(b, 32);
}

/* ---- other malformed files --------------------------------------------- */

static void nested_array(blob *b)
{
    head(b, 3, 0, 1);
    string(b, "key");
    blob_u32(b, 9);
    blob_u32(b, 9);
    blob_u64(b, 1);
    blob_fill(b, 100);
}

static void array_too_long(blob *b)
{
    head(b, 3, 0, 1);
    string(b, "key");
    blob_u32(b, 9);
    blob_u32(b, 10);
    blob_u64(b, 1ull << 61); /* x 8 bytes wraps to 0 */
    blob_fill(b, 100);
}

static void strings_too_many(blob *b)
{
    head(b, 3, 0, 1);
    string(b, "key");
    blob_u32(b, 9);
    blob_u32(b, 8);
    blob_u64(b, 100);
    blob_fill(b, 200);
}

static void bad_bool(blob *b)
{
    head(b, 3, 0, 1);
    string(b, "key");
    blob_u32(b, 7);
    blob_u8(b, 2);
}

static void bad_key_text(blob *b)
{
    head(b, 3, 0, 1);
    key_u32(b, "k\xFF", 1);
}

static void bad_value_text(blob *b)
{
    head(b, 3, 0, 1);
    string(b, "key");
    blob_u32(b, 8);
    string(b, "\xC3(");
}

static void lost_part(blob *b)
{
    head(b, 3, 0, 2);
    key_u16(b, "split.no", 0);
    key_u16(b, "split.count", 2);
}

static void part_out_of_range(blob *b)
{
    head(b, 3, 0, 2);
    key_u16(b, "split.no", 2);
    key_u16(b, "split.count", 2);
}

static const struct {
    const char *name;
    void (*make)(blob *b);
    const char *says; /* NULL: it opens */
} kinds[] = {
    {"HEADER_BAD_MAGIC", bad_magic, "not a format"},
    {"HEADER_BAD_VERSION_0", version_0, "version 0 is neither 2 nor 3"},
    {"HEADER_BAD_VERSION_1", version_1, "version 1"},
    {"HEADER_BAD_VERSION_FUTURE", version_future, "version 4 is neither"},
    {"HEADER_BAD_N_TENSORS", bad_n_tensors,
     "promises 18446744073709551615 tensors, but 0 bytes follow"},
    {"HEADER_BAD_N_KV", bad_n_keys, "promises 18446744073709551615 keys"},
    {"HEADER_EMPTY", nothing, NULL},
    {"KV_BAD_KEY_SIZE", bad_key_size,
     "ends inside a key: it needs 18446744073709551615 bytes"},
    {"KV_EMPTY_KEY", empty_key, "key is empty"},
    {"KV_BAD_TYPE", bad_value_type, "type 13, which does not exist"},
    {"KV_DUPLICATE_KEY", duplicate_key, "'key' is given twice"},
    {"KV_BAD_ALIGN", bad_alignment, "13 is no power of two up to 1048576"},
    {"KV_WRONG_TYPE_ALIGN", wrong_type_alignment, "of type 2, not a u32"},
    {"KV_SUCCESS", good_keys, NULL},
    {"TENSORS_BAD_NAME_SIZE", bad_name_size, "ends inside a tensor's name"},
    {"TENSORS_BAD_N_DIMS", bad_n_dims, "5 dimensions, more than 4"},
    {"TENSORS_BAD_SHAPE", bad_shape, "negative dimension ne[1] = -1"},
    {"TENSORS_ZERO_DIM", zero_dim, NULL},
    {"TENSORS_NE_TOO_BIG", too_many, "more than 2^63 elements"},
    {"TENSORS_NBYTES_TOO_BIG", too_many_bytes, "ends past 2^63 bytes"},
    {"TENSORS_BAD_TYPE", bad_type, "ggml type 43, which does not exist"},
    {"TENSORS_BAD_OFFSET", bad_offset, "offset 32, where the tensors before"},
    {"TENSORS_DUPLICATE_NAME", duplicate_name, "duplicate"},
    {"TENSORS_BAD_ALIGN", bad_alignment, "no power of two"},
    {"TENSORS_INCONSISTENT_ALIGN", tensors_bad_alignment,
     "offset 32, where the tensors before it end at 64"},
    {"TENSORS_SUCCESS", good_tensors, NULL},
    {"TENSORS_CUSTOM_ALIGN", custom_alignment, NULL},
    {"DATA_NOT_ENOUGH_DATA", not_enough_data, "do not lie inside the file"},
    {"DATA_BAD_ALIGN", zero_alignment, "0 is no power of two"},
    {"DATA_INCONSISTENT_ALIGN", tensors_bad_alignment, "end at 64"},
    {"DATA_MEM_SIZE_OVERFLOW", sum_overflows, "ends past 2^63 bytes"},
    {"DATA_SUCCESS", good_tensors, NULL},
    {"DATA_CUSTOM_ALIGN", custom_alignment, NULL},
    /* beyond that list */
    {"version 2", nothing_v2, NULL},
    {"big-endian version", version_swapped, "big-endian"},
    {"big-endian magic", magic_swapped, "big-endian"},
    {"item type", bad_item_type, "type 4294967295, which does not exist"},
    {"alignment of 2 GiB", huge_alignment, "2147483648 is no power of two"},
    {"long name", long_name, "4097 bytes is longer than 4096"},
    {"4 billion dimensions", huge_n_dims, "4294967295 dimensions"},
    {"first dimension", bad_first_dim, "negative dimension ne[0]"},
    {"wrapping product", wrapping, "more than 2^63 elements"},
    {"type 2^32 - 1", worse_type, "type 4294967295, which does not exist"},
    {"removed type", removed_type, "31 (Q4_0_4_4), which ggml has removed"},
    {"half a block", half_block,
     "rows of 48 elements, no whole number of Q4_0 blocks of 32"},
    {"overlap", overlapping, "offset 0, where the tensors before it end at"},
    {"hole", hole, "offset 64, where the tensors before it end at 32"},
    {"no padding at the end", no_last_padding, NULL},
    {"trailing bytes", trailing_bytes, "1 bytes follow the last tensor"},
    {"array of arrays", nested_array, "array holds arrays"},
    {"array of 2^61", array_too_long, "promises 2305843009213693952 items"},
    {"strings beyond the end", strings_too_many, "promises 100 items"},
    {"bool of 2", bad_bool, "bool is 2, neither 0 nor 1"},
    {"key is no UTF-8", bad_key_text, "not UTF-8"},
    {"text is no UTF-8", bad_value_text, "not UTF-8"},
    {"part without a name", lost_part, "must be called *-00001-of-00002.gguf"},
    {"part out of range", part_out_of_range, "split.no 2 is not below"},
};

static void every_kind_opens_or_says_why(void)
{
    for (size_t i = 0; i < TS_COUNT_OF(kinds); i++) {
        blob b = {0};
        ts_catalog *catalog;
        ts_error error = {0};
        kinds[i].make(&b);
        ts_status status = blob_open(&b, &catalog, &error);
        if (kinds[i].says == NULL) {
            CHECK(status == TS_OK, "%s: %s", kinds[i].name, error.message);
            if (status == TS_OK)
                CHECK(catalog_fault(catalog, b.size) == NULL, "%s: %s",
                      kinds[i].name, catalog_fault(catalog, b.size));
        } else {
            CHECK(status == TS_FORMAT, "%s: %s", kinds[i].name,
                  ts_status_text(status));
            CHECK(strstr(error.message, kinds[i].says) != NULL, "%s said: %s",
                  kinds[i].name, error.message);
        }
        ts_catalog_release(catalog);
        blob_free(&b);
    }
}

/* ---- what a good file says --------------------------------------------- */

static void shapes_are_reversed_and_bytes_found(void)
{
    blob b = {0};
    ts_catalog *catalog;
    good_tensors(&b);
    CHECK_OK(blob_open(&b, &catalog, error));
    CHECK(ts_catalog_format(catalog) == TS_FORMAT_GGUF);
    CHECK(ts_catalog_count(catalog) == 3);
    const ts_tensor *q = ts_catalog_tensor(catalog, 1);
    CHECK(q->dtype == TS_Q4_0 && q->ndim == 2);
    CHECK(q->shape[0] == 2 && q->shape[1] == 64 && q->size == 72);
    CHECK(q->offset == b.size - 160 + 32 && q->offset % 32 == 0);
    const ts_tensor *i = ts_catalog_tensor(catalog, 2);
    CHECK(i->dtype == TS_I8 && i->shape[0] == 1 && i->shape[1] == 5);
    ts_catalog_release(catalog);
    blob_free(&b);
}

static const ts_value *find(const ts_catalog *catalog, const char *key)
{
    for (uint32_t i = 0; i < ts_catalog_value_count(catalog); i++) {
        const ts_value *value = ts_catalog_value(catalog, i);
        if (value->key.size == strlen(key)
            && memcmp(value->key.bytes, key, value->key.size) == 0)
            return value;
    }
    static const ts_value none;
    CHECK(false, "no value '%s'", key);
    return &none;
}

/* Every type of value, and arrays of text and numbers. */
static void rich(blob *b)
{
    double pi = 3.25;
    float half = -0.5f;

    head(b, 3, 1, 15);
    string(b, "u8"), blob_u32(b, 0), blob_u8(b, 200);
    string(b, "i8"), blob_u32(b, 1), blob_u8(b, 0xFD);
    string(b, "u16"), blob_u32(b, 2), blob_u16(b, 60000);
    string(b, "i16"), blob_u32(b, 3), blob_u16(b, 0xFFFE);
    string(b, "u32"), blob_u32(b, 4), blob_u32(b, UINT32_MAX);
    string(b, "i32"), blob_u32(b, 5), blob_u32(b, UINT32_MAX);
    string(b, "f32"), blob_u32(b, 6), blob_add(b, &half, 4);
    string(b, "bool"), blob_u32(b, 7), blob_u8(b, 1);
    string(b, "text"), blob_u32(b, 8), string(b, "h\xC3\xA9");
    string(b, "u64"), blob_u32(b, 10), blob_u64(b, UINT64_MAX);
    string(b, "i64"), blob_u32(b, 11), blob_u64(b, UINT64_MAX);
    string(b, "f64"), blob_u32(b, 12), blob_add(b, &pi, 8);
    string(b, "words"), blob_u32(b, 9), blob_u32(b, 8), blob_u64(b, 3);
    string(b, "a"), string(b, ""), string(b, "bcd");
    string(b, "numbers"), blob_u32(b, 9), blob_u32(b, 3), blob_u64(b, 2);
    blob_u16(b, 1), blob_u16(b, 0xFFFF);
    key_u32(b, "general.alignment", 64);
    tensor(b, "blk.0.attn_q.weight", 256, 2, 14, 0);
    pad(b, 64);
    blob_fill(b, b->size + 420);
}

static void values_keep_their_kinds(void)
{
    blob b = {0};
    ts_catalog *catalog;
    rich(&b);
    CHECK_OK(blob_open(&b, &catalog, error));
    CHECK(find(catalog, "u8")->kind == TS_VALUE_UINT
          && find(catalog, "u8")->u == 200);
    CHECK(find(catalog, "i8")->kind == TS_VALUE_INT
          && find(catalog, "i8")->i == -3);
    CHECK(find(catalog, "u16")->u == 60000);
    CHECK(find(catalog, "i16")->i == -2);
    CHECK(find(catalog, "u32")->u == UINT32_MAX);
    CHECK(find(catalog, "i32")->i == -1);
    CHECK(find(catalog, "f32")->f == -0.5);
    CHECK(find(catalog, "bool")->kind == TS_VALUE_BOOL
          && find(catalog, "bool")->b);
    CHECK(find(catalog, "text")->size == 3
          && memcmp(find(catalog, "text")->bytes, "h\xC3\xA9", 3) == 0);
    CHECK(find(catalog, "u64")->u == UINT64_MAX);
    CHECK(find(catalog, "i64")->i == -1);
    CHECK(find(catalog, "f64")->f == 3.25);
    const ts_value *words = find(catalog, "words");
    CHECK(words->kind == TS_VALUE_ARRAY && words->item == TS_VALUE_STRING);
    CHECK(words->count == 3 && words->size == 3 * 8 + 4);
    const ts_value *numbers = find(catalog, "numbers");
    CHECK(numbers->item == TS_VALUE_INT && numbers->item_size == 2
          && numbers->count == 2 && numbers->size == 4);
    CHECK(catalog_fault(catalog, b.size) == NULL);
    ts_catalog_release(catalog);
    blob_free(&b);
}

/* ---- families ---------------------------------------------------------- */

/* Opening hostile bytes may fail, but only politely; what opens keeps every
 * promise. */
static void open_and_judge(const blob *b, const char *what, size_t at)
{
    ts_catalog *catalog;
    ts_error error = {0};
    ts_status status = blob_open(b, &catalog, &error);
    if (status == TS_OK) {
        const char *fault = catalog_fault(catalog, b->size);
        CHECK(fault == NULL, "%s at %zu: %s", what, at, fault);
    } else {
        CHECK(status == TS_FORMAT && error.message[0] != '\0', "%s at %zu: %s",
              what, at, ts_status_text(status));
    }
    ts_catalog_release(catalog);
}

/* Not one wrong count, but every 8 bytes of the header holding every number
 * at which arithmetic has ever gone wrong: fixes of single files have been
 * bypassed twice. */
static void no_number_anywhere_is_believed(void)
{
    static const uint64_t numbers[] = {
        0, 1, 2, 3, 4, 5, 13, 31, 32, 33, 255, 256, 4096, 65535, 65536,
        INT32_MAX - 1ull, INT32_MAX, INT32_MAX + 1ull, UINT32_MAX - 1ull,
        UINT32_MAX, UINT32_MAX + 1ull, 1ull << 59, 1ull << 60, 1ull << 61,
        1ull << 62, INT64_MAX - 31ull, INT64_MAX, INT64_MAX + 1ull,
        UINT64_MAX / 24, UINT64_MAX / 18, UINT64_MAX / 8, UINT64_MAX - 63,
        UINT64_MAX - 31, UINT64_MAX - 8, UINT64_MAX - 1, UINT64_MAX,
    };
    blob b = {0};
    rich(&b);
    for (size_t at = 4; at + 8 <= b.size - 420; at++) {
        uint64_t old = ts_load_u64(b.bytes + at);
        for (size_t i = 0; i < TS_COUNT_OF(numbers); i++) {
            memcpy(b.bytes + at, &numbers[i], 8);
            open_and_judge(&b, "u64", at);
            memcpy(b.bytes + at, &old, 8);
            memcpy(b.bytes + at, &numbers[i], 4);
            open_and_judge(&b, "u32", at);
            memcpy(b.bytes + at, &old, 8);
        }
    }
    blob_free(&b);
}

static void every_truncation_is_refused(void)
{
    blob b = {0};
    rich(&b);
    for (size_t size = 1; size < b.size; size++) {
        ts_catalog *catalog;
        ts_error error = {0};
        ts_status status = open_bytes(b.bytes, size, "cut.gguf", &catalog,
                                      &error);
        CHECK(status == TS_FORMAT, "cut to %zu: %s", size,
              ts_status_text(status));
        ts_catalog_release(catalog);
    }
    blob_free(&b);
}

/* ---- split models ------------------------------------------------------ */

static const char *folder;

static void part_path(char out[512], int no, int count)
{
    snprintf(out, 512, "%s/split-%05d-of-%05d.gguf", folder, no + 1, count);
}

static void write_part(int no, int count, int said_no, int said_count,
                       uint32_t total)
{
    char path[512], name[32];
    blob b = {0};
    head(&b, 3, 2, 4);
    key_u16(&b, "split.no", (unsigned)said_no);
    key_u16(&b, "split.count", (unsigned)said_count);
    string(&b, "split.tensors.count"), blob_u32(&b, 5), blob_u32(&b, total);
    key_u32(&b, no == 0 ? "model.first" : "model.other", 7);
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "blk.%d.%d", no, i);
        tensor(&b, name, 8, 1, 0, (uint64_t)i * 32);
    }
    pad(&b, 32);
    blob_fill(&b, b.size + 64);
    part_path(path, no, count);
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL && fwrite(b.bytes, 1, b.size, file) == b.size);
    if (file != NULL) fclose(file);
    blob_free(&b);
}

static void write_parts(void)
{
    for (int i = 0; i < 3; i++) write_part(i, 3, i, 3, 6);
}

static void any_part_opens_all(void)
{
    write_parts();
    for (int opened = 0; opened < 3; opened++) {
        char path[512];
        ts_catalog *catalog = NULL;
        part_path(path, opened, 3);
        CHECK_OK(ts_catalog_open(path, &catalog, error));
        if (catalog == NULL) return;
        CHECK(ts_catalog_count(catalog) == 6
              && ts_catalog_file_count(catalog) == 3);
        for (uint32_t i = 0; i < 6; i++) {
            char name[32];
            const ts_tensor *row = ts_catalog_tensor(catalog, i);
            snprintf(name, sizeof name, "blk.%u.%u", i / 2, i % 2);
            CHECK(row->name.size == strlen(name)
                  && memcmp(row->name.bytes, name, row->name.size) == 0);
            part_path(path, (int)i / 2, 3);
            CHECK(strcmp(ts_file_path(ts_catalog_file(catalog, row->file)),
                         path) == 0);
        }
        CHECK(find(catalog, "model.first")->u == 7);
        CHECK(ts_catalog_value_count(catalog) == 4);
        ts_catalog_release(catalog);
    }
}

static void parts_must_agree(void)
{
    char path[512];
    ts_catalog *catalog;
    part_path(path, 0, 3);

    write_parts();
    write_part(1, 3, 2, 3, 6);
    CHECK_FAILS(ts_catalog_open(path, &catalog, error), TS_FORMAT,
                "part 3 of 3, where part 2 of 3 is expected");
    write_part(1, 3, 1, 4, 6);
    CHECK_FAILS(ts_catalog_open(path, &catalog, error), TS_FORMAT,
                "part 2 of 4, where part 2 of 3 is expected");
    write_parts();
    for (int i = 0; i < 3; i++) write_part(i, 3, i, 3, 7);
    CHECK_FAILS(ts_catalog_open(path, &catalog, error), TS_FORMAT,
                "split.tensors.count is 7, but the 3 parts hold 6");
    write_parts();
    part_path(path, 1, 3);
    unlink(path);
    part_path(path, 2, 3);
    ts_error error = {0};
    CHECK(ts_catalog_open(path, &catalog, &error) == TS_IO);
    CHECK(strstr(error.file, "split-00002-of-00003.gguf") != NULL
          || strstr(error.message, "split-00002-of-00003.gguf") != NULL,
          "%s | %s", error.file, error.message);
}

/* 3,000 tensors and a vocabulary of 100,000: the header is larger than the
 * first window, so it moves while it is read. */
static void long_headers_are_read_in_windows(void)
{
    blob b = {0};
    char name[64];
    ts_catalog *catalog;

    head(&b, 3, 3000, 1);
    string(&b, "tokenizer.ggml.tokens");
    blob_u32(&b, 9), blob_u32(&b, 8), blob_u64(&b, 100000);
    for (int i = 0; i < 100000; i++) {
        snprintf(name, sizeof name, "token-%d", i);
        string(&b, name);
    }
    for (uint64_t i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "blk.%d.weight", (int)i);
        tensor(&b, name, 8, 1, 0, 32 * i);
    }
    pad(&b, 32);
    blob_fill(&b, b.size + 32 * 3000);
    CHECK_OK(blob_open(&b, &catalog, error));
    CHECK(ts_catalog_count(catalog) == 3000);
    CHECK(catalog_fault(catalog, b.size) == NULL);
    CHECK(find(catalog, "tokenizer.ggml.tokens")->count == 100000);
    ts_catalog_release(catalog);
    blob_free(&b);
}

int main(int count, char **arguments)
{
    folder = count > 1 ? arguments[1] : ".";
    RUN(every_kind_opens_or_says_why);
    RUN(shapes_are_reversed_and_bytes_found);
    RUN(values_keep_their_kinds);
    RUN(no_number_anywhere_is_believed);
    RUN(every_truncation_is_refused);
    RUN(any_part_opens_all);
    RUN(parts_must_agree);
    RUN(long_headers_are_read_in_windows);
    CHECK_END();
}
