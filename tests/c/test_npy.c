#include "check.h"
#include "open_bytes.h"

#include "core/base.h"
#include "formats/catalog.h"

enum { ROOM = 32768 };

/* A version 1 file around `literal`, with `data` zero bytes behind it. */
static size_t make(uint8_t *out, const char *literal, size_t data)
{
    size_t size = strlen(literal);
    memset(out, 0, ROOM);
    memcpy(out, "\x93NUMPY\x01\x00", 8);
    out[8] = (uint8_t)size;
    out[9] = (uint8_t)(size >> 8);
    memcpy(out + 10, literal, size);
    return 10 + size + data;
}

static ts_status open_literal(const char *literal, size_t data,
                              ts_catalog **out, ts_error *error)
{
    static uint8_t bytes[ROOM];
    size_t size = make(bytes, literal, data);
    return open_bytes(bytes, size, "/some/folder/codes.v2.npy", out, error);
}

static void a_plain_array_opens(void)
{
    ts_catalog *catalog;
    CHECK_OK(open_literal("{'descr': '<f4', 'fortran_order': False, "
                          "'shape': (2, 3), }   \n",
                          24, &catalog, error));
    const ts_tensor *row = ts_catalog_tensor(catalog, 0);
    CHECK(ts_catalog_format(catalog) == TS_FORMAT_NPY);
    CHECK(ts_catalog_count(catalog) == 1 && row->dtype == TS_F32);
    CHECK(row->ndim == 2 && row->shape[0] == 2 && row->shape[1] == 3);
    CHECK(row->size == 24 && row->extent == 24 && row->strides == NULL);
    CHECK(strcmp(row->name.bytes, "codes.v2") == 0, "%s", row->name.bytes);
    ts_catalog_release(catalog);
}

static void fields_come_in_any_order_and_quotes(void)
{
    ts_catalog *catalog;
    CHECK_OK(open_literal("{\"shape\":(2L,),\"descr\":\"|u1\","
                          "\"fortran_order\":True}\n",
                          2, &catalog, error));
    const ts_tensor *row = ts_catalog_tensor(catalog, 0);
    CHECK(row->dtype == TS_U8 && row->size == 2 && row->strides == NULL);
    ts_catalog_release(catalog);
}

static void every_dtype_is_known(void)
{
    static const struct {
        const char *descr;
        ts_dtype dtype;
        ts_storage storage;
    } rows[] = {
        {"|b1", TS_BOOL, TS_STORED},      {"|u1", TS_U8, TS_STORED},
        {"|i1", TS_I8, TS_STORED},        {">i1", TS_I8, TS_STORED},
        {"<u2", TS_U16, TS_STORED},       {">i2", TS_I16, TS_SWAPPED},
        {"=u4", TS_U32, TS_STORED},       {"i4", TS_I32, TS_STORED},
        {">u8", TS_U64, TS_SWAPPED},      {"<i8", TS_I64, TS_STORED},
        {"<f2", TS_F16, TS_STORED},       {">f4", TS_F32, TS_SWAPPED},
        {"<f8", TS_F64, TS_STORED},       {"<c8", TS_C64, TS_STORED},
        {">c16", TS_C128, TS_SWAPPED},    {"<f1", TS_F8_E5M2, TS_STORED},
        {"bfloat16", TS_BF16, TS_STORED},
        {"float8_e4m3fn", TS_F8_E4M3, TS_STORED},
        {"float8_e5m2", TS_F8_E5M2, TS_STORED},
        {"float8_e8m0fnu", TS_F8_E8M0, TS_STORED},
        {"float8_e4m3fnuz", TS_F8_E4M3FNUZ, TS_STORED},
        {"float8_e5m2fnuz", TS_F8_E5M2FNUZ, TS_STORED},
    };
    for (size_t i = 0; i < TS_COUNT_OF(rows); i++) {
        ts_catalog *catalog;
        char literal[200];
        snprintf(literal, sizeof literal,
                 "{'descr':'%s','fortran_order':False,'shape':()}",
                 rows[i].descr);
        CHECK_OK(open_literal(literal, ts_dtype_block_size(rows[i].dtype),
                              &catalog, error));
        const ts_tensor *row = ts_catalog_tensor(catalog, 0);
        CHECK(row->dtype == rows[i].dtype, "%s", rows[i].descr);
        CHECK(row->storage == rows[i].storage, "%s", rows[i].descr);
        CHECK(row->ndim == 0 && row->elements == 1);
        ts_catalog_release(catalog);
    }
}

static void fortran_order_becomes_strides(void)
{
    ts_catalog *catalog;
    CHECK_OK(open_literal("{'descr':'<i8','fortran_order':True,"
                          "'shape':(2,3,4)}",
                          192, &catalog, error));
    const ts_tensor *row = ts_catalog_tensor(catalog, 0);
    CHECK(row->strides != NULL && row->strides[0] == 1
          && row->strides[1] == 2 && row->strides[2] == 6);
    CHECK(row->extent == 192);
    ts_catalog_release(catalog);

    CHECK_OK(open_literal("{'descr':'<i8','fortran_order':True,"
                          "'shape':(0,3)}",
                          0, &catalog, error));
    CHECK(ts_catalog_tensor(catalog, 0)->strides == NULL);
    ts_catalog_release(catalog);
}

