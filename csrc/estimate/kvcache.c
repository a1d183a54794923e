/* kvcache.c -- what is remembered of each token. */
#include "family.h"

/* DeepSeek-V3.2's cache in fp8: the latent part in tiles of 128 with an F32
 * scale, the rotated part in BF16; 656 bytes for 512 + 64 (FlashMLA). */
static ts_wide latent_token(const ts_layer *l, uint64_t format)
{
    if (format != TS_NUMBER_FP8)
        return ts_number_bytes(format, (ts_wide)l->kv_rank + l->rope_dim);
    return (ts_wide)l->kv_rank + ts_divide_up(l->kv_rank, 128) * 4
           + l->rope_dim * 2;
}

/* The indexer's keys are fp8 with an F32 scale per 128 in every engine. */
static ts_wide index_token(const ts_layer *l)
{
    if (l->index_heads == 0) return 0;
    return (ts_wide)l->index_dim + ts_divide_up(l->index_dim, 128) * 4;
}

/* Heads are split over tp, and repeated where there are fewer than ranks. */
static uint64_t heads_here(uint64_t heads, uint64_t tp)
{
    return ts_max(1, ts_divide_up(heads, tp));
}

static ts_wide token(const ts_layer *l, const ts_run *run,
                     const ts_profile *profile, uint64_t format)
{
    uint64_t value = l->value_dim > 0 ? l->value_dim : l->head_dim;

    if (l->mixer == TS_MIXER_LATENT && !profile->kv_expanded)
        return latent_token(l, format) + index_token(l);
    if (l->mixer == TS_MIXER_LATENT)
        return heads_here(l->heads, run->tp)
                   * ts_number_bytes(format, (ts_wide)l->head_dim + value)
               + index_token(l);
    return heads_here(l->kv_heads, run->tp)
           * (ts_number_bytes(format, l->head_dim)
              + ts_number_bytes(format, value));
}

ts_wide ts_layer_kv(const ts_layer *layer, const ts_run *run,
                    const ts_profile *profile, uint64_t tokens)
{
    if (layer->mixer != TS_MIXER_ATTENTION && layer->mixer != TS_MIXER_LATENT)
        return 0;
    if (layer->kv_shared) return 0;
    if (layer->window > 0 && profile->kv_window)
        tokens = ts_min(tokens, layer->window);
    tokens = ts_divide_up(tokens, run->kv_block) * run->kv_block;
    tokens = ts_divide_up(tokens, run->cp);
    uint64_t plain = ts_min(tokens, run->kv_residual);
    return token(layer, run, profile, run->kv_format) * (tokens - plain)
           + token(layer, run, profile, run->dtype) * plain;
}

ts_wide ts_layer_state(const ts_layer *l, const ts_run *run)
{
    ts_wide state = 0, conv = 0;
    uint64_t value = l->value_dim > 0 ? l->value_dim : l->head_dim;

    switch ((ts_mixer)l->mixer) {
    case TS_MIXER_MAMBA:
        state = (ts_wide)l->inner_dim * l->state_dim;
        conv = l->inner_dim;
        break;
    case TS_MIXER_MAMBA2:
        state = (ts_wide)l->inner_dim * l->state_dim;
        conv = (ts_wide)l->inner_dim + 2 * l->state_groups * l->state_dim;
        break;
    case TS_MIXER_DELTA:
        state = (ts_wide)l->state_heads * l->state_dim * value;
        conv = 2 * (ts_wide)l->state_groups * l->state_dim
               + (ts_wide)l->state_heads * value;
        break;
    case TS_MIXER_RECURRENT:
        state = conv = l->inner_dim;
        break;
    case TS_MIXER_ATTENTION:
    case TS_MIXER_LATENT:
    case TS_MIXER_NONE:
    case TS_MIXER_COUNT: return 0;
    }
    return (ts_number_bytes(run->dtype, state)
            + ts_number_bytes(run->dtype, conv) * l->conv_width + run->tp - 1)
           / run->tp;
}

ts_wide ts_share_kv(const ts_model *model, const ts_share *share,
                    const ts_run *run, const ts_profile *profile,
                    uint64_t tokens)
{
    ts_wide sum = 0;
    for (uint32_t i = 0; i < model->decoder.kind_count; i++) {
        const ts_layer *layer = &model->decoder.kinds[i];
        sum += share->count[i]
               * (ts_layer_kv(layer, run, profile, tokens)
                  + ts_layer_state(layer, run));
    }
    return sum;
}

ts_status ts_kv_bytes(const ts_model *model, const ts_run *run,
                      const ts_profile *profile, uint64_t tokens,
                      uint64_t *out, ts_error *error)
{
    ts_share share;
    ts_stage_share(model, run, 0, &share);
    ts_wide bytes = ts_share_kv(model, &share, run, profile, tokens);
    if (bytes >= TS_MOST_BYTES)
        return ts_fail(error, TS_ARGUMENT, "a cache of 2^62 bytes or more");
    *out = (uint64_t)bytes;
    return TS_OK;
}
