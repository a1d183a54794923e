#include "catalog.h"

#include <stdlib.h>

/* A draft under another name: each array's memory plays a file of its own.
 * Arrays that share memory are found by its address, as aliases. */
struct ts_catalog_builder {
    ts_draft *draft; /* owned */
};

ts_status ts_catalog_builder_new(ts_format format, ts_catalog_builder **out,
                                 ts_error *error)
{
    ts_catalog_builder *builder = calloc(1, sizeof *builder);
    ts_status status;

    *out = NULL;
    if (builder == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate a catalog builder");
    status = ts_draft_new(format, &builder->draft, error);
    if (status == TS_OK)
        *out = builder;
    else
        free(builder);
    return status;
}

ts_status ts_catalog_builder_add(ts_catalog_builder *builder, ts_name name,
                                 ts_dtype dtype, uint32_t ndim,
                                 const uint64_t *shape, ts_buffer *memory,
                                 ts_error *error)
{
    ts_tensor row = {
        .name = name, .dtype = dtype, .ndim = ndim, .shape = shape};
    ts_file *file;
    ts_status status;

    TS_TRY(ts_file_wrap(memory, "memory", &file, error));
    status = ts_draft_file(builder->draft, file, &row.file, error);
    ts_file_release(file); /* the draft holds its own reference */
    if (status != TS_OK) return status;
    return ts_draft_tensor(builder->draft, &row, TS_NO_OFFSET, error);
}

ts_status ts_catalog_builder_finish(ts_catalog_builder *builder,
                                    ts_catalog **out, ts_error *error)
{
    ts_draft *draft = builder->draft;

    free(builder);
    return ts_draft_finish(draft, out, error);
}

void ts_catalog_builder_free(ts_catalog_builder *builder)
{
    if (builder == NULL) return;
    ts_draft_free(builder->draft);
    free(builder);
}
