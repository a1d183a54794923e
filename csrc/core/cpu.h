/* cpu.h -- which instruction sets the fast kernels may use.
 *
 * Three levels, each a promise about a set of features; a kernel table has one
 * column a level.  TENSORSTREAM_SIMD=scalar|avx2|avx512 masks the level, so
 * that one machine can test every path. */
#ifndef TS_CORE_CPU_H
#define TS_CORE_CPU_H

typedef enum {
    TS_SIMD_SCALAR,
    TS_SIMD_AVX2,   /* AVX2, FMA, F16C, BMI2 */
    TS_SIMD_AVX512, /* F, BW, DQ, VL, VBMI, VBMI2 */
    TS_SIMD_LEVELS
} ts_simd;

ts_simd ts_cpu_simd(void);              /* after the mask; cheap to ask */
const char *ts_simd_name(ts_simd level); /* "avx512" */
int ts_cpu_count(void); /* cores this process may run on, at least 1 */

#endif
