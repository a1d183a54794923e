#include "layout.h"

#include "core/base.h"
#include "core/slab.h"

/* Where streams of bytes, of floats, from the cache and from the disk were all
 * within a few per cent of their best; see benchmarks/README.md.  What is not
 * delivered takes no part of the budget and did best at twice the size. */
static const uint64_t start_size = 1 * TS_MIB;
static const uint64_t least_size = 64 * TS_KIB;
static const uint64_t stage_size = 256 * TS_KIB; /* cold: four times */
static const uint64_t most_size = 8 * TS_MIB;

void ts_layout_of(const ts_layout_question *question, ts_layout *out)
{
    uint64_t fetchers = (uint64_t)question->fetchers;
    /* Two chunks at the consumer, one in each thread's hands, one ready. */
    uint64_t shares = question->delivers ? fetchers + 3 : 0;
    uint64_t stage = 2 * TS_SLAB_GRAIN; /* at least: one page is for aligning */

    if (question->stages && question->delivers)
        stage = ts_min(question->cold ? 4 * stage_size : stage_size,
                       question->budget / (8 * fetchers));
    else if (question->stages)
        stage = ts_min(4 * TS_MIB + TS_SLAB_GRAIN,
                       question->budget / fetchers);
    stage = ts_max(ts_round_down(stage, TS_SLAB_GRAIN), 2 * TS_SLAB_GRAIN);
    /* Half of it is for gathering, a page for aligning. */
    stage = ts_max(stage, ts_round_up(2 * question->piece, TS_SLAB_GRAIN)
                              + TS_SLAB_GRAIN);
    uint64_t left = question->budget - ts_min(question->budget, stage * fetchers);

    out->stage = stage;
    out->most = shares > 0 ? left / shares : most_size;
    /* A block that starts off a page border takes one more page. */
    if (shares > 0)
        out->most -= ts_min(out->most / 2, TS_SLAB_GRAIN);
    else if (question->stages)
        out->most = stage - TS_SLAB_GRAIN;
    out->most = ts_max(ts_min(out->most, most_size), TS_SLAB_GRAIN);
    out->least = ts_min(least_size, out->most);
    uint64_t start = question->delivers ? start_size : 2 * start_size;
    if (question->cold) start = 4 * start_size;
    out->start = ts_min(start, out->most);
}
