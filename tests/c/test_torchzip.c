#include <stdio.h>

#include "check.h"
#include "formats/torch.h"
#include "zipper.h"

/* Pickles written instruction by instruction, alone and in the two containers
 * of torch.save. */

static void text(blob *b, const char *word)
{
    blob_u8(b, 'X');
    blob_u32(b, (uint32_t)strlen(word));
    blob_text(b, word);
}

static void global(blob *b, const char *module, const char *name)
{
    blob_u8(b, 'c');
    blob_text(b, module);
    blob_u8(b, '\n');
    blob_text(b, name);
    blob_u8(b, '\n');
}

static void number(blob *b, uint64_t value)
{
    blob_u8(b, 0x8A);
    blob_u8(b, 8);
    blob_u64(b, value);
}

static void numbers(blob *b, const uint64_t *values, size_t count)
{
    blob_u8(b, '(');
    for (size_t i = 0; i < count; i++) number(b, values[i]);
    blob_u8(b, 't');
}

static void storage(blob *b, const char *type, const char *key, uint64_t count)
{
    blob_u8(b, '(');
    text(b, "storage");
    global(b, "torch", type);
    text(b, key);
    text(b, "cpu");
    number(b, count);
    blob_u8(b, 't');
    blob_u8(b, 'Q');
}

typedef struct {
    const char *type, *key;
    uint64_t count, first;
    size_t ndim;
    uint64_t shape[4], strides[4];
} view;

/* OrderedDict(): what backward_hooks always is. */
static void ordered_dict(blob *b)
{
    global(b, "collections", "OrderedDict");
    blob_text(b, ")R");
}

static void tensor(blob *b, const view *v)
{
    global(b, "torch._utils", "_rebuild_tensor_v2");
    blob_u8(b, '(');
    storage(b, v->type, v->key, v->count);
    number(b, v->first);
    numbers(b, v->shape, v->ndim);
    numbers(b, v->strides, v->ndim);
    blob_u8(b, 0x89);
    ordered_dict(b);
    blob_text(b, "tR");
}

static const view six = {"FloatStorage", "0", 6, 0, 2, {2, 3}, {3, 1}};

static void start(blob *b) { blob_add(b, "\x80\2", 2); }

/* {"name": tensor} */
static void one(blob *b, const char *name, const view *v)
{
    start(b);
    blob_u8(b, '}');
    text(b, name);
    tensor(b, v);
    blob_text(b, "s.");
}

/* The zip around a pickle and one storage of 24 bytes. */
static void archive(zipper *z, const blob *pickle)
{
    static const uint8_t bytes[24] = {1, 2, 3};
    zip_add(z, "m/data.pkl", 0, pickle->bytes, pickle->size);
    zip_add(z, "m/byteorder", 0, "little", 6);
    zip_add(z, "m/data/0", 0, bytes, sizeof bytes);
    zip_add(z, "m/version", 0, "3\n", 2);
    zip_finish(z);
}

static ts_status open_pickle(blob *pickle, ts_catalog **out, ts_error *error)
{
    zipper z = {0};
    archive(&z, pickle);
    ts_status status = blob_open(&z.file, out, error);
    if (status == TS_OK) {
        const char *fault = catalog_fault(*out, z.file.size);
        CHECK(fault == NULL, "%s", fault);
    }
    zip_free(&z);
    blob_free(pickle);
    return status;
}

static ts_status open_view(const view *v, ts_catalog **out, ts_error *error)
{
    blob b = {0};
    one(&b, "w", v);
    return open_pickle(&b, out, error);
}

/* ---- good ones --------------------------------------------------------- */

static void tensors_lie_in_their_members(void)
{
    blob b = {0};
    zipper z = {0};
    ts_catalog *catalog;
    one(&b, "w", &six);
    archive(&z, &b);
    CHECK_OK(blob_open(&z.file, &catalog, error));
    CHECK(ts_catalog_format(catalog) == TS_FORMAT_TORCH);
    const ts_tensor *w = ts_catalog_tensor(catalog, 0);
    CHECK(w->dtype == TS_F32 && w->ndim == 2 && w->strides == NULL);
    CHECK(w->offset == z.entries[2].payload && w->size == 24);
    CHECK(w->has_crc32 && w->crc32 == z.entries[2].crc32);
    ts_catalog_release(catalog);
    zip_free(&z);
    blob_free(&b);
}

