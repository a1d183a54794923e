#include "check.h"
#include "open_bytes.h"

#include <errno.h>
#include <sys/stat.h>

#include "core/base.h"

/* A folder of this test's own, below the build folder. */
static char folder[400];

static const char *path_of(const char *name)
{
    static char path[1000];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const void *bytes, size_t size)
{
    FILE *file = fopen(path_of(name), "wb");
    CHECK(file != NULL, "%s", path_of(name));
    if (file == NULL) exit(1);
    fwrite(bytes, 1, size, file);
    fclose(file);
}

/* A safetensors file of U8 tensors of one byte each. */
static void write_shard(const char *name, const char *const *tensors,
                        const char *metadata)
{
    char header[2000] = "{", all[2100];
    uint64_t length;
    int count = 0;
    if (metadata != NULL)
        snprintf(header, sizeof header, "{\"__metadata__\":%s", metadata);
    for (; tensors[count] != NULL; count++)
        snprintf(header + strlen(header), sizeof header - strlen(header),
                 "%s\"%s\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":"
                 "[%d,%d]}",
                 strlen(header) > 1 ? "," : "", tensors[count], count,
                 count + 1);
    strcat(header, "}");
    length = strlen(header);
    memcpy(all, &length, 8);
    memcpy(all + 8, header, length);
    memset(all + 8 + length, 7, (size_t)count);
    write_file(name, all, 8 + length + (size_t)count);
}

static ts_status open_index(const char *json, ts_catalog **out,
                            ts_error *error)
{
    write_file("m.index.json", json, strlen(json));
    return ts_catalog_open(path_of("m.index.json"), out, error);
}

static void write_both_shards(void)
{
    static const char *const first[] = {"a", "b", NULL};
    static const char *const second[] = {"c", "extra", NULL};
    write_shard("m-1", first, "{\"format\":\"pt\",\"of\":\"one\"}");
    write_shard("m-2", second, "{\"format\":\"pt\",\"of\":\"two\"}");
}

static void shards_join_into_one_catalog(void)
{
    ts_catalog *catalog;
    uint32_t row;
    write_both_shards();
    CHECK_OK(open_index(
        " \n{\"metadata\":{\"total_size\":4,\"less\":-1,\"half\":0.5,"
        "\"yes\":true,\"none\":null,\"who\":\"me\",\"more\":{\"x\":[1]}},"
        "\"other\":[1,{}],"
        "\"weight_map\":{\"c\":\"m-2\",\"a\":\"m-1\",\"b\":\"m-1\"}}",
        &catalog, error));
    CHECK(ts_catalog_format(catalog) == TS_FORMAT_SHARDS);
    CHECK(ts_catalog_count(catalog) == 4);
    CHECK(ts_catalog_file_count(catalog) == 2);
    CHECK(strcmp(ts_catalog_tensor(catalog, 0)->name.bytes, "a") == 0);
    CHECK(ts_catalog_tensor(catalog, 1)->file == 0);
    CHECK(ts_catalog_find(catalog, name_of("extra"), &row) && row == 3);
    CHECK(ts_catalog_tensor(catalog, 3)->file == 1);
    CHECK(ts_catalog_tensor(catalog, 3)->alias_of == 3);

    static const ts_value_kind kinds[] = {
        TS_VALUE_UINT, TS_VALUE_INT,    TS_VALUE_FLOAT,
        TS_VALUE_BOOL, TS_VALUE_NONE,   TS_VALUE_STRING,
        TS_VALUE_STRING, TS_VALUE_STRING, TS_VALUE_STRING,
    };
    CHECK(ts_catalog_value_count(catalog) == TS_COUNT_OF(kinds));
    for (uint32_t i = 0; i < TS_COUNT_OF(kinds); i++)
        CHECK(ts_catalog_value(catalog, i)->kind == kinds[i], "%u", i);
    CHECK(ts_catalog_value(catalog, 0)->u == 4);
    CHECK(ts_catalog_value(catalog, 1)->i == -1);
    CHECK(ts_catalog_value(catalog, 2)->f == 0.5);
    CHECK(ts_catalog_value(catalog, 3)->b);
    CHECK(memcmp(ts_catalog_value(catalog, 6)->bytes, "{\"x\":[1]}", 9) == 0);
    CHECK(memcmp(ts_catalog_value(catalog, 8)->bytes, "one", 3) == 0);
    ts_catalog_release(catalog);
}

static void an_empty_map_opens(void)
{
    ts_catalog *catalog;
    CHECK_OK(open_index("{\"metadata\":null,\"weight_map\":{}}", &catalog,
                        error));
    CHECK(ts_catalog_count(catalog) == 0);
    ts_catalog_release(catalog);
}

