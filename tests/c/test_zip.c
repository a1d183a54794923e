#include <stdio.h>

#include "check.h"
#include "zipper.h"

/* Archives of arrays: what a good one gives, and each way in which one can
 * lie about itself. */

/* An array file: float32, `count` elements. */
static void array(blob *b, uint64_t said, size_t count)
{
    char text[128];
    size_t size = (size_t)snprintf(text, sizeof text,
        "{'descr': '<f4', 'fortran_order': False, 'shape': (%llu,), }",
        (unsigned long long)said);
    blob_add(b, "\x93NUMPY\1\0", 8);
    blob_u16(b, 118);
    blob_add(b, text, size);
    while (b->size < 127) blob_u8(b, ' ');
    blob_u8(b, '\n');
    for (size_t i = 0; i < count; i++) {
        float value = (float)i;
        blob_add(b, &value, 4);
    }
}

static zip_entry *add_array(zipper *z, const char *name, unsigned method,
                            uint64_t said, size_t count)
{
    blob b = {0};
    array(&b, said, count);
    zip_entry *e = zip_add(z, name, method, b.bytes, b.size);
    blob_free(&b);
    return e;
}

/* Two arrays, the second deflated. */
static void good(zipper *z)
{
    add_array(z, "a.npy", 0, 3, 3);
    add_array(z, "b/c.npy", 8, 1000, 1000);
    zip_finish(z);
}

static void arrays_are_found_where_they_lie(void)
{
    zipper z = {0};
    ts_catalog *catalog;
    float third;
    good(&z);
    CHECK_OK(blob_open(&z.file, &catalog, error));
    CHECK(ts_catalog_format(catalog) == TS_FORMAT_NPZ);
    CHECK(ts_catalog_count(catalog) == 2);
    const ts_tensor *a = ts_catalog_tensor(catalog, 0);
    CHECK(a->name.size == 1 && a->name.bytes[0] == 'a');
    CHECK(a->storage == TS_STORED && a->dtype == TS_F32 && a->size == 12);
    CHECK(a->offset == z.entries[0].payload + 128);
    memcpy(&third, z.file.bytes + a->offset + 8, 4);
    CHECK(third == 2.0f);
    CHECK(a->has_crc32 && a->crc32 == z.entries[0].crc32
          && a->member_offset == z.entries[0].payload
          && a->member_size == 140);
    const ts_tensor *c = ts_catalog_tensor(catalog, 1);
    CHECK(c->name.size == 3 && memcmp(c->name.bytes, "b/c", 3) == 0);
    CHECK(c->storage == TS_DEFLATED && c->skip == 128 && c->size == 4000);
    CHECK(c->offset == z.entries[1].payload
          && c->extent == z.entries[1].packed);
    CHECK(catalog_fault(catalog, z.file.size) == NULL);
    ts_catalog_release(catalog);
    zip_free(&z);
}

static void an_archive_of_nothing_is_an_npz(void)
{
    zipper z = {0};
    ts_catalog *catalog;
    zip_finish(&z);
    CHECK_OK(blob_open(&z.file, &catalog, error));
    CHECK(ts_catalog_format(catalog) == TS_FORMAT_NPZ
          && ts_catalog_count(catalog) == 0);
    ts_catalog_release(catalog);
    zip_free(&z);
}

/* The extra field of the local header moves the payload; that of the
 * directory says nothing about it.  torch aligns payloads this way. */
static void payloads_start_after_the_local_header(void)
{
    zipper z = {0};
    ts_catalog *catalog;
    blob b = {0};
    array(&b, 2, 2);
    zip_entry *e = &z.entries[z.count++];
    snprintf(e->name, sizeof e->name, "a.npy");
    e->size = e->packed = (uint32_t)b.size;
    e->crc32 = (uint32_t)crc32(0, b.bytes, (uInt)b.size);
    blob_text(&z.file, "PK\3\4");
    zip_header(&z.file, e);
    blob_u16(&z.file, 304);
    blob_text(&z.file, "a.npyFB");
    blob_u16(&z.file, 300);
    blob_fill(&z.file, z.file.size + 300);
    e->payload = z.file.size;
    blob_add(&z.file, b.bytes, b.size);
    zip_finish(&z);
    CHECK_OK(blob_open(&z.file, &catalog, error));
    if (catalog != NULL)
        CHECK(ts_catalog_tensor(catalog, 0)->offset == e->payload + 128);
    ts_catalog_release(catalog);
    blob_free(&b);
    zip_free(&z);
}

