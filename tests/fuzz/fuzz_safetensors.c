#include "judge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Beyond what holds for any catalog: the tensors are all of the data. */
static void judge_cover(const uint8_t *data, size_t size)
{
    ts_catalog *catalog;
    uint64_t covered = 0;

    if (open_bytes(data, size, "hostile", &catalog, NULL) != TS_OK) return;
    for (uint32_t i = 0; i < ts_catalog_count(catalog); i++)
        covered += ts_catalog_tensor(catalog, i)->size;
    if (ts_catalog_format(catalog) != TS_FORMAT_SAFETENSORS
        || 8 + ts_load_u64(data) + covered != size)
        abort();
    ts_catalog_release(catalog);
}

/* The input as a header, with a length that is right and as many bytes of
 * data behind it as its last byte says. */
static void judge_as_header(const uint8_t *data, size_t size)
{
    blob file = {0};

    blob_u64(&file, size - 1);
    blob_add(&file, data, size - 1);
    blob_fill(&file, file.size + data[size - 1]);
    judge_open(file.bytes, file.size);
    judge_cover(file.bytes, file.size);
    blob_free(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 8 && data[8] == '{' && ts_load_u64(data) <= TS_MAX_HEADER) {
        judge_open(data, size);
        judge_cover(data, size);
    }
    if (size > 1 && data[0] == '{') judge_as_header(data, size);
    return 0;
}
