#include "plan.h"

#include "core/base.h"

void ts_plan_begin(ts_plan *plan, const ts_catalog *catalog,
                   const ts_item *items, uint32_t count, bool by_rows)
{
    *plan = (ts_plan){catalog, items,
                      count,   by_rows,
                      0,       count > 0 ? items[0].start : 0};
}

/* The last border before `stop` of units that are unpacked together, if it is
 * also one of `unit` and behind `at`; else stop. */
static uint64_t on_grain(uint64_t at, uint64_t stop, uint64_t grain,
                         uint64_t unit)
{
    if (grain == 0) return stop;
    uint64_t border = stop / grain * grain;
    return border > at && border % unit == 0 ? border : stop;
}

/* The end of a piece that starts at `at` and may hold `most` elements, which
 * are whole blocks: on the border of the largest sub-array that fits, at least on whole blocks.
 *
 *     shape (4, 6, 100): rows of 600, else rows of 100, else blocks */
static uint64_t cut_at(const ts_tensor *tensor, uint64_t at, uint64_t most,
                       uint64_t block, uint64_t grain)
{
    uint64_t unit = tensor->elements;

    for (uint32_t d = 0; d < tensor->ndim; d++) {
        unit /= tensor->shape[d]; /* not 0: the tensor has elements */
        if (unit > most || unit <= block || unit % block != 0) continue;
        uint64_t stop = (at + most) / unit * unit;
        if (stop > at) return on_grain(at, stop, grain, unit);
    }
    return on_grain(at, at + most, grain, block);
}

bool ts_plan_peek(const ts_plan *plan, uint64_t limit, ts_chunk *out)
{
    if (plan->item >= plan->count) return false;
    const ts_item *item = &plan->items[plan->item];
    const ts_widths *widths = &item->widths;
    uint64_t widest = ts_max(widths->in_size, widths->out_size);
    uint64_t most = ts_max(limit / widest, 1) * widths->block;

    *out = (ts_chunk){plan->item, item->row, plan->at, item->stop, true};
    if (item->stop - plan->at <= most) return true;
    /* 8 blocks of any size are whole 64-bit words, for checksums. */
    uint64_t eight = 8 * (uint64_t)widths->block;
    if (plan->by_rows)
        out->stop = cut_at(ts_catalog_tensor(plan->catalog, item->row),
                           plan->at, most, widths->block, item->grain);
    else
        out->stop = on_grain(
            plan->at, plan->at + (most > eight ? most / eight * eight : most),
            item->grain, 1);
    if (out->stop > item->stop) out->stop = item->stop;
    out->is_last = out->stop == item->stop;
    return true;
}

bool ts_plan_next(ts_plan *plan, uint64_t limit, ts_chunk *out)
{
    if (!ts_plan_peek(plan, limit, out)) return false;
    plan->at = out->stop;
    if (out->is_last && ++plan->item < plan->count)
        plan->at = plan->items[plan->item].start;
    return true;
}

uint32_t ts_chunk_shape(const ts_tensor *tensor, uint64_t start, uint64_t stop,
                        uint64_t *shape)
{
    uint64_t unit = tensor->elements;

    if (start == 0 && stop == tensor->elements) {
        for (uint32_t d = 0; d < tensor->ndim; d++) shape[d] = tensor->shape[d];
        return tensor->ndim;
    }
    for (uint32_t d = 0; d < tensor->ndim; d++) {
        unit /= tensor->shape[d];
        if (start % unit != 0 || stop % unit != 0) continue;
        shape[0] = (stop - start) / unit;
        for (uint32_t k = d + 1; k < tensor->ndim; k++)
            shape[k - d] = tensor->shape[k];
        return tensor->ndim - d;
    }
    shape[0] = stop - start;
    return 1;
}
