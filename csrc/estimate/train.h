/* train.h -- the family that trains in torch's eager mode: transformers, PEFT,
 * torchtune, litgpt, FSDP, DeepSpeed.  Its profile constants and formulas;
 * the step is train.c, what a layer keeps for backward is block.c. */
#ifndef TS_ESTIMATE_TRAIN_H
#define TS_ESTIMATE_TRAIN_H

#define TS_TRAIN_PROFILE(XX)                                                  \
    XX(norm_saved, 4, 0, 16, "bytes an element that a norm keeps of its"      \
       " input")                                                              \
    XX(norm_fused, 0, 0, 1, "1: a norm keeps its input as it came")           \
    XX(mlp_saved, 4, 0, 16, "MLP widths kept: gate, act(gate), up, product")  \
    XX(adapter_cast, 1, 0, 1, "1: an adapter's input is cast to its dtype")   \
    XX(logit_forward, 0, 0, 64, "bytes a logit of the loss, forward")         \
    XX(logit_backward, 0, 0, 64, "bytes a logit of the loss, backward")       \
    XX(step_bytes, 0, 0, 64, "bytes a trained parameter during the step")     \
    XX(grads_stay, 0, 0, 1, "1: gradients stay allocated between steps")      \
    XX(gathered_layers, 2, 0, 16, "layers whole at once when weights are"     \
       " sharded")                                                            \
    XX(bucket_bytes, 0, 0, TS_BYTES, "bytes of communication buffers")        \
    XX(dequantized, 1, 0, 8, "unpacked copies of a packed matrix alive")

#define TS_TRAIN_FORMULAS(XX)                                                 \
    XX(GRADIENTS, "gradients", "trained parameters * B",                      \
       "ZeRO 1910.02054 section 3.1")                                         \
    XX(OPTIMIZER, "optimizer", "trained parameters * bytes of the states",    \
       "ZeRO 1910.02054 3.1; each optimizer's own state")                     \
    XX(MASTER, "master", "trained parameters * 4",                            \
       "mixed precision training 1710.03740")                                 \
    XX(ADAPTERS, "adapters", "sum over targets of rank (in + out) * B",       \
       "LoRA 2106.09685; DoRA 2402.09353 adds out")                           \
    XX(SAVED_ATTENTION, "saved_attention",                                    \
       "layers * b s (q + k + v + output, log-sum-exp) B; a s^2 when eager",  \
       "torch's autograd, module by module: saved_tensors_hooks")             \
    XX(SAVED_MLP, "saved_mlp", "layers * b s (widths kept) M B",              \
       "torch's autograd, module by module: saved_tensors_hooks")             \
    XX(SAVED_RESIDUAL, "saved_residual",                                      \
       "layers * b s (inputs of norms and of linears) h",                     \
       "torch's autograd, module by module: saved_tensors_hooks")             \
    XX(CHECKPOINTS, "checkpoints", "layers * b s h B",                        \
       "Chen et al. 1604.06174: recomputed layers keep their input")          \
    XX(RECOMPUTED, "recomputed", "one layer's saved tensors",                 \
       "Chen et al. 1604.06174")                                              \
    XX(LAYER_BACKWARD, "layer_backward", "one layer's gradients of"           \
       " activations",                                                        \
       "torch's autograd: gradients alive at the widest product")             \
    XX(LOGITS, "logits", "b s V / tp * bytes a logit",                        \
       "measured law: 20 B a float32 logit, 8 B a bf16 logit (Liger's and"    \
       " xtuner's tables)")                                                   \
    XX(GATHERED, "gathered", "whole layers while weights are sharded",        \
       "ZeRO 1910.02054 section 5.3; FSDP2: two blocks")                      \
    XX(BUCKETS, "buckets", "a constant of the framework",                     \
       "DeepSpeed: reduce_bucket_size, allgather_bucket_size")                \
    XX(STEP, "step", "trained parameters * bytes of temporaries",             \
       "torch.optim foreach: one temporary list")                             \
    XX(DEQUANTIZED, "dequantized", "the largest packed matrix, unpacked",     \
       "bitsandbytes MatMul4Bit: dequantize in forward and backward")

#endif
