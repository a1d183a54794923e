#include "hilbert.h"

#include "quant.h"

/* Squares of 2^order a side. */
unsigned ts_hilbert_order(uint64_t count)
{
    unsigned order = 0;
    while (order < TS_HILBERT_MOST_ORDER && count > (uint64_t)1 << 2 * order)
        order++;
    return order;
}

static ts_status check(uint64_t count, unsigned order, size_t width,
                       ts_error *error)
{
    if (width != 1 && width != 2 && width != 4 && width != 8)
        return ts_fail(error, TS_ARGUMENT,
                       "elements of %zu bytes; 1, 2, 4 or 8 can be mapped",
                       width);
    if (order > TS_HILBERT_MOST_ORDER || count > (uint64_t)1 << 2 * order)
        return ts_fail(error, TS_ARGUMENT,
                       "%llu elements do not fit a square of order %u",
                       (unsigned long long)count, order);
    return TS_OK;
}

ts_status ts_hilbert_map(const uint8_t *in, uint64_t count, unsigned order,
                         size_t width, uint8_t *image, ts_error *error)
{
    TS_TRY(check(count, order, width, error));
    ts_hilbert_spread(in, (size_t)count, order, width, image);
    return TS_OK;
}

ts_status ts_hilbert_unmap(const uint8_t *image, uint64_t count,
                           unsigned order, size_t width, uint8_t *out,
                           ts_error *error)
{
    TS_TRY(check(count, order, width, error));
    ts_hilbert_collect(image, (size_t)count, order, width, out);
    return TS_OK;
}

uint64_t ts_hilbert_means_count(uint64_t count, unsigned levels)
{
    uint64_t total = 0;
    for (unsigned k = 1; k <= levels && k <= TS_HILBERT_MOST_ORDER; k++) {
        uint64_t run = (uint64_t)1 << 2 * k;
        total += count / run + (count % run > 0);
    }
    return total;
}

void ts_hilbert_means(const float *x, uint64_t count, unsigned levels,
                      float *out)
{
    if (levels > TS_HILBERT_MOST_ORDER) levels = TS_HILBERT_MOST_ORDER;
    ts_hilbert_average(x, (size_t)count, levels, out);
}
