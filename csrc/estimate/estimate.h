/* estimate.h -- the door of estimate/: how much memory a model will need.
 *
 *     ts_model    what it is:        numbers of an architecture
 *     ts_run      what is done:      batch, parallelism, optimizer ...
 *     ts_profile  in which program:  what a framework keeps, and how large
 *         |
 *         v    ts_estimate(one pipeline stage)
 *     ts_ledger   lines of (component, formula, bytes, instants)
 *
 * Memory at an instant is the sum of the lines that live then; the peak is
 * the greatest instant, never a sum of parts that do not meet.  Everything is
 * numbers: no file, no clock, no heap, no floating point.  All structs are
 * lists of uint64_t fields (the TS_..._MAP below), so that Python, messages
 * and grids reach each by its name; a field that counts bytes says so, the
 * others are counts, or words of words.h.
 *
 * Frameworks that keep the same things are a family: a header with the
 * fields, formulas and profile constants of its own, and a .c file. */
#ifndef TS_ESTIMATE_ESTIMATE_H
#define TS_ESTIMATE_ESTIMATE_H

#include <stdbool.h>

#include "core/base.h"
#include "core/status.h"

#include "dialect.h"
#include "formulas.h"
#include "megatron.h"
#include "microbench.h"
#include "original.h"
#include "rl.h"
#include "serve.h"
#include "tape.h"
#include "train.h"
#include "vllm.h"
#include "words.h"

enum {
    TS_MAX_LAYERS = 1024, /* of one stack */
    TS_MAX_KINDS = 16,    /* of layers in one stack */
    TS_MAX_LINES = 192,   /* of one ledger */
    TS_MAX_AXES = 12,     /* of one grid */
};

#define XX(name, ...) TS_NUMBER_##name,
typedef enum { TS_FORMAT_WORDS(XX) TS_NUMBER_COUNT } ts_number;
#undef XX
#define XX(name, ...) TS_MIXER_##name,
typedef enum { TS_MIXER_WORDS(XX) TS_MIXER_COUNT } ts_mixer;
#undef XX
#define XX(name, ...) TS_MLP_##name,
typedef enum { TS_MLP_WORDS(XX) TS_MLP_COUNT } ts_mlp;
#undef XX
#define XX(name, ...) TS_NORM_##name,
typedef enum { TS_NORM_WORDS(XX) TS_NORM_COUNT } ts_norm;
#undef XX
#define XX(name, ...) TS_MODE_##name,
typedef enum { TS_MODE_WORDS(XX) TS_MODE_COUNT } ts_mode;
#undef XX
#define XX(name, ...) TS_METHOD_##name,
typedef enum { TS_METHOD_WORDS(XX) TS_METHOD_COUNT } ts_method;
#undef XX
#define XX(name, ...) TS_RECOMPUTE_##name,
typedef enum { TS_RECOMPUTE_WORDS(XX) TS_RECOMPUTE_COUNT } ts_recompute;
#undef XX
#define XX(name, ...) TS_ATTENTION_##name,
typedef enum { TS_ATTENTION_WORDS(XX) TS_ATTENTION_COUNT } ts_attention;
#undef XX
#define XX(name, ...) TS_LOSS_##name,
typedef enum { TS_LOSS_WORDS(XX) TS_LOSS_COUNT } ts_loss;
#undef XX
#define XX(name, ...) TS_OPTIMIZER_##name,
typedef enum { TS_OPTIMIZER_WORDS(XX) TS_OPTIMIZER_COUNT } ts_optimizer;
#undef XX
#define XX(name, ...) TS_KERNEL_##name,
typedef enum { TS_KERNEL_WORDS(XX) TS_KERNEL_COUNT } ts_kernel;
#undef XX
#define XX(name, ...) TS_PROVIDER_##name,
typedef enum { TS_PROVIDER_WORDS(XX) TS_PROVIDER_COUNT } ts_provider;
#undef XX
#define XX(name, ...) TS_AT_##name,
typedef enum { TS_INSTANT_WORDS(XX) TS_INSTANT_COUNT } ts_instant;
#undef XX
#define XX(name, ...) TS_FOR_##name,
typedef enum { TS_COMPONENT_WORDS(XX) TS_COMPONENT_COUNT } ts_component;
#undef XX
#define XX(name, ...) TS_COUNTER_##name,
typedef enum { TS_COUNTER_WORDS(XX) TS_COUNTER_COUNT } ts_counter;
#undef XX
#define XX(name, ...) TS_FORMULA_##name,
typedef enum { TS_FORMULA_MAP(XX) TS_FORMULA_COUNT } ts_formula;
#undef XX

