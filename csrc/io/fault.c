#include "fault.h"

#ifdef TS_FAULTS
ts_calls ts_sys = TS_REAL_CALLS;
const ts_calls ts_real = TS_REAL_CALLS;
#else
/* Nothing to replace: keep the file from being empty, which C forbids. */
typedef int ts_no_faults;
#endif
