/* train.h -- the family that trains in torch's eager mode: transformers, PEFT,
 * torchtune, litgpt, ms-swift, FSDP, DeepSpeed.  Its fields and formulas; the
 * step is train.c, what a layer keeps for backward is block.c. */
#ifndef TS_ESTIMATE_TRAIN_H
#define TS_ESTIMATE_TRAIN_H

#define TS_TRAIN_RUN(XX)                                                      \
    XX(adapter_count, 0, 0, TS_BYTES, "parameters of adapters, where they"    \
       " are known; 0: by rank and targets")                                  \
    XX(offload_gradients, 0, 0, 1, "1: gradients go to host memory as they"   \
       " appear")                                                             \
    XX(scaled_outputs, 0, 0, 1, "1: outputs of frozen matrices are kept for"   \
       " scales that train (adapter v2, IA3); norms train as well")           \
    XX(trained_layers, 0, 0, TS_MAX_LAYERS, "full: layers that train at a"    \
       " time (LISA); 0: all")

#define TS_TRAIN_PROFILE(XX)                                                  \
    XX(traced, 0, 0, 1, "1: layers keep what transformers 5 keeps, tensor by" \
       " tensor (saved.h); 0: by the constants below")                        \
    XX(norm_kept, 4, 0, 64, "bytes an element that an RMS norm keeps of its"  \
       " input")                                                              \
    XX(norm_weight_kept, 2, 0, 64, "bytes an element it keeps beside when"    \
       " its weight trains")                                                  \
    XX(gate_kept, 3, 0, 8, "MLP widths kept before the product: gate,"        \
       " act(gate), up")                                                      \
    XX(score_kept, 6, 0, 64, "bytes a score that eager attention keeps")      \
    XX(selective_products, 0, 0, 1, "1: selective recomputation keeps every"  \
       " second product and attention's output")                              \
    XX(qkv_fused, 0, 0, 1, "1: q, k and v are one matrix in this framework")  \
    XX(qkv_view, 0, 0, 1, "1: values are a view that keeps q, k and v as"     \
       " they were projected")                                                \
    XX(adapter_kept, 2, 0, 64, "bytes an element of its input that an"        \
       " adapter keeps")                                                      \
    XX(adapter_shared, 0, 0, 1, "1: without dropout that is the matrix's own" \
       " input, kept once")                                                   \
    XX(adapter_partial, 0, 0, 1, "1: outputs of adapters on a part of fused"  \
       " q, k, v are kept")                                                   \
    XX(packed_kept, 0, 0, 64, "bytes an element of its input that a packed"   \
       " matrix keeps")                                                       \
    XX(packed_again, 0, 0, 1, "1: the step before keeps those as well, until" \
       " its loss is replaced")                                               \
    XX(packed_rest, 0, 0, 8, "bytes of an element that is not packed beside"  \
       " packed ones; 0: the computing dtype's")                              \
    XX(scales_whole, 0, 0, 1, "1: scales of packed matrices are not sharded") \
    XX(unpack_bytes, 0, 0, 64, "bytes an element of the largest packed"       \
       " matrix while it is unpacked")                                        \
    XX(pack_bytes, 0, 0, 1024, "bytes an element of the largest matrix while" \
       " it is packed, at loading")                                           \
    XX(unpack_kept, 0, 0, 64, "bytes an element of packed matrices kept"      \
       " unpacked for backward")                                              \
    XX(untied, 0, 0, 1, "1: a tied head is held as a copy")                   \
    XX(autocast, 0, 0, 1, "1: wider weights are cast, and the casts kept")    \
    XX(logit_forward, 0, 0, 64, "bytes a logit as the forward pass ends")     \
    XX(logit_loss, 0, 0, 64, "bytes a logit when the loss is done")           \
    XX(logit_backward, 0, 0, 64, "bytes a logit while its gradient is made")  \
    XX(logit_slice, 0, 0, TS_TOKENS, "tokens of a sequence whose loss is one" \
       " operation; 0: all")                                                  \
    XX(logit_slice_bytes, 0, 0, 64, "bytes a logit of that slice beside")     \
    XX(logit_generations, 0, 0, 100000, "permille of the logits reserved"     \
       " beside, where sequences vary in length")                             \
    XX(chunked_logit, 2, 0, 64, "chunked loss: bytes a logit of all chunks")  \
    XX(chunked_work, 8, 0, 64, "chunked loss: bytes a logit of one chunk")    \
    XX(softcap_kept, 2, 0, 64, "bytes a logit that a capped head keeps")      \
    XX(grads_stay, 0, 0, 1, "1: gradients stay allocated between steps")      \
    XX(step_copies, 2, 0, 8, "copies of a moment alive while AdamW steps")    \
    XX(step_group, 0, 0, TS_BYTES, "ZeRO: elements of a rank whose gradients" \
       " are F32 at once in the step")                                        \
    XX(trained_copy, 0, 0, 1, "1: embeddings that train beside adapters are"  \
       " copies")                                                             \
    XX(gathered_layers, 2, 0, TS_MAX_LAYERS, "layers whole at once when"      \
       " weights are sharded")                                                \
    XX(gathered_all, 0, 0, 1, "1: they stay whole until backward ends")       \
    XX(gathered_apart, 0, 0, 1, "1: embedding and head are units of their"    \
       " own, whole while they work")                                         \
    XX(flat_gradients, 0, 0, 1, "1: frozen weights sharded with trained ones" \
       " have gradients until they are dealt out")                                                     \
    XX(bucket_bytes, 0, 0, TS_BYTES, "bytes of communication buffers")        \
    XX(ranks_bytes, 0, 0, TS_BYTES, "bytes the device takes once there are"   \
       " several ranks")                                                      \
    XX(pipelined, 0, 0, 1, "1: stages work on micro-batches in turns (1F1B)")

