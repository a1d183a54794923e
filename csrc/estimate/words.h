/* words.h -- the words that fields of the estimator can hold: one list each,
 * XX(NAME, "name"), from which the enum, its names and Python's choices come.
 * The first word of a list is what a field means when nothing is said. */
#ifndef TS_ESTIMATE_WORDS_H
#define TS_ESTIMATE_WORDS_H

/* Number formats: bits an element, and for formats with scales the elements
 * of a block and the bytes that a block adds.
 *   nf4        absmax as F32 per 64                     (bitsandbytes)
 *   nf4_double absmax as 8 bits per 64, and F32 per 256 of those
 *   gptq, awq  F16 scale and packed zero point per 128 inputs
 *   fp8_block  F32 scale per 128 x 128                  (DeepSeek-V3)
 *   mxfp4      8-bit exponent per 32                    (OCP MX 1.0)
 *   q4_0 ...   ggml's blocks (ggml-common.h) */
#define TS_FORMAT_WORDS(XX)                                                   \
    XX(BF16, "bf16", 16, 1, 0)                                                \
    XX(FP16, "fp16", 16, 1, 0)                                                \
    XX(FP32, "fp32", 32, 1, 0)                                                \
    XX(FP64, "fp64", 64, 1, 0)                                                \
    XX(FP8, "fp8", 8, 1, 0)                                                   \
    XX(FP8_BLOCK, "fp8_block", 8, 16384, 4)                                   \
    XX(INT8, "int8", 8, 1, 0)                                                 \
    XX(INT4, "int4", 4, 1, 0)                                                 \
    XX(NF4, "nf4", 4, 64, 4)                                                  \
    XX(NF4_DOUBLE, "nf4_double", 4, 16384, 260)                               \
    XX(FP4, "fp4", 4, 64, 4)                                                  \
    XX(MXFP4, "mxfp4", 4, 32, 1)                                              \
    XX(GPTQ_INT4, "gptq_int4", 4, 256, 5)                                     \
    XX(GPTQ_INT8, "gptq_int8", 8, 128, 3)                                     \
    XX(AWQ_INT4, "awq_int4", 4, 256, 5)                                       \
    XX(INT8_G128, "int8_g128", 8, 128, 4)                                     \
    XX(INT4_G32, "int4_g32", 4, 32, 4)                                        \
    XX(INT4_G64, "int4_g64", 4, 64, 4)                                        \
    XX(INT8_B256, "int8_b256", 8, 256, 4)                                     \
    XX(INT8_B2048, "int8_b2048", 8, 2048, 4)                                  \
    XX(INT4_B128, "int4_b128", 4, 128, 4)                                     \
    XX(FP6, "fp6", 6, 1, 0)                                                   \
    XX(Q8_0, "q8_0", 8, 32, 2)                                                \
    XX(Q6_K, "q6_k", 6, 256, 18)                                              \
    XX(Q5_K, "q5_k", 5, 256, 16)                                              \
    XX(Q5_0, "q5_0", 5, 32, 2)                                                \
    XX(Q4_K, "q4_k", 4, 256, 16)                                              \
    XX(Q4_0, "q4_0", 4, 32, 2)                                                \
    XX(Q3_K, "q3_k", 3, 256, 14)                                              \
    XX(Q2_K, "q2_k", 2, 256, 20)

/* What mixes positions in a layer. */
#define TS_MIXER_WORDS(XX)                                                    \
    XX(ATTENTION, "attention")                                                \
    XX(LATENT, "latent")  /* MLA: one compressed vector a token */            \
    XX(MAMBA, "mamba")    /* selective scan */                                \
    XX(MAMBA2, "mamba2")  /* the same in blocks, with heads */                \
    XX(DELTA, "delta")    /* gated delta rule: Qwen3-Next's linear layers */  \
    XX(RECURRENT, "recurrent") /* RG-LRU: RecurrentGemma */                   \
    XX(NONE, "none")

#define TS_MLP_WORDS(XX)                                                      \
    XX(DENSE, "dense") XX(MOE, "moe") XX(NONE, "none")

#define TS_NORM_WORDS(XX)                                                     \
    XX(RMS, "rms") XX(LAYER, "layer") XX(NONE, "none")

/* Of which kind a task is. */
#define TS_MODE_WORDS(XX)                                                     \
    XX(TRAIN, "train")                                                        \
    XX(GENERATE, "generate") /* prefill, then tokens one by one */            \
    XX(LOAD, "load")         /* weights, and what loading takes */            \
    XX(MEASURE, "measure")   /* one kernel alone, forward and backward */

