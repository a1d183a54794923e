/* grid.c -- the same model and profile over a grid of runs. */
#include "family.h"

/* The stage that needs most: of equal stages only the first, one in the
 * middle and the last can differ. */
static uint64_t most_loaded(const ts_model *model, const ts_run *run,
                            const ts_profile *profile, ts_counter counter)
{
    ts_ledger ledger;
    uint64_t most = 0;

    for (uint64_t stage = 0; stage < run->pp; stage++) {
        if (stage > 1 && stage + 1 < run->pp) continue;
        if (ts_estimate(model, run, profile, stage, &ledger, NULL) != TS_OK)
            return UINT64_MAX;
        most = ts_max(most, ledger.counters[counter]);
    }
    return most;
}

static uint64_t *field_of(ts_run *run, uint32_t field)
{
    return (uint64_t *)((uint8_t *)run + ts_run_fields[field].offset);
}

static ts_status check_axes(const ts_axis *axes, uint32_t axis_count,
                            ts_error *error)
{
    for (uint32_t i = 0; i < axis_count; i++)
        if (axes[i].field >= ts_run_field_count || axes[i].count == 0)
            return ts_fail(error, TS_ARGUMENT,
                           "axis %u of the grid: field %u with %u values", i,
                           axes[i].field, axes[i].count);
    return TS_OK;
}

/* Counts like an odometer, the last axis fastest; false after the last. */
static bool advance(ts_run *run, const ts_axis *axes, uint32_t axis_count,
                    uint32_t *at)
{
    for (uint32_t i = axis_count; i-- > 0;) {
        bool more = ++at[i] < axes[i].count;
        if (!more) at[i] = 0;
        *field_of(run, axes[i].field) = axes[i].values[at[i]];
        if (more) return true;
    }
    return false;
}

ts_status ts_estimate_grid(const ts_model *model, const ts_run *run,
                           const ts_profile *profile, ts_counter counter,
                           const ts_axis *axes, uint32_t axis_count,
                           uint64_t *out, ts_error *error)
{
    uint32_t at[TS_MAX_AXES] = {0};
    ts_run point = *run;

    if (axis_count > TS_MAX_AXES)
        return ts_fail(error, TS_ARGUMENT, "%u axes, more than %d",
                       axis_count, TS_MAX_AXES);
    TS_TRY(check_axes(axes, axis_count, error));
    for (uint32_t i = 0; i < axis_count; i++)
        *field_of(&point, axes[i].field) = axes[i].values[0];
    do {
        *out++ = ts_run_check(model, &point, NULL) == TS_OK
                     ? most_loaded(model, &point, profile, counter)
                     : UINT64_MAX;
    } while (advance(&point, axes, axis_count, at));
    return TS_OK;
}