static void views_keep_strides_and_aliases(void)
{
    static const view turned = {"FloatStorage", "0", 6, 0, 2, {3, 2}, {1, 3}};
    static const view column = {"FloatStorage", "0", 6, 1, 1, {2}, {3}};
    static const view scalar = {"FloatStorage", "0", 6, 5, 0, {0}, {0}};
    static const view none = {"FloatStorage", "0", 6, 6, 2, {0, 3}, {3, 1}};
    static const view wide = {"FloatStorage", "0", 6, 2, 2, {1, 3}, {99, 1}};
    blob b = {0};
    ts_catalog *catalog;
    start(&b);
    blob_text(&b, "}(");
    text(&b, "whole"), tensor(&b, &six);
    text(&b, "tied"), tensor(&b, &six);
    text(&b, "turned"), tensor(&b, &turned);
    text(&b, "column"), tensor(&b, &column);
    text(&b, "scalar"), tensor(&b, &scalar);
    text(&b, "none"), tensor(&b, &none);
    text(&b, "wide"), tensor(&b, &wide);
    blob_text(&b, "u.");
    CHECK_OK(open_pickle(&b, &catalog, error));
    if (catalog == NULL) return;
    const ts_tensor *rows[7];
    for (uint32_t i = 0; i < 7; i++) rows[i] = ts_catalog_tensor(catalog, i);
    CHECK(rows[1]->alias_of == 0 && rows[2]->alias_of == 2);
    CHECK(rows[2]->strides != NULL && rows[2]->strides[1] == 3);
    CHECK(rows[3]->offset == rows[0]->offset + 4 && rows[3]->extent == 16);
    CHECK(rows[4]->ndim == 0 && rows[4]->elements == 1
          && rows[4]->offset == rows[0]->offset + 20);
    CHECK(rows[5]->elements == 0 && rows[5]->extent == 0);
    CHECK(rows[6]->strides == NULL && rows[6]->extent == 12);
    ts_catalog_release(catalog);
}

static void nesting_becomes_dots(void)
{
    blob b = {0};
    ts_catalog *catalog;
    uint32_t row;
    start(&b);
    blob_text(&b, "}(");
    text(&b, "epoch"), blob_text(&b, "K\7");
    text(&b, "model"), blob_u8(&b, '}'), text(&b, "fc.w"), tensor(&b, &six);
    blob_u8(&b, 's');
    text(&b, "list"), blob_text(&b, "]("), tensor(&b, &six);
    blob_text(&b, "Ne");
    text(&b, "betas"), blob_text(&b, "K\1K\2\x86");
    blob_text(&b, "K\5"), tensor(&b, &six);
    blob_text(&b, "u.");
    CHECK_OK(open_pickle(&b, &catalog, error));
    if (catalog == NULL) return;
    CHECK(ts_catalog_count(catalog) == 3);
    CHECK(ts_catalog_find(catalog, (ts_name){"model.fc.w", 10}, &row));
    CHECK(ts_catalog_find(catalog, (ts_name){"list.0", 6}, &row));
    CHECK(ts_catalog_find(catalog, (ts_name){"5", 1}, &row));
    CHECK(ts_catalog_value_count(catalog) == 3);
    const ts_value *epoch = ts_catalog_value(catalog, 0);
    CHECK(epoch->kind == TS_VALUE_INT && epoch->i == 7);
    CHECK(ts_catalog_value(catalog, 1)->kind == TS_VALUE_NONE);
    const ts_value *betas = ts_catalog_value(catalog, 2);
    CHECK(betas->kind == TS_VALUE_ARRAY && betas->count == 2
          && betas->item == TS_VALUE_INT && betas->size == 16);
    ts_catalog_release(catalog);
}

/* The five pickles and the storages behind them. */
static void stream(blob *b, uint64_t count, unsigned tail)
{
    blob_add(b, "\x80\2\x8A\12\x6C\xFC\x9C\x46\xF9\x20\x6A\xA8\x50\x19.", 15);
    blob_add(b, "\x80\2M\xE9\3.", 6);
    start(b);
    blob_u8(b, '}');
    text(b, "little_endian");
    blob_text(b, "\x88s.");
    one(b, "w", &six);
    start(b);
    blob_u8(b, ']');
    text(b, "0");
    blob_text(b, "a.");
    blob_u64(b, count);
    blob_fill(b, b->size + tail);
}

