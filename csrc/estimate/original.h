/* original.h -- the formulas of llm_vlm_memory_estimator, which this package
 * continues, with its faults: one profile reproduces its numbers, so that
 * what people wrote down with it can be read.  Factors are permille. */
#ifndef TS_ESTIMATE_ORIGINAL_H
#define TS_ESTIMATE_ORIGINAL_H

#define TS_ORIGINAL_RUN(XX)                                                   \
    XX(flat_bytes, 0, 0, TS_BYTES, "bytes of libraries and cushions")         \
    XX(fused_loss, 0, 0, 1, "1: logits by a fifth")                           \
    XX(reduction_permille, 350, 1, 1000, "of activations when recomputed")    \
    XX(image_cells, 0, 0, TS_TOKENS, "(image / patch)^2, times tower layers") \
    XX(image_width, 0, 0, TS_DIM, "of the tower")

#define TS_ORIGINAL_PROFILE(XX)                                               \
    XX(plain_factor, 4000, 0, 100000, "attention, without FlashAttention")    \
    XX(flash_factor, 800, 0, 100000, "attention, with it")                    \
    XX(flash_again, 200, 0, 1000, "and its optimization multiplies again")    \
    XX(mlp_factor, 6000, 0, 100000, "MLP activations")                        \
    XX(logits_factor, 1000, 0, 100000, "logits")                              \
    XX(fused_factor, 200, 0, 1000, "logits under a fused loss")               \
    XX(vision_factor, 4000, 0, 100000, "vision activations")                  \
    XX(peak_permille, 1100, 1000, 10000, "peak of steady")

#define TS_ORIGINAL_FORMULAS(XX)                                              \
    XX(ORIGINAL_WEIGHTS, "original_weights", "P * B", "original, modular")    \
    XX(ORIGINAL_GRADIENTS, "original_gradients", "4 * trained",               \
       "original, modular: part of its optimizer")                            \
    XX(ORIGINAL_STATES, "original_states", "8 * trained",                     \
       "original, modular: AdamW whatever was asked")                         \
    XX(ORIGINAL_MASTER, "original_master", "4 * P, full and not fp32",        \
       "original, modular")                                                   \
    XX(ORIGINAL_ATTENTION, "original_attention", "b s h L B * factor",        \
       "original, modular: 4.0, or 0.8 and again 0.2 with FlashAttention")    \
    XX(ORIGINAL_MLP, "original_mlp", "b s h L B * 6.0",                       \
       "original, modular: whatever the MLP's width")                         \
    XX(ORIGINAL_LOGITS, "original_logits", "b s V B * 1.0",                   \
       "original, modular")                                                   \
    XX(ORIGINAL_KV, "original_kv", "2 b s h L B",                             \
       "original, modular: all heads have keys and values")                   \
    XX(ORIGINAL_VISION, "original_vision", "b cells width * 4.0 B",           \
       "original, modular")                                                   \
    XX(ORIGINAL_FLAT, "original_flat", "2.5 + 3 + 5 GiB, and ZeRO's",         \
       "original, modular: lumped together")                                  \
    XX(ORIGINAL_PEAK, "original_peak", "0.1 of everything",                   \
       "original, modular")

#endif
