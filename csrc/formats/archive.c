#include "archive.h"

#include "core/base.h"

bool ts_zip_matches(const uint8_t *head, size_t size)
{
    return size >= 4
        && (memcmp(head, "PK\3\4", 4) == 0
            || memcmp(head, "PK\5\6", 4) == 0); /* an archive of nothing */
}

static bool ends_with(ts_name name, const char *end)
{
    size_t size = strlen(end);
    return name.size >= size
        && memcmp(name.bytes + name.size - size, end, size) == 0;
}

/* torch puts all of a checkpoint in one folder; its name is the file's that
 * was saved.  Only data.pkl right inside it makes it a checkpoint. */
static ts_status find_torch(const ts_zip *zip, ts_name *root, ts_error *error)
{
    static const char end[] = "/data.pkl";
    root->size = 0;
    for (uint32_t i = 0; i < zip->count; i++) {
        ts_name name = zip->members[i].name;
        if (!ends_with(name, end)) continue;
        size_t size = name.size - (sizeof end - 1);
        if (size == 0 || memchr(name.bytes, '/', size) != NULL) continue;
        if (root->size > 0)
            return ts_fail(error, TS_FORMAT,
                           "zip archive holds two checkpoints, '%.*s' and "
                           "'%.*s'", (int)ts_min(root->size, 80), root->bytes,
                           (int)ts_min(size, 80), name.bytes);
        *root = (ts_name){name.bytes, size};
    }
    return TS_OK;
}

static ts_status dispatch(const ts_archive *archive, ts_error *error)
{
    const ts_zip *zip = &archive->zip;
    ts_name root;

    TS_TRY(find_torch(zip, &root, error));
    if (root.size > 0) return ts_torchzip_parse(archive, root, error);
    for (uint32_t i = 0; i < zip->count; i++) {
        const ts_zip_member *member = &zip->members[i];
        if (!member->folder && !ends_with(member->name, ".npy"))
            return ts_fail_at(error, TS_FORMAT, member->header,
                              "zip archive is neither a torch checkpoint (no "
                              "data.pkl) nor an npz: it holds '%.*s'",
                              (int)ts_min(member->name.size, 100),
                              member->name.bytes);
    }
    return ts_npz_parse(archive, error);
}

ts_status ts_zip_parse(ts_file *file, uint32_t index, ts_draft *draft,
                       ts_error *error)
{
    ts_archive archive = {.file = file, .index = index, .draft = draft};

    TS_TRY(ts_arena_new(&archive.arena, error));
    ts_status status = ts_zip_open(file, archive.arena, &archive.zip, error);
    if (status == TS_OK) status = dispatch(&archive, error);
    ts_arena_free(archive.arena);
    return status;
}
