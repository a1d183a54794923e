#include "check.h"

#include "core/base.h"
#include "stream/stream.h"

/* A catalog of zero-filled tensors in memory. */
typedef struct {
    const char *name;
    ts_dtype dtype;
    uint32_t ndim;
    uint64_t shape[4];
} row;

static ts_catalog *catalog_of(const row *rows, uint32_t count)
{
    ts_catalog_builder *builder;
    ts_catalog *catalog = NULL;
    CHECK_OK(ts_catalog_builder_new(TS_FORMAT_MEMORY, &builder, error));
    for (uint32_t i = 0; i < count; i++) {
        uint64_t elements = 1, size = 0;
        ts_buffer *memory;
        for (uint32_t d = 0; d < rows[i].ndim; d++)
            elements *= rows[i].shape[d];
        CHECK(ts_dtype_bytes(rows[i].dtype, elements, &size));
        CHECK_OK(ts_buffer_new(size > 0 ? size : 8, 64, &memory, error));
        if (size == 0) {
            static uint8_t nothing;
            ts_buffer_release(memory);
            CHECK_OK(ts_buffer_wrap(&nothing, 0, TS_ORIGIN_FOREIGN, NULL, NULL,
                                    &memory, error));
        } else {
            memset(ts_buffer_data(memory), 0, size);
        }
        CHECK_OK(ts_catalog_builder_add(
            builder, (ts_name){rows[i].name, strlen(rows[i].name)},
            rows[i].dtype, rows[i].ndim, rows[i].shape, memory, error));
        ts_buffer_release(memory);
    }
    CHECK_OK(ts_catalog_builder_finish(builder, &catalog, error));
    return catalog;
}

static ts_item item_of(const ts_catalog *catalog, uint32_t number)
{
    const ts_tensor *tensor = ts_catalog_tensor(catalog, number);
    uint32_t size = ts_dtype_block_size(tensor->dtype);
    return (ts_item){
        .row = number,
        .widths = {ts_dtype_block_count(tensor->dtype), size, size},
        .stop = tensor->elements,
    };
}

/* Whatever the sizes asked for meanwhile, each element comes once, in order. */
static void every_element_comes_exactly_once(void)
{
    const row rows[] = {{"a", TS_F32, 2, {100, 77}},
                        {"empty", TS_F32, 2, {0, 7}},
                        {"scalar", TS_F32, 0, {0}},
                        {"blocks", TS_Q4_K, 2, {5, 1024}},
                        {"bytes", TS_U8, 1, {100003}}};
    enum { COUNT = 5 };
    ts_catalog *catalog = catalog_of(rows, COUNT);
    ts_item items[COUNT];
    for (uint32_t i = 0; i < COUNT; i++) items[i] = item_of(catalog, i);

    for (unsigned seed = 0; seed < 200; seed++) {
        unsigned state = seed;
        ts_plan plan;
        ts_chunk chunk;
        uint32_t item = 0;
        uint64_t at = 0;
        ts_plan_begin(&plan, catalog, items, COUNT, seed % 2 == 0);
        for (;;) {
            uint64_t size = (uint64_t)rand_r(&state) % 20000;
            if (!ts_plan_next(&plan, size, &chunk)) break;
            CHECK(chunk.item == item && chunk.start == at);
            CHECK(chunk.stop <= items[item].stop);
            CHECK(chunk.stop > chunk.start || items[item].stop == 0);
            CHECK(chunk.stop % items[item].widths.block == 0);
            CHECK(chunk.is_last == (chunk.stop == items[item].stop));
            uint64_t blocks = (chunk.stop - chunk.start)
                            / items[item].widths.block;
            CHECK(blocks <= 1
                  || blocks * items[item].widths.in_size <= size);
            at = chunk.stop;
            if (chunk.is_last) {
                item++;
                at = 0;
            }
        }
        CHECK(item == COUNT);
    }
    ts_catalog_release(catalog);
}

