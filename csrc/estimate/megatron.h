/* megatron.h -- the family of Megatron-Core: Megatron-LM, Megatron-Bridge,
 * ms-swift's Megatron trainer.  Its fields, constants and formulas; states
 * are in mcore_states.c, saved tensors in mcore_layers.c, the step in
 * megatron.c. */
#ifndef TS_ESTIMATE_MEGATRON_H
#define TS_ESTIMATE_MEGATRON_H

/* Parts of a layer that selective recomputation drops: bits of
 * run.recompute_parts.  An enum without a type is a list of bits. */
enum {
    TS_PART_CORE_ATTENTION = 1 << 0, TS_PART_NORMS = 1 << 1,
    TS_PART_LATENT_UP = 1 << 2, TS_PART_MLP = 1 << 3,
    TS_PART_EXPERT_ACT = 1 << 4, TS_PART_EXPERTS = 1 << 5,
};

#define TS_MEGATRON_RUN(XX)                                                   \
    XX(vocab_multiple, 1, 1, TS_DIM,                                          \
       "Megatron: the vocabulary is padded to this times tp")                 \
    XX(mtp_layers, 0, 0, TS_DIM, "Megatron: layers that predict further"      \
       " tokens, on the last stage")                                          \
    XX(mtp_heads, 0, 0, TS_DIM, "Megatron: how often they are run")           \
    XX(mtp_kind, 0, 0, TS_MAX_KINDS - 1, "Megatron: which kind they are")     \
    XX(hidden_dropout, 0, 0, 1, "Megatron: 1: residuals drop out")            \
    XX(attention_dropout, 0, 0, 1, "Megatron: 1: attention drops out")        \
    XX(attention_mask, 0, 0, 1, "Megatron: 1: a batch brings an s x s mask")  \
    XX(softmax_unfused, 0, 0, 1, "Megatron: 1: softmax is in F32 and a copy") \
    XX(recompute_parts, 0, 0, (1 << 6) - 1, "Megatron: bits of what selective"\
       " recomputation drops")                                                \
    XX(grouped_experts, 0, 0, 1, "Megatron: 1: grouped GEMM over experts")    \
    XX(expert_dispatch, 0, 0, 2, "Megatron: 0 allgather, 1 alltoall, 2 flex") \
    XX(fp8_compute, 0, 0, 2, "Megatron: matrices are multiplied in FP8: 1 one"\
       " scale a tensor, 2 one a block")                                      \
    XX(fp8_params, 0, 0, 1, "Megatron: 1: and kept in FP8 only")              \
    XX(tp_overlap, 0, 0, 1, "Megatron: 1: tp communication is overlapped")    \
    XX(wgrad_deferral, 0, 0, TS_DIM, "Megatron: micro-batches whose head"     \
       " gradient waits")                                                     \
    XX(chunk_group, 0, 0, TS_DIM, "Megatron: micro-batches a model chunk runs"\
       " in a row; 0: pp")                                                    \
    XX(norm_copies, 0, 0, 1, "Megatron: 1: norms of parameters are logged,"   \
       " from F32 copies of those that the optimizer has none of")            \
    XX(layer_wise, 0, 0, 1, "Megatron: 1: the optimizer's shards are whole"   \
       " matrices")                                                           \
    XX(layer_rank, 0, 0, TS_DIM, "Megatron: of which rank, from 1; 0: of the" \
       " one with most")                                                      \
    XX(offload_permille, 0, 0, 1000, "Megatron: share of optimizer state in"  \
       " host memory")                                                        \
    XX(engine_cache_bytes, 0, 0, TS_BYTES, "Megatron: bytes of the inference" \
       " engine's cache")                                                     \
    XX(engine_tokens, 0, 0, TS_TOKENS, "Megatron: tokens whose logits the"    \
       " engine's graphs hold")                                               \
    XX(engine_tp, 0, 0, TS_DIM, "Megatron: tp of a second copy of the weights"\
       " for inference; 0: none")                                             \
    XX(engine_ep, 1, 1, TS_DIM, "Megatron: its ep")

#define TS_MEGATRON_PROFILE(XX)                                               \
    XX(engine, 1, 0, 1, "1: Transformer Engine's layers; 0: Megatron's own")  \
    XX(blas_bytes, 0, 0, TS_BYTES, "bytes of a cuBLAS workspace of torch")    \
    XX(engine_bytes, 0, 0, TS_BYTES, "bytes of a cuBLAS workspace of the"     \
       " engine")                                                             \
    XX(grouped_streams, 4, 0, 64, "streams of a grouped GEMM, a workspace"    \
       " each")                                                               \
    XX(overlap_streams, 3, 1, 64, "streams of overlapped tp communication, a" \
       " workspace each")                                                     \
    XX(flash_copy, 0, 0, 1, "1: the kernel's output is kept in its own order" \
       " and in the model's")                                                 \
    XX(fp8_transposed, 0, 0, 1, "1: FP8 weights are kept transposed as well") \
    XX(fused_loss_logit, 10, 0, 64, "bytes a logit of the fused loss")

