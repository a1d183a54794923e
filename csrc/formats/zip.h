/* zip.h -- private to formats/: what a zip archive holds, and where.
 *
 *     [local header | payload]* [central directory] [zip64 end] end comment
 *
 * The central directory is read and every local header compared with it: the
 * payload starts where the local header ends, and that header may be longer
 * than the directory's copy.  Two parsers that disagree about a zip are a
 * classic hole, so what does not agree with itself is refused: members that
 * overlap, a directory that leaves bytes over, sizes told twice differently.
 *
 * Source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3 to 4.5. */
#ifndef TS_FORMATS_ZIP_H
#define TS_FORMATS_ZIP_H

#include "core/arena.h"
#include "core/names.h"
#include "io/io.h"

typedef struct {
    ts_name name;    /* UTF-8, relative, at most TS_MAX_NAME */
    uint64_t header; /* of its local header, in the file */
    uint64_t offset; /* of its payload, in the file */
    uint64_t packed; /* bytes there */
    uint64_t size;   /* bytes when inflated; packed when stored */
    uint32_t crc32;  /* of the inflated bytes; some writers leave it 0 */
    bool deflated;   /* else stored */
    bool folder;     /* name ends with '/', and it is empty */
} ts_zip_member;

typedef struct {
    const ts_file *file; /* borrowed: the caller's */
    ts_zip_member *members; /* in the order of the directory */
    uint32_t count;
    ts_names *names; /* member numbers by name */
} ts_zip;

/* Everything comes from the arena. */
ts_status ts_zip_open(const ts_file *file, ts_arena *arena, ts_zip *out,
                      ts_error *error);

/* The member of that name, or NULL. */
const ts_zip_member *ts_zip_find(const ts_zip *zip, ts_name name);

/* The first bytes of a member, inflated: at most `room`, fewer when the member
 * is shorter. */
ts_status ts_zip_head(const ts_zip *zip, const ts_zip_member *member,
                      uint8_t *into, size_t room, size_t *size,
                      ts_error *error);

/* All of a small stored member, in the arena. */
ts_status ts_zip_load(const ts_zip *zip, const ts_zip_member *member,
                      ts_arena *arena, uint8_t **out, ts_error *error);

#endif
