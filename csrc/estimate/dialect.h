/* dialect.h -- how a model's code is written, where it changes what autograd
 * keeps.  A ts_layer says what a layer computes; two sources that compute the
 * same may keep different tensors (a norm in F32, a concatenation instead of
 * a sum).  tensorstream/estimator/dialects.py has them by model type. */
#ifndef TS_ESTIMATE_DIALECT_H
#define TS_ESTIMATE_DIALECT_H

#define TS_NORM_CODE_WORDS(XX)                                                \
    XX(LLAMA, "llama")       /* w * (x / rms in F32, cast back) */            \
    XX(SCALED, "scaled")     /* (w * x / rms) in F32, then cast: OLMo 2 */    \
    XX(GEMMA, "gemma")       /* (1 + w in F32) * x / rms, then cast */        \
    XX(T5, "t5")             /* x itself is multiplied, only x^2 is F32 */    \
    XX(LAYER, "layer")       /* torch.nn.LayerNorm */                         \
    XX(LAYER_FP32, "layer_fp32") /* the same on an F32 copy, no weight */     \
    XX(LAYER_1P, "layer_1p") /* the same with 1 + w: Nemotron */              \
    XX(COHERE, "cohere")     /* mean and variance by hand, in F32 */

/* Where norms stand.  M mixer, F MLP, n norm. */
#define TS_NORM_ORDER_WORDS(XX)                                               \
    XX(PRE, "pre")           /* x + M(n(x)), x + F(n(x)) */                   \
    XX(AFTER, "after")       /* x + n(M(x)), x + n(F(x)): OLMo 2 */           \
    XX(SANDWICH, "sandwich") /* x + n(M(n(x))), x + n(F(n(x))): Gemma 2 */    \
    XX(POST, "post")         /* n(x + M(x)), n(x + F(x)): BERT */             \
    XX(SHARED, "shared")     /* x + M(n(x)) + F(n(x)), one norm: GPT-J */     \
    XX(TWIN, "twin")         /* the same, a norm each: GPT-NeoX */

#define TS_ACT_WORDS(XX)                                                      \
    XX(SILU, "silu")                                                          \
    XX(GELU, "gelu")         /* the fused kernel, either formula */           \
    XX(GELU_NEW, "gelu_new") /* tanh formula written out */                   \
    XX(QUICK_GELU, "quick_gelu") /* x * sigmoid(1.702 x) */                   \
    XX(RELU, "relu")                                                          \
    XX(RELU2, "relu2")       /* relu, squared */

#define TS_ROPE_WORDS(XX)                                                     \
    XX(NONE, "none")                                                          \
    XX(HALF, "half")         /* x cos + rotate_half(x) sin, all of a head */  \
    XX(PART, "part")         /* a part of a head, put back by a concat */     \
    XX(SPREAD, "spread")     /* PART, tables repeated in each layer: GLM */   \
    XX(PAIRS, "pairs")       /* GPT-J: PART on (b, s, a, d), four tables */   \
    XX(COMPLEX, "complex")   /* complex numbers in F32: DeepSeek-V2 */        \
    XX(SPLIT, "split")       /* halves multiplied and put together: gpt-oss */\
    XX(VISION, "vision")     /* HALF over rows and columns; sequences are one \
                                tensor, cut for attention, put together */    \
    XX(ALIBI, "alibi")       /* none, but a bias added to scores */           \
    XX(BUCKETS, "buckets")   /* a learned bias added to scores: T5 */

/* How k and v are cut from a fused projection. */
#define TS_KV_CUT_WORDS(XX)                                                   \
    XX(VIEW, "view")                                                          \
    XX(INDEX, "index")       /* by an index, a copy: Falcon's one head */     \
    XX(SPREAD, "spread")     /* the same, then spread to all heads */

#define TS_MASK_WORDS(XX)                                                     \
    XX(CAUSAL, "causal")     /* a flag, a tensor only where windows cut */    \
    XX(TENSOR, "tensor")     /* always a tensor */                            \
    XX(NONE, "none")         /* all see all */

