/* blob.h -- files made in a test's memory, and what must hold of any catalog.
 *
 * blob_open plays the bytes as a file; catalog_fault says which of the
 * promises of formats.h a catalog breaks, for tests and fuzz targets alike. */
#ifndef TS_TESTS_BLOB_H
#define TS_TESTS_BLOB_H

#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "open_bytes.h"

typedef struct {
    uint8_t *bytes; /* owned */
    size_t size, room;
} blob;

static inline void blob_add(blob *b, const void *bytes, size_t size)
{
    if (b->size + size > b->room) {
        b->room = 2 * (b->size + size);
        b->bytes = realloc(b->bytes, b->room);
        if (b->bytes == NULL) abort();
    }
    if (size > 0) memcpy(b->bytes + b->size, bytes, size);
    b->size += size;
}

static inline void blob_text(blob *b, const char *text)
{
    blob_add(b, text, strlen(text));
}

static inline void blob_u8(blob *b, unsigned value)
{
    uint8_t byte = (uint8_t)value;
    blob_add(b, &byte, 1);
}

static inline void blob_u16(blob *b, unsigned value)
{
    uint16_t half = (uint16_t)value;
    blob_add(b, &half, 2);
}

static inline void blob_u32(blob *b, uint32_t value)
{
    blob_add(b, &value, 4);
}

static inline void blob_u64(blob *b, uint64_t value)
{
    blob_add(b, &value, 8);
}

/* Zeros up to `size` bytes in all. */
static inline void blob_fill(blob *b, size_t size)
{
    while (b->size < size) blob_u8(b, 0);
}

static inline void blob_free(blob *b)
{
    free(b->bytes);
    *b = (blob){0};
}

static inline ts_status blob_open(const blob *b, ts_catalog **out,
                                  ts_error *error)
{
    return open_bytes(b->bytes, b->size, "memory.bin", out, error);
}

static inline const char *row_fault(const ts_catalog *catalog, uint32_t number)
{
    const ts_tensor *row = ts_catalog_tensor(catalog, number);
    uint64_t elements = 1, bytes, end, total;
    uint32_t found;

    if (row->file >= ts_catalog_file_count(catalog)) return "no such file";
    total = ts_file_size(ts_catalog_file(catalog, row->file));
    if (row->name.size > TS_MAX_NAME) return "long name";
    if (!ts_catalog_find(catalog, row->name, &found) || found != number)
        return "not found by its name";
    for (uint32_t i = 0; i < row->ndim; i++) elements *= row->shape[i];
    if (elements != row->elements) return "elements are not the product";
    if (!ts_dtype_bytes(row->dtype, elements, &bytes) || bytes != row->size)
        return "size is not that of the elements";
    if (!ts_add(row->offset, row->extent, &end) || end > total)
        return "extent is not inside the file";
    if (row->strides == NULL && row->storage < TS_DEFLATED
        && row->extent != row->size)
        return "extent is not the size";
    for (uint32_t i = 0; row->strides != NULL && i < row->ndim; i++)
        if (row->strides[i] < 0) return "negative stride";
    if (row->has_crc32 && row->storage < TS_DEFLATED
        && (!ts_add(row->member_offset, row->member_size, &end)
            || end > total || row->member_offset > row->offset))
        return "member is not inside the file";
    if (row->alias_of > number) return "alias of a later row";
    return NULL;
}

static inline const char *value_fault(const ts_value *value)
{
    uint64_t at = 0, size;

    if (value->key.size > TS_MAX_NAME) return "long key";
    if (value->kind > TS_VALUE_ARRAY) return "no such kind";
    if (value->kind != TS_VALUE_ARRAY) return NULL;
    if (value->item != TS_VALUE_STRING)
        return value->count * value->item_size == value->size
                   ? NULL
                   : "array's size is not that of its items";
    for (uint64_t i = 0; i < value->count; i++) {
        if (value->size - at < 8) return "array of strings is cut";
        size = ts_load_u64(value->bytes + at);
        if (size > value->size - at - 8) return "string is cut";
        at += 8 + size;
    }
    return at == value->size ? NULL : "array of strings has bytes left";
}

/* NULL when all is well. `size` is that of all files together. */
static inline const char *catalog_fault(const ts_catalog *catalog,
                                        uint64_t size)
{
    const char *fault = NULL;
    for (uint32_t i = 0; fault == NULL && i < ts_catalog_count(catalog); i++)
        fault = row_fault(catalog, i);
    for (uint32_t i = 0;
         fault == NULL && i < ts_catalog_value_count(catalog); i++)
        fault = value_fault(ts_catalog_value(catalog, i));
    if (fault == NULL && ts_catalog_memory(catalog) > 64 * size + TS_MIB)
        return "takes more memory than the file deserves";
    return fault;
}

#endif
