#include "io.h"

#include "core/base.h"

/* Believed of an engine: half a stretch, since chunks cross their borders. */
#define TRIAL (TS_STRETCH / 2)

/* An engine that needs r times as long loses (r - 1) stretches each time it
 * is tried, so once in 100 (r - 1) stretches costs 1 %. */
#define PATIENCE 100.0
#define SHORTEST 8.0
#define LONGEST 65536.0

/* In the order of trust, and how many times as long as the first each is
 * thought to need until it is known.  Those that go past the page cache come
 * first: the copy out of it costs, and what buffered reading reads ahead is
 * read twice when the next stretch goes past it.  2.9 GB/s against 1.0 and 2.4
 * (two threads, four) were measured on a virtual disk. */
static const struct {
    ts_engine engine;
    double pace;
} engines[] = {
    {TS_ENGINE_DIRECT, 1},
    {TS_ENGINE_URING, 1.25},
    {TS_ENGINE_PREAD, 3},
    {TS_ENGINE_MAP, 3},
};

static bool may(unsigned usable, unsigned engine)
{
    return (usable >> engine & 1) != 0;
}

static double pace(const ts_reader_stats *stats, unsigned engine)
{
    return (double)stats->ns[engine] / (double)stats->bytes[engine];
}

static uint64_t period(double pace, double best)
{
    double stretches = best > 0 ? PATIENCE * (pace / best - 1) : LONGEST;

    if (stretches < SHORTEST) return (uint64_t)SHORTEST;
    return (uint64_t)(stretches < LONGEST ? stretches : LONGEST);
}

ts_engine ts_engine_choose(const ts_reader_stats *cold, unsigned usable,
                           uint64_t round)
{
    ts_engine first = TS_ENGINE_PREAD, best = TS_ENGINE_AUTO;

    for (size_t k = TS_COUNT_OF(engines); k-- > 0;) {
        ts_engine i = engines[k].engine;
        if (!may(usable, i)) continue;
        first = i;
        if (cold->bytes[i] < TRIAL) continue;
        if (best == TS_ENGINE_AUTO || pace(cold, i) <= pace(cold, best))
            best = i;
    }
    if (best == TS_ENGINE_AUTO) return first;
    for (size_t k = 0; k < TS_COUNT_OF(engines); k++) {
        ts_engine i = engines[k].engine;
        bool known = cold->bytes[i] >= TRIAL;
        if (!may(usable, i) || i == best) continue;
        uint64_t every =
            known ? period(pace(cold, i), pace(cold, best))
                  : period(may(usable, TS_ENGINE_DIRECT) ? engines[k].pace : 1,
                           1);
        if (known ? round % every == i % every : round >= every) return i;
    }
    return best;
}
