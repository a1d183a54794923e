#include "check.h"

#include <math.h>
#include <stdint.h>

#include "quant/quant.h"

/* The first sixteen places, as every drawing of the curve has them. */
static void the_curve_begins_as_drawn(void)
{
    static const uint8_t drawn[16] = {0,  1,  14, 15, /* y = 0 */
                                      3,  2,  13, 12, /* y = 1 */
                                      4,  7,  8,  11, /* y = 2 */
                                      5,  6,  9,  10};
    uint8_t in[16], image[16];
    for (int i = 0; i < 16; i++) in[i] = (uint8_t)i;
    CHECK_OK(ts_hilbert_map(in, 16, 2, 1, image, error));
    CHECK(memcmp(image, drawn, 16) == 0);
}

/* Memory ends where the sequence and the image end. */
static void every_count_and_width_comes_back(void)
{
    for (unsigned order = 0; order <= 6; order++)
        for (size_t width = 1; width <= 8; width *= 2) {
            size_t places = (size_t)1 << 2 * order;
            uint8_t *image = calloc(places, width);
            for (size_t count = 0; count <= places;
                 count += places > 64 ? places / 9 : 1) {
                uint8_t *in = malloc(count * width + 1);
                uint8_t *out = malloc(count * width + 1);
                for (size_t i = 0; i < count * width; i++)
                    in[i] = (uint8_t)(i * 37 + 11);
                CHECK_OK(ts_hilbert_map(in, count, order, width, image,
                                        error));
                CHECK_OK(ts_hilbert_unmap(image, count, order, width, out,
                                          error));
                CHECK(memcmp(in, out, count * width) == 0,
                      "order %u, width %zu, count %zu", order, width, count);
                free(in);
                free(out);
            }
            free(image);
        }
}

static void the_smallest_square_is_found(void)
{
    CHECK(ts_hilbert_order(0) == 0 && ts_hilbert_order(1) == 0);
    CHECK(ts_hilbert_order(2) == 1 && ts_hilbert_order(4) == 1);
    CHECK(ts_hilbert_order(5) == 2 && ts_hilbert_order(4096) == 6);
    CHECK(ts_hilbert_order(4097) == 7);
    CHECK(ts_hilbert_order(UINT64_MAX) == TS_HILBERT_MOST_ORDER);
}

static void means_are_of_runs(void)
{
    const float x[6] = {1, 2, 3, 4, 10, 20};
    float means[3];
    CHECK(ts_hilbert_means_count(6, 2) == 3);
    ts_hilbert_means(x, 6, 2, means);
    CHECK(means[0] == 2.5f && means[1] == 15);
    CHECK(means[2] == (float)(40.0 / 6));
    CHECK(ts_hilbert_means_count(0, 4) == 0);
    ts_hilbert_means(x, 0, 4, means);
}

static void what_does_not_fit_is_refused(void)
{
    uint8_t bytes[16] = {0};
    CHECK_FAILS(ts_hilbert_map(bytes, 5, 1, 1, bytes, error), TS_ARGUMENT,
                "5 elements do not fit a square of order 1");
    CHECK_FAILS(ts_hilbert_unmap(bytes, 1, 40, 1, bytes, error), TS_ARGUMENT,
                "1 elements do not fit a square of order 40");
    CHECK_FAILS(ts_hilbert_map(bytes, 1, 1, 3, bytes, error), TS_ARGUMENT,
                "elements of 3 bytes");
}

int main(void)
{
    RUN(the_curve_begins_as_drawn);
    RUN(every_count_and_width_comes_back);
    RUN(the_smallest_square_is_found);
    RUN(means_are_of_runs);
    RUN(what_does_not_fit_is_refused);
    CHECK_END();
}
