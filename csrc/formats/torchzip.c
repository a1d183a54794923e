#include <stdio.h>

#include "archive.h"
#include "core/base.h"
#include "torch.h"

/* The zip of torch.save since 1.6:
 *
 *     root/data.pkl      the objects; tensors refer to storages by key
 *     root/data/KEY      one storage each, stored as it is
 *     root/byteorder     "little", absent before 2.0
 *     root/version       "3"
 */

/* The newest format version that torch's own reader knows. */
enum { MAX_VERSION = 10 };

typedef struct {
    const ts_archive *archive;
    ts_name root;
    char path[2 * TS_MAX_NAME + 16];
    ts_error *error;
} reader;

/* The member root/folder/name; NULL when there is none. */
static const ts_zip_member *find(reader *r, const char *folder, ts_name name)
{
    size_t size = (size_t)snprintf(r->path, sizeof r->path, "%.*s/%s",
                                   (int)r->root.size, r->root.bytes, folder);
    memcpy(r->path + size, name.bytes, name.size);
    return ts_zip_find(&r->archive->zip,
                       (ts_name){r->path, size + name.size});
}

static const ts_zip_member *find_part(reader *r, const char *name)
{
    return find(r, "", (ts_name){name, strlen(name)});
}

static bool holds_code(reader *r)
{
    const ts_zip *zip = &r->archive->zip;
    if (find_part(r, "constants.pkl") != NULL) return true;
    for (uint32_t i = 0; i < zip->count; i++) {
        ts_name name = zip->members[i].name;
        if (name.size > r->root.size + 6
            && memcmp(name.bytes, r->root.bytes, r->root.size) == 0
            && memcmp(name.bytes + r->root.size, "/code/", 6) == 0)
            return true;
    }
    return false;
}

/* A member of a few characters, cut short if it has more. */
static ts_status read_text(reader *r, const ts_zip_member *member,
                           char text[16])
{
    size_t size;
    TS_TRY(ts_zip_head(&r->archive->zip, member, (uint8_t *)text, 15, &size,
                       r->error));
    while (size > 0 && (text[size - 1] == '\n' || text[size - 1] == ' '))
        size--;
    text[size] = '\0';
    return TS_OK;
}

static ts_status check_version(reader *r)
{
    char text[16];
    unsigned version = 0;
    const ts_zip_member *member = find_part(r, "version");

    if (member == NULL) return TS_OK;
    TS_TRY(read_text(r, member, text));
    for (const char *at = text; *at >= '0' && *at <= '9' && version < 1000;
         at++)
        version = version * 10 + (unsigned)(*at - '0');
    if (version < 1 || version > MAX_VERSION)
        return ts_fail_at(r->error, TS_FORMAT, member->offset,
                          "torch format version is none of 1 to %d",
                          MAX_VERSION);
    return TS_OK;
}

static ts_status check_byteorder(reader *r)
{
    char text[16];
    const ts_zip_member *member = find_part(r, "byteorder");

    if (member == NULL) return TS_OK;
    TS_TRY(read_text(r, member, text));
    if (strcmp(text, "big") == 0)
        return ts_fail_at(r->error, TS_FORMAT, member->offset,
                          "torch checkpoint was saved on a big-endian "
                          "machine; save it again on a little-endian one");
    if (strcmp(text, "little") != 0)
        return ts_fail_at(r->error, TS_FORMAT, member->offset,
                          "torch checkpoint's byteorder is neither little "
                          "nor big");
    return TS_OK;
}

static ts_status check_kind(reader *r)
{
    if (holds_code(r))
        return ts_fail(r->error, TS_FORMAT,
                       "a TorchScript archive holds a program; save the "
                       "module's state_dict() with torch.save instead");
    TS_TRY(check_version(r));
    return check_byteorder(r);
}

static ts_status place_storage(reader *r, ts_torch_storage *storage)
{
    const ts_zip_member *member = find(r, "data/", storage->key);
    int size = (int)ts_min(storage->key.size, 80);

    if (member == NULL)
        return ts_fail(r->error, TS_FORMAT,
                       "storage '%.*s' of %llu bytes is not in the archive",
                       size, storage->key.bytes,
                       (unsigned long long)storage->size);
    if (member->deflated)
        return ts_fail_at(r->error, TS_FORMAT, member->header,
                          "storage '%.*s' is compressed, which torch never "
                          "writes", size, storage->key.bytes);
    if (member->size < storage->size)
        return ts_fail_at(r->error, TS_FORMAT, member->header,
                          "storage '%.*s' should hold %llu bytes, but its "
                          "member has %llu", size, storage->key.bytes,
                          (unsigned long long)storage->size,
                          (unsigned long long)member->size);
    storage->placed = true;
    storage->offset = member->offset;
    storage->has_crc32 = member->crc32 != 0; /* 0: saved without checksums */
    storage->crc32 = member->crc32;
    storage->member_offset = member->offset;
    storage->member_size = member->size;
    return TS_OK;
}

static ts_status parse(reader *r)
{
    const ts_archive *archive = r->archive;
    const ts_zip_member *member = find_part(r, "data.pkl");
    uint8_t *bytes;
    ts_torch torch;

    TS_TRY(check_kind(r));
    TS_TRY(ts_zip_load(&archive->zip, member, archive->arena, &bytes,
                       r->error));
    TS_TRY(ts_torch_unpickle(bytes, (size_t)member->size, archive->arena,
                             &torch, r->error));
    if (torch.pickle.used != member->size)
        return ts_fail_at(r->error, TS_FORMAT,
                          member->offset + torch.pickle.used,
                          "%llu bytes follow the pickle in data.pkl",
                          (unsigned long long)(member->size
                                               - torch.pickle.used));
    for (uint32_t i = 0; i < torch.storage_count; i++)
        TS_TRY(place_storage(r, &torch.storages[i]));
    return ts_torch_rows(&torch, member->size, archive->file, archive->index,
                         archive->draft, archive->arena, r->error);
}

ts_status ts_torchzip_parse(const ts_archive *archive, ts_name root,
                            ts_error *error)
{
    reader *r;
    TS_TRY(ts_arena_take_array(archive->arena, 1, sizeof *r, &r, error));
    r->archive = archive;
    r->root = root;
    r->error = error;
    ts_draft_format(archive->draft, TS_FORMAT_TORCH);
    return parse(r);
}
