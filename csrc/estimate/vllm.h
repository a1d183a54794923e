/* vllm.h -- the family that serves from a budget: vLLM, SGLang, llama.cpp.
 *
 *     budget = utilization * device
 *     pool   = budget - weights - adapters - what a whole step needs - rest
 *
 * The step that is measured at start-up is the largest the scheduler allows;
 * it sizes the pool, and is not there while smaller steps are served. */
#ifndef TS_ESTIMATE_VLLM_H
#define TS_ESTIMATE_VLLM_H

#define TS_VLLM_RUN(XX)                                                       \
    XX(device_bytes, 0, 0, TS_BYTES, "bytes of the device, for the budget")   \
    XX(utilization_ppm, 900000, 0, 1000000, "share of them: millionths")      \
    XX(step_tokens, 8192, 1, TS_TOKENS, "most tokens of a scheduler step")    \
    XX(max_seqs, 256, 1, TS_DIM, "most sequences of a step")                  \
    XX(adapter_slots, 0, 0, TS_DIM, "LoRA adapters that have a place")        \
    XX(resident_bytes, 0, 0, TS_BYTES, "bytes another program keeps there")

#define TS_VLLM_PROFILE(XX)                                                   \
    XX(sampler_bytes, 8, 0, 64, "bytes a logit of the sampler")               \
    XX(sampler_apart, 0, 0, 1, "1: the sampler runs after the layers' peak")  \
    XX(step_hiddens, 1, 0, 16, "hidden states of a step")                     \
    XX(step_widths, 3, 0, 16, "MLP widths of a step: gate, up, product")      \
    XX(inside_bytes, 0, 0, TS_BYTES, "bytes within the budget that torch"     \
       " does not see, a tensor-parallel rank")                               \
    XX(outside_bytes, 0, 0, TS_BYTES, "bytes of the process beyond budget"    \
       " and context")

#define TS_VLLM_FORMULAS(XX)                                                  \
    XX(KV_POOL, "kv_pool",                                                    \
       "utilization * device - weights - adapters - step - inside",           \
       "vLLM: gpu_worker.determine_available_memory")                         \
    XX(STEP_LAYER, "step_layer",                                              \
       "step tokens * (3 M + h) B; k copies of 2 M for experts",              \
       "vLLM's profile_run with max_num_batched_tokens")                      \
    XX(SAMPLER, "sampler", "sequences * V * bytes a logit",                   \
       "vLLM's profile_run with max_num_seqs")                                \
    XX(SLOTS, "adapter_slots", "slots * rank * sum of (in + out) * B",        \
       "vLLM's LoRAModelManager")                                             \
    XX(INSIDE, "inside", "a constant of the engine, a rank",                  \
       "measured: vLLM 0.6.4 1.79 GiB a rank (PR 10511)")                     \
    XX(OUTSIDE, "outside", "a constant of the engine, and what a neighbour"   \
       " keeps",                                                              \
       "measured: 0.6 to 0.7 GiB of library handles (AgileRL, PR 635)")

#endif
