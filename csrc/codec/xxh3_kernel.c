/* The baseline of the machine: SSE2 on x86-64, NEON on AArch64. */
#include "xxh3_body.h"

const ts_xxh3 ts_xxh3_scalar = {of, reset, add, value};
