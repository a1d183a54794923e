#define TS_TARGET
#define TS_KERNELS ts_affine_scalar
#include "affine_body.h"
