/* saved.h -- what one layer keeps for its backward pass, to the byte.
 *
 * Layers are written on a tape (tape.h) as transformers writes them, in the
 * order of its modeling files, so that whoever reads both can compare them
 * line by line.  tests/test_estimator_oracle.py holds the sums against
 * torch.autograd.graph.saved_tensors_hooks. */
#ifndef TS_ESTIMATE_SAVED_H
#define TS_ESTIMATE_SAVED_H

#include "block.h"
#include "tape.h"

/* What decides what is kept.  Pointers are borrowed for the call. */
typedef struct {
    const ts_stack *stack;
    const ts_layer *layer;
    const ts_run *run;   /* dtype, method, adapters, attention, host */
    uint64_t batch, seq; /* of this stack on this rank */
    uint64_t source_seq; /* of what cross attention reads */
    bool grad;           /* the layer's input needs a gradient */
} ts_pass;

/* Writes the layer on the tape, begun anew.  Where run.recompute is full it
 * keeps its input only. */
void ts_saved_layer(const ts_pass *pass, ts_tape *tape);
/* Final norm, head and loss over the vocabulary. */
void ts_saved_head(const ts_pass *pass, const ts_model *model, ts_tape *tape);

/* What a layer that is not recomputed keeps, on one rank of tp: the first
 * three sums of out.  `tokens` of batch and sequence together. */
void ts_saved_block(const ts_stack *stack, const ts_layer *layer,
                    const ts_run *run, uint64_t tokens, ts_block *out);

/* ---- pieces, for saved_layer.c ----------------------------------------- */

/* x times a weight that trains, or that the adapters of `target` sit on. */
ts_operand ts_saved_linear(const ts_pass *pass, ts_tape *tape, ts_operand x,
                         uint64_t out, uint32_t target);
ts_operand ts_saved_norm(const ts_pass *pass, ts_tape *tape, ts_operand x);
ts_operand ts_saved_drop(const ts_pass *pass, ts_tape *tape, ts_operand x,
                       uint64_t on);
ts_operand ts_saved_attention(const ts_pass *pass, ts_tape *tape,
                              ts_operand x);
ts_operand ts_saved_cross(const ts_pass *pass, ts_tape *tape, ts_operand x);
ts_operand ts_saved_mlp(const ts_pass *pass, ts_tape *tape, ts_operand x);

/* Bytes of an element of what is computed. */
unsigned ts_saved_size(const ts_pass *pass);
/* Whether the parameters of the layer itself train. */
bool ts_saved_trains(const ts_pass *pass);

#endif
