#include "check.h"

#include <stdlib.h>

#include "core/base.h"
#include "stream/adapt.h"
#include "stream/layout.h"

/* Feed a rate that depends on the size; return where the size comes to rest. */
static uint64_t settle(ts_adapt *adapt, double (*rate)(uint64_t), int windows,
                       double pressure)
{
    uint64_t visits[64] = {0};
    for (int i = 0; i < windows; i++) {
        ts_adapt_window window = {rate(adapt->size), pressure};
        uint64_t size = ts_adapt_step(adapt, &window);
        if (i > windows / 2) visits[__builtin_ctzll(size)]++;
    }
    int most = 0;
    for (int i = 0; i < 64; i++)
        if (visits[i] > visits[most]) most = i;
    return 1ull << most;
}

static double best_at_64k(uint64_t size)
{
    return size == 65536 ? 30e9 : size < 65536 ? 30e9 - 1e5 * (double)(65536 - size) / 2 : 30e9 - 4e4 * (double)(size - 65536) / 2;
}

static double grows(uint64_t size) { return 1e9 + (double)size; }

static double flat_with_noise(uint64_t size)
{
    static unsigned seed = 7;
    (void)size;
    return 20e9 * (0.985 + 0.03 * (rand_r(&seed) % 1000) / 1000.0);
}

static void speed_climbs_to_the_best_size(void)
{
    ts_adapt adapt;
    ts_adapt_begin(&adapt, TS_ADAPT_SPEED, 16 * TS_KIB, 8 * TS_MIB,
                   256 * TS_KIB);
    CHECK(adapt.size == 256 * TS_KIB);
    uint64_t size = settle(&adapt, best_at_64k, 400, 0.1);
    CHECK(size == 64 * TS_KIB, "rests at %llu", (unsigned long long)size);

    ts_adapt_begin(&adapt, TS_ADAPT_SPEED, 16 * TS_KIB, 8 * TS_MIB,
                   256 * TS_KIB);
    /* Each doubling gains less than 4 % in the end: it may stop before. */
    size = settle(&adapt, grows, 400, 0.1);
    CHECK(size >= 1 * TS_MIB || adapt.home_rate > 1.0e9);
}

/* Fast up to `best`, and a tenth slower for each doubling away from it. */
static double peak_at(uint64_t best, uint64_t size)
{
    int steps = __builtin_ctzll(size) - __builtin_ctzll(best);
    return 20e9 / (1 + 0.1 * abs(steps));
}

static void every_size_is_found_from_every_other(void)
{
    for (uint64_t best = 64 * TS_KIB; best <= 8 * TS_MIB; best *= 2)
        for (uint64_t start = 64 * TS_KIB; start <= 8 * TS_MIB; start *= 2) {
            ts_adapt adapt;
            ts_adapt_begin(&adapt, TS_ADAPT_SPEED, 64 * TS_KIB, 8 * TS_MIB,
                           start);
            /* Two windows at home, two for the wrong direction, one a step. */
            for (int i = 0; i < 12; i++) {
                ts_adapt_window window = {peak_at(best, adapt.size), 0.1};
                ts_adapt_step(&adapt, &window);
            }
            CHECK(adapt.home == best, "from %llu to %llu, not %llu",
                  (unsigned long long)start, (unsigned long long)adapt.home,
                  (unsigned long long)best);
        }
}

/* One climb, window by window: the rate that is measured, the size that
 * follows, in KiB. */
static void a_climb_goes_on_in_its_direction(void)
{
    static const struct {
        double rate;
        uint64_t next;
        const char *why;
    } table[] = {
        {6, 256, "the threads have just started"},
        {10, 512, "home is known: twice the size"},
        {9, 512, "its first window touches new memory"},
        {10.5, 1024, "won by 5 %: on, and half is not asked"},
        {10.6, 1024, "a little better is not enough"},
        {10.8, 512, "lost, and 256 has lost before: home"},
        {10.5, 512, "8 windows, and"},
        {2, 512, "a disturbed one does not make home slow"},
        {10.5, 512, ""}, {10.5, 512, ""}, {10.5, 512, ""}, {10.5, 512, ""},
    };
    ts_adapt adapt;

    ts_adapt_begin(&adapt, TS_ADAPT_SPEED, 64 * TS_KIB, 8 * TS_MIB,
                   256 * TS_KIB);
    for (size_t i = 0; i < TS_COUNT_OF(table); i++) {
        ts_adapt_window window = {table[i].rate * 1e9, 0.1};
        uint64_t next = ts_adapt_step(&adapt, &window) / TS_KIB;
        CHECK(next == table[i].next, "window %zu: %llu KiB (%s)", i,
              (unsigned long long)next, table[i].why);
    }
    CHECK(adapt.changes == 1 && adapt.home_rate > 10e9);
}

/* Trials cost what the wrong sizes cost: a size that stays right is left for
 * a few windows in a hundred. */