static void streams_from_before_zip_open(void)
{
    blob b = {0};
    ts_catalog *catalog;
    stream(&b, 6, 24);
    CHECK_OK(blob_open(&b, &catalog, error));
    if (catalog != NULL) {
        CHECK(ts_catalog_format(catalog) == TS_FORMAT_TORCH);
        CHECK(ts_catalog_tensor(catalog, 0)->offset == b.size - 24);
        CHECK(catalog_fault(catalog, b.size) == NULL);
    }
    ts_catalog_release(catalog);
    for (size_t size = 1; size < b.size; size++) {
        ts_error error = {0};
        CHECK(open_bytes(b.bytes, size, "cut.pt", &catalog, &error)
                  == TS_FORMAT, "cut to %zu", size);
    }
    blob_free(&b);
    stream(&b, 7, 24);
    CHECK_FAILS(blob_open(&b, &catalog, error), TS_FORMAT,
                "storage of 6 elements is preceded by the count 7");
    blob_free(&b);
    stream(&b, 6, 25);
    CHECK_FAILS(blob_open(&b, &catalog, error), TS_FORMAT,
                "1 bytes follow the last storage");
    blob_free(&b);
}

/* ---- hostile views ----------------------------------------------------- */

static void views_stay_inside_their_storage(void)
{
    static const struct {
        view v;
        const char *says;
    } cases[] = {
        {{"FloatStorage", "0", 6, 0, 1, {7}, {1}}, "holds 6"},
        {{"FloatStorage", "0", 6, 1, 2, {2, 3}, {3, 1}}, "element 1 over 6"},
        {{"FloatStorage", "0", 6, 0, 2, {2, 3}, {4, 1}}, "over 7"},
        {{"FloatStorage", "0", 6, 7, 1, {0}, {1}}, "from element 7 over 0"},
        {{"FloatStorage", "0", 6, 1ull << 62, 1, {1}, {1}}, "holds 6"},
        {{"FloatStorage", "0", 7, 0, 1, {7}, {1}}, "its member has 24"},
        {{"FloatStorage", "0", INT64_MAX, 0, 1, {7}, {1}}, "is too large"},
        {{"DoubleStorage", "0", 6, 0, 1, {6}, {1}}, "hold 48 bytes"},
        {{"FloatStorage", "1", 6, 0, 1, {6}, {1}}, "not in the archive"},
        {{"FloatStorage", "0", 6, 0, 2, {1ull << 32, 1ull << 32}, {0, 0}},
         "overflows"},
        {{"FloatStorage", "0", 6, 0, 2, {3, 1ull << 62}, {1ull << 62, 4}},
         "overflows"},
        {{"FloatStorage", "0", 6, 0, 1, {UINT64_MAX}, {1}}, "no count"},
        {{"FloatStorage", "0", 6, 0, 1, {6}, {UINT64_MAX}}, "no count"},
        {{"FloatStorage", "0", 6, 0, 1, {1 << 20}, {0}}, "1 elements of stor"},
        {{"QInt8Storage", "0", 6, 0, 1, {6}, {1}}, "no dtype here"},
    };
    for (size_t i = 0; i < TS_COUNT_OF(cases); i++) {
        ts_catalog *catalog;
        CHECK_FAILS(open_view(&cases[i].v, &catalog, error), TS_FORMAT,
                    cases[i].says);
    }
}

/* ---- pickles that want more than to be read ---------------------------- */

static void raw(blob *b, const char *code, size_t size)
{
    start(b);
    blob_add(b, code, size);
}

#define RAW(code) code, sizeof code - 1

static void code_is_never_run(void)
{
    static const struct {
        const char *code;
        size_t size;
        const char *says;
    } cases[] = {
        {RAW("cposix\nsystem\n(X\4\0\0\0true" "tR."),
         "asks for posix.system, which would run code"},
        {RAW("cos\nsystem\n."), "os.system, which would run code"},
        {RAW("c__builtin__\neval\n."), "__builtin__.eval"},
        {RAW("cbuiltins\ngetattr\n."), "builtins.getattr"},
        {RAW("X\2\0\0\0osX\6\0\0\0system\x93."), "os.system"},
        {RAW("ctorch\nload\n."), "torch.load"},
        {RAW("ctorch._utils\nimport_module\n."), "torch._utils.import_module"},
        {RAW("cx\x1B[31m\ny\n."), "asks for x?[31m.y"},
        {RAW("cos\nsystem"), "before its STOP"},
        {RAW("(ios\nsystem\n."), "0x69 at byte 3"},
        {RAW("(cos\nsystem\no."), "os.system"},
        {RAW("\x82\1."), "instruction 0x82"},
        {RAW("ctorch\nFloatStorage\n)R."), "calls torch.FloatStorage"},
        {RAW("ctorch\nFloatStorage\n)\x81."), "calls torch.FloatStorage"},
        {RAW("])R."), "calls something"},
        {RAW("K\1K\2b."), "sets attributes of a plain value"},
        {RAW("Vx\n."), "instruction 0x56"},
    };
    for (size_t i = 0; i < TS_COUNT_OF(cases); i++) {
        blob b = {0};
        ts_catalog *catalog;
        raw(&b, cases[i].code, cases[i].size);
        CHECK_FAILS(open_pickle(&b, &catalog, error), TS_FORMAT,
                    cases[i].says);
    }
}