/* ---- the model --------------------------------------------------------
 *
 * Each list: XX(name, fallback, least, most, "what it is").  The bounds keep
 * every product of the formulas within 128 bits; what does not fit 63 bits
 * at the end is refused. */

#define TS_DIM ((uint64_t)1 << 24)    /* widths and counts of heads */
#define TS_BATCH ((uint64_t)1 << 20)  /* sequences */
#define TS_TOKENS ((uint64_t)1 << 32) /* lengths */
#define TS_SIDE ((uint64_t)1 << 12)   /* of a patch */
#define TS_IMAGES ((uint64_t)1 << 16) /* of a sequence */
#define TS_BYTES ((uint64_t)1 << 50)  /* what a profile may add */

/* One kind of layer. */
#define TS_LAYER_MAP(XX)                                                      \
    XX(mixer, 0, 0, TS_MIXER_COUNT - 1, "word: what mixes positions")         \
    XX(heads, 1, 0, TS_DIM, "query heads")                                    \
    XX(kv_heads, 1, 0, TS_DIM, "key and value heads")                         \
    XX(head_dim, 0, 0, TS_DIM, "of a query or key head")                      \
    XX(value_dim, 0, 0, TS_DIM, "of a value head; 0: head_dim")               \
    XX(window, 0, 0, TS_TOKENS, "positions a token sees; 0: all")             \
    XX(kv_shared, 0, 0, 1, "1: reads an earlier layer's cache")               \
    XX(fused_qkv, 0, 0, 1, "1: one projection makes q, k and v")              \
    XX(qkv_bias, 0, 0, 1, "1: q, k, v have a bias")                           \
    XX(out_bias, 0, 0, 1, "1: attention's output has a bias")                 \
    XX(qk_norm, 0, 0, 2, "norm of q and k: 1 per head, 2 over all heads")     \
    XX(query_gate, 0, 0, 1, "1: q makes a gate of the output as well")        \
    XX(cross, 0, 0, 1, "1: attends to an encoder as well")                    \
    XX(q_rank, 0, 0, TS_DIM, "latent: of the queries; 0: direct")             \
    XX(kv_rank, 0, 0, TS_DIM, "latent: of keys and values")                   \
    XX(rope_dim, 0, 0, TS_DIM, "latent: rotated part of a key")               \
    XX(index_heads, 0, 0, TS_DIM, "sparse attention's indexer: heads")        \
    XX(index_dim, 0, 0, TS_DIM, "sparse attention's indexer: of a head")      \
    XX(inner_dim, 0, 0, TS_DIM, "state layers: width inside")                 \
    XX(state_dim, 0, 0, TS_DIM, "state layers: state of a channel")           \
    XX(state_heads, 0, 0, TS_DIM, "state layers: heads of values")            \
    XX(state_groups, 0, 0, TS_DIM, "state layers: heads of keys")             \
    XX(conv_width, 0, 0, TS_DIM, "state layers: taps of the convolution")     \
    XX(dt_rank, 0, 0, TS_DIM, "mamba: rank of the time step")                 \
    XX(mlp, 0, 0, TS_MLP_COUNT - 1, "word: dense, moe or none")               \
    XX(ffn, 0, 0, TS_DIM, "width of a dense MLP")                             \
    XX(gated, 1, 0, 1, "1: act(gate) * up; 0: act(up)")                       \
    XX(fused_gate, 0, 0, 1, "1: one projection makes gate and up")            \
    XX(mlp_bias, 0, 0, 1, "1: the MLP has biases")                            \
    XX(experts, 0, 0, TS_DIM, "experts of which each has its weights")        \
    XX(active_experts, 0, 0, TS_DIM, "experts a token visits")                \
    XX(expert_ffn, 0, 0, TS_DIM, "width of an expert")                        \
    XX(shared_ffn, 0, 0, TS_DIM, "width of what every token visits")          \
    XX(shared_gate, 0, 0, 1, "1: a gate weighs the shared expert")            \
    XX(router_bias, 0, 0, 1, "1: the router has a bias")                      \
    XX(norms, 2, 0, 8, "norms over the hidden size")                          \
    XX(parallel, 0, 0, 1, "1: attention and MLP from one norm")               \
    XX(extra, 0, 0, TS_BYTES, "parameters no other field tells of")           \
    TS_LAYER_DIALECT(XX)