#define TS_SOFTMAX_WORDS(XX)                                                  \
    XX(FP32, "fp32")         /* softmax(..., dtype=float32).to(dtype) */      \
    XX(NATIVE, "native")     /* in the dtype of the scores */                 \
    XX(SINK, "sink")         /* a learned sink beside the scores: gpt-oss */

#define TS_ROUTER_WORDS(XX)                                                   \
    XX(MIXTRAL, "mixtral")   /* softmax in F32, top k, divided by their sum */\
    XX(OLMOE, "olmoe")       /* softmax in F32, top k, cast back */           \
    XX(QWEN, "qwen")         /* the same, and divided by their sum first */   \
    XX(DEEPSEEK2, "deepseek2") /* all in F32, input cast as well */           \
    XX(DEEPSEEK3, "deepseek3") /* the same with sigmoid and groups */         \
    XX(GPT_OSS, "gpt_oss")   /* softmax over the top k only */

/* Fields of a ts_layer; see TS_LAYER_MAP in estimate.h. */
#define TS_LAYER_DIALECT(XX)                                                  \
    XX(norm_code, 0, 0, TS_NORM_CODE_COUNT - 1, "word: how norms are written")\
    XX(norm_order, 0, 0, TS_NORM_ORDER_COUNT - 1, "word: where norms stand")  \
    XX(act, 0, 0, TS_ACT_COUNT - 1, "word: the activation function")          \
    XX(rope, TS_ROPE_HALF, 0, TS_ROPE_COUNT - 1, "word: rotary positions")    \
    XX(kv_cut, 0, 0, TS_KV_CUT_COUNT - 1, "word: how k and v are cut out")    \
    XX(mask, 0, 0, TS_MASK_COUNT - 1, "word: what hides positions")           \
    XX(softmax, 0, 0, TS_SOFTMAX_COUNT - 1, "word: eager attention's softmax")\
    XX(router, 0, 0, TS_ROUTER_COUNT - 1, "word: how experts are chosen")     \
    XX(score_cap, 0, 0, 1, "1: attention scores pass a tanh")                 \
    XX(attention_dropout, 0, 0, 1, "1: attention weights drop out")           \
    XX(residual_dropout, 0, 0, 1, "1: what joins the residual drops out")     \
    XX(act_dropout, 0, 0, 1, "1: the activation drops out")                   \
    XX(buckets, 0, 0, 1, "1: the layer finds the buckets of positions")       \
    XX(branch_scale, 0, 0, 1, "1: learned scales of what joins the residual")

#define XX(name, ...) TS_NORM_CODE_##name,
typedef enum { TS_NORM_CODE_WORDS(XX) TS_NORM_CODE_COUNT } ts_norm_code;
#undef XX
#define XX(name, ...) TS_NORM_ORDER_##name,
typedef enum { TS_NORM_ORDER_WORDS(XX) TS_NORM_ORDER_COUNT } ts_norm_order;
#undef XX
#define XX(name, ...) TS_ACT_##name,
typedef enum { TS_ACT_WORDS(XX) TS_ACT_COUNT } ts_act;
#undef XX
#define XX(name, ...) TS_ROPE_##name,
typedef enum { TS_ROPE_WORDS(XX) TS_ROPE_COUNT } ts_rope;
#undef XX
#define XX(name, ...) TS_KV_CUT_##name,
typedef enum { TS_KV_CUT_WORDS(XX) TS_KV_CUT_COUNT } ts_kv_cut;
#undef XX
#define XX(name, ...) TS_MASK_##name,
typedef enum { TS_MASK_WORDS(XX) TS_MASK_COUNT } ts_mask;
#undef XX
#define XX(name, ...) TS_SOFTMAX_##name,
typedef enum { TS_SOFTMAX_WORDS(XX) TS_SOFTMAX_COUNT } ts_softmax;
#undef XX
#define XX(name, ...) TS_ROUTER_##name,
typedef enum { TS_ROUTER_WORDS(XX) TS_ROUTER_COUNT } ts_router;
#undef XX

#endif