static void broken_pickles_are_refused(void)
{
    static const struct {
        const char *code;
        size_t size;
        const char *says;
    } cases[] = {
        {RAW(""), "before its STOP"},
        {RAW("."), "too little on the stack"},
        {RAW("NN."), "leaves 1 values behind"},
        {RAW("(."), "too little"},
        {RAW("t."), "finds no mark"},
        {RAW("\x85."), "too little"},
        {RAW("(\x85."), "too little"},
        {RAW("0."), "too little"},
        {RAW("h\0."), "entry 0, which it never put"},
        {RAW("j\xFF\xFF\xFF\xFF."), "4294967295, which it never put"},
        {RAW("]r\xFF\xFF\xFF\x7F."), "puts memo entry 2147483647"},
        {RAW("}K\1s."), "too little"},
        {RAW("}(K\1u."), "too little"},
        {RAW("]K\1K\2s."), "is no dict"},
        {RAW("}K\1a."), "is no list"},
        {RAW("X\xFF\xFF\xFF\xFFx."), "before its STOP"},
        {RAW("\x8D\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFFx."), "before its STOP"},
        {RAW("\x95\xFF\0\0\0\0\0\0\0N."), "before its STOP"},
        {RAW("\x80\6N."), "protocol 6 is newer"},
        {RAW("N."), "neither a tensor nor a container"},
        {RAW("NQ."), "not one of a storage"},
        {RAW("X\1\0\0\0aX\1\0\0\0b\x86Q."), "not one of a storage"},
        {RAW("ccollections\nOrderedDict\n]N\x85" "a\x85R."),
         "something else than pairs"},
        {RAW("]h\0."), "never put"},
        {RAW("]q\0h\0a."), "inside itself"},
        {RAW("}q\0K\1h\0s."), "inside itself"},
    };
    for (size_t i = 0; i < TS_COUNT_OF(cases); i++) {
        blob b = {0};
        ts_catalog *catalog;
        raw(&b, cases[i].code, cases[i].size);
        CHECK_FAILS(open_pickle(&b, &catalog, error), TS_FORMAT,
                    cases[i].says);
    }
}

/* 64 levels are read, 65 are not; ten doublings of ten doublings neither. */
static void depth_and_size_are_bounded(void)
{
    ts_catalog *catalog;
    blob b = {0};
    for (int depth = 64; depth <= 65; depth++) {
        start(&b);
        for (int i = 0; i < depth; i++) blob_u8(&b, ']');
        tensor(&b, &six);
        for (int i = 0; i < depth; i++) blob_u8(&b, 'a');
        blob_u8(&b, '.');
        if (depth == 64) {
            CHECK_OK(open_pickle(&b, &catalog, error));
            ts_catalog_release(catalog);
        } else {
            CHECK_FAILS(open_pickle(&b, &catalog, error), TS_FORMAT,
                        "deeper than 64");
        }
    }
    start(&b);
    blob_text(&b, "]K\1aNa");
    for (int i = 0; i < 60; i++) {
        blob_u8(&b, 'q');
        blob_u8(&b, (unsigned)i);
        blob_add(&b, "0](h", 4);
        blob_u8(&b, (unsigned)i);
        blob_u8(&b, 'h');
        blob_u8(&b, (unsigned)i);
        blob_u8(&b, 'e');
    }
    blob_u8(&b, '.');
    CHECK_FAILS(open_pickle(&b, &catalog, error), TS_FORMAT,
                "the same objects in so many places");
}

static void names_that_meet_name_both(void)
{
    blob b = {0};
    ts_catalog *catalog;
    start(&b);
    blob_text(&b, "}(");
    text(&b, "a"), blob_u8(&b, '}'), text(&b, "b.c"), tensor(&b, &six);
    blob_u8(&b, 's');
    text(&b, "a.b"), blob_u8(&b, '}'), text(&b, "c"), tensor(&b, &six);
    blob_u8(&b, 's');
    blob_text(&b, "u.");
    CHECK_FAILS(open_pickle(&b, &catalog, error), TS_FORMAT,
                "'a' > 'b.c' and 'a.b' > 'c' would both be the tensor "
                "'a.b.c'");
}

/* ---- the archive ------------------------------------------------------- */

