#include "judge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* GGUF and nothing else: other formats have targets of their own. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= 4 && memcmp(data, "GGUF", 4) == 0) judge_open(data, size);
    return 0;
}
