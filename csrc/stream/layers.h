/* layers.h -- what a tensor's name says about its place in the model.
 *
 *     model.layers.7.mlp.experts.3.gate_proj.weight
 *     '----------' '                                 stack "model.layers", layer 7,
 *                                                    kind mlp, expert 3
 *
 * Names are all we have: the rules below cover Hugging Face, GGUF, GPT-2, T5,
 * BERT, diffusers and mixture-of-experts conventions, by whole words between
 * dots and underscores, never by substring ("word_embeddings" holds "wo", and
 * is an embedding all the same).  A pure function: no state, no allocation. */
#ifndef TS_STREAM_LAYERS_H
#define TS_STREAM_LAYERS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/names.h"

typedef enum {
    TS_KIND_EMBEDDING,
    TS_KIND_ATTENTION,
    TS_KIND_MLP,
    TS_KIND_NORMALIZATION,
    TS_KIND_OUTPUT,
    TS_KIND_OTHER,
    TS_KIND_COUNT
} ts_kind;

/* Marks that go with any kind; a bit set. */
enum {
    TS_MARK_EXPERT = 1, /* one of many experts, or all of them stacked */
    TS_MARK_SHARED_EXPERT = 2,
    TS_MARK_LORA = 4,   /* lora_A, lora_B, lora_up ..., DoRA magnitudes */
    TS_MARK_ROUTER = 8, /* chooses experts: "gate" of Mixtral, ffn_gate_inp */
    TS_MARK_BIAS = 16,
    TS_MARK_SCALE = 32, /* quantisation scales, zero points, absmax */
};

/* Where in a forward pass: before the layers, in them, after them. */
typedef enum { TS_PHASE_BEFORE, TS_PHASE_LAYERS, TS_PHASE_AFTER } ts_phase;

typedef struct {
    uint8_t kind;   /* ts_kind */
    uint8_t marks;
    uint8_t phase;  /* ts_phase */
    int32_t layer;  /* -1 outside the layers; the outermost block number */
    int32_t expert; /* -1 when the name carries none */
    uint32_t stack; /* bytes of the name before ".<layer>": "model.layers" is
                       12, "encoder.block" 13, GGUF's "blk" 3; 0 outside */
} ts_role;

void ts_role_of(ts_name name, ts_role *out);

const char *ts_kind_name(ts_kind kind); /* "attention" */
bool ts_kind_find(const char *name, size_t name_size, ts_kind *out);
const char *ts_mark_name(unsigned mark); /* one bit: "expert" */

#endif
