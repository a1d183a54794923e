#include "formats/torch.h"
#include "judge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The unpickler alone, with torch's list of globals; what it makes is walked
 * into a catalog whose only storage is the input itself. */
static ts_status walk(ts_torch *torch, const uint8_t *data, size_t size,
                      ts_arena *arena)
{
    ts_buffer *memory;
    ts_file *file;
    ts_draft *draft;
    ts_catalog *catalog = NULL;
    uint32_t index;
    ts_status status;

    for (uint32_t i = 0; i < torch->storage_count; i++) {
        if (torch->storages[i].size > size) return TS_FORMAT;
        torch->storages[i].placed = true;
    }
    TS_TRY(ts_buffer_new(size, 8, &memory, NULL));
    memcpy(ts_buffer_data(memory), data, size);
    status = ts_file_wrap(memory, "storage.bin", &file, NULL);
    ts_buffer_release(memory);
    if (status != TS_OK) return status;
    status = ts_draft_new(TS_FORMAT_TORCH, &draft, NULL);
    if (status == TS_OK) {
        status = ts_draft_file(draft, file, &index, NULL);
        if (status == TS_OK)
            status = ts_torch_rows(torch, size, file, index, draft, arena,
                                   NULL);
        if (status == TS_OK) status = ts_draft_finish(draft, &catalog, NULL);
        else ts_draft_free(draft);
    }
    if (catalog != NULL && catalog_fault(catalog, size) != NULL) {
        fprintf(stderr, "%s\n", catalog_fault(catalog, size));
        abort();
    }
    ts_catalog_release(catalog);
    ts_file_release(file);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ts_arena *arena;
    ts_torch torch;

    if (ts_arena_new(&arena, NULL) != TS_OK) return 0;
    ts_status status = ts_torch_unpickle(data, size, arena, &torch, NULL);
    if (torch.pickle.used > size || torch.pickle.persistent_count > size)
        abort();
    if (status == TS_OK && size > 0) status = walk(&torch, data, size, arena);
    /* The tree, the storages, and what the walker takes for values. */
    if (ts_arena_size(arena) > 192 * (uint64_t)size + 4 * TS_MIB) abort();
    ts_arena_free(arena);
    return 0;
}
