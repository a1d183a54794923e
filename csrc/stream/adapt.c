#include "adapt.h"

#include <math.h>

#include "core/base.h"

/* A neighbour must be this much faster than home to become home. */
#define WIN 1.04
/* Above this share of the memory allowed, size shrinks whatever the speed. */
#define PRESSED 0.9
#define RELAXED 0.5
/* A disturbance only ever slows a window: what home can do is the best of
 * late, which fades by so much a window. */
#define FADE 0.98

enum {
    FIRST_PATIENCE = 8,
    LONGEST_PATIENCE = 1024,
    CALMER = 4, /* times as patient after a look around that found nothing */
    TRIES = 2,  /* windows of a trial: the first may touch new memory */
};

static uint64_t power_below(uint64_t value)
{
    uint64_t power = 1;
    while (power <= value / 2) power *= 2;
    return power;
}

static uint64_t clamp(uint64_t value, uint64_t least, uint64_t most)
{
    return ts_max(least, ts_min(value, most));
}

void ts_adapt_begin(ts_adapt *adapt, ts_adapt_rule rule, uint64_t least,
                    uint64_t most, uint64_t start)
{
    if (rule == TS_ADAPT_SPEED) {
        most = power_below(ts_max(most, 1));
        least = ts_min(power_below(ts_max(least, 1)), most);
        start = power_below(ts_max(start, 1));
    }
    *adapt = (ts_adapt){.rule = rule,
                        .least = least,
                        .most = most,
                        .size = clamp(start, least, most),
                        .patience = FIRST_PATIENCE};
    adapt->home = adapt->size;
    /* Look at the neighbours as soon as home has been measured, which takes a
     * second window: the first has the start of the threads in it. */
    adapt->windows = FIRST_PATIENCE - 1;
}

static uint64_t classic(ts_adapt *adapt, double pressure)
{
    if (pressure > PRESSED)
        adapt->size = ts_max(adapt->least, adapt->size * 8 / 10);
    else if (pressure > 0 && pressure < RELAXED)
        adapt->size = ts_min(adapt->most, adapt->size * 12 / 10);
    return adapt->size;
}

/* Trials run in the order: double, half. */
static uint64_t neighbour(const ts_adapt *adapt, int probe)
{
    uint64_t size = probe == 1 ? adapt->home * 2 : adapt->home / 2;
    return size < adapt->least || size > adapt->most ? 0 : size;
}

/* Begin the next trial from `probe` on; home again when there is none. */
static uint64_t start_trial(ts_adapt *adapt, int probe)
{
    adapt->tries = 0;
    for (; probe <= 2; probe++) {
        uint64_t size = neighbour(adapt, probe);
        /* The size that home has just won against need not be asked again. */
        bool behind = adapt->heading != 0 && probe != adapt->heading;
        if (size == 0 || behind) continue;
        adapt->probe = probe;
        return adapt->size = size;
    }
    adapt->probe = adapt->heading = 0;
    adapt->windows = 0;
    return adapt->size = adapt->home;
}

/* The size on trial has won: go on in its direction at once. */
static uint64_t move_home(ts_adapt *adapt, double rate)
{
    adapt->home = adapt->size;
    adapt->home_rate = rate;
    adapt->heading = adapt->probe;
    adapt->patience = FIRST_PATIENCE;
    adapt->changes++;
    return start_trial(adapt, 1);
}

static uint64_t try_out(ts_adapt *adapt, double rate)
{
    if (rate > adapt->home_rate * WIN) return move_home(adapt, rate);
    if (++adapt->tries < TRIES) return adapt->size;
    uint64_t size = start_trial(adapt, adapt->probe + 1);
    if (adapt->probe == 0) /* nobody won: look again, but later */
        adapt->patience = ts_min(adapt->patience * CALMER, LONGEST_PATIENCE);
    return size;
}

static uint64_t climb(ts_adapt *adapt, double rate)
{
    if (adapt->probe != 0) return try_out(adapt, rate);
    adapt->home_rate = fmax(rate, adapt->home_rate * FADE);
    if (++adapt->windows <= adapt->patience) return adapt->size;
    return start_trial(adapt, 1);
}

uint64_t ts_adapt_step(ts_adapt *adapt, const ts_adapt_window *window)
{
    if (adapt->rule == TS_ADAPT_NONE) return adapt->size;
    if (adapt->rule == TS_ADAPT_CLASSIC)
        return classic(adapt, window->pressure);
    if (window->pressure > PRESSED && adapt->home > adapt->least) {
        adapt->home = adapt->size = adapt->home / 2;
        adapt->home_rate = 0;
        adapt->probe = adapt->heading = adapt->tries = 0;
        adapt->windows = 0;
        adapt->changes++;
        return adapt->size;
    }
    return climb(adapt, window->rate);
}

uint32_t ts_adapt_depth(uint32_t depth, uint32_t most, uint32_t stalls,
                        uint32_t deliveries)
{
    if (stalls * 10 > deliveries) depth *= 2;
    if (stalls == 0 && depth > 2) depth -= 1;
    return (uint32_t)clamp(depth, 2, most);
}