/* A pile of layers: the decoder, an encoder, a vision tower. */
#define TS_STACK_MAP(XX)                                                      \
    XX(hidden, 0, 0, TS_DIM, "width of the residual stream")                  \
    XX(norm, 0, 0, TS_NORM_COUNT - 1, "word: rms, layer or none")             \
    XX(norm_bias, 0, 0, 1, "1: norms have a bias")                            \
    XX(final_norms, 1, 0, 8, "norms before or after all layers")              \
    XX(positions, 0, 0, TS_TOKENS, "rows of a learned position table")        \
    XX(extra, 0, 0, TS_BYTES, "parameters no other field tells of")

#define TS_MODEL_MAP(XX)                                                      \
    XX(vocab, 0, 0, TS_TOKENS, "rows of the embedding")                       \
    XX(embed_dim, 0, 0, TS_DIM, "of the embedding; 0: the decoder's width")   \
    XX(tied, 0, 0, 1, "1: the head is the embedding")                         \
    XX(head, 1, 0, 1, "1: there is a head over the vocabulary")               \
    XX(head_bias, 0, 0, 1, "1: the head has a bias")                          \
    XX(layer_embed, 0, 0, TS_DIM, "per layer and token: width of a second"    \
       " embedding (Gemma 3n)")                                               \
    XX(softcap, 0, 0, 1, "1: logits pass a tanh")                             \
    XX(max_positions, 0, 0, TS_TOKENS, "positions the model was made for")    \
    XX(patch, 0, 0, TS_SIDE, "vision: pixels of a patch's side")              \
    XX(frames, 1, 0, TS_SIDE, "vision: frames of a patch")                    \
    XX(merge, 1, 0, TS_SIDE, "vision: patches a token's side is merged of")   \
    XX(projector, 0, 0, TS_BYTES, "vision: parameters of the projector")      \
    XX(projector_ffn, 0, 0, TS_DIM, "vision: width inside the projector")     \
    XX(held_layers, 0, 0, TS_BYTES, "bytes that a file has of the layers; 0:" \
       " by the run's number formats")                                        \
    XX(held_tables, 0, 0, TS_BYTES, "the same of embeddings and head")        \
    XX(held_vision, 0, 0, TS_BYTES, "the same of the tower and projector")

#define TS_FIELD(name, ...) uint64_t name;

typedef struct {
    TS_LAYER_MAP(TS_FIELD)
} ts_layer;

typedef struct {
    TS_STACK_MAP(TS_FIELD)
    uint32_t layer_count, kind_count;
    uint8_t kind_of[TS_MAX_LAYERS]; /* of each layer, an index into kinds */
    ts_layer kinds[TS_MAX_KINDS];
} ts_stack;

typedef struct {
    TS_MODEL_MAP(TS_FIELD)
    ts_stack decoder;
    ts_stack encoder; /* no layers: there is none */
    ts_stack vision;
} ts_model;

/* ---- the run ---------------------------------------------------------- */

/* Which of a layer's matrices adapters sit on: bits of run.targets. */
enum {
    TS_TARGET_Q = 1 << 0, TS_TARGET_K = 1 << 1, TS_TARGET_V = 1 << 2,
    TS_TARGET_O = 1 << 3, TS_TARGET_GATE = 1 << 4, TS_TARGET_UP = 1 << 5,
    TS_TARGET_DOWN = 1 << 6, TS_TARGET_ROUTER = 1 << 7,
    TS_TARGET_EXPERTS = 1 << 8, TS_TARGET_HEAD = 1 << 9,
    TS_TARGET_EMBED = 1 << 10, TS_TARGET_STATE = 1 << 11,
    TS_TARGET_VISION = 1 << 12,
};

