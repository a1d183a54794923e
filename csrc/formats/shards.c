#include "catalog.h"

#include <stdlib.h>

#include "core/base.h"
#include "core/json.h"
#include "core/large.h"

/* {"metadata": {"total_size": 16060522496},
 *  "weight_map": {"model.embed_tokens.weight": "model-00001-of-00004...",
 *                 ...}}
 * Shards lie beside the index.  They may hold more tensors than the map
 * names, never fewer. */

/* No entry of the map is shorter than "":"a", */
enum { SHORTEST_ENTRY = 7 };

/* A text begins with a brace, after blanks at most, and holds no NUL. */
bool ts_shards_matches(const uint8_t *head, size_t size)
{
    size_t at = 0;

    if (memchr(head, '\0', size) != NULL) return false;
    while (at < size
           && (head[at] == ' ' || head[at] == '\t' || head[at] == '\n'
               || head[at] == '\r'))
        at++;
    return at < size && head[at] == '{';
}

typedef struct {
    ts_name tensor; /* in the text, as is the shard's name */
    uint32_t shard;
    uint64_t at;
} mapping;

typedef struct {
    ts_name name;
    uint32_t number; /* before they are sorted by name */
    uint32_t file;   /* in the draft */
} shard;

typedef struct {
    ts_json json;
    ts_file *index;  /* borrowed, as is the draft */
    ts_draft *draft;
    ts_arena *arena; /* owned: everything below, gone at the end */
    uint64_t room;   /* entries that the map can have */
    mapping *map;
    shard *shards;
    ts_names *tensors, *files;
    uint32_t map_count, shard_count, shard_room;
    bool has_map, has_metadata;
} walk;

static bool is_word(ts_name name, const char *word)
{
    return name.size == strlen(word)
        && memcmp(name.bytes, word, name.size) == 0;
}

static int shown(ts_name name) { return (int)ts_min(name.size, 80); }

/* ---- the map ---------------------------------------------------------- */

static ts_status find_shard(walk *at, ts_name name, uint32_t *number,
                            uint64_t position, ts_error *error)
{
    bool added;

    if (at->shard_count == at->shard_room
        && !ts_names_find(at->files, name, number))
        return ts_fail_at(error, TS_FORMAT, position,
                          "weight_map names more than %u shards",
                          at->shard_room);
    ts_names_add(at->files, name, number, &added);
    if (added)
        at->shards[at->shard_count++] = (shard){.name = name,
                                                .number = *number};
    return TS_OK;
}

static ts_status take_mapping(walk *at, ts_name tensor, ts_error *error)
{
    uint64_t position = ts_json_position(&at->json);
    uint32_t number;
    bool added;
    ts_name name;

    if (at->map_count == at->room)
        return ts_fail_at(error, TS_FORMAT, position,
                          "weight_map names more than %llu tensors",
                          (unsigned long long)at->room);
    if (ts_json_peek(&at->json) != '"')
        return ts_fail_at(error, TS_FORMAT, position,
                          "weight_map gives no file name");
    TS_TRY(ts_json_string(&at->json, &name, error));
    ts_names_add(at->tensors, tensor, &number, &added);
    if (!added)
        return ts_fail_at(error, TS_FORMAT, position,
                          "weight_map names it twice");
    TS_TRY(find_shard(at, name, &number, position, error));
    at->map[at->map_count++] = (mapping){tensor, number, position};
    return TS_OK;
}

static ts_status take_map(walk *at, ts_error *error)
{
    TS_TRY(ts_json_begin_object(&at->json, error));
    for (;;) {
        ts_name tensor;
        TS_TRY(ts_json_next_key(&at->json, &tensor, error));
        if (tensor.bytes == NULL) return TS_OK;
        ts_status status = take_mapping(at, tensor, error);
        if (status != TS_OK)
            return ts_error_in_tensor(error, status, tensor.bytes,
                                      tensor.size);
    }
}

/* ---- metadata --------------------------------------------------------- */

static ts_status take_text(walk *at, ts_value *out, bool quoted,
                           ts_error *error)
{
    ts_name text;

    if (quoted)
        TS_TRY(ts_json_string(&at->json, &text, error));
    else /* an object or an array stays JSON */
        TS_TRY(ts_json_skip(&at->json, &text, error));
    out->kind = TS_VALUE_STRING;
    out->bytes = (const uint8_t *)text.bytes;
    out->size = text.size;
    return TS_OK;
}