/* Sizes in a descriptor behind the payload: zero in the local header. */
static void sizes_may_follow_the_payload(void)
{
    zipper z = {0};
    ts_catalog *catalog;
    zip_entry *e = add_array(&z, "a.npy", 8, 100, 100);
    memset(z.file.bytes + e->local + 14, 0, 12);
    z.file.bytes[e->local + 6] |= 8;
    blob_text(&z.file, "PK\7\10");
    blob_u32(&z.file, e->crc32);
    blob_u32(&z.file, e->packed);
    blob_u32(&z.file, e->size);
    e->flags = 8;
    zip_finish(&z);
    CHECK_OK(blob_open(&z.file, &catalog, error));
    ts_catalog_release(catalog);
    zip_free(&z);
}

static void end64(zipper *z, uint64_t count, uint64_t record_size)
{
    blob *b = &z->file;
    size_t at = b->size;
    blob_text(b, "PK\6\6");
    blob_u64(b, record_size);
    blob_u32(b, 45 | 45 << 16);
    blob_u64(b, 0);
    blob_u64(b, count);
    blob_u64(b, count);
    blob_u64(b, at - z->directory);
    blob_u64(b, z->directory);
    blob_text(b, "PK\6\7");
    blob_u32(b, 0);
    blob_u64(b, at);
    blob_u32(b, 1);
    blob_text(b, "PK\5\6");
    blob_fill(b, b->size + 4);
    for (int i = 0; i < 12; i++) blob_u8(b, 0xFF);
    blob_u16(b, 0);
}

static void zip64_archives_open(void)
{
    zipper z = {0};
    ts_catalog *catalog;
    add_array(&z, "a.npy", 0, 3, 3);
    zip_directory(&z);
    end64(&z, 1, 44);
    CHECK_OK(blob_open(&z.file, &catalog, error));
    ts_catalog_release(catalog);
    zip_free(&z);

    add_array(&z, "a.npy", 0, 3, 3);
    zip_directory(&z);
    end64(&z, UINT64_MAX, 44);
    CHECK_FAILS(blob_open(&z.file, &catalog, error), TS_FORMAT,
                "cannot hold 18446744073709551615 members");
    zip_free(&z);

    add_array(&z, "a.npy", 0, 3, 3);
    zip_directory(&z);
    end64(&z, 1, UINT64_MAX - 12);
    CHECK_FAILS(blob_open(&z.file, &catalog, error), TS_FORMAT,
                "does not reach its locator");
    zip_free(&z);
}

static void comments_are_stepped_over(void)
{
    zipper z = {0};
    ts_catalog *catalog;
    const char *comment = "PK\5\6 is not what ends this one.";
    good(&z);
    z.file.bytes[z.file.size - 2] = (uint8_t)strlen(comment);
    blob_text(&z.file, comment);
    CHECK_OK(blob_open(&z.file, &catalog, error));
    ts_catalog_release(catalog);
    zip_free(&z);
}

/* ---- lies -------------------------------------------------------------- */

static void put16(zipper *z, size_t at, unsigned value)
{
    z->file.bytes[at] = (uint8_t)value;
    z->file.bytes[at + 1] = (uint8_t)(value >> 8);
}

static void put32(zipper *z, size_t at, uint32_t value)
{
    memcpy(z->file.bytes + at, &value, 4);
}

static void encrypted(zipper *z)
{
    good(z);
    put16(z, z->entries[0].central + 8, 1);
    put16(z, z->entries[0].local + 6, 1);
}

static void method_9(zipper *z)
{
    good(z);
    put16(z, z->entries[1].central + 10, 9);
    put16(z, z->entries[1].local + 8, 9);
}

static void methods_differ(zipper *z)
{
    good(z);
    put16(z, z->entries[1].local + 8, 0);
}