#define TS_RUN_COMMON(XX)                                                     \
    XX(mode, 0, 0, TS_MODE_COUNT - 1, "word: what is done")                   \
    XX(batch, 1, 1, TS_BATCH, "sequences a device has at a time")             \
    XX(seq, 2048, 1, TS_TOKENS, "tokens of a sequence, or of a prompt")       \
    XX(source_seq, 0, 0, TS_TOKENS, "tokens of an encoder's input")           \
    XX(new_tokens, 0, 0, TS_TOKENS, "tokens generated after the prompt")      \
    XX(micro_batches, 1, 1, TS_DIM, "batches before a step")                  \
    XX(dp, 1, 1, TS_DIM, "data-parallel ranks")                               \
    XX(replicas, 1, 1, TS_DIM, "groups of ranks that each shard alone (HSDP)")\
    XX(tp, 1, 1, TS_DIM, "tensor-parallel ranks")                             \
    XX(sp, 0, 0, 1, "1: norms and residuals are split over tp as well")       \
    XX(pp, 1, 1, TS_MAX_LAYERS, "pipeline stages")                            \
    XX(vpp, 1, 1, TS_MAX_LAYERS, "model chunks a stage holds")                \
    XX(cp, 1, 1, TS_DIM, "context-parallel ranks")                            \
    XX(ulysses, 1, 1, TS_DIM, "ranks that trade heads for sequence")          \
    XX(ep, 1, 1, TS_DIM, "expert-parallel ranks")                             \
    XX(etp, 1, 1, TS_DIM, "tensor-parallel ranks of an expert")               \
    XX(zero, 0, 0, 3, "ZeRO stage: shards optimizer, gradients, weights")     \
    XX(fsdp, 0, 0, 2, "FSDP version; 0: none")                                \
    XX(reshard, 1, 0, 1, "FSDP: 1 gathers weights again in backward")         \
    XX(hpz, 0, 0, TS_DIM, "ZeRO++: ranks that keep a second copy of the"      \
       " weights between them, for backward; 0: none")                        \
    XX(quantized_gather, 0, 0, 1, "ZeRO++: 1 gathers weights as int8")        \
    XX(offload_params, 0, 0, 1, "1: weights live in host memory")             \
    XX(offload_optimizer, 0, 0, 1, "1: optimizer state lives there")          \
    XX(offload_activations, 0, 0, 1, "1: saved activations live there")       \
    XX(weight_format, 0, 0, TS_NUMBER_COUNT - 1, "word: of frozen matrices")  \
    XX(dtype, 0, 0, TS_NUMBER_COUNT - 1, "word: what computing is done in")   \
    XX(param_dtype, 0, 0, TS_NUMBER_COUNT - 1, "word: of trained weights")    \
    XX(grad_dtype, 0, 0, TS_NUMBER_COUNT - 1, "word: of gradients")           \
    XX(master, 0, 0, 1, "1: an F32 copy of trained weights")                  \
    XX(optimizer, 0, 0, TS_OPTIMIZER_COUNT - 1, "word")                       \
    XX(state_dtype, TS_NUMBER_FP32, 0, TS_NUMBER_COUNT - 1,                   \
       "word: of optimizer moments")                                          \
    XX(optimizer_in_backward, 0, 0, 1, "1: steps as gradients appear")        \
    XX(optimizer_rank, 128, 1, TS_DIM, "GaLore: rank; BAdam: blocks")         \
    XX(method, 0, 0, TS_METHOD_COUNT - 1, "word: full, lora ...")             \
    XX(rank, 8, 1, TS_DIM, "of adapters")                                     \
    XX(targets, 0, 0, (1 << 13) - 1, "bits: matrices with adapters")          \
    XX(adapter_dtype, TS_NUMBER_FP32, 0, TS_NUMBER_COUNT - 1,                 \
       "word: of adapters")                                                   \
    XX(adapter_dropout, 0, 0, 1, "1: adapters drop inputs out")               \
    XX(train_embeddings, 0, 0, 1, "1: beside adapters, embeddings train")     \
    XX(recompute, 0, 0, TS_RECOMPUTE_COUNT - 1, "word")                       \
    XX(recompute_layers, 0, 0, TS_MAX_LAYERS, "blocks: how many layers")      \
    XX(attention, 0, 0, TS_ATTENTION_COUNT - 1, "word")                       \
    XX(loss, 0, 0, TS_LOSS_COUNT - 1, "word")                                 \
    XX(loss_chunk, 1024, 1, TS_TOKENS, "chunked: tokens at a time")           \
    XX(kv_cache, 0, 0, 1, "1: keys and values are kept")                      \
    XX(kv_format, 0, 0, TS_NUMBER_COUNT - 1, "word: of the cache")            \
    XX(kv_block, 1, 1, TS_TOKENS, "tokens a page of the cache holds")         \
    XX(kv_residual, 0, 0, TS_TOKENS, "latest tokens kept unquantised")        \
    XX(kv_tokens, 0, 0, TS_TOKENS, "tokens the cache has room for; 0: those"  \
       " of the run")                                                         \
    XX(images, 0, 0, TS_IMAGES, "of one sequence: pictures, tiles, frames")   \
    XX(image_patches, 0, 0, TS_DIM, "of one image")                           \
    XX(image_tokens, 0, 0, TS_TOKENS, "that the images of one sequence become"\
       "; 0: patches, merged")                                                \
    XX(train_vision, 0, 0, 1, "1: the tower trains as well")                  \
    XX(train_projector, 0, 0, 1, "1: the projector trains as well, also"      \
       " where nothing else does")                                            \
    XX(pack_vision, 1, 0, 1, "1: the tower's matrices are packed like the"    \
       " others")                                                             \
    XX(vision_recompute, 0, 0, 1, "1: the tower keeps layer inputs only")     \
    XX(host, 0, 0, 1, "1: on the processor, whose kernels keep other things")

