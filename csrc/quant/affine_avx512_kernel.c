#if defined(__x86_64__)
#include "avx512.h"
#define TS_TARGET TS_AVX512
#define TS_KERNELS ts_affine_avx512
#include "affine_body.h"
#endif