static void names_differ(zipper *z)
{
    good(z);
    z->file.bytes[z->entries[0].local + 30] = 'b';
}

static void sizes_differ(zipper *z)
{
    good(z);
    put32(z, z->entries[0].local + 22, 141);
}

static void checksums_differ(zipper *z)
{
    good(z);
    put32(z, z->entries[0].local + 14, 1);
}

static void stored_sizes_differ(zipper *z)
{
    good(z);
    put32(z, z->entries[0].central + 24, 1000);
}

static void overlapping(zipper *z)
{
    good(z);
    put32(z, z->entries[1].central + 42, 0);
}

static void overlapping_partly(zipper *z)
{
    good(z);
    put32(z, z->entries[0].central + 20, 200);
    put32(z, z->entries[0].central + 24, 200);
}

static void into_the_directory(zipper *z)
{
    good(z);
    put32(z, z->entries[1].central + 20,
          (uint32_t)(z->file.size - z->entries[1].payload));
}

static void header_beyond(zipper *z)
{
    good(z);
    put32(z, z->entries[1].central + 42, 0x7FFFFFFF);
}

static void bomb(zipper *z)
{
    good(z);
    put32(z, z->entries[1].central + 24, 0x40000000);
}

static void not_a_bomb_but_a_lie(zipper *z)
{
    good(z);
    put32(z, z->entries[1].central + 24, 5128);
    put32(z, z->entries[1].local + 22, 5128);
}

static void shape_lies(zipper *z)
{
    add_array(z, "a.npy", 0, 4, 3);
    zip_finish(z);
}

static void shape_lies_deflated(zipper *z)
{
    add_array(z, "a.npy", 8, 1ull << 40, 3);
    zip_finish(z);
}

static void broken_stream(zipper *z)
{
    good(z);
    memset(z->file.bytes + z->entries[1].payload, 0xFF, 20);
}

static void twice(zipper *z)
{
    add_array(z, "a.npy", 0, 3, 3);
    add_array(z, "a.npy", 0, 3, 3);
    zip_finish(z);
}

static void escaping(zipper *z)
{
    add_array(z, "x/../../a.npy", 0, 3, 3);
    zip_finish(z);
}

static void absolute(zipper *z)
{
    add_array(z, "/etc/a.npy", 0, 3, 3);
    zip_finish(z);
}

static void bad_text(zipper *z)
{
    add_array(z, "\xFF.npy", 0, 3, 3);
    zip_finish(z);
}

static void several_disks(zipper *z)
{
    good(z);
    put16(z, z->end + 4, 1);
}

static void counts_differ(zipper *z)
{
    good(z);
    put16(z, z->end + 8, 1);
    put16(z, z->end + 10, 1);
}

static void too_many(zipper *z)
{
    good(z);
    put16(z, z->end + 8, 65535);
    put16(z, z->end + 10, 65535);
}

static void directory_elsewhere(zipper *z)
{
    good(z);
    put32(z, z->end + 16, 5);
}

static void bytes_behind(zipper *z)
{
    good(z);
    blob_u8(&z->file, 0);
}

static void something_else(zipper *z)
{
    add_array(z, "a.npy", 0, 3, 3);
    zip_add(z, "run.sh", 0, "rm", 2);
    zip_finish(z);
}

static void no_array(zipper *z)
{
    zip_add(z, "a.npy", 0, "hello", 5);
    zip_finish(z);
}

