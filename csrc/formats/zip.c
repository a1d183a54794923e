#include "zip.h"

#include <stdlib.h>

#include "catalog.h"
#include "codec/codec.h"
#include "core/base.h"

enum {
    LOCAL_SIZE = 30,
    CENTRAL_SIZE = 46,
    END_SIZE = 22,
    END64_SIZE = 56,
    LOCATOR_SIZE = 20,
    MAX_COMMENT = 65535,
};
#define LOCAL_MAGIC 0x04034B50u
#define CENTRAL_MAGIC 0x02014B50u
#define END_MAGIC 0x06054B50u
#define END64_MAGIC 0x06064B50u
#define LOCATOR_MAGIC 0x07064B50u

enum { /* general purpose flags */
    FLAG_ENCRYPTED = 1 << 0,
    FLAG_DESCRIPTOR = 1 << 3, /* sizes follow the payload instead */
    FLAG_PATCH = 1 << 5,
    FLAG_STRONG = 1 << 6,
    FLAG_HIDDEN = 1 << 13,
};

/* What both kinds of header tell, once zip64 fields are put in. */
typedef struct {
    uint16_t flags, method;
    uint32_t crc32;
    uint64_t packed, size, header;
    uint16_t name_size, extra_size;
} facts;

/* ---- the end ----------------------------------------------------------- */

typedef struct {
    uint64_t count, size, offset; /* of the directory */
    uint64_t at;                  /* where the end records begin */
} ending;

/* The record whose comment ends with the file.  Searched from behind: a
 * comment may hold the magic as well, an end record cannot hide. */
