#include <stdlib.h>

#include "core/base.h"
#include "torch.h"

/* What torch.save wrote before 1.6, and still does on request:
 *
 *     pickle  the magic number
 *     pickle  1001, the protocol
 *     pickle  {"little_endian": True, ...}
 *     pickle  the objects; tensors refer to storages by key
 *     pickle  the keys, in the order of
 *     { u64 count; elements }*
 *
 * Where a pickle ends is known only after reading it, so the five are read
 * from a window that doubles until they fit. */

static const uint8_t magic[] = {0x6C, 0xFC, 0x9C, 0x46, 0xF9,
                                0x20, 0x6A, 0xA8, 0x50, 0x19};
enum { PROTOCOL = 1001, FIRST_WINDOW = 1 << 18 };

typedef struct {
    ts_file *file;
    ts_arena *arena;
    uint8_t *bytes; /* the window, from the start of the file */
    size_t size, at;
    bool cut; /* a pickle ended with the window */
    ts_error *error;
} reader;

bool ts_torch_matches(const uint8_t *head, size_t size)
{
    return size >= 2 && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5;
}

static ts_status next_plain(reader *r, const ts_pickle_node **root)
{
    ts_pickle pickle;
    ts_status status = ts_torch_unpickle_plain(
        r->bytes + r->at, r->size - r->at, r->arena, &pickle, r->error);
    r->cut = pickle.cut;
    r->at += pickle.used;
    *root = pickle.root;
    return status;
}

static ts_status next_torch(reader *r, ts_torch *torch)
{
    ts_status status = ts_torch_unpickle(r->bytes + r->at, r->size - r->at,
                                         r->arena, torch, r->error);
    r->cut = torch->pickle.cut;
    r->at += torch->pickle.used;
    return status;
}

/* A pickle of something else is what people rename to .pt most often. */
static ts_status check_magic(reader *r)
{
    const ts_pickle_node *root;
    ts_status status = next_plain(r, &root);
    if (status == TS_NOMEM || r->cut) return status;
    if (status == TS_OK && root->kind == TS_PICKLE_BIG
        && root->size == sizeof magic
        && memcmp(root->bytes, magic, sizeof magic) == 0)
        return TS_OK;
    return ts_fail_at(r->error, TS_FORMAT, 0,
                      "a bare pickle that torch.save did not write; load it "
                      "where it can be trusted, and torch.save its tensors");
}

static ts_status check_system(reader *r)
{
    const ts_pickle_node *root, *key;

    TS_TRY(next_plain(r, &root));
    if (root->kind != TS_PICKLE_INT || root->i != PROTOCOL)
        return ts_fail_at(r->error, TS_FORMAT, r->at,
                          "torch stream's protocol is not %d", PROTOCOL);
    TS_TRY(next_plain(r, &root));
    for (uint32_t i = 0; root->kind == TS_PICKLE_DICT && i < 16; i += 2) {
        key = ts_pickle_item(root, i);
        if (key == NULL) break;
        const ts_pickle_node *value = ts_pickle_item(root, i + 1);
        if (key->kind != TS_PICKLE_STRING || key->size != 13
            || memcmp(key->bytes, "little_endian", 13) != 0)
            continue;
        if (value->kind == TS_PICKLE_BOOL && value->i) return TS_OK;
        return ts_fail_at(r->error, TS_FORMAT, r->at,
                          "torch stream was saved on a big-endian machine; "
                          "save it again on a little-endian one");
    }
    return ts_fail_at(r->error, TS_FORMAT, r->at,
                      "torch stream does not say its byte order");
}

