#include "judge.h"

#include "formats/catalog.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void judge_header(const uint8_t *data, size_t size)
{
    int64_t strides[TS_MAX_DIMS];
    uint64_t elements = 1;
    ts_npy npy;

    if (ts_npy_header(data, size, &npy, NULL) != TS_OK) return;
    for (uint32_t i = 0; i < npy.ndim; i++) elements *= npy.shape[i];
    if (npy.data > size || npy.ndim > TS_MAX_DIMS || elements != npy.elements)
        abort();
    ts_npy_strides(&npy, strides);
    for (uint32_t i = 0; i < npy.ndim; i++)
        if (strides[i] < 1) abort();
}

/* The input as a file, and as the literal of one with a right length. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    blob file = {0};

    if (size > 6 && memcmp(data, "\x93NUMPY", 6) == 0) {
        judge_header(data, size);
        judge_open(data, size);
    }
    if (size < 2 || size > 10000) return 0;
    blob_add(&file, "\x93NUMPY\x01\x00", 8);
    blob_u16(&file, (unsigned)size - 1);
    blob_add(&file, data, size - 1);
    blob_fill(&file, file.size + data[size - 1]);
    judge_header(file.bytes, file.size);
    judge_open(file.bytes, file.size);
    blob_free(&file);
    return 0;
}
