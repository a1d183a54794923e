#if defined(__x86_64__)

#include "lanes_avx2.h"

#include "kquants_search_body.h"

MIN_KERNEL(ts_q2_k_quantize_avx2, q2_k, 16, 84, TS_Q2_K_RULE)
MIN_KERNEL(ts_q4_k_quantize_avx2, q4_k, 32, 144, TS_Q4_K_RULE)
MIN_KERNEL(ts_q5_k_quantize_avx2, q5_k, 32, 176, TS_Q5_K_RULE)
SCALE_KERNEL(ts_q3_k_quantize_avx2, q3_k, 110, search_q3)
SCALE_KERNEL(ts_q6_k_quantize_avx2, q6_k, 210, search_q6)

#endif