#define TS_MEGATRON_FORMULAS(XX)                                              \
    XX(MCORE_WEIGHTS, "mcore_weights",                                        \
       "(dense / tp + experts / ep / etp + padded V h / tp) * B; / d when"    \
       " FSDP shards",                                                        \
       "Megatron-Core's layers; vocabulary padded to a multiple times tp")    \
    XX(MCORE_GRADIENTS, "mcore_gradients",                                    \
       "parameters * 4 (2 when reduced in 16 bits); / d when FSDP shards",    \
       "Megatron-Core's param_and_grad_buffer: main_grad in one buffer")      \
    XX(MCORE_MASTER, "mcore_master",                                          \
       "parameters * 4, / (dp cp) when the optimizer is distributed, experts" \
       " / their own dp",                                                     \
       "Megatron-Core's distrib_optimizer: 6 + 12 / d bytes a parameter")     \
    XX(MCORE_MOMENTS, "mcore_moments",                                        \
       "parameters * 8, / (dp cp) when the optimizer is distributed, experts" \
       " / their own dp; Muon one moment a matrix",                           \
       "Megatron-Core's distrib_optimizer: 6 + 12 / d bytes a parameter")     \
    XX(MCORE_GRAD_COPY, "mcore_grad_copy",                                    \
       "parameters of the shard * 4 when gradients are of 16 bits",           \
       "Megatron-Core: main_param.grad = main_grad.float() until the next"    \
       " step begins")                                                        \
    XX(MCORE_LAYER_WISE, "mcore_layer_wise",                                  \
       "matrices of one rank * (4 + moments), dealt by size, there and back", \
       "Megatron-Core's LayerWiseDistributedOptimizer.shard_params")          \
    XX(MCORE_OVERLAP, "mcore_overlap", "10 * b s h / cp * B",                 \
       "Transformer Engine's initialize_ub: a buffer for each of 10 products")\
    XX(MCORE_NORM_COPIES, "mcore_norm_copies",                                \
       "parameters that do not train * 4",                                    \
       "Megatron-LM's calc_params_l2_norm: param.data.float() where there is" \
       " no main_param, all in one list")                                     \
    XX(MCORE_SLACK, "mcore_slack",                                            \
       "what the allocator adds to blocks whose rest is no more than 1 MiB",  \
       "torch's CUDACachingAllocator, replayed: should_split, 20 MiB"         \
       " segments")                                                           \
    XX(MCORE_FP8, "mcore_fp8", "matrices * 1, 2 with their transposes",       \
       "Transformer Engine: weights cast once a step and cached; scales a"    \
       " block ask for both layouts")                                         \
    XX(MCORE_BLAS, "mcore_blas",                                              \
       "a workspace for the forward thread, one for autograd's",              \
       "torch keeps one a (handle, stream); handles are a thread's own")      \
    XX(MCORE_ENGINE, "mcore_engine",                                          \
       "a workspace, one more a stream of grouped GEMMs",                     \
       "Transformer Engine's get_cublas_workspace_size_bytes: 32 MiB from"    \
       " Hopper on, 4 MiB before")                                            \
    XX(MCORE_SCORES, "mcore_scores", "b a / tp * s^2 / cp * B",               \
       "Megatron-Core's global memory buffer for Q K of local attention")     \
    XX(MCORE_BOUNDARY, "mcore_boundary",                                      \
       "2 * chunks * b s h / (tp of sequence parallel) * B",                  \
       "set_input_tensor keeps the last input received, retain_grad its"      \
       " gradient")                                                           \
    XX(MCORE_ROUTING, "mcore_routing",                                        \
       "MoE layers * gathered tokens * (5 (E + E / ep) + 8)",                 \
       "MoEAllGatherTokenDispatcher keeps maps, probabilities and order")     \
    XX(MCORE_ENGINE_CACHE, "mcore_engine_cache", "as configured",             \
       "Megatron-Core's dynamic inference context: buffer_size_gb")           \
    XX(MCORE_ENGINE_LOGITS, "mcore_engine_logits", "max_tokens * V * B",      \
       "a CUDA graph of a mixed step keeps its output: logits of"             \
       " DynamicInferenceContext's max_tokens, gathered over tp")             \
    XX(MCORE_ATTENTION, "mcore_attention",                                    \
       "in flight * (norm's output, q, k, v, output, log-sum-exp; 2 a s^2"    \
       " unfused, 5 a s^2 with dropout)",                                     \
       "Korthikanti et al. 2205.05198 section 4; Transformer Engine's saved"  \
       " tensors")                                                            \
    XX(MCORE_MLP, "mcore_mlp",                                                \
       "in flight * (norm's output, first product, activation); experts: of"  \
       " the tokens they get, the activation also times the probabilities",   \
       "Korthikanti et al. 2205.05198 section 4; Megatron-Core's experts")    \
    XX(MCORE_RESIDUAL, "mcore_residual",                                      \
       "in flight * (inputs of norms 2 b s h, dropout masks b s h)",          \
       "Korthikanti et al. 2205.05198 section 4")                             \
    XX(MCORE_ENDS, "mcore_ends",                                              \
       "final norm's input and output, the embedding's mask",                 \
       "Korthikanti et al. 2205.05198 section 4.3")                           \
    XX(MCORE_MASK, "mcore_mask", "b s^2 / cp",                                \
       "the data loader's attention_mask, one byte an element")               \
    XX(MCORE_LOGITS, "mcore_logits",                                          \
       "b s V / tp * (B + 4); 10 fused; + 4 a predicted token more",          \
       "vocab_parallel_cross_entropy: F32 copy in which softmax is made")     \
    XX(MCORE_DEFERRED, "mcore_deferred",                                      \
       "micro-batches that wait * b s (V / tp + h) B",                        \
       "defer_embedding_wgrad_compute: keeps the head's input and gradient")

#endif
