#include "catalog.h"

#include "core/base.h"

/* Enough for every magic, and for a text that begins with some blanks. */
enum { HEAD = 64 };

/* What stands at the start of a file, and the whole file's size. */
typedef struct {
    uint8_t bytes[HEAD];
    size_t size;
    uint64_t total;
} opening;

typedef struct {
    bool (*matches)(const opening *head);
    ts_status (*parse)(ts_file *file, uint32_t index, ts_draft *draft,
                       ts_error *error);
} parser;

static bool is_npy(const opening *head)
{
    return ts_npy_matches(head->bytes, head->size);
}

static bool is_safetensors(const opening *head)
{
    return ts_safetensors_matches(head->bytes, head->size);
}

static bool may_be_safetensors(const opening *head)
{
    return ts_safetensors_resembles(head->bytes, head->size, head->total);
}

ts_name ts_stem_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    ts_name stem = {name, dot > name ? (size_t)(dot - name) : strlen(name)};

    if (stem.size == 0 || ts_check_name(stem, "", TS_NO_OFFSET, NULL) != TS_OK)
        return (ts_name){"array", 5};
    return stem;
}

static ts_status parse_npy(ts_file *file, uint32_t index, ts_draft *draft,
                           ts_error *error)
{
    return ts_npy_parse(file, index, ts_stem_of(ts_file_path(file)), draft,
                        error);
}

static bool is_gguf(const opening *head)
{
    return ts_gguf_matches(head->bytes, head->size);
}

static bool is_zip(const opening *head)
{
    return ts_zip_matches(head->bytes, head->size);
}

static bool is_torch(const opening *head)
{
    return ts_torch_matches(head->bytes, head->size);
}

/* In the order of asking: a plain magic first, a mere likeness last. */
static const parser parsers[] = {
    {is_safetensors, ts_safetensors_parse},
    {is_npy, parse_npy},
    {is_gguf, ts_gguf_parse},
    {is_zip, ts_zip_parse},
    {is_torch, ts_torch_parse},
    {may_be_safetensors, ts_safetensors_parse},
};

static ts_status read_head(const ts_file *file, opening *out, ts_error *error)
{
    out->total = ts_file_size(file);
    out->size = (size_t)ts_min(out->total, HEAD);
    return ts_file_read(file, 0, out->bytes, out->size, error);
}

static ts_status unknown(const opening *head, ts_error *error)
{
    if (head->size == 0) return ts_fail(error, TS_FORMAT, "an empty file");
    return ts_fail_at(error, TS_FORMAT, 0,
                      "not a format that can be opened here (safetensors, "
                      "an index json, GGUF, a torch zip, npy, npz): %llu "
                      "bytes that begin with 0x%02x",
                      (unsigned long long)head->total, head->bytes[0]);
}

static ts_status parse_head(ts_file *file, const opening *head, uint32_t index,
                            ts_draft *draft, ts_error *error)
{
    for (size_t i = 0; i < TS_COUNT_OF(parsers); i++)
        if (parsers[i].matches(head))
            return parsers[i].parse(file, index, draft, error);
    return unknown(head, error);
}

ts_status ts_parse_tensors(ts_file *file, uint32_t index, ts_draft *draft,
                           ts_error *error)
{
    opening head;
    ts_status status = read_head(file, &head, error);

    if (status == TS_OK) status = parse_head(file, &head, index, draft, error);
    return ts_error_in_file(error, status, ts_file_path(file));
}

/* An index json is no file of tensors: it only leads to them. */
static ts_status parse(ts_file *file, ts_draft *draft, ts_error *error)
{
    opening head;
    uint32_t index;

    TS_TRY(read_head(file, &head, error));
    if (ts_shards_matches(head.bytes, head.size))
        return ts_shards_parse(file, draft, error);
    TS_TRY(ts_draft_file(draft, file, &index, error));
    return parse_head(file, &head, index, draft, error);
}

static ts_status open_file(ts_file *file, const ts_open_options *options,
                           ts_catalog **out, ts_error *error)
{
    ts_draft *draft;
    ts_status status;

    *out = NULL;
    TS_TRY(ts_draft_new(TS_FORMAT_SAFETENSORS, &draft, error));
    ts_draft_options(draft, options);
    status = parse(file, draft, error);
    if (status == TS_OK)
        status = ts_draft_finish(draft, out, error);
    else
        ts_draft_free(draft);
    return ts_error_in_file(error, status, ts_file_path(file));
}

ts_status ts_catalog_open_file(ts_file *file, ts_catalog **out,
                               ts_error *error)
{
    return open_file(file, &(ts_open_options){0}, out, error);
}

ts_status ts_catalog_open_with(const char *path, const ts_open_options *options,
                               ts_catalog **out, ts_error *error)
{
    ts_file *file;
    ts_status status;

    *out = NULL;
    TS_TRY(ts_file_open(path, &file, error));
    status = open_file(file, options, out, error);
    ts_file_release(file);
    return status;
}

ts_status ts_catalog_open(const char *path, ts_catalog **out, ts_error *error)
{
    return ts_catalog_open_with(path, &(ts_open_options){0}, out, error);
}
