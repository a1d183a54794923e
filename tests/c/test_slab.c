#include "check.h"

#include <pthread.h>

#include "core/base.h"
#include "core/slab.h"

static int returned;
static void count_return(void *context)
{
    CHECK(context == &returned);
    __atomic_fetch_add(&returned, 1, __ATOMIC_RELAXED);
}

static void blocks_are_recycled_lowest_first(void)
{
    ts_slab *slab;
    ts_buffer *a, *b, *c, *d;
    CHECK_OK(ts_slab_new(10 * TS_SLAB_GRAIN + 5, 1, &slab, error));
    CHECK(ts_slab_size(slab) == 10 * TS_SLAB_GRAIN);
    ts_slab_on_return(slab, count_return, &returned);
    CHECK_OK(ts_slab_take(slab, 3 * TS_SLAB_GRAIN, 0, 0, 1, &a, error));
    CHECK_OK(ts_slab_take(slab, 1, 0, 0, 2, &b, error));
    CHECK_OK(ts_slab_take(slab, 3 * TS_SLAB_GRAIN, 0, 0, 3, &c, error));
    CHECK(ts_slab_used(slab) == 7 * TS_SLAB_GRAIN);
    CHECK(ts_slab_largest(slab) == 3 * TS_SLAB_GRAIN);
    memset(ts_buffer_data(a), 1, ts_buffer_size(a));
    uint8_t *at = ts_buffer_data(a);
    ts_buffer_release(a);
    CHECK(returned == 1);
    CHECK_OK(ts_slab_take(slab, 2 * TS_SLAB_GRAIN, 0, 0, 4, &d, error));
    CHECK(ts_buffer_data(d) == at, "the hole at the bottom is used first");
    CHECK_FAILS(ts_slab_take(slab, 4 * TS_SLAB_GRAIN, 0, 0, 5, &a, error), TS_BUDGET,
                "no room");
    CHECK_FAILS(ts_slab_take(slab, 40 * TS_SLAB_GRAIN, 0, 0, 5, &a, error),
                TS_BUDGET, "exceed");

    ts_slab_block held[2];
    CHECK(ts_slab_held(slab, held, 2) == 3);
    CHECK(held[0].tag == 4 && held[1].tag == 2);
    ts_buffer_release(d);
    ts_buffer_release(b);
    ts_buffer_release(c);
    CHECK(ts_slab_largest(slab) == 10 * TS_SLAB_GRAIN);
    CHECK(ts_slab_used(slab) == 0
          && ts_slab_peak(slab) == 7 * TS_SLAB_GRAIN);
    ts_slab_close(slab);
    ts_slab_close(NULL);
}

static void blocks_outlive_their_slab(void)
{
    ts_slab *slab;
    ts_buffer *a, *b;
    CHECK_OK(ts_slab_new(8 * TS_MIB, 1, &slab, error));
    CHECK_OK(ts_slab_take(slab, TS_MIB, 0, 0, 0, &a, error));
    CHECK_OK(ts_slab_take(slab, TS_MIB, 0, 0, 0, &b, error));
    memset(ts_buffer_data(a), 7, TS_MIB);
    memset(ts_buffer_data(b), 8, TS_MIB);
    ts_slab_close(slab);
    CHECK(ts_buffer_data(a)[TS_MIB - 1] == 7);
    ts_buffer_release(a);
    CHECK(ts_buffer_data(b)[0] == 8);
    ts_buffer_release(b);
}

static void each_node_has_its_part(void)
{
    ts_slab *slab;
    ts_buffer *first, *second, *third, *fourth;
    CHECK_OK(ts_slab_new(8 * TS_SLAB_GRAIN, 2, &slab, error));
    CHECK_OK(ts_slab_take(slab, 2 * TS_SLAB_GRAIN, 0, 1, 1, &second, error));
    CHECK_OK(ts_slab_take(slab, 2 * TS_SLAB_GRAIN, 0, 0, 2, &first, error));
    CHECK(ts_buffer_data(second) - ts_buffer_data(first)
              == 4 * TS_SLAB_GRAIN,
          "the second half belongs to node 1");
    CHECK_OK(ts_slab_take(slab, 2 * TS_SLAB_GRAIN, 0, 1, 3, &third, error));
    CHECK(ts_buffer_data(third) - ts_buffer_data(first) == 6 * TS_SLAB_GRAIN);
    CHECK_OK(ts_slab_take(slab, 2 * TS_SLAB_GRAIN, 0, 1, 4, &fourth, error));
    CHECK(ts_buffer_data(fourth) - ts_buffer_data(first) == 2 * TS_SLAB_GRAIN,
          "a full node borrows from another");
    ts_buffer_release(first);
    ts_buffer_release(third);
    ts_buffer_release(second);
    ts_buffer_release(fourth);
    CHECK(ts_slab_largest(slab) == 8 * TS_SLAB_GRAIN);
    ts_slab_close(slab);
}

static void slabs_need_a_page(void)
{
    ts_slab *slab;
    CHECK_FAILS(ts_slab_new(100, 1, &slab, error), TS_ARGUMENT, "slab of 0");
    CHECK(slab == NULL);
    CHECK_FAILS(ts_slab_new(1ull << 60, 1, &slab, error), TS_NOMEM,
                "cannot reserve");
}

static void *churn(void *argument)
{
    ts_slab *slab = argument;
    unsigned seed = (unsigned)(uintptr_t)&seed;
    ts_buffer *mine[4] = {0};
    for (int i = 0; i < 20000; i++) {
        int k = rand_r(&seed) % 4;
        ts_buffer_release(mine[k]);
        mine[k] = NULL;
        ts_slab_take(slab, (uint64_t)(rand_r(&seed) % 40000) + 1, 0, 0, 9, &mine[k],
                     NULL);
        if (mine[k] != NULL) {
            uint8_t *data = ts_buffer_data(mine[k]);
            data[0] = (uint8_t)k;
            data[ts_buffer_size(mine[k]) - 1] = (uint8_t)k;
        }
    }
    for (int k = 0; k < 4; k++) ts_buffer_release(mine[k]);
    return NULL;
}

static void threads_share_a_slab(void)
{
    ts_slab *slab;
    pthread_t threads[4];
    CHECK_OK(ts_slab_new(TS_MIB / 4, 3, &slab, error));
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, churn, slab);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    CHECK(ts_slab_used(slab) == 0);
    CHECK(ts_slab_largest(slab) == ts_slab_size(slab));
    ts_slab_close(slab);
}

int main(void)
{
    RUN(blocks_are_recycled_lowest_first);
    RUN(blocks_outlive_their_slab);
    RUN(each_node_has_its_part);
    RUN(slabs_need_a_page);
    RUN(threads_share_a_slab);
    CHECK_END();
}
