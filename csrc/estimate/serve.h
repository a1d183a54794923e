/* serve.h -- the family that generates text: transformers' generate(),
 * gpt-fast, litgpt and kernels injected by DeepSpeed.  Its profile constants
 * and formulas; what is done with them is in serve.c. */
#ifndef TS_ESTIMATE_SERVE_H
#define TS_ESTIMATE_SERVE_H

#define TS_SERVE_PROFILE(XX)                                                  \
    XX(all_logits, 0, 0, 1, "1: prefill computes logits of every position")   \
    XX(logit_bytes, 2, 0, 64, "bytes a logit of the prefill has at its peak") \
    XX(held_hiddens, 4, 0, 64, "hidden states that frames hold in an MLP")    \
    XX(mlp_temporaries, 3, 0, 16, "MLP widths alive at once")                 \
    XX(cache_append, 1, 0, 2, "a token's cache is old plus new (cat): 1 one"  \
       " layer at a time, 2 all before the old goes")                         \
    XX(static_cache, 0, 0, 1, "1: the cache is made for all tokens at once")  \
    XX(expert_mask_bytes, 0, 0, 64,                                           \
       "bytes of the one-hot expert mask, a token, expert and choice")        \
    XX(exllama, 0, 0, 1, "1: GPTQ's 4-bit kernels keep room for the"          \
       " largest matrix")                                                     \
    XX(rope_tables, 0, 0, 1, "1: each layer has cosines and sines of all"     \
       " positions")                                                          \
    XX(load_head, 0, 0, 1, "1: AWQ files of tied models bring the head, too") \
    XX(fp8_head, 0, 0, 1, "1: FP8 files of tied models keep it")              \
    XX(gather_logits, 0, 0, 1, "1: logits go back to the first stage")        \
    XX(unpacked, 0, 0, 8, "copies of the largest packed matrix, unpacked")    \
    XX(whole_vocab, 0, 0, 1, "1: embedding and head are not split over tp")   \
    XX(head_first, 0, 0, 1, "1: the first stage has the head")                \
    XX(cast_cache, 0, 0, 1, "1: autocast keeps bf16 copies of matrices")      \
    XX(causal_mask, 0, 0, 1, "1: a mask of all positions squared, bytes")     \
    XX(input_bytes, 8, 0, 64, "bytes of a token's ids and masks")             \
    XX(tower_bytes, 0, 0, TS_BYTES, "bytes of what else is loaded")

#define TS_SERVE_FORMULAS(XX)                                                 \
    XX(PREFILL_ATTENTION, "prefill_attention",                                \
       "b s (q and k before and after rotation, v, output) B; a s^2 of"       \
       " scores when eager",                                                  \
       "transformers' attention forward, line by line")                       \
    XX(PREFILL_MLP, "prefill_mlp",                                            \
       "b s (act(gate), up, product) M B",                                    \
       "transformers' MLP forward: temporaries alive at the product")         \
    XX(PREFILL_EXPERTS, "prefill_experts",                                    \
       "b s E k 8 of one-hot mask, the sum b s h B, one expert's tokens",     \
       "transformers' MoE forward")                                           \
    XX(PREFILL_HIDDEN, "prefill_hidden",                                      \
       "b s h B times the hidden states that frames hold",                    \
       "transformers' decoder forward: embeddings, layer input, residual,"    \
       " norm output")                                                        \
    XX(PREFILL_LOGITS, "prefill_logits",                                      \
       "b s V (logits, and their F32 copy)",                                  \
       "before transformers 4.45 of all positions, since of the last")        \
    XX(DECODE_LOGITS, "decode_logits", "b V (logits and F32 copies)",         \
       "transformers' sampling")                                              \
    XX(CACHE_APPEND, "cache_append",                                          \
       "one layer's keys, old and new at once",                               \
       "transformers' DynamicCache: torch.cat")                               \
    XX(UNPACKED, "unpacked", "elements of the largest matrix * B * copies",   \
       "bitsandbytes: dequantize_4bit, then a cast")                          \
    XX(CAST_CACHE, "cast_cache", "elements of all matrices * 2",              \
       "torch.autocast: weights cast once, kept until it ends")               \
    XX(CAUSAL_MASK, "causal_mask", "positions^2",                             \
       "gpt-fast: torch.tril over max_seq_length, bool")                      \
    XX(EXLLAMA, "exllama", "elements of the largest matrix * 2",              \
       "ExLlamaV2's temp_dq, of AutoGPTQ")                                    \
    XX(ROPE_TABLES, "rope_tables", "layers * positions * d * 2 * B",          \
       "cos_cached and sin_cached of each layer's rotary embedding")          \
    XX(LOADED_HEAD, "loaded_head", "V * h * B",                               \
       "a tied head that its file holds a second time")                       \
    XX(RESTS, "rests", "2 MiB steps beyond each large matrix",                \
       "torch's CUDACachingAllocator: kRoundLarge, should_split")             \
    XX(INPUTS, "inputs", "b s (ids, positions, mask)",                        \
       "int64 ids and attention mask")

#endif
