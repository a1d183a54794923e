#include "judge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Archives of arrays and of torch, and torch's bare pickles. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= 2 && (data[0] == 'P' || data[0] == 0x80))
        judge_open(data, size);
    return 0;
}