static void all_three_versions_open(void)
{
    static const char literal[] =
        "{'descr':'<u2','fortran_order':False,'shape':(1,)}\n";
    uint8_t bytes[100] = "\x93NUMPY\x02\x00";
    bytes[8] = sizeof literal - 1;
    memcpy(bytes + 12, literal, sizeof literal - 1);
    for (uint8_t version = 2; version <= 3; version++) {
        ts_npy npy;
        bytes[6] = version;
        CHECK_OK(ts_npy_header(bytes, sizeof bytes, &npy, error));
        CHECK(npy.dtype == TS_U16 && npy.data == 12 + sizeof literal - 1);
    }
}

#define HEAD_F4 "{'descr':'<f4','fortran_order':False,'shape':"
#define OF_DESCR(text) "{'descr':" text ",'fortran_order':False,'shape':(1,)}"

static void bad_headers_are_refused(void)
{
    static const struct {
        const char *literal;
        ts_status status;
        const char *words;
    } rows[] = {
        {"", TS_FORMAT, "header ends where a dict"},
        {"[1]", TS_FORMAT, "0x5b ('[') where a dict"},
        {"{}", TS_FORMAT, "lacks 'descr'"},
        {HEAD_F4 "(1,)", TS_FORMAT, "ends where a comma or '}'"},
        {HEAD_F4 "(3)}", TS_FORMAT, "where a comma in the shape"},
        {HEAD_F4 "(-3,)}", TS_FORMAT, "where a size of the shape"},
        {HEAD_F4 "(1.5,)}", TS_FORMAT, "where a comma in the shape"},
        {HEAD_F4 "(True,)}", TS_FORMAT, "where a size of the shape"},
        {HEAD_F4 "[1]}", TS_FORMAT, "where the shape, a tuple,"},
        {HEAD_F4 "(99999999999999999999,)}", TS_FORMAT,
         "size of the shape does not fit"},
        {HEAD_F4 "(4294967296,4294967296)}", TS_FORMAT,
         "product of the shape does not fit"},
        {HEAD_F4 "(0,4294967296,4294967296)}", TS_FORMAT,
         "product of the shape does not fit"},
        {HEAD_F4 "(1,)} trailing", TS_FORMAT, "where the end of the header"},
        {HEAD_F4 "(1,),'more':1}", TS_FORMAT, "unknown field 'more'"},
        {HEAD_F4 "(1,),'shape':(1,)}", TS_FORMAT, "gives 'shape' twice"},
        {HEAD_F4 "(1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
                 "1,1,1,1,1)}",
         TS_FORMAT, "more than 32 dimensions"},
        {"{'descr':'<f4','fortran_order':0,'shape':(1,)}", TS_FORMAT,
         "where True or False"},
        {"{'descr':'<f4','fortran_order':False}", TS_FORMAT, "lacks 'shape'"},
        {"{'descr':'<f4", TS_FORMAT, "no closing quote"},
        {"{'descr' '<f4'}", TS_FORMAT, "where a colon"},
        {OF_DESCR("'|O'"), TS_UNSUPPORTED, "pickle, which is never run"},
        {OF_DESCR("[('a','<f4')]"), TS_UNSUPPORTED, "structured dtype"},
        {OF_DESCR("'<V2'"), TS_UNSUPPORTED, "bfloat16 becomes V2"},
        {OF_DESCR("'|S10'"), TS_UNSUPPORTED, "'|S10' holds text"},
        {OF_DESCR("'<U3'"), TS_UNSUPPORTED, "'<U3' holds text"},
        {OF_DESCR("'<M8[ns]'"), TS_UNSUPPORTED, "dates or times"},
        {OF_DESCR("'<f16'"), TS_UNSUPPORTED, "wider than 64 bits"},
        {OF_DESCR("'<q9'"), TS_FORMAT, "unknown dtype '<q9'"},
        {OF_DESCR("''"), TS_FORMAT, "unknown dtype ''"},
    };
    for (size_t i = 0; i < TS_COUNT_OF(rows); i++) {
        ts_catalog *catalog;
        CHECK_FAILS(open_literal(rows[i].literal, 4, &catalog, error),
                    rows[i].status, rows[i].words);
        CHECK(catalog == NULL);
    }
}

static void lengths_must_agree_with_the_file(void)
{
    static const char literal[] = HEAD_F4 "(2,)}";
    static uint8_t bytes[ROOM];
    ts_catalog *catalog;
    CHECK_FAILS(open_literal(literal, 7, &catalog, error), TS_FORMAT,
                "tells of 8 bytes of data but 7 follow");
    CHECK_FAILS(open_literal(literal, 9, &catalog, error), TS_FORMAT,
                "1 bytes follow the data");
    size_t size = make(bytes, literal, 8);
    for (size_t cut = 0; cut < size; cut++) {
        ts_error error;
        CHECK(open_bytes(bytes, cut, "x.npy", &catalog, &error) == TS_FORMAT,
              "%zu bytes", cut);
    }
    bytes[6] = 4;
    CHECK_FAILS(open_bytes(bytes, size, "x.npy", &catalog, error), TS_FORMAT,
                "version 4.0");
    bytes[6] = 1;
    bytes[8] = bytes[9] = 0xFF;
    CHECK_FAILS(open_bytes(bytes, size, "x.npy", &catalog, error), TS_FORMAT,
                "65535 bytes is longer than 10000");
}

int main(void)
{
    RUN(a_plain_array_opens);
    RUN(fields_come_in_any_order_and_quotes);
    RUN(every_dtype_is_known);
    RUN(fortran_order_becomes_strides);
    RUN(all_three_versions_open);
    RUN(bad_headers_are_refused);
    RUN(lengths_must_agree_with_the_file);
    CHECK_END();
}
