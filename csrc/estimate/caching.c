/* caching.c -- torch's CUDACachingAllocator, as far as sizes go: which block a
 * tensor gets, and what of it is not the tensor's.
 *
 * A request of more than 1 MiB takes the smallest hole that holds it, or a
 * new segment: 20 MiB below 10 MiB, else its size rounded up to 2 MiB.  What
 * is left becomes a hole only when it is more than 1 MiB; else it counts as
 * allocated with the block (c10/cuda/CUDACachingAllocator.cpp: get_free_block,
 * get_allocation_size, should_split). */
#include "mcore.h"

#define MIB ((uint64_t)1 << 20)

enum { ROUND = 512 };

static uint64_t segment(uint64_t bytes)
{
    if (bytes < 10 * MIB) return 20 * MIB;
    return (bytes + 2 * MIB - 1) / (2 * MIB) * (2 * MIB);
}

/* Index of the smallest hole of `bytes` and more. */
static uint32_t find(const ts_caching *c, uint64_t bytes)
{
    uint32_t low = 0, high = c->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (c->holes[middle] < bytes)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void drop(ts_caching *c, uint32_t index)
{
    c->count--;
    memmove(&c->holes[index], &c->holes[index + 1],
            (c->count - index) * sizeof c->holes[0]);
}

/* With no room left the smallest hole is forgotten. */
static void keep(ts_caching *c, uint64_t bytes)
{
    if (c->count == TS_CACHING_HOLES) drop(c, 0);
    uint32_t index = find(c, bytes);
    memmove(&c->holes[index + 1], &c->holes[index],
            (c->count - index) * sizeof c->holes[0]);
    c->holes[index] = bytes;
    c->count++;
}

void ts_caching_take(ts_caching *c, uint64_t bytes)
{
    bytes = (bytes + ROUND - 1) / ROUND * ROUND;
    if (bytes <= MIB) return;
    uint64_t block = segment(bytes);
    uint32_t index = find(c, bytes);
    if (index < c->count) {
        block = c->holes[index];
        drop(c, index);
    }
    if (block - bytes > MIB)
        keep(c, block - bytes);
    else
        c->slack += block - bytes;
}
