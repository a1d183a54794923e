#include "large.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "base.h"

#define HUGE_PAGE ((size_t)2 << 20)

void *ts_large_new(size_t size)
{
    void *memory;

    if (size < HUGE_PAGE) return malloc(size > 0 ? size : 1);
    if (posix_memalign(&memory, HUGE_PAGE, size) != 0) return NULL;
    /* Whole huge pages only: a tail of 4 KiB pages costs no more memory than
     * it holds.  Without huge pages nothing is lost. */
    (void)madvise(memory, (size_t)ts_round_down(size, HUGE_PAGE),
                  MADV_HUGEPAGE);
    return memory;
}
