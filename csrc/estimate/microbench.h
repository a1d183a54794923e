/* microbench.h -- one kernel alone, forward and backward, as benchmarks of
 * kernels measure it: losses, norms, MLPs.  The laws are rows of a table in
 * microbench.c.  Losses of whole training steps use the same bytes a logit. */
#ifndef TS_ESTIMATE_MICROBENCH_H
#define TS_ESTIMATE_MICROBENCH_H

#define TS_KERNEL_WORDS(XX)                                                   \
    XX(CROSS_ENTROPY, "cross_entropy")                                        \
    XX(LINEAR_CROSS_ENTROPY, "fused_linear_cross_entropy")                    \
    XX(MEGATRON_CROSS_ENTROPY, "megatron_cross_entropy")                      \
    XX(CPO, "fused_linear_cpo_loss") XX(ORPO, "fused_linear_orpo_loss")       \
    XX(SIMPO, "fused_linear_simpo_loss")                                      \
    XX(GRPO, "fused_linear_grpo_loss") XX(KTO, "kto_loss")                    \
    XX(LINEAR_JSD, "fused_linear_jsd") XX(JSD, "jsd") XX(KL_DIV, "kl_div")    \
    XX(TVD, "tvd") XX(SWIGLU, "swiglu") XX(GEGLU, "geglu")                    \
    XX(TILED_SWIGLU, "tiled_swiglu") XX(FUSED_MOE, "fused_moe")               \
    XX(LAYER_NORM, "layer_norm") XX(RMS_NORM, "rms_norm") XX(ROPE, "rope")    \
    XX(SOFTMAX, "softmax") XX(LOGIT_TILES, "logit_tiles")

#define TS_PROVIDER_WORDS(XX)                                                 \
    XX(TORCH, "torch")   /* modules as transformers writes them */            \
    XX(LIGER, "liger")                                                        \
    XX(LIGER_TILED, "liger_tiled") XX(DEEPSPEED_TILED, "deepspeed_tiled")     \
    XX(MEGATRON_FUSED, "megatron-fused")                                      \
    XX(MEGATRON_UNFUSED, "megatron-unfused")

#define TS_MICROBENCH_RUN(XX)                                                 \
    XX(kernel, 0, 0, TS_KERNEL_COUNT - 1, "word: measured alone")             \
    XX(provider, 0, 0, TS_PROVIDER_COUNT - 1, "word: whose kernel")           \
    XX(shards, 1, 1, TS_DIM, "tiled kernels: tiles of a batch")               \
    XX(kernel_version, 0, 0, 10000, "Liger's, 1000 * major + 100 * minor")

#define TS_MICROBENCH_FORMULAS(XX)                                            \
    XX(KERNEL_LOGITS, "kernel_logits", "tokens * V * bytes a logit",          \
       "Liger's benchmark table: straight lines over V or tokens, to 1e-4")   \
    XX(KERNEL_TOKENS, "kernel_tokens", "tokens * (h and M * bytes)",          \
       "Liger's benchmark table; modules' saved tensors and gradients")       \
    XX(KERNEL_WEIGHTS, "kernel_weights",                                      \
       "weights, their gradients, a gradient not yet added",                  \
       "torch's autograd: AccumulateGrad holds old and new")                  \
    XX(KERNEL_CHUNK, "kernel_chunk", "a chunk's tokens * V * bytes",          \
       "liger_kernel's fused linear losses: chunk sizes as they compute them")

#endif
