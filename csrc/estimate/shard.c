/* shard.c -- what of a state is left on a rank when data-parallel ranks share
 * it: ZeRO's stages, FSDP, HSDP, ZeRO++. */
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

/* hpZ (2306.10209 section 3.2): backward gathers within a node, from a copy of
 * the weights in 16 bits of which a rank has 1 / hpz.  DeepSpeed makes it in
 * the first forward pass and keeps it (_partition_param_sec). */
ts_wide ts_shard_second(const ts_run *run, ts_wide bytes)
{
    if (run->zero < 3 || run->hpz == 0) return 0;
    return (bytes + run->hpz - 1) / run->hpz;
}

/* qwZ (section 3.1): int8, and an F32 scale a group of 8,000, DeepSpeed's
 * target (CUDAQuantizer.target_group_size); they lie beside the weights that
 * are made of them. */
ts_wide ts_shard_received(const ts_run *run, ts_wide count)
{
    if (run->zero < 3 || !run->quantized_gather) return 0;
    return count + 4 * ((count + 7999) / 8000);
}

ts_wide ts_shard_gradients(const ts_run *run, ts_wide bytes)
{
    return run->zero >= 2 || run->fsdp > 0 ? part(run, bytes) : bytes;
}

ts_wide ts_shard_states(const ts_run *run, ts_wide bytes)
{
    return run->zero >= 1 || run->fsdp > 0 ? part(run, bytes) : bytes;
}
