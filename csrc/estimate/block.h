/* block.h -- what one layer keeps for backward in torch's eager mode, tensor
 * by tensor, and what it needs beside while it runs. */
#ifndef TS_ESTIMATE_BLOCK_H
#define TS_ESTIMATE_BLOCK_H

#include "family.h"

/* Bytes on one rank. */
typedef struct {
    ts_wide attention, mlp, residual; /* kept for backward */
    ts_wide packed;   /* of them: inputs that packed matrices keep */
    ts_wide unpacked; /* packed matrices kept unpacked, beside */
    ts_wide largest;  /* elements of the largest matrix */
    ts_wide backward; /* gradients of activations while it runs backward */
} ts_block;

/* Bytes of an element that is not packed beside packed ones: what
 * bitsandbytes leaves is cast, what GPTQ and AWQ leave is not
 * (peft/utils/other.py, prepare_model_for_kbit_training). */
uint64_t ts_rest_width(const ts_run *run, const ts_profile *profile);

/* Bytes of an element of the residual stream.  It begins as what the embedding
 * holds: with wider weights under autocast, or beside packed ones that left
 * embedding and norms in F32, sums stay as wide. */
uint64_t ts_stream_width(const ts_run *run, const ts_profile *profile);

/* tokens: of all sequences, on this rank. */
void ts_block_saved(const ts_stack *stack, const ts_layer *layer,
                    const ts_run *run, const ts_profile *profile,
                    ts_wide tokens, ts_block *out);

static inline ts_wide ts_block_sum(const ts_block *block)
{
    return block->attention + block->mlp + block->residual;
}

#endif
