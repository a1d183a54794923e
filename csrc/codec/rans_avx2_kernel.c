#include "rans_kernel.h"

#if defined(__x86_64__)
static size_t decode(const ts_rans_slots *slots, ts_rans_cursor *cursor,
                     size_t groups, uint8_t *out)
{ return ts_rans_scalar.decode(slots,cursor,groups,out); }
static size_t number(const uint8_t index[256], uint8_t escape,
                     uint8_t *symbols, size_t count, uint8_t *rares)
{ return ts_rans_scalar.number(index,escape,symbols,count,rares); }
static uint8_t *encode(const ts_rans_owners *owners, const uint8_t *symbols,
                       size_t groups, uint16_t *state, uint8_t *end)
{ return ts_rans_scalar.encode(owners,symbols,groups,state,end); }
const ts_rans ts_rans_avx2 = {decode, number, encode};
#else
typedef int ts_rans_avx2_is_for_x86;
#endif