static ts_status find_end(const ts_file *file, uint8_t *record, uint64_t *at,
                          ts_error *error)
{
    uint64_t total = ts_file_size(file);
    size_t size = (size_t)ts_min(total, END_SIZE + MAX_COMMENT);
    ts_status status;

    if (total < END_SIZE)
        return ts_fail(error, TS_FORMAT,
                       "%llu bytes are too few for a zip archive",
                       (unsigned long long)total);
    uint8_t *tail = malloc(size);
    if (tail == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate %zu bytes", size);
    status = ts_file_read(file, total - size, tail, size, error);
    if (status != TS_OK) goto done;
    for (size_t i = size - END_SIZE + 1; i-- > 0;) {
        if (ts_load_u32(tail + i) != END_MAGIC) continue;
        if (ts_load_u16(tail + i + 20) != size - END_SIZE - i) continue;
        memcpy(record, tail + i, END_SIZE);
        *at = total - size + i;
        goto done;
    }
    status = ts_fail(error, TS_FORMAT,
                     "zip archive has no end record: it is cut short, or "
                     "bytes follow it");
done:
    free(tail);
    return status;
}

static ts_status several_disks(ts_error *error)
{
    return ts_fail(error, TS_FORMAT,
                   "zip archive is one part of several disks");
}

/* The zip64 records, when a locator stands right before the end record. */
static ts_status read_end64(const ts_file *file, ending *end, ts_error *error)
{
    uint8_t locator[LOCATOR_SIZE], record[END64_SIZE];
    uint64_t size, total;

    if (end->at < LOCATOR_SIZE) return TS_OK;
    TS_TRY(ts_file_read(file, end->at - LOCATOR_SIZE, locator, LOCATOR_SIZE,
                        error));
    if (ts_load_u32(locator) != LOCATOR_MAGIC) return TS_OK;
    uint64_t at = ts_load_u64(locator + 8);
    if (ts_load_u32(locator + 4) != 0 || ts_load_u32(locator + 16) > 1)
        return several_disks(error);
    if (!ts_add(at, END64_SIZE, &total) || total > end->at - LOCATOR_SIZE)
        return ts_fail_at(error, TS_FORMAT, end->at - LOCATOR_SIZE,
                          "zip64 end record at %llu is not inside the file",
                          (unsigned long long)at);
    TS_TRY(ts_file_read(file, at, record, END64_SIZE, error));
    size = ts_load_u64(record + 4);
    if (ts_load_u32(record) != END64_MAGIC || !ts_add(size, 12, &size)
        || size != end->at - LOCATOR_SIZE - at)
        return ts_fail_at(error, TS_FORMAT, at,
                          "zip64 end record does not reach its locator");
    if (ts_load_u32(record + 16) != 0 || ts_load_u32(record + 20) != 0
        || ts_load_u64(record + 24) != ts_load_u64(record + 32))
        return several_disks(error);
    end->count = ts_load_u64(record + 32);
    end->size = ts_load_u64(record + 40);
    end->offset = ts_load_u64(record + 48);
    end->at = at;
    return TS_OK;
}

static ts_status read_end(const ts_file *file, ending *end, ts_error *error)
{
    uint8_t record[END_SIZE];
    uint64_t behind;

    TS_TRY(find_end(file, record, &end->at, error));
    end->count = ts_load_u16(record + 10);
    end->size = ts_load_u32(record + 12);
    end->offset = ts_load_u32(record + 16);
    TS_TRY(read_end64(file, end, error));
    if (ts_load_u16(record + 4) != 0 || ts_load_u16(record + 6) != 0
        || ts_load_u16(record + 8) != ts_load_u16(record + 10))
        return several_disks(error);
    if (!ts_add(end->offset, end->size, &behind) || behind != end->at)
        return ts_fail_at(error, TS_FORMAT, end->at,
                          "zip directory of %llu bytes at %llu does not reach "
                          "its end record at %llu",
                          (unsigned long long)end->size,
                          (unsigned long long)end->offset,
                          (unsigned long long)end->at);
    if (end->size > TS_MAX_HEADER)
        return ts_fail(error, TS_FORMAT,
                       "zip directory of %llu bytes is longer than %u",
                       (unsigned long long)end->size, TS_MAX_HEADER);
    if (end->count > end->size / CENTRAL_SIZE || end->count > TS_MAX_TENSORS)
        return ts_fail_at(error, TS_FORMAT, end->at,
                          "zip directory of %llu bytes cannot hold %llu "
                          "members",
                          (unsigned long long)end->size,
                          (unsigned long long)end->count);
    return TS_OK;
}

/* ---- one member -------------------------------------------------------- */

/* Replace each 32-bit field that is all ones by its zip64 value.  They stand
 * in a fixed order, and only those that are needed. */
static bool widen(facts *f, const uint8_t *extra)
{
    const uint8_t *at = extra, *end = extra + f->extra_size;
    uint64_t *wide[] = {&f->size, &f->packed, &f->header};

    while (end - at >= 4) {
        uint16_t id = ts_load_u16(at), size = ts_load_u16(at + 2);
        at += 4;
        if (size > end - at) return false;
        if (id != 1) {
            at += size;
            continue;
        }
        for (size_t i = 0; i < TS_COUNT_OF(wide); i++) {
            if (*wide[i] != UINT32_MAX) continue;
            if (size < 8) return false;
            *wide[i] = ts_load_u64(at);
            at += 8;
            size = (uint16_t)(size - 8);
        }
        return true;
    }
    return true;
}

static ts_status check_facts(const facts *f, uint64_t at, ts_error *error)
{
    if (f->flags & (FLAG_ENCRYPTED | FLAG_STRONG | FLAG_HIDDEN))
        return ts_fail_at(error, TS_FORMAT, at, "zip member is encrypted");
    if (f->flags & FLAG_PATCH || (f->method != 0 && f->method != 8))
        return ts_fail_at(error, TS_FORMAT, at,
                          "zip member uses method %u; only stored (0) and "
                          "deflated (8) ones are read", f->method);
    if (f->method == 0 && f->packed != f->size)
        return ts_fail_at(error, TS_FORMAT, at,
                          "stored zip member has %llu bytes for %llu",
                          (unsigned long long)f->packed,
                          (unsigned long long)f->size);
    /* A DEFLATE stream grows at most 1032 times: 258 bytes from 2 bits. */
    if (f->method == 8 && f->size > 64 && (f->size - 64) / 1032 > f->packed)
        return ts_fail_at(error, TS_FORMAT, at,
                          "deflated zip member of %llu bytes cannot become "
                          "%llu", (unsigned long long)f->packed,
                          (unsigned long long)f->size);
    return TS_OK;
}

/* Nothing is ever unpacked to disk here, but a name that tries to leave its
 * folder is not one that a checkpoint's writer made. */
static bool leaves_folder(ts_name name)
{
    const char *at = name.bytes, *end = name.bytes + name.size;
    if (name.size > 0 && (*at == '/' || memchr(at, '\\', name.size) != NULL))
        return true;
    for (const char *slash; at < end; at = slash + 1) {
        slash = memchr(at, '/', (size_t)(end - at));
        if (slash == NULL) slash = end;
        if (slash - at == 2 && at[0] == '.' && at[1] == '.') return true;
    }
    return false;
}

static ts_status read_name(const uint8_t *bytes, const facts *f, uint64_t at,
                           ts_zip_member *out, ts_error *error)
{
    ts_name name = {(const char *)bytes, f->name_size};

    TS_TRY(ts_check_name(name, "zip member's name", at, error));
    if (name.size == 0 || leaves_folder(name))
        return ts_fail_at(error, TS_FORMAT, at,
                          "zip member's name is empty or leads out of its "
                          "folder");
    out->name = name;
    out->folder = name.bytes[name.size - 1] == '/';
    if (out->folder && f->size > 0)
        return ts_fail_at(error, TS_FORMAT, at, "zip folder holds bytes");
    return TS_OK;
}

static ts_status cut_entry(uint64_t at, ts_error *error)
{
    return ts_fail_at(error, TS_FORMAT, at,
                      "zip directory entry at byte %llu is malformed",
                      (unsigned long long)at);
}

/* One entry of the directory, at byte `at` of the file; *size is its own. */
static ts_status read_central(const uint8_t *entry, uint64_t left, uint64_t at,
                              ts_zip_member *out, facts *f, uint64_t *size,
                              ts_error *error)
{
    if (left < CENTRAL_SIZE || ts_load_u32(entry) != CENTRAL_MAGIC)
        return cut_entry(at, error);
    *f = (facts){
        .flags = ts_load_u16(entry + 8), .method = ts_load_u16(entry + 10),
        .crc32 = ts_load_u32(entry + 16), .packed = ts_load_u32(entry + 20),
        .size = ts_load_u32(entry + 24), .header = ts_load_u32(entry + 42),
        .name_size = ts_load_u16(entry + 28),
        .extra_size = ts_load_u16(entry + 30),
    };
    *size = (uint64_t)CENTRAL_SIZE + f->name_size + f->extra_size
          + ts_load_u16(entry + 32);
    if (*size > left || !widen(f, entry + CENTRAL_SIZE + f->name_size))
        return cut_entry(at, error);
    uint16_t disk = ts_load_u16(entry + 34);
    if (disk != 0 && disk != UINT16_MAX) return several_disks(error);
    TS_TRY(check_facts(f, at, error));
    TS_TRY(read_name(entry + CENTRAL_SIZE, f, at, out, error));
    out->header = f->header;
    out->packed = f->packed;
    out->size = f->size;
    out->crc32 = f->crc32;
    out->deflated = f->method == 8;
    return TS_OK;
}

static ts_status differs(const ts_zip_member *member, const char *what,
                         ts_error *error)
{
    return ts_fail_at(error, TS_FORMAT, member->header,
                      "zip member '%.*s' is described with another %s in its "
                      "local header", (int)ts_min(member->name.size, 100),
                      member->name.bytes, what);
}

/* With a descriptor behind the payload the local sizes are 0 or right. */
static bool agrees(uint64_t local, uint64_t central, bool described_later)
{
    return local == central || (described_later && local == 0);
}

static ts_status overlaps(const ts_zip_member *member, ts_error *error)
{
    return ts_fail_at(error, TS_FORMAT, member->header,
                      "zip member '%.*s' of %llu bytes at %llu overlaps what "
                      "comes next", (int)ts_min(member->name.size, 100),
                      member->name.bytes, (unsigned long long)member->packed,
                      (unsigned long long)member->header);
}

/* One read brings the local header and, but for very long extra fields (torch
 * pads payloads to 64 bytes with them), all that follows it. */
enum { USUAL_EXTRA = 128 };

static ts_status load_local(const ts_file *file, const ts_zip_member *member,
                            uint64_t space, uint8_t *into, uint64_t *need,
                            ts_error *error)
{
    uint64_t size = LOCAL_SIZE + member->name.size + USUAL_EXTRA;

    if (space < LOCAL_SIZE) return overlaps(member, error);
    size = ts_min(size, space);
    TS_TRY(ts_file_read(file, member->header, into, (size_t)size, error));
    *need = (uint64_t)LOCAL_SIZE + ts_load_u16(into + 26)
          + ts_load_u16(into + 28);
    if (space < *need || space - *need < member->packed)
        return overlaps(member, error);
    if (*need <= size) return TS_OK;
    return ts_file_read(file, member->header + size, into + size,
                        (size_t)(*need - size), error);
}

/* Reads the local header, `space` bytes before whatever comes next. */
static ts_status read_local(const ts_file *file, ts_zip_member *member,
                            const facts *central, uint64_t space,
                            uint8_t *scratch, ts_error *error)
{
    uint64_t need;

    TS_TRY(load_local(file, member, space, scratch, &need, error));
    facts f = {
        .flags = ts_load_u16(scratch + 6), .method = ts_load_u16(scratch + 8),
        .crc32 = ts_load_u32(scratch + 14),
        .packed = ts_load_u32(scratch + 18), .size = ts_load_u32(scratch + 22),
        .name_size = ts_load_u16(scratch + 26),
        .extra_size = ts_load_u16(scratch + 28),
    };
    const uint8_t *name = scratch + LOCAL_SIZE;
    if (ts_load_u32(scratch) != LOCAL_MAGIC)
        return differs(member, "magic", error);
    if (f.name_size != member->name.size
        || memcmp(name, member->name.bytes, f.name_size) != 0)
        return differs(member, "name", error);
    if (!widen(&f, name + f.name_size))
        return differs(member, "extra field", error);
    bool later = f.flags & FLAG_DESCRIPTOR;
    if (f.method != central->method
        || ((f.flags ^ central->flags) & (FLAG_ENCRYPTED | FLAG_PATCH)) != 0)
        return differs(member, "method", error);
    if (!agrees(f.packed, member->packed, later)
        || !agrees(f.size, member->size, later))
        return differs(member, "size", error);
    if (!agrees(f.crc32, member->crc32, later))
        return differs(member, "checksum", error);
    member->offset = member->header + need;
    return TS_OK;
}

/* ---- the directory ----------------------------------------------------- */

typedef struct {
    uint64_t header;
    uint32_t number;
} place;

static int by_header(const void *a, const void *b)
{
    uint64_t x = ((const place *)a)->header, y = ((const place *)b)->header;
    return (x > y) - (x < y);
}

/* Members lie one behind the other and before the directory: each has only
 * the space up to the next, so none can be read twice. */
static ts_status read_locals(ts_zip *zip, const facts *all, uint64_t directory,
                             ts_arena *arena, ts_error *error)
{
    place *places;
    uint8_t *scratch;

    TS_TRY(ts_arena_take_array(arena, zip->count, sizeof *places, &places,
                               error));
    TS_TRY(ts_arena_take(arena, LOCAL_SIZE + 2 * (uint64_t)UINT16_MAX,
                         &scratch, error));
    for (uint32_t i = 0; i < zip->count; i++)
        places[i] = (place){zip->members[i].header, i};
    if (zip->count > 0) qsort(places, zip->count, sizeof *places, by_header);
    for (uint32_t i = 0; i < zip->count; i++) {
        ts_zip_member *member = &zip->members[places[i].number];
        uint64_t next = i + 1 < zip->count ? places[i + 1].header : directory;
        if (next < member->header) return overlaps(member, error);
        TS_TRY(read_local(zip->file, member, &all[places[i].number],
                          next - member->header, scratch, error));
    }
    return TS_OK;
}

static ts_status read_directory(ts_zip *zip, const ending *end,
                                ts_arena *arena, facts **all, ts_error *error)
{
    uint8_t *bytes;
    uint64_t at = 0;

    TS_TRY(ts_arena_take_array(arena, end->count, sizeof *zip->members,
                               &zip->members, error));
    TS_TRY(ts_arena_take_array(arena, end->count, sizeof **all, all, error));
    TS_TRY(ts_names_new(arena, (uint32_t)end->count, &zip->names, error));
    TS_TRY(ts_arena_take(arena, end->size, &bytes, error));
    TS_TRY(ts_file_read(zip->file, end->offset, bytes, (size_t)end->size,
                        error));
    for (; zip->count < end->count; zip->count++) {
        uint64_t size;
        uint32_t number;
        bool added;
        ts_zip_member *member = &zip->members[zip->count];
        TS_TRY(read_central(bytes + at, end->size - at, end->offset + at,
                            member, &(*all)[zip->count], &size, error));
        ts_names_add(zip->names, member->name, &number, &added);
        if (!added)
            return ts_fail_at(error, TS_FORMAT, end->offset + at,
                              "zip archive holds '%.*s' twice",
                              (int)ts_min(member->name.size, 100),
                              member->name.bytes);
        at += size;
    }
    if (at != end->size)
        return ts_fail_at(error, TS_FORMAT, end->offset + at,
                          "zip directory has %llu bytes after its %u members",
                          (unsigned long long)(end->size - at), zip->count);
    return TS_OK;
}

ts_status ts_zip_open(const ts_file *file, ts_arena *arena, ts_zip *out,
                      ts_error *error)
{
    ending end;
    facts *all;

    *out = (ts_zip){.file = file};
    TS_TRY(read_end(file, &end, error));
    TS_TRY(read_directory(out, &end, arena, &all, error));
    return read_locals(out, all, end.offset, arena, error);
}

const ts_zip_member *ts_zip_find(const ts_zip *zip, ts_name name)
{
    uint32_t number;
    return ts_names_find(zip->names, name, &number) ? &zip->members[number]
                                                    : NULL;
}

/* ---- contents ---------------------------------------------------------- */

static ts_status bad_stream(const ts_zip_member *member, ts_error *error)
{
    return ts_fail_at(error, TS_FORMAT, member->offset,
                      "zip member '%.*s' is no valid DEFLATE stream of %llu "
                      "bytes", (int)ts_min(member->name.size, 100),
                      member->name.bytes, (unsigned long long)member->size);
}

static ts_status inflate_head(const ts_zip *zip, const ts_zip_member *member,
                              ts_inflater *inflater, uint8_t *into,
                              size_t size, ts_error *error)
{
    uint8_t chunk[4096];
    size_t have = 0, at = 0, used, made;
    uint64_t next = 0; /* byte of the member that follows the chunk */
    bool done = false;

    while (size > 0) {
        if (at == have) {
            have = (size_t)ts_min(sizeof chunk, member->packed - next);
            TS_TRY(ts_file_read(zip->file, member->offset + next, chunk, have,
                                error));
            next += have;
            at = 0;
        }
        ts_status status = ts_inflater_step(inflater, chunk + at, have - at,
                                            &used, into, size, &made, &done,
                                            error);
        if (status == TS_NOMEM) return status;
        if (status != TS_OK || used + made == 0 || (done && made < size))
            return bad_stream(member, error);
        at += used;
        into += made;
        size -= made;
    }
    return TS_OK;
}

ts_status ts_zip_head(const ts_zip *zip, const ts_zip_member *member,
                      uint8_t *into, size_t room, size_t *size,
                      ts_error *error)
{
    ts_inflater *inflater;

    *size = (size_t)ts_min(room, member->size);
    if (!member->deflated)
        return ts_file_read(zip->file, member->offset, into, *size, error);
    TS_TRY(ts_inflater_new(&inflater, error));
    ts_status status = inflate_head(zip, member, inflater, into, *size, error);
    ts_inflater_free(inflater);
    return status;
}

ts_status ts_zip_load(const ts_zip *zip, const ts_zip_member *member,
                      ts_arena *arena, uint8_t **out, ts_error *error)
{
    if (member->size > TS_MAX_HEADER)
        return ts_fail_at(error, TS_FORMAT, member->offset,
                          "zip member '%.*s' of %llu bytes is longer than %u",
                          (int)ts_min(member->name.size, 100),
                          member->name.bytes,
                          (unsigned long long)member->size, TS_MAX_HEADER);
    if (member->deflated)
        return ts_fail_at(error, TS_FORMAT, member->offset,
                          "zip member '%.*s' is compressed, which torch never "
                          "writes", (int)ts_min(member->name.size, 100),
                          member->name.bytes);
    TS_TRY(ts_arena_take(arena, member->size, out, error));
    return ts_file_read(zip->file, member->offset, *out,
                        (size_t)member->size, error);
}