static ts_status take_number(walk *at, ts_value *out, ts_error *error)
{
    ts_json_value number;

    TS_TRY(ts_json_number(&at->json, &number, error));
    switch (number.kind) {
    case TS_JSON_UINT:
        out->kind = TS_VALUE_UINT;
        out->u = number.u;
        break;
    case TS_JSON_INT:
        out->kind = TS_VALUE_INT;
        out->i = number.i;
        break;
    case TS_JSON_FLOAT:
        out->kind = TS_VALUE_FLOAT;
        out->f = number.f;
        break;
    }
    return TS_OK;
}

static ts_status take_value(walk *at, ts_value *out, ts_error *error)
{
    switch (ts_json_peek(&at->json)) {
    case '"': return take_text(at, out, true, error);
    case '{':
    case '[': return take_text(at, out, false, error);
    case 't':
    case 'f':
        out->kind = TS_VALUE_BOOL;
        return ts_json_bool(&at->json, &out->b, error);
    case 'n':
        out->kind = TS_VALUE_NONE;
        return ts_json_null(&at->json, error);
    default: return take_number(at, out, error);
    }
}

static ts_status take_metadata(walk *at, ts_error *error)
{
    if (ts_json_peek(&at->json) == 'n')
        return ts_json_null(&at->json, error);
    TS_TRY(ts_json_begin_object(&at->json, error));
    for (;;) {
        ts_value value = {.kind = TS_VALUE_NONE};
        uint64_t position;
        TS_TRY(ts_json_next_key(&at->json, &value.key, error));
        if (value.key.bytes == NULL) return TS_OK;
        position = ts_json_position(&at->json);
        TS_TRY(take_value(at, &value, error));
        TS_TRY(ts_draft_value(at->draft, &value, position, error));
    }
}

/* ---- the index -------------------------------------------------------- */

static ts_status take_field(walk *at, ts_name key, ts_error *error)
{
    bool is_map = is_word(key, "weight_map");
    bool *seen = is_map ? &at->has_map : &at->has_metadata;

    if (!is_map && !is_word(key, "metadata"))
        return ts_json_skip(&at->json, NULL, error);
    if (*seen)
        return ts_fail_at(error, TS_FORMAT, ts_json_position(&at->json),
                          "the index gives %.*s twice", (int)key.size,
                          key.bytes);
    *seen = true;
    return is_map ? take_map(at, error) : take_metadata(at, error);
}

static ts_status take_index(walk *at, ts_error *error)
{
    TS_TRY(ts_json_begin_object(&at->json, error));
    for (;;) {
        ts_name key;
        TS_TRY(ts_json_next_key(&at->json, &key, error));
        if (key.bytes == NULL) break;
        TS_TRY(take_field(at, key, error));
    }
    TS_TRY(ts_json_finish(&at->json, error));
    if (at->has_map) return TS_OK;
    return ts_fail(error, TS_FORMAT,
                   "a JSON file without a weight_map is no index of shards");
}

/* ---- the shards ------------------------------------------------------- */

/* The sentence says which index asks for which shard; the file and errno stay
 * those of the shard. */
static ts_status no_shard(const walk *at, const shard *one,
                          const ts_error *why, ts_error *error)
{
    const char *path = ts_file_path(at->index), *slash = strrchr(path, '/');
    ts_status status;

    if (slash != NULL) path = slash + 1;
    if (why->status == TS_IO)
        status = ts_fail_os(error, why->os_errno,
                            "shard '%.*s', which '%.80s' names: %s",
                            shown(one->name), one->name.bytes, path,
                            why->message);
    else
        status = ts_fail(error, why->status,
                         "shard '%.*s', which '%.80s' names: %s",
                         shown(one->name), one->name.bytes, path,
                         why->message);
    if (why->file[0] == '\0') return status;
    return ts_error_in_file(error, status, why->file);
}

static ts_status open_shard(walk *at, shard *one, ts_error *error)
{
    ts_error why = {0};
    ts_file *file;
    ts_status status = ts_file_open_beside(at->index, one->name.bytes,
                                           one->name.size, &file, &why);

    if (status != TS_OK) return no_shard(at, one, &why, error);
    status = ts_draft_file(at->draft, file, &one->file, error);
    if (status == TS_OK)
        status = ts_parse_tensors(file, one->file, at->draft, error);
    ts_file_release(file);
    return status;
}