/* The storages lie one behind the other, in the order of the keys. */
static ts_status place_storages(reader *r, ts_torch *torch,
                                const ts_pickle_node *keys, uint64_t *end)
{
    uint64_t total = ts_file_size(r->file), count;

    for (const ts_pickle_run *run = keys->first; run != NULL; run = run->next)
        for (uint64_t i = 0; i < run->count; i++) {
            const ts_pickle_node *key = run->items[i];
            ts_name name = {(const char *)key->bytes, (size_t)key->size};
            uint32_t number;
            if (key->kind != TS_PICKLE_STRING
                || !ts_names_find(torch->keys, name, &number)
                || torch->storages[number].placed)
                return ts_fail_at(r->error, TS_FORMAT, *end,
                                  "torch stream lists a storage twice, or "
                                  "one that no tensor uses");
            ts_torch_storage *storage = &torch->storages[number];
            if (total - *end < 8 || total - *end - 8 < storage->size)
                return ts_fail_at(r->error, TS_FORMAT, *end,
                                  "storage of %llu bytes at %llu is cut short "
                                  "by the end of the file at %llu",
                                  (unsigned long long)storage->size,
                                  (unsigned long long)*end,
                                  (unsigned long long)total);
            TS_TRY(ts_file_read(r->file, *end, &count, 8, r->error));
            if (count != storage->count)
                return ts_fail_at(r->error, TS_FORMAT, *end,
                                  "storage of %llu elements is preceded by "
                                  "the count %llu",
                                  (unsigned long long)storage->count,
                                  (unsigned long long)count);
            storage->placed = true;
            storage->offset = *end + 8;
            *end += 8 + storage->size;
        }
    return TS_OK;
}

static ts_status check_placed(reader *r, const ts_torch *torch, uint64_t end)
{
    uint64_t total = ts_file_size(r->file);
    for (uint32_t i = 0; i < torch->storage_count; i++)
        if (!torch->storages[i].placed)
            return ts_fail(r->error, TS_FORMAT,
                           "storage '%.*s' is not in the torch stream",
                           (int)ts_min(torch->storages[i].key.size, 80),
                           torch->storages[i].key.bytes);
    if (end != total)
        return ts_fail_at(r->error, TS_FORMAT, end,
                          "%llu bytes follow the last storage",
                          (unsigned long long)(total - end));
    return TS_OK;
}

/* The five pickles, if they fit the window. */
static ts_status read_pickles(reader *r, ts_torch *torch,
                              const ts_pickle_node **keys)
{
    r->at = 0;
    TS_TRY(check_magic(r));
    TS_TRY(check_system(r));
    TS_TRY(next_torch(r, torch));
    TS_TRY(next_plain(r, keys));
    if ((*keys)->kind != TS_PICKLE_LIST)
        return ts_fail_at(r->error, TS_FORMAT, r->at,
                          "torch stream has no list of its storages");
    return TS_OK;
}

static ts_status parse_window(reader *r, uint32_t index, ts_draft *draft)
{
    const ts_pickle_node *keys;
    ts_torch torch;

    TS_TRY(ts_file_read(r->file, 0, r->bytes, r->size, r->error));
    TS_TRY(read_pickles(r, &torch, &keys));
    uint64_t end = r->at;
    TS_TRY(place_storages(r, &torch, keys, &end));
    TS_TRY(check_placed(r, &torch, end));
    ts_draft_format(draft, TS_FORMAT_TORCH);
    return ts_torch_rows(&torch, r->at, r->file, index, draft, r->arena,
                         r->error);
}

static ts_status try_window(reader *r, uint32_t index, ts_draft *draft)
{
    ts_status status = ts_arena_new(&r->arena, r->error);
    if (status != TS_OK) return status;
    r->cut = false;
    r->bytes = malloc(r->size);
    if (r->bytes == NULL)
        status = ts_fail(r->error, TS_NOMEM, "cannot allocate %zu bytes",
                         r->size);
    else status = parse_window(r, index, draft);
    free(r->bytes);
    ts_arena_free(r->arena);
    return status;
}

ts_status ts_torch_parse(ts_file *file, uint32_t index, ts_draft *draft,
                         ts_error *error)
{
    reader r = {.file = file, .error = error};
    uint64_t most = ts_min(ts_file_size(file), TS_MAX_HEADER);

    r.size = (size_t)ts_min(most, FIRST_WINDOW);
    for (;;) {
        ts_status status = try_window(&r, index, draft);
        if (!r.cut || r.size == most) return status;
        r.size = (size_t)ts_min(most, (uint64_t)r.size * 2);
    }
}
