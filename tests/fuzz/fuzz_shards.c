#include "judge.h"

#include <stdio.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A folder with two shards and a file that is none; the input becomes the
 * index beside them. */
static const char *const names[] = {"s1", "s2", "no", "index"};
static char folder[512];

static void write_file(const char *name, const void *bytes, size_t size)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(bytes, 1, size, file) != size) abort();
    fclose(file);
}

static void write_shard(const char *name, const char *header, size_t data)
{
    blob file = {0};
    blob_u64(&file, strlen(header));
    blob_text(&file, header);
    blob_fill(&file, file.size + data);
    write_file(name, file.bytes, file.size);
    blob_free(&file);
}

static void remove_folder(void)
{
    for (size_t i = 0; i < TS_COUNT_OF(names); i++) {
        char path[600];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

#define BYTE(name, at, end)                                                   \
    "\"" name "\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[" at      \
    "," end "]}"

static void make_folder(void)
{
    const char *parent = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/shards-XXXXXX",
             parent != NULL ? parent : P_tmpdir);
    if (mkdtemp(folder) == NULL) abort();
    atexit(remove_folder);
    write_shard("s1", "{\"__metadata__\":{\"format\":\"pt\"},"
                      BYTE("a", "0", "1") "," BYTE("b", "1", "2") "}", 2);
    write_shard("s2", "{" BYTE("c", "0", "1") "}", 1);
    write_file("no", "no tensors", 10);
}

static const char *fault_of(const ts_catalog *catalog, size_t size)
{
    if (ts_catalog_format(catalog) != TS_FORMAT_SHARDS) return "other format";
    if (ts_catalog_file_count(catalog) > 2) return "too many shards";
    return catalog_fault(catalog, size + 200);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[600];
    const char *fault = NULL;
    ts_error error = {0};
    ts_catalog *catalog;
    ts_status status;

    if (size == 0 || data[0] != '{' || memchr(data, 0, size) != NULL) return 0;
    if (folder[0] == '\0') make_folder();
    write_file("index", data, size);
    snprintf(path, sizeof path, "%s/index", folder);
    status = ts_catalog_open(path, &catalog, &error);
    if (status == TS_OK) fault = fault_of(catalog, size);
    else if (status != TS_FORMAT && status != TS_IO && status != TS_ARGUMENT)
        fault = "a status that no index can cause";
    else if (error.message[0] == '\0' || error.file[0] == '\0')
        fault = "no sentence or no file";
    ts_catalog_release(catalog);
    if (fault == NULL) return 0;
    fprintf(stderr, "%s (%s)\n", fault, error.message);
    abort();
}