static int compare_names(const void *a, const void *b)
{
    ts_name x = ((const shard *)a)->name, y = ((const shard *)b)->name;
    int order = memcmp(x.bytes, y.bytes, ts_min(x.size, y.size));
    return order != 0 ? order : (x.size > y.size) - (x.size < y.size);
}

/* In the order of their names, which for "-00001-of-00004" is theirs.  Then
 * file_of[number] leads from the map to the draft. */
static ts_status open_shards(walk *at, uint32_t **file_of, ts_error *error)
{
    TS_TRY(ts_arena_take_array(at->arena, at->shard_count, sizeof **file_of,
                               file_of, error));
    qsort(at->shards, at->shard_count, sizeof *at->shards, compare_names);
    for (uint32_t i = 0; i < at->shard_count; i++) {
        TS_TRY(open_shard(at, &at->shards[i], error));
        (*file_of)[at->shards[i].number] = at->shards[i].file;
    }
    return TS_OK;
}

static ts_status check_mapping(const walk *at, const mapping *entry,
                               uint32_t file, ts_error *error)
{
    const shard *where = at->shards;
    ts_status status;
    uint32_t row;

    if (ts_draft_find(at->draft, entry->tensor, &row)
        && ts_draft_row(at->draft, row)->file == file)
        return TS_OK;
    while (where->file != file) where++;
    status = ts_fail_at(error, TS_FORMAT, entry->at,
                        "weight_map says that tensor '%.*s' is in '%.*s', "
                        "which does not hold it",
                        shown(entry->tensor), entry->tensor.bytes,
                        shown(where->name), where->name.bytes);
    return ts_error_in_tensor(error, status, entry->tensor.bytes,
                              entry->tensor.size);
}

static ts_status load(walk *at, ts_error *error)
{
    uint32_t *file_of;

    TS_TRY(ts_draft_expect(at->draft, at->map_count, error));
    TS_TRY(open_shards(at, &file_of, error));
    for (uint32_t i = 0; i < at->map_count; i++)
        TS_TRY(check_mapping(at, &at->map[i], file_of[at->map[i].shard],
                             error));
    ts_draft_format(at->draft, TS_FORMAT_SHARDS);
    return TS_OK;
}

/* ---- the file --------------------------------------------------------- */

/* Each entry brings a colon and as many bytes as the shortest one. */
static uint64_t count_entries(const uint8_t *text, size_t size)
{
    uint64_t colons = ts_count_byte(text, size, ':');

    return ts_min(ts_min(colons, size / SHORTEST_ENTRY + 1), TS_MAX_TENSORS);
}

static ts_status make_room(walk *at, ts_error *error)
{
    at->shard_room = (uint32_t)ts_min(at->room, TS_MAX_FILES);
    TS_TRY(ts_names_new(at->arena, (uint32_t)at->room, &at->tensors, error));
    TS_TRY(ts_names_new(at->arena, at->shard_room, &at->files, error));
    TS_TRY(ts_arena_take_array(at->arena, at->room, sizeof *at->map, &at->map,
                               error));
    return ts_arena_take_array(at->arena, at->shard_room, sizeof *at->shards,
                               &at->shards, error);
}

static ts_status parse(walk *at, uint8_t *text, size_t size, ts_error *error)
{
    TS_TRY(ts_file_read(at->index, 0, text, size, error));
    at->room = count_entries(text, size);
    TS_TRY(make_room(at, error));
    ts_json_start(&at->json, text, size, 0);
    TS_TRY(take_index(at, error));
    return load(at, error);
}

ts_status ts_shards_parse(ts_file *file, ts_draft *draft, ts_error *error)
{
    walk at = {.index = file, .draft = draft};
    uint64_t size = ts_file_size(file);
    uint8_t *text;
    ts_status status;

    ts_draft_format(draft, TS_FORMAT_SHARDS);
    if (size > TS_MAX_HEADER)
        return ts_fail_at(error, TS_FORMAT, 0,
                          "an index of %llu bytes is longer than %u",
                          (unsigned long long)size, TS_MAX_HEADER);
    TS_TRY(ts_arena_new(&at.arena, error));
    text = ts_large_new((size_t)size);
    if (text == NULL)
        status = ts_fail(error, TS_NOMEM, "cannot allocate %llu bytes",
                         (unsigned long long)size);
    else
        status = parse(&at, text, (size_t)size, error);
    free(text);
    ts_arena_free(at.arena);
    return status;
}
