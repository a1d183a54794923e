/* formulas.h -- what every line of a ledger is made by, in words, and where
 * the formula is from.  XX(NAME, "name", "formula", "source").
 *
 * Letters: b batch, s tokens, h hidden, a heads, k key/value heads, d of a
 * head, M width of an MLP, V vocabulary, L layers; B bytes of an element.
 * Formulas that only one family uses stand in that family's header. */
#ifndef TS_ESTIMATE_FORMULAS_H
#define TS_ESTIMATE_FORMULAS_H

#include "megatron.h"
#include "microbench.h"
#include "original.h"
#include "rl.h"
#include "serve.h"
#include "train.h"
#include "vllm.h"

#define TS_SHARED_FORMULAS(XX)                                                \
    XX(MATRICES, "matrices", "sum of in * out * B over a layer's matrices",   \
       "shapes of the published weights")                                     \
    XX(EXPERTS, "experts", "experts / ep * 3 * h * M / etp * B",              \
       "all experts are held, not the active ones")                           \
    XX(VECTORS, "vectors", "(norms, biases and what has no matrix) * B",      \
       "shapes of the published weights")                                     \
    XX(EMBEDDING, "embedding", "V * h / tp * B, and learned positions",       \
       "shapes of the published weights")                                     \
    XX(HEAD, "head", "V * h / tp * B, nothing when tied on one stage",        \
       "shapes of the published weights")                                     \
    XX(KV_CACHE, "kv_cache",                                                  \
       "b * s * sum over layers of k * (d + dv) * B; the window instead of"   \
       " s, rank + rope for latent layers, a constant for state layers",      \
       "Pope et al. 2211.05102 3.3; DeepSeek-V2 2405.04434 2.1; vLLM's"       \
       " KVCacheSpec")                                                        \
    XX(WORKSPACE, "workspace", "a constant of the framework",                 \
       "CUBLAS_WORKSPACE_CONFIG: 8 MiB before Hopper, 32 MiB on it")          \
    XX(CONTEXT, "context", "a constant of device and driver",                 \
       "measured: A100 501 MiB, L4 226 MiB, V100 1,343 MiB")                  \
    XX(PIXELS, "pixels", "patches * 3 * frames * side^2 * 4",                 \
       "transformers' image processors give F32")                             \
    XX(TOWER_SAVED, "tower_saved", "a layer's saved tensors, patches for"     \
       " tokens, images for sequences",                                       \
       "the tower's forward, line by line: saved.h")                          \
    XX(TOWER_PASS, "tower_pass",                                              \
       "patches * (3 h + q, k, v before and after rotation, or the MLP) * B;" \
       " scores when eager",                                                  \
       "a tower without gradients: tensors alive in one layer")               \
    XX(PROJECTOR_SAVED, "projector_saved",                                    \
       "(2 patches h + 2 tokens M) * B",                                      \
       "the projector's forward: norm, linear, activation, linear")           \
    XX(FEATURES, "features", "image tokens * h * B",                          \
       "what the projector gives the decoder, alive beside its embeddings")   \
    XX(FRAGMENTATION, "fragmentation",                                        \
       "a share of what comes and goes, plus a constant",                     \
       "torch's CUDACachingAllocator: 2 MiB and 20 MiB segments")

#define TS_FORMULA_MAP(XX)                                                    \
    TS_SHARED_FORMULAS(XX) TS_SERVE_FORMULAS(XX) TS_TRAIN_FORMULAS(XX)        \
    TS_MICROBENCH_FORMULAS(XX) TS_VLLM_FORMULAS(XX) TS_MEGATRON_FORMULAS(XX)  \
    TS_RL_FORMULAS(XX) TS_ORIGINAL_FORMULAS(XX)

#endif