static void bad_indexes_are_refused(void)
{
    static const struct {
        const char *json, *words;
    } rows[] = {
        {"{}", "without a weight_map"},
        {"{\"a\":1}", "without a weight_map"},
        {"{\"weight_map\":[]}", "'[' where an object"},
        {"{\"weight_map\":{\"a\":1}}", "weight_map gives no file name"},
        {"{\"weight_map\":{\"a\":\"m-1\"}", "ends where a comma or '}'"},
        {"{\"weight_map\":{\"a\":\"m-1\",\"a\":\"m-2\"}}", "names it twice"},
        {"{\"weight_map\":{},\"weight_map\":{}}", "weight_map twice"},
        {"{\"metadata\":{},\"metadata\":{}}", "metadata twice"},
        {"{\"metadata\":{\"k\":1,\"k\":1}}", "'k' is given twice"},
        {"{\"metadata\":7,\"weight_map\":{}}", "'7' where an object"},
        {"{\"weight_map\":{\"a\":\"m-2\"}}",
         "tensor 'a' is in 'm-2', which does not hold it"},
        {"{\"weight_map\":{\"a\":\"m-1\",\"c\":\"m-1\"}}",
         "tensor 'c' is in 'm-1', which does not hold it"},
        {"{\"weight_map\":{\"a\":\"../m-1\"}}",
         "shard '../m-1', which 'm.index.json' names: "},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "no plain file name"},
        {"{\"weight_map\":{\"a\":\"..\"}}", "no plain file name"},
        {"{\"weight_map\":{\"a\":\"\"}}", "no plain file name"},
        {"{\"weight_map\":{\"a\":\"m-1\\u0000x\"}}", "no plain file name"},
        {"{\"weight_map\":{\"a\":\"m.index.json\"}}", "not a format"},
    };
    write_both_shards();
    for (size_t i = 0; i < TS_COUNT_OF(rows); i++) {
        ts_catalog *catalog;
        CHECK_FAILS(open_index(rows[i].json, &catalog, error), TS_FORMAT,
                    rows[i].words);
        CHECK(catalog == NULL);
    }
}

static void a_missing_shard_is_named(void)
{
    ts_catalog *catalog;
    ts_error error;
    write_both_shards();
    CHECK(open_index("{\"weight_map\":{\"a\":\"m-1\",\"z\":\"m-3\"}}",
                     &catalog, &error)
          == TS_IO);
    CHECK(strstr(error.message, "shard 'm-3', which 'm.index.json' names")
              != NULL,
          "%s", error.message);
    CHECK(error.os_errno == ENOENT);
    CHECK(strstr(error.file, "m-3") != NULL, "%s", error.file);
}

static void a_broken_shard_is_named(void)
{
    ts_catalog *catalog;
    ts_error error;
    write_file("broken", "\x02\0\0\0\0\0\0\0{}x", 11);
    CHECK(open_index("{\"weight_map\":{\"a\":\"broken\"}}", &catalog, &error)
          == TS_FORMAT);
    CHECK(strstr(error.message, "1 bytes follow the last tensor") != NULL);
    CHECK(strstr(error.file, "broken") != NULL && error.offset == 10);
}

static void a_tensor_in_two_shards_is_refused(void)
{
    static const char *const both[] = {"a", NULL};
    ts_catalog *catalog;
    ts_error error;
    write_shard("x-1", both, NULL);
    write_shard("x-2", both, NULL);
    write_shard("x-3", (const char *const[]){"b", NULL}, NULL);
    CHECK(open_index("{\"weight_map\":{\"a\":\"x-1\",\"b\":\"x-3\"}}",
                     &catalog, &error)
          == TS_OK);
    ts_catalog_release(catalog);
    write_shard("x-3", (const char *const[]){"b", "a", NULL}, NULL);
    CHECK(open_index("{\"weight_map\":{\"a\":\"x-1\",\"b\":\"x-3\"}}",
                     &catalog, &error)
          == TS_FORMAT);
    CHECK(strstr(error.message, "duplicate") != NULL);
    CHECK(strstr(error.file, "x-3") != NULL && error.tensor[0] == 'a');
}

static void an_index_in_memory_has_no_neighbours(void)
{
    static const char json[] = "{\"weight_map\":{\"a\":\"m-1\"}}";
    ts_catalog *catalog;
    CHECK_FAILS(open_bytes(json, sizeof json - 1, "in memory", &catalog,
                           error),
                TS_ARGUMENT, "lies in memory");
}

static void many_shards_are_sorted_by_name(void)
{
    static char json[20000] = "{\"weight_map\":{";
    ts_catalog *catalog;
    for (int i = 99; i >= 0; i--) {
        char name[32], tensor[20];
        snprintf(name, sizeof name, "s-%05d-of-00100", i);
        snprintf(tensor, sizeof tensor, "t%d", i);
        write_shard(name, (const char *const[]){tensor, NULL},
                    "{\"format\":\"pt\"}");
        snprintf(json + strlen(json), sizeof json - strlen(json),
                 "\"%s\":\"%s\"%s", tensor, name, i > 0 ? "," : "}}");
    }
    CHECK_OK(open_index(json, &catalog, error));
    CHECK(ts_catalog_count(catalog) == 100);
    for (uint32_t i = 0; i < 100; i++)
        CHECK((uint32_t)atoi(ts_catalog_tensor(catalog, i)->name.bytes + 1)
              == i);
    CHECK(ts_catalog_value_count(catalog) == 1);
    ts_catalog_release(catalog);
}

int main(int count, char **arguments)
{
    snprintf(folder, sizeof folder, "%s/shards",
             count > 1 ? arguments[1] : ".");
    mkdir(folder, 0777);
    RUN(shards_join_into_one_catalog);
    RUN(an_empty_map_opens);
    RUN(bad_indexes_are_refused);
    RUN(a_missing_shard_is_named);
    RUN(a_broken_shard_is_named);
    RUN(a_tensor_in_two_shards_is_refused);
    RUN(an_index_in_memory_has_no_neighbours);
    RUN(many_shards_are_sorted_by_name);
    CHECK_END();
}
