#if defined(__x86_64__)
#include "avx2.h"
#define TS_TARGET TS_AVX2
#define TS_KERNELS ts_affine_avx2
#include "affine_body.h"
#endif