#define TS_TRAIN_FORMULAS(XX)                                                 \
    XX(GRADIENTS, "gradients", "trained parameters * B",                      \
       "ZeRO 1910.02054 section 3.1")                                         \
    XX(HEAD_GRADIENT, "head_gradient", "V h B, fresh before it is added",     \
       "torch's AccumulateGrad; the head's backward comes first")             \
    XX(EMBEDDING_GRADIENT, "embedding_gradient",                              \
       "V h B, fresh before it is added", "aten's embedding_dense_backward")  \
    XX(WHOLE_GRADIENTS, "whole_gradients",                                    \
       "(two layers, embedding, head) * B before they are dealt out",         \
       "FSDP 2304.11277 4.3: reduce-scatter of a unit")                       \
    XX(LAYER_EMBEDDINGS, "layer_embeddings",                                  \
       "b s layers * width (looked up, projected, what the norm keeps)",      \
       "transformers' Gemma3n: per_layer_inputs")                             \
    XX(OPTIMIZER, "optimizer", "trained parameters * bytes of the states",    \
       "ZeRO 1910.02054 3.1; each optimizer's own state")                     \
    XX(MASTER, "master", "trained parameters * 4",                            \
       "mixed precision training 1710.03740")                                 \
    XX(STEP, "step", "trained parameters * copies of a moment",               \
       "torch _multi_tensor_adamw: sqrt(v), and the denominator")             \
    XX(STEP_GROUP, "step_group", "min(parameters / ranks, group) * 4",        \
       "DeepSpeed ZeRO: sub_group_size, gradients in F32 for the step")       \
    XX(ADAPTERS, "adapters", "sum over targets of rank (in + out) * B",       \
       "LoRA 2106.09685; DoRA 2402.09353 adds out")                           \
    XX(CASTS, "casts", "B for each weight that is wider",                     \
       "torch.autocast: casts of leaves are cached, those of frozen weights"  \
       " kept by the product that needs them")                                \
    XX(SAVED_ATTENTION, "saved_attention",                                    \
       "layers * b s (input where it trains, q, k, v, output, log of row"     \
       " sums) B; a s^2 when eager",                                          \
       "FlashAttention 2205.14135; pytorch's derivatives.yaml")               \
    XX(SAVED_MLP, "saved_mlp",                                                \
       "layers * b s (input and product where they train, gate, act(gate),"   \
       " up) B",                                                              \
       "pytorch's derivatives.yaml: a product keeps both, silu its input")    \
    XX(SAVED_RESIDUAL, "saved_residual",                                      \
       "layers * b s h * norms * bytes kept",                                 \
       "the norm's forward, line by line; native_layer_norm keeps its input") \
    XX(CHECKPOINTS, "checkpoints", "layers * b s h B",                        \
       "Chen et al. 1604.06174: recomputed layers keep their input")          \
    XX(RECOMPUTED, "recomputed", "one layer's saved tensors",                 \
       "Chen et al. 1604.06174")                                              \
    XX(LAYER_BACKWARD, "layer_backward",                                      \
       "b s of one layer: gradients of gate, up and product, or of q, k, v"   \
       " and F32 sums; of the residual twice",                                \
       "torch's autograd: gradients alive at the widest product")             \
    XX(LOGITS, "logits", "b s V / tp * bytes a logit at that moment",         \
       "the loss, line by line: logits, casts, log-softmax, gradients;"       \
       " measured: 20 B of F32, 8 B of bf16 (Liger's and xtuner's tables)")   \
    XX(GENERATIONS, "generations", "b s V * bytes a logit * a share",         \
       "torch's CUDACachingAllocator: blocks of shorter sequences do not fit" \
       " longer ones, and stay")                                              \
    XX(LOSS_SLICE, "loss_slice", "tokens of a slice * V * bytes a logit",     \
       "the loss in slices: gradients of the one in work")                    \
    XX(LOSS_FUSED, "loss_fused",                                              \
       "rows V (4 + B) + b s h B; rows = next_pow2(b s / ceil(V / h))",       \
       "Liger 2410.10989 3.2: fused linear cross entropy")                    \
    XX(TAIL, "tail", "b s h (the norm's input, 4 B)",                         \
       "final norm: input, output, and gradients of both")                    \
    XX(PACKED_AGAIN, "packed_again", "inputs of packed matrices once more",   \
       "attributes of a Python function's ctx live as long as its graph")     \
    XX(PACKING, "packing", "the largest matrix * bytes while it is packed",   \
       "torchao NF4Tensor: distances to all 16 values of an element")         \
    XX(KEPT_UNPACKED, "kept_unpacked", "matrices of layers, unpacked",        \
       "a product with an unpacked copy keeps it for backward")               \
    XX(DEQUANTIZED, "dequantized", "the largest packed matrix, unpacked",     \
       "bitsandbytes MatMul4Bit: dequantize in forward and backward")         \
    XX(GATHERED, "gathered", "whole layers while weights are sharded, and"    \
       " what is no layer",                                                   \
       "ZeRO 1910.02054 section 5.3; FSDP2: two blocks")                      \
    XX(HELD, "held", "bytes of the file's tensors * share of the elements",   \
       "the checkpoint's own header: every tensor in its own type")           \
    XX(SECOND_SHARD, "second_shard", "weights * B / hpz",                     \
       "ZeRO++ 2306.10209 section 3.2: hpZ's copy within a node")             \
    XX(RECEIVED, "received", "the largest layer, or table: int8, and F32 a"   \
       " group of 8000",                                                      \
       "ZeRO++ 2306.10209 section 3.1: qwZ's gather, before it is unpacked")  \
    XX(BUCKETS, "buckets", "a constant of the framework",                     \
       "DeepSpeed: reduce_bucket_size, allgather_bucket_size")                \
    XX(RANKS, "ranks", "a constant of the framework",                         \
       "NCCL's channels and buffers, beside torch's allocator")

#endif