static void looking_around_is_rare(void)
{
    ts_adapt adapt;
    int away = 0;

    ts_adapt_begin(&adapt, TS_ADAPT_SPEED, 64 * TS_KIB, 8 * TS_MIB,
                   1 * TS_MIB);
    for (int i = 0; i < 1000; i++) {
        ts_adapt_window window = {peak_at(1 * TS_MIB, adapt.size), 0.1};
        ts_adapt_step(&adapt, &window);
        away += adapt.size != 1 * TS_MIB;
    }
    CHECK(away > 0 && away <= 20, "%d of 1000 windows elsewhere", away);
}

static void noise_does_not_move_it(void)
{
    ts_adapt adapt;
    ts_adapt_begin(&adapt, TS_ADAPT_SPEED, 16 * TS_KIB, 8 * TS_MIB,
                   256 * TS_KIB);
    (void)settle(&adapt, flat_with_noise, 2000, 0.1);
    CHECK(adapt.changes == 0, "moved %llu times",
          (unsigned long long)adapt.changes);
    CHECK(adapt.patience > 64, "and looks ever more rarely");
}

static void bounds_hold_and_pressure_wins(void)
{
    ts_adapt adapt;
    ts_adapt_begin(&adapt, TS_ADAPT_SPEED, 100000, 1000000, 1 << 30);
    CHECK(adapt.least == 65536 && adapt.most == 524288 && adapt.size == 524288);
    ts_adapt_window pressed = {1e9, 0.95};
    for (int i = 0; i < 20; i++) ts_adapt_step(&adapt, &pressed);
    CHECK(adapt.size == 65536);
}

static void classic_follows_the_documented_rule(void)
{
    static const struct {
        uint64_t size;
        double pressure;
        uint64_t next;
    } table[] = {
        {1024, 0.95, 819}, {1024, 0.90, 1024}, {1024, 0.50, 1024},
        {1024, 0.49, 1228}, {300, 0.99, 256}, {256, 0.99, 256},
        {8000, 0.10, 8192}, {8192, 0.10, 8192}, {1024, 0, 1024},
    };
    for (size_t i = 0; i < TS_COUNT_OF(table); i++) {
        ts_adapt adapt;
        ts_adapt_window window = {0, table[i].pressure};
        ts_adapt_begin(&adapt, TS_ADAPT_CLASSIC, 256, 8192, table[i].size);
        uint64_t next = ts_adapt_step(&adapt, &window);
        CHECK(next == table[i].next, "%llu at %.2f gave %llu",
              (unsigned long long)table[i].size, table[i].pressure,
              (unsigned long long)next);
    }
}

static void none_stays(void)
{
    ts_adapt adapt;
    ts_adapt_window window = {5, 0.99};
    ts_adapt_begin(&adapt, TS_ADAPT_NONE, 1, 1 << 20, 12345);
    CHECK(ts_adapt_step(&adapt, &window) == 12345);
}

static void depth_follows_stalls(void)
{
    CHECK(ts_adapt_depth(4, 32, 10, 32) == 8);
    CHECK(ts_adapt_depth(32, 32, 32, 32) == 32);
    CHECK(ts_adapt_depth(8, 32, 2, 32) == 8);
    CHECK(ts_adapt_depth(8, 32, 0, 32) == 7);
    CHECK(ts_adapt_depth(2, 32, 0, 32) == 2);
}

static void a_budget_is_never_overdrawn(void)
{
    for (uint64_t budget = TS_MIB; budget <= TS_GIB; budget = budget * 3 / 2)
        for (int fetchers = 1; fetchers <= 65; fetchers += 4)
            for (int kind = 0; kind < 4; kind++) {
                ts_layout_question question = {
                    .budget = budget,
                    .fetchers = fetchers,
                    .delivers = kind & 1,
                    .stages = kind & 2,
                };
                ts_layout layout;
                ts_layout_of(&question, &layout);
                uint64_t stages = layout.stage * (uint64_t)fetchers;
                CHECK(stages <= budget);
                CHECK(layout.least <= layout.start
                      && layout.start <= layout.most && layout.least > 0);
                /* Two chunks must fit beside the stages, or nothing moves. */
                if (question.delivers && fetchers <= 33)
                    CHECK(stages + 2 * (layout.most + 8192) <= budget,
                          "budget %llu, %d fetchers",
                          (unsigned long long)budget, fetchers);
            }
}

int main(void)
{
    RUN(speed_climbs_to_the_best_size);
    RUN(every_size_is_found_from_every_other);
    RUN(a_climb_goes_on_in_its_direction);
    RUN(looking_around_is_rare);
    RUN(noise_does_not_move_it);
    RUN(bounds_hold_and_pressure_wins);
    RUN(classic_follows_the_documented_rule);
    RUN(none_stays);
    RUN(depth_follows_stalls);
    RUN(a_budget_is_never_overdrawn);
    CHECK_END();
}