#define TS_METHOD_WORDS(XX)                                                   \
    XX(FULL, "full") XX(LORA, "lora") XX(DORA, "dora")                        \
    XX(FROZEN, "frozen") /* nothing trains: a forward pass */

#define TS_RECOMPUTE_WORDS(XX)                                                \
    XX(NONE, "none")                                                          \
    XX(FULL, "full")           /* layers keep their input only */             \
    XX(SELECTIVE, "selective") /* attention's core, or an operator list */    \
    XX(BLOCKS, "blocks")       /* full for recompute_layers of them */

#define TS_ATTENTION_WORDS(XX)                                                \
    XX(SDPA, "sdpa") XX(FLASH, "flash") XX(EAGER, "eager")

#define TS_LOSS_WORDS(XX)                                                     \
    XX(EAGER, "eager")                                                        \
    XX(FUSED, "fused")     /* one kernel, gradient in place of the logits */  \
    XX(CHUNKED, "chunked") /* loss_chunk tokens at a time */                  \
    XX(LIGER, "liger")     /* head and loss fused: no logits at all */

#define TS_OPTIMIZER_WORDS(XX)                                                \
    XX(ADAMW, "adamw") XX(ADAMW_8BIT, "adamw_8bit")                           \
    XX(ADAMW_PAGED, "adamw_paged") XX(ADAMW_PAGED_8BIT, "adamw_paged_8bit")   \
    XX(ADAMW_4BIT, "adamw_4bit") XX(ADAMW_FP8, "adamw_fp8")                   \
    XX(ADAFACTOR, "adafactor") XX(SGD, "sgd") XX(MOMENTUM, "momentum")        \
    XX(LION, "lion") XX(MUON, "muon") XX(LOMO, "lomo") XX(GALORE, "galore")   \
    XX(BADAM, "badam") XX(NONE, "none")

/* Moments of a task at which memory is summed; the peak is the greatest. */
#define TS_INSTANT_WORDS(XX)                                                  \
    XX(LOAD, "load")                                                          \
    XX(VISION, "forward: in the vision tower")                                \
    XX(FORWARD_ATTENTION, "forward: in an attention block")                   \
    XX(FORWARD_MLP, "forward: in an MLP")                                     \
    XX(FORWARD_END, "forward: before the head")                               \
    XX(LOSS, "logits and loss")                                               \
    XX(LOSS_BACKWARD, "gradient of the logits")                               \
    XX(BACKWARD_FIRST, "backward: in the last layer")                         \
    XX(BACKWARD_LAST, "backward: in the first layer")                         \
    XX(VISION_BACKWARD, "backward: in the vision tower")                      \
    XX(STEP, "optimizer step")                                                \
    XX(STEADY, "between steps")                                               \
    XX(DECODE, "generating a token")                                          \
    XX(SCORE, "scoring without gradients")

/* What bytes are for.  The second word says which counter sees them first:
 * what the program has allocated, what the caching allocator has reserved
 * beyond it, what only the device knows of. */
#define TS_COMPONENT_WORDS(XX)                                                \
    XX(WEIGHTS, "weights", ALLOCATED)                                         \
    XX(ADAPTERS, "adapters", ALLOCATED)                                       \
    XX(MASTER, "master_weights", ALLOCATED)                                   \
    XX(GRADIENTS, "gradients", ALLOCATED)                                     \
    XX(OPTIMIZER, "optimizer_state", ALLOCATED)                               \
    XX(ATTENTION, "attention", ALLOCATED)                                     \
    XX(MLP, "mlp", ALLOCATED)                                                 \
    XX(RESIDUAL, "residual", ALLOCATED) /* norms and what runs between */     \
    XX(LOGITS, "logits", ALLOCATED)                                           \
    XX(KV_CACHE, "kv_cache", ALLOCATED)                                       \
    XX(VISION, "vision", ALLOCATED)                                           \
    XX(SKETCHES, "sketches", ALLOCATED)                                       \
    XX(COMMUNICATION, "communication", ALLOCATED)                             \
    XX(WORKSPACE, "workspace", ALLOCATED)                                     \
    XX(OTHER, "other", ALLOCATED)                                             \
    XX(FRAGMENTATION, "fragmentation", RESERVED)                              \
    XX(CONTEXT, "cuda_context", DEVICE)

#define TS_COUNTER_WORDS(XX)                                                  \
    XX(ALLOCATED, "allocated") XX(RESERVED, "reserved") XX(DEVICE, "device")

#endif