/* A family may add fields of its own: its header lists them. */
#define TS_RUN_MAP(XX)                                                        \
    TS_RUN_COMMON(XX) TS_TRAIN_RUN(XX) TS_MICROBENCH_RUN(XX) TS_VLLM_RUN(XX)  \
    TS_MEGATRON_RUN(XX) TS_ORIGINAL_RUN(XX)

typedef struct {
    TS_RUN_MAP(TS_FIELD)
} ts_run;

/* ---- the framework ---------------------------------------------------- */

/* XX(NAME, "name"): a row here, and one in the table of estimate.c. */
#define TS_FAMILY_MAP(XX)                                                     \
    XX(SERVE, "serve") XX(TRAIN, "train") XX(MICROBENCH, "microbench")        \
    XX(VLLM, "vllm") XX(MEGATRON, "megatron") XX(RL, "rl")           \
    XX(ORIGINAL, "original")

#define XX(name, ...) TS_FAMILY_##name,
typedef enum { TS_FAMILY_MAP(XX) TS_FAMILY_COUNT } ts_family;
#undef XX

/* Constants that are bytes and cannot be derived say "measured" and where. */
#define TS_PROFILE_COMMON(XX)                                                 \
    XX(family, 0, 0, TS_FAMILY_COUNT - 1, "word: which family's formulas")    \
    XX(context_bytes, 0, 0, TS_BYTES, "bytes the driver takes a process")     \
    XX(workspace_bytes, 0, 0, TS_BYTES, "bytes of matrix libraries")          \
    XX(allocation, 512, 1, TS_BYTES, "bytes that sizes are rounded up to")    \
    XX(fragment_permille, 0, 0, 10000,                                        \
       "reserved beyond allocated, of what comes and goes")                   \
    XX(fragment_bytes, 0, 0, TS_BYTES, "bytes reserved beyond, in any case")  \
    XX(repeat_kv, 0, 0, 1, "1: k and v are repeated to all heads")            \
    XX(packed_head, 0, 0, 1, "1: the head is packed like other matrices")     \
    XX(kv_window, 1, 0, 1, "1: windowed layers cache their window only")      \
    XX(kv_expanded, 0, 0, 1, "1: latent layers cache full keys and values")   \
    XX(low_permille, 1000, 1, 100000, "90 % interval: lower end")             \
    XX(high_permille, 1000, 1, 100000, "90 % interval: upper end")

#define TS_PROFILE_MAP(XX)                                                    \
    TS_PROFILE_COMMON(XX) TS_SERVE_PROFILE(XX) TS_TRAIN_PROFILE(XX)           \
    TS_VLLM_PROFILE(XX) TS_MEGATRON_PROFILE(XX) TS_RL_PROFILE(XX)         \
    TS_ORIGINAL_PROFILE(XX)

typedef struct {
    TS_PROFILE_MAP(TS_FIELD)
} ts_profile;

/* ---- the answer ------------------------------------------------------- */

typedef struct {
    uint64_t bytes;
    uint32_t instants; /* bits: 1 << TS_AT_... */
    uint16_t formula;  /* ts_formula */
    uint16_t component;
} ts_line;

typedef struct {
    uint32_t count;
    uint32_t used;     /* bits: instants that the task passes through */
    ts_instant peak;   /* the instant of the greatest sum */
    ts_instant steady; /* the instant that is called steady */
    uint64_t at[TS_INSTANT_COUNT]; /* allocated bytes */
    uint64_t counters[TS_COUNTER_COUNT]; /* peak bytes */
    ts_line lines[TS_MAX_LINES];
} ts_ledger;

