/* What torch's caching allocator adds to tensors, by hand. */
#include "check.h"

#include "estimate/mcore.h"

#define MIB ((uint64_t)1 << 20)

static uint64_t slack(const uint64_t *sizes, size_t count)
{
    ts_caching caching = {0};
    for (size_t i = 0; i < count; i++) ts_caching_take(&caching, sizes[i]);
    return caching.slack;
}

static void small_tensors_lie_tight(void)
{
    const uint64_t sizes[] = {1, 512, MIB - 1, MIB};
    CHECK(slack(sizes, 4) == 0);
}

static void large_ones_round_to_two_megabytes(void)
{
    const uint64_t half = 49 * MIB + 131072; /* 50 MiB less 0.875 */
    const uint64_t more = 98 * MIB + 262144; /* 100 MiB less 1.75: cut */
    const uint64_t even = 16 * MIB;
    CHECK(slack(&half, 1) == 50 * MIB - half);
    CHECK(slack(&more, 1) == 0);
    CHECK(slack(&even, 1) == 0);
}

/* 9 + 9 of a segment of 20 leave 2; 3 x 6.5 leave 0.5, which the last keeps.
 */
static void segments_of_twenty_are_shared(void)
{
    const uint64_t nines[] = {9 * MIB, 9 * MIB};
    const uint64_t thirds[] = {13 * MIB / 2, 13 * MIB / 2, 13 * MIB / 2};
    CHECK(slack(nines, 2) == 0);
    CHECK(slack(thirds, 3) == MIB / 2);
}

/* A hole is taken before a new segment, the smallest that is large enough. */
static void holes_are_used(void)
{
    ts_caching caching = {0};
    ts_caching_take(&caching, 9 * MIB);  /* leaves 11 */
    ts_caching_take(&caching, 96 * MIB + MIB / 2); /* leaves 1.5 */
    CHECK(caching.count == 2);
    ts_caching_take(&caching, MIB + MIB / 4); /* of 1.5, keeps 0.25 */
    CHECK(caching.count == 1 && caching.slack == MIB / 4);
    CHECK(caching.holes[0] == 11 * MIB);
}

static void many_holes_forget_the_smallest(void)
{
    ts_caching caching = {0};
    for (uint64_t i = 0; i < 3 * TS_CACHING_HOLES; i++)
        ts_caching_take(&caching, (10 + 2 * i) * MIB + MIB / 2 - 512 * i);
    CHECK(caching.count == TS_CACHING_HOLES);
    for (uint32_t i = 1; i < caching.count; i++)
        CHECK(caching.holes[i - 1] <= caching.holes[i]);
}

int main(void)
{
    RUN(small_tensors_lie_tight);
    RUN(large_ones_round_to_two_megabytes);
    RUN(segments_of_twenty_are_shared);
    RUN(holes_are_used);
    RUN(many_holes_forget_the_smallest);
    CHECK_END();
}
