/* shard.c -- what of a state is left on a rank when data-parallel ranks share
 * it: ZeRO's stages, FSDP, HSDP. */
#include "family.h"

/* Ranks that share one copy. */
static uint64_t ranks(const ts_run *run)
{
    return run->dp / run->replicas * run->cp * run->ulysses;
}

static ts_wide part(const ts_run *run, ts_wide bytes)
{
    uint64_t n = ranks(run);
    return (bytes + n - 1) / n;
}

bool ts_shard_has_weights(const ts_run *run)
{
    return run->zero == 3 || run->fsdp > 0;
}

ts_wide ts_shard_weights(const ts_run *run, ts_wide bytes)
{
    return ts_shard_has_weights(run) ? part(run, bytes) : bytes;
}

ts_wide ts_shard_gradients(const ts_run *run, ts_wide bytes)
{
    return run->zero >= 2 || run->fsdp > 0 ? part(run, bytes) : bytes;
}

ts_wide ts_shard_states(const ts_run *run, ts_wide bytes)
{
    return run->zero >= 1 || run->fsdp > 0 ? part(run, bytes) : bytes;
}
