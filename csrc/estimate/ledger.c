/* ledger.c -- lines, and what they come to at each instant. */
#include "family.h"

void ts_ledger_begin(ts_ledger *ledger, uint32_t used, ts_instant steady)
{
    ledger->count = 0;
    ledger->used = used;
    ledger->steady = steady;
}

ts_status ts_ledger_add(ts_ledger *ledger, ts_component component,
                        ts_formula formula, uint32_t instants, ts_wide bytes,
                        ts_error *error)
{
    instants &= ledger->used;
    if (bytes == 0 || instants == 0) return TS_OK;
    if (bytes >= TS_MOST_BYTES)
        return ts_fail(error, TS_ARGUMENT,
                       "%s by the formula %s would take 2^62 bytes or more",
                       ts_component_name(component),
                       ts_formula_name(formula));
    if (ledger->count == TS_MAX_LINES)
        return ts_fail(error, TS_ARGUMENT, "more than %d lines in a ledger",
                       TS_MAX_LINES);
    ledger->lines[ledger->count++] =
        (ts_line){(uint64_t)bytes, instants, (uint16_t)formula,
                  (uint16_t)component};
    return TS_OK;
}

/* Allocated bytes at each instant. */
static ts_status sum_up(ts_ledger *ledger, ts_error *error)
{
    memset(ledger->at, 0, sizeof ledger->at);
    for (uint32_t i = 0; i < ledger->count; i++) {
        const ts_line *line = &ledger->lines[i];
        if (ts_component_counter(line->component) != TS_COUNTER_ALLOCATED)
            continue;
        for (uint32_t left = line->instants; left != 0; left &= left - 1) {
            uint64_t *sum = &ledger->at[__builtin_ctz(left)];
            if (!ts_add(*sum, line->bytes, sum)
                || *sum >= (uint64_t)TS_MOST_BYTES)
                return ts_fail(error, TS_ARGUMENT,
                               "the parts would take 2^62 bytes or more");
        }
    }
    return TS_OK;
}

static void find_peak(ts_ledger *ledger)
{
    ledger->peak = ledger->steady;
    for (uint32_t i = 0; i < TS_INSTANT_COUNT; i++)
        if (ledger->at[i] > ledger->at[ledger->peak])
            ledger->peak = (ts_instant)i;
}

/* What is always there is allocated once and lies tight; what comes and goes
 * leaves holes (formula fragmentation). */
static ts_wide fragmentation(const ts_ledger *ledger,
                             const ts_profile *profile)
{
    uint64_t peak = ledger->at[ledger->peak];
    uint64_t still = ledger->at[ledger->steady];
    ts_wide moving = peak > still ? peak - still : 0;
    return moving * profile->fragment_permille / 1000
           + profile->fragment_bytes;
}

/* Blocks that the allocator keeps of logits serve the optimizer's temporaries
 * as well, which are a parameter's size each: where its step is the peak, only
 * what goes beyond that is beyond the peak. */
static void share_blocks(ts_ledger *ledger)
{
    uint64_t before = 0;

    for (uint32_t i = 0; i < TS_INSTANT_COUNT; i++)
        if (i != TS_AT_STEP) before = ts_max(before, ledger->at[i]);
    for (uint32_t i = 0; i < ledger->count; i++) {
        ts_line *line = &ledger->lines[i];
        if (line->formula == TS_FORMULA_GENERATIONS)
            line->bytes -= ts_min(line->bytes,
                                  ledger->at[ledger->peak] - before);
    }
}

ts_status ts_ledger_finish(ts_ledger *ledger, const ts_profile *profile,
                           ts_error *error)
{
    TS_TRY(sum_up(ledger, error));
    find_peak(ledger);
    share_blocks(ledger);
    TS_TRY(ts_ledger_add(ledger, TS_FOR_FRAGMENTATION,
                         TS_FORMULA_FRAGMENTATION, TS_ALWAYS,
                         fragmentation(ledger, profile), error));
    TS_TRY(ts_ledger_add(ledger, TS_FOR_CONTEXT, TS_FORMULA_CONTEXT,
                         TS_ALWAYS, profile->context_bytes, error));
    uint64_t beyond[TS_COUNTER_COUNT] = {0};
    for (uint32_t i = 0; i < ledger->count; i++) {
        const ts_line *line = &ledger->lines[i];
        ts_counter counter = ts_component_counter(line->component);
        if (counter != TS_COUNTER_ALLOCATED) beyond[counter] += line->bytes;
    }
    ledger->counters[TS_COUNTER_ALLOCATED] = ledger->at[ledger->peak];
    for (int i = TS_COUNTER_ALLOCATED + 1; i < TS_COUNTER_COUNT; i++)
        ledger->counters[i] = ledger->counters[i - 1] + beyond[i];
    return TS_OK;
}