static const struct {
    void (*make)(zipper *z);
    const char *says;
} lies[] = {
    {encrypted, "encrypted"},
    {method_9, "method 9; only stored (0) and deflated (8)"},
    {methods_differ, "another method in its local header"},
    {names_differ, "another name in its local header"},
    {sizes_differ, "another size in its local header"},
    {checksums_differ, "another checksum in its local header"},
    {stored_sizes_differ, "stored zip member has 140 bytes for 1000"},
    {overlapping, "overlaps what comes next"},
    {overlapping_partly, "overlaps what comes next"},
    {into_the_directory, "overlaps what comes next"},
    {header_beyond, "overlaps what comes next"},
    {bomb, "cannot become 1073741824"},
    {not_a_bomb_but_a_lie, "no valid DEFLATE stream of 5128 bytes"},
    {shape_lies, "promises 16 bytes, its zip member holds 12"},
    {shape_lies_deflated, "promises 4398046511104 bytes"},
    {broken_stream, "no valid DEFLATE stream"},
    {twice, "holds 'a.npy' twice"},
    {escaping, "leads out of its folder"},
    {absolute, "leads out of its folder"},
    {bad_text, "not UTF-8"},
    {several_disks, "several disks"},
    {counts_differ, "bytes after its 1 members"},
    {too_many, "cannot hold 65535 members"},
    {directory_elsewhere, "does not reach its end record"},
    {bytes_behind, "no end record"},
    {something_else, "nor an npz: it holds 'run.sh'"},
    {no_array, ""},
};

static void every_lie_is_found(void)
{
    for (size_t i = 0; i < TS_COUNT_OF(lies); i++) {
        zipper z = {0};
        ts_catalog *catalog;
        ts_error error = {0};
        lies[i].make(&z);
        ts_status status = blob_open(&z.file, &catalog, &error);
        CHECK(status == TS_FORMAT, "lie %zu: %s", i, ts_status_text(status));
        CHECK(strstr(error.message, lies[i].says) != NULL,
              "lie %zu said: %s", i, error.message);
        ts_catalog_release(catalog);
        zip_free(&z);
    }
}

/* ---- families ---------------------------------------------------------- */

static void judge(const blob *b, size_t size, const char *what, size_t at)
{
    ts_catalog *catalog;
    ts_error error = {0};
    ts_status status = open_bytes(b->bytes, size, "x.npz", &catalog, &error);
    if (status == TS_OK) {
        const char *fault = catalog_fault(catalog, size);
        CHECK(fault == NULL, "%s at %zu: %s", what, at, fault);
    } else {
        CHECK((status == TS_FORMAT || status == TS_UNSUPPORTED)
                  && error.message[0] != '\0',
              "%s at %zu: %s", what, at, ts_status_text(status));
    }
    ts_catalog_release(catalog);
}

static void no_number_anywhere_is_believed(void)
{
    static const uint32_t numbers[] = {0, 1, 255, 256, 65535, 65536,
                                       INT32_MAX, 1u << 31, UINT32_MAX - 1,
                                       UINT32_MAX};
    zipper z = {0};
    add_array(&z, "a.npy", 0, 3, 3);
    add_array(&z, "b.npy", 8, 20, 20);
    zip_directory(&z);
    end64(&z, 2, 44);
    for (size_t at = 0; at + 4 <= z.file.size; at++) {
        uint32_t old = ts_load_u32(z.file.bytes + at);
        for (size_t i = 0; i < TS_COUNT_OF(numbers); i++) {
            memcpy(z.file.bytes + at, &numbers[i], 4);
            judge(&z.file, z.file.size, "u32", at);
            memcpy(z.file.bytes + at, &old, 4);
            memcpy(z.file.bytes + at, &numbers[i], 2);
            judge(&z.file, z.file.size, "u16", at);
            memcpy(z.file.bytes + at, &old, 4);
        }
    }
    zip_free(&z);
}

static void every_truncation_is_refused(void)
{
    zipper z = {0};
    good(&z);
    for (size_t size = 1; size < z.file.size; size++) {
        ts_catalog *catalog;
        ts_error error = {0};
        CHECK(open_bytes(z.file.bytes, size, "cut.npz", &catalog, &error)
                  == TS_FORMAT, "cut to %zu", size);
        ts_catalog_release(catalog);
    }
    zip_free(&z);
}

int main(void)
{
    RUN(arrays_are_found_where_they_lie);
    RUN(an_archive_of_nothing_is_an_npz);
    RUN(payloads_start_after_the_local_header);
    RUN(sizes_may_follow_the_payload);
    RUN(zip64_archives_open);
    RUN(comments_are_stepped_over);
    RUN(every_lie_is_found);
    RUN(no_number_anywhere_is_believed);
    RUN(every_truncation_is_refused);
    CHECK_END();
}