static void chunks_end_on_rows(void)
{
    const row rows[] = {{"a", TS_F32, 3, {4, 6, 100}}};
    ts_catalog *catalog = catalog_of(rows, 1);
    ts_item item = item_of(catalog, 0);
    ts_plan plan;
    ts_chunk chunk;
    uint64_t shape[TS_MAX_DIMS];

    ts_plan_begin(&plan, catalog, &item, 1, true);
    CHECK(ts_plan_next(&plan, 1300 * 4, &chunk));
    CHECK(chunk.stop == 1200, "two of the outermost rows");
    CHECK(ts_chunk_shape(ts_catalog_tensor(catalog, 0), chunk.start,
                         chunk.stop, shape)
          == 3);
    CHECK(shape[0] == 2 && shape[1] == 6 && shape[2] == 100);
    CHECK(ts_plan_next(&plan, 250 * 4, &chunk));
    CHECK(chunk.stop == 1400, "two of the inner rows");
    CHECK(ts_chunk_shape(ts_catalog_tensor(catalog, 0), chunk.start,
                         chunk.stop, shape)
          == 2);
    CHECK(shape[0] == 2 && shape[1] == 100);
    CHECK(ts_plan_next(&plan, 30 * 4, &chunk));
    CHECK(chunk.stop == 1430, "a part of a row");
    CHECK(ts_chunk_shape(ts_catalog_tensor(catalog, 0), chunk.start,
                         chunk.stop, shape)
          == 1);
    CHECK(shape[0] == 30);
    CHECK(ts_plan_next(&plan, 1 << 20, &chunk));
    CHECK(chunk.start == 1430 && chunk.stop == 2400 && chunk.is_last);
    ts_catalog_release(catalog);
}

static void order_follows_a_forward_pass(void)
{
    const row rows[] = {
        {"lm_head.weight", TS_F32, 1, {1}},
        {"model.embed_tokens.weight", TS_F32, 1, {1}},
        {"model.layers.10.mlp.up_proj.weight", TS_F32, 1, {1}},
        {"model.layers.2.mlp.up_proj.weight", TS_F32, 1, {1}},
        {"model.layers.2.self_attn.q_proj.weight", TS_F32, 1, {1}},
        {"model.norm.weight", TS_F32, 1, {1}},
    };
    uint32_t order[] = {0, 1, 2, 3, 4, 5};
    ts_catalog *catalog = catalog_of(rows, 6);
    CHECK_OK(ts_order_rows(catalog, TS_ORDER_LAYER, order, 6, error));
    CHECK(order[0] == 1, "the embedding first, not %u", order[0]);
    CHECK(order[1] == 4 && order[2] == 3, "attention before mlp");
    CHECK(order[3] == 2, "2 before 10");
    CHECK(order[4] == 5 && order[5] == 0, "the last norm before the head");
    CHECK_OK(ts_order_rows(catalog, TS_ORDER_FILE, order, 6, error));
    for (uint32_t i = 0; i < 6; i++) CHECK(order[i] == i);
    ts_catalog_release(catalog);
}

/* What is unpacked together is cut on its borders, where rows allow it. */
static void chunks_end_where_units_are_unpacked(void)
{
    const row rows[] = {{"w", TS_F32, 2, {100, 50}}};
    static const struct {
        uint64_t limit, grain, stop;
        bool by_rows;
    } table[] = {
        {4 * 1100, 400, 800, true},  /* 22 rows: 16 of them are 2 units */
        {4 * 1100, 430, 1100, true}, /* no border of a row: rows win */
        {4 * 1100, 430, 860, false},
        {4 * 300, 400, 300, true}, /* less than a unit */
        {4 * 300, 400, 296, false},
        {4 * 1100, 0, 1100, true},
    };
    ts_catalog *catalog = catalog_of(rows, 1);

    for (size_t i = 0; i < TS_COUNT_OF(table); i++) {
        ts_item item = item_of(catalog, 0);
        ts_plan plan;
        ts_chunk chunk;
        item.grain = table[i].grain;
        ts_plan_begin(&plan, catalog, &item, 1, table[i].by_rows);
        CHECK(ts_plan_next(&plan, table[i].limit, &chunk));
        CHECK(chunk.stop == table[i].stop, "case %zu: %llu", i,
              (unsigned long long)chunk.stop);
    }
    ts_catalog_release(catalog);
}

int main(void)
{
    RUN(every_element_comes_exactly_once);
    RUN(chunks_end_on_rows);
    RUN(order_follows_a_forward_pass);
    RUN(chunks_end_where_units_are_unpacked);
    CHECK_END();
}