/* Fill every field with its fallback. */
void ts_model_default(ts_model *model);
void ts_layer_default(ts_layer *layer);
void ts_run_default(ts_run *run);
void ts_profile_default(ts_profile *profile);

/* TS_ARGUMENT, naming the field, when a number is out of its bounds, or
 * numbers contradict each other: heads that do not divide, a kind of layer
 * that is not there. */
ts_status ts_model_check(const ts_model *model, ts_error *error);
ts_status ts_run_check(const ts_model *model, const ts_run *run,
                       ts_error *error);
ts_status ts_profile_check(const ts_profile *profile, ts_error *error);

/* One pipeline stage of a checked model, run and profile, 0 to pp - 1.  The
 * three must have passed the checks above. */
ts_status ts_estimate(const ts_model *model, const ts_run *run,
                      const ts_profile *profile, uint64_t stage,
                      ts_ledger *out, ts_error *error);

/* ---- many at once ----------------------------------------------------- */

/* A field of the run and the values it takes. */
typedef struct {
    uint32_t field; /* index into ts_run_fields */
    uint32_t count;
    const uint64_t *values; /* borrowed for the call */
} ts_axis;

/* Peaks of `counter` over all combinations, the last axis fastest, of the
 * stage that needs most.  UINT64_MAX where a combination is refused.  out
 * holds the product of the counts. */
ts_status ts_estimate_grid(const ts_model *model, const ts_run *run,
                           const ts_profile *profile, ts_counter counter,
                           const ts_axis *axes, uint32_t axis_count,
                           uint64_t *out, ts_error *error);

/* ---- sums that families share, for those who ask for one number -------- */

/* All parameters, of each stack and together; 0 where it does not fit. */
ts_status ts_model_parameters(const ts_model *model, uint64_t *out,
                              ts_error *error);
/* Parameters that adapters of run add. */
ts_status ts_adapter_parameters(const ts_model *model, const ts_run *run,
                                uint64_t *out, ts_error *error);
/* Bytes of keys and values of `tokens` tokens of one sequence, on one rank of
 * one stage, as the profile's framework keeps them. */
ts_status ts_kv_bytes(const ts_model *model, const ts_run *run,
                      const ts_profile *profile, uint64_t tokens, uint64_t *out,
                      ts_error *error);

/* ---- one layer, tensor by tensor --------------------------------------- */

typedef enum {
    TS_STACK_DECODER, TS_STACK_ENCODER, TS_STACK_VISION, TS_STACK_COUNT
} ts_stack_name;

/* Every tensor that one layer of a stack keeps for its backward pass, under
 * torch and transformers (saved.h).  The layer after the last is what follows
 * the decoder: norm, head and loss.  grad: the layer's input needs a
 * gradient, as it does unless nothing before it trains.  TS_ARGUMENT when
 * there is no such layer, or bytes do not fit. */
ts_status ts_saved_tensors(const ts_model *model, const ts_run *run,
                        unsigned stack, uint64_t layer, bool grad,
                        ts_tape *out, ts_error *error);

/* ---- fields by name --------------------------------------------------- */

typedef struct {
    const char *name, *text;
    uint32_t offset; /* of the uint64_t in its struct */
    uint64_t fallback, least, most;
} ts_field;

extern const ts_field ts_layer_fields[], ts_stack_fields[], ts_model_fields[],
    ts_run_fields[], ts_profile_fields[];
extern const size_t ts_layer_field_count, ts_stack_field_count,
    ts_model_field_count, ts_run_field_count, ts_profile_field_count;

const char *ts_number_name(ts_number number);
const char *ts_instant_name(ts_instant instant);
const char *ts_component_name(ts_component component);
ts_counter ts_component_counter(ts_component component);
const char *ts_counter_name(ts_counter counter);
const char *ts_formula_name(ts_formula formula);   /* "kv_attention" */
const char *ts_formula_text(ts_formula formula);   /* "2 * tokens * ..." */
const char *ts_formula_source(ts_formula formula); /* where it is from */

/* The words of a field ("mixer": "attention", "latent" ...), NULL at the end,
 * or NULL when the field is a number. */
const char *const *ts_field_words(const char *field);

#endif
