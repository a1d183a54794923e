#include "buffer.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base.h"

struct ts_buffer {
    atomic_size_t refs;
    size_t size;
    uint8_t *data;     /* lent by end's context, or owned when HEAP */
    ts_buffer_end end; /* may be NULL */
    void *context;     /* end's, borrowed: it keeps itself alive until end */
    ts_origin origin;
};

ts_status ts_buffer_wrap(void *data, size_t size, ts_origin origin,
                         ts_buffer_end end, void *context, ts_buffer **out,
                         ts_error *error)
{
    ts_buffer *buffer = malloc(sizeof *buffer);

    *out = buffer;
    if (buffer == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate a buffer's header");
    atomic_init(&buffer->refs, 1);
    buffer->size = size;
    buffer->data = data;
    buffer->end = end;
    buffer->context = context;
    buffer->origin = origin;
    return TS_OK;
}

static void end_heap(void *context, uint8_t *data, size_t size)
{
    (void)context;
    (void)size;
    free(data);
}

ts_status ts_buffer_new(size_t size, size_t alignment, ts_buffer **out,
                        ts_error *error)
{
    void *data = NULL;

    *out = NULL;
    if (size == 0)
        return ts_fail(error, TS_ARGUMENT, "a buffer needs at least one byte");
    if (alignment < 8 || !ts_is_power_of_two(alignment))
        return ts_fail(error, TS_ARGUMENT,
                       "alignment %zu is not a power of two of at least 8",
                       alignment);
    if (posix_memalign(&data, alignment, size) != 0)
        return ts_fail(error, TS_NOMEM, "cannot allocate %zu bytes", size);
    ts_status status = ts_buffer_wrap(data, size, TS_ORIGIN_HEAP, end_heap,
                                      NULL, out, error);
    if (status != TS_OK) free(data);
    return status;
}

ts_buffer *ts_buffer_retain(ts_buffer *buffer)
{
    atomic_fetch_add_explicit(&buffer->refs, 1, memory_order_relaxed);
    return buffer;
}

void ts_buffer_release(ts_buffer *buffer)
{
    if (buffer == NULL) return;
    if (atomic_fetch_sub_explicit(&buffer->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (buffer->end != NULL)
        buffer->end(buffer->context, buffer->data, buffer->size);
    free(buffer);
}

uint8_t *ts_buffer_data(const ts_buffer *buffer) { return buffer->data; }

size_t ts_buffer_size(const ts_buffer *buffer) { return buffer->size; }

ts_origin ts_buffer_origin(const ts_buffer *buffer) { return buffer->origin; }

const char *ts_origin_name(ts_origin origin)
{
    static const char *const names[] = {"heap", "slab", "map", "foreign"};
    return names[origin];
}