static ts_status open_members(const char *const *members, ts_error *error)
{
    zipper z = {0};
    blob b = {0};
    ts_catalog *catalog;
    one(&b, "w", &six);
    zip_add(&z, "m/data.pkl", 0, b.bytes, b.size);
    for (; *members != NULL; members += 2)
        zip_add(&z, members[0], 0, members[1], strlen(members[1]));
    zip_finish(&z);
    ts_status status = blob_open(&z.file, &catalog, error);
    ts_catalog_release(catalog);
    zip_free(&z);
    blob_free(&b);
    return status;
}

static void archives_of_other_kinds_are_named(void)
{
    static const char *const script[] = {"m/constants.pkl", "", NULL};
    static const char *const code[] = {"m/code/x.py", "", NULL};
    static const char *const big[] = {"m/byteorder", "big", NULL};
    static const char *const middle[] = {"m/byteorder", "middle", NULL};
    static const char *const future[] = {"m/version", "11\n", NULL};
    static const char *const empty[] = {"m/version", "", NULL};
    static const char *const two[] = {"n/data.pkl", "", NULL};
    static const char *const bare[] = {NULL};
    CHECK_FAILS(open_members(script, error), TS_FORMAT, "TorchScript");
    CHECK_FAILS(open_members(code, error), TS_FORMAT, "TorchScript");
    CHECK_FAILS(open_members(big, error), TS_FORMAT, "big-endian machine");
    CHECK_FAILS(open_members(middle, error), TS_FORMAT, "neither little nor");
    CHECK_FAILS(open_members(future, error), TS_FORMAT, "none of 1 to 10");
    CHECK_FAILS(open_members(empty, error), TS_FORMAT, "none of 1 to 10");
    CHECK_FAILS(open_members(two, error), TS_FORMAT, "two checkpoints");
    CHECK_FAILS(open_members(bare, error), TS_FORMAT, "not in the archive");
}

static void compressed_members_are_refused(void)
{
    static const uint8_t zeros[24];
    zipper z = {0};
    blob b = {0};
    ts_catalog *catalog;
    one(&b, "w", &six);
    zip_add(&z, "m/data.pkl", 8, b.bytes, b.size);
    zip_finish(&z);
    CHECK_FAILS(blob_open(&z.file, &catalog, error), TS_FORMAT,
                "'m/data.pkl' is compressed");
    zip_free(&z);
    zip_add(&z, "m/data.pkl", 0, b.bytes, b.size);
    zip_add(&z, "m/data/0", 8, zeros, 24);
    zip_finish(&z);
    CHECK_FAILS(blob_open(&z.file, &catalog, error), TS_FORMAT,
                "storage '0' is compressed");
    zip_free(&z);
    blob_free(&b);
}

static void other_pickles_are_named(void)
{
    blob b = {0};
    ts_catalog *catalog;
    raw(&b, "}.", 2);
    CHECK_FAILS(blob_open(&b, &catalog, error), TS_FORMAT, "a bare pickle");
    blob_free(&b);
}

/* ---- memory ------------------------------------------------------------ */

/* Instructions of a byte that make the most: what a pickle costs stays in
 * proportion. */
static void memory_is_in_proportion(void)
{
    static const char *const fillers[] = {"}", "]", "N\x85", ")", "(", "N2",
                                          "N\x94", "N0", "NNs", "\x8F"};
    enum { SIZE = 60000 };
    for (size_t i = 0; i < TS_COUNT_OF(fillers); i++) {
        blob b = {0};
        ts_arena *arena;
        ts_pickle pickle;
        blob_u8(&b, '}');
        while (b.size < SIZE) blob_text(&b, fillers[i]);
        CHECK_OK(ts_arena_new(&arena, error));
        ts_pickle_read(b.bytes, b.size, NULL, 0, arena, &pickle, NULL);
        CHECK(ts_arena_size(arena) <= 64 * b.size + 65536, "%s: %llu",
              fillers[i], (unsigned long long)ts_arena_size(arena));
        ts_arena_free(arena);
        blob_free(&b);
    }
}

int main(void)
{
    RUN(tensors_lie_in_their_members);
    RUN(views_keep_strides_and_aliases);
    RUN(nesting_becomes_dots);
    RUN(streams_from_before_zip_open);
    RUN(views_stay_inside_their_storage);
    RUN(code_is_never_run);
    RUN(broken_pickles_are_refused);
    RUN(depth_and_size_are_bounded);
    RUN(names_that_meet_name_both);
    RUN(archives_of_other_kinds_are_named);
    RUN(compressed_members_are_refused);
    RUN(other_pickles_are_named);
    RUN(memory_is_in_proportion);
    CHECK_END();
}
