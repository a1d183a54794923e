/* rl.h -- training beside a sleeping server: a policy with adapters, its
 * reference as a second set of them, and the engine that generated asleep on
 * the same device.  A step is train.c's. */
#ifndef TS_ESTIMATE_RL_H
#define TS_ESTIMATE_RL_H

#define TS_RL_PROFILE(XX)                                                     \
    XX(references, 1, 0, 16, "sets of adapters that stand still")             \
    XX(asleep_bytes, 0, 0, TS_BYTES, "bytes of a sleeping engine")            \
    XX(asleep_token, 0, 0, TS_DIM, "bytes a token of its largest step that"   \
       " it keeps")

#define TS_RL_FORMULAS(XX)                                                    \
    XX(REFERENCE, "reference", "sets * adapters * B",                         \
       "GRPO 2402.03300: the reference policy, as adapters")                  \
    XX(ASLEEP, "asleep",                                                      \
       "a constant, and step tokens * (a constant + k (2 M + h) B of experts)",\
       "measured: vLLM's sleep level 1, floors of the AgileRL fixtures")

#endif
