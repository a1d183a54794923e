/* zipper.h -- zip archives made by a test, honest or not.
 *
 * zip_add writes a member as it should be; a test then spoils single bytes
 * through the positions that are kept, or ends the archive in its own way. */
#ifndef TS_TESTS_ZIPPER_H
#define TS_TESTS_ZIPPER_H

#include <zlib.h>

#include "blob.h"

enum { ZIP_MEMBERS = 64 };

typedef struct {
    char name[128];
    uint32_t crc32, packed, size;
    uint16_t method, flags;
    size_t local, payload, central; /* where in the archive */
} zip_entry;

typedef struct {
    blob file;
    zip_entry entries[ZIP_MEMBERS];
    size_t count;
    size_t directory, end; /* where they begin */
} zipper;

static inline void zip_header(blob *b, const zip_entry *e)
{
    blob_u16(b, 20);
    blob_u16(b, e->flags);
    blob_u16(b, e->method);
    blob_u32(b, 0); /* date and time */
    blob_u32(b, e->crc32);
    blob_u32(b, e->packed);
    blob_u32(b, e->size);
    blob_u16(b, (unsigned)strlen(e->name));
}

static inline void zip_payload(zipper *z, zip_entry *e, const void *bytes,
                               size_t size)
{
    uint8_t *packed = malloc(size + 1024);
    z_stream stream = {.next_in = (Bytef *)(uintptr_t)bytes,
                       .avail_in = (uInt)size, .next_out = packed,
                       .avail_out = (uInt)size + 1024};
    if (packed == NULL
        || deflateInit2(&stream, 9, Z_DEFLATED, -15, 8, 0) != Z_OK
        || deflate(&stream, Z_FINISH) != Z_STREAM_END)
        abort();
    e->packed = (uint32_t)stream.total_out;
    deflateEnd(&stream);
    zip_header(&z->file, e);
    blob_u16(&z->file, 0);
    blob_text(&z->file, e->name);
    e->payload = z->file.size;
    blob_add(&z->file, packed, e->packed);
    free(packed);
}

/* method 0 or 8. */
static inline zip_entry *zip_add(zipper *z, const char *name, unsigned method,
                                 const void *bytes, size_t size)
{
    zip_entry *e = &z->entries[z->count++];
    if (z->count > ZIP_MEMBERS) abort();
    snprintf(e->name, sizeof e->name, "%s", name);
    e->method = (uint16_t)method;
    e->crc32 = (uint32_t)crc32(0, bytes, (uInt)size);
    e->size = e->packed = (uint32_t)size;
    e->local = z->file.size;
    blob_text(&z->file, "PK\3\4");
    if (method == 8) {
        zip_payload(z, e, bytes, size);
        return e;
    }
    zip_header(&z->file, e);
    blob_u16(&z->file, 0);
    blob_text(&z->file, name);
    e->payload = z->file.size;
    blob_add(&z->file, bytes, size);
    return e;
}

static inline void zip_directory(zipper *z)
{
    blob *b = &z->file;
    z->directory = b->size;
    for (size_t i = 0; i < z->count; i++) {
        zip_entry *e = &z->entries[i];
        e->central = b->size;
        blob_text(b, "PK\1\2");
        blob_u16(b, 20);
        zip_header(b, e);
        blob_fill(b, b->size + 12); /* extra, comment, disk, attributes */
        blob_u32(b, (uint32_t)e->local);
        blob_text(b, e->name);
    }
}

static inline void zip_end(zipper *z)
{
    blob *b = &z->file;
    z->end = b->size;
    blob_text(b, "PK\5\6");
    blob_u32(b, 0);
    blob_u16(b, (unsigned)z->count);
    blob_u16(b, (unsigned)z->count);
    blob_u32(b, (uint32_t)(z->end - z->directory));
    blob_u32(b, (uint32_t)z->directory);
    blob_u16(b, 0);
}

static inline void zip_finish(zipper *z)
{
    zip_directory(z);
    zip_end(z);
}

static inline void zip_free(zipper *z)
{
    blob_free(&z->file);
    z->count = 0;
}

#endif
