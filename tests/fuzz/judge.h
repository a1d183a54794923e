/* judge.h -- open hostile bytes as a file, and judge what comes of it.
 *
 * Either a polite error, or a catalog that keeps every promise of formats.h
 * and takes no more memory than the file deserves. */
#ifndef TS_TESTS_JUDGE_H
#define TS_TESTS_JUDGE_H

#include <stdio.h>

#include "blob.h"

static inline void judge_open(const uint8_t *data, size_t size)
{
    ts_catalog *catalog;
    ts_error error = {0};
    const char *fault = NULL;
    ts_status status = open_bytes(data, size, "hostile.bin", &catalog, &error);

    if (status == TS_OK) fault = catalog_fault(catalog, size);
    else if (status != TS_FORMAT && status != TS_UNSUPPORTED)
        fault = "a status that no file can cause";
    else if (error.message[0] == '\0') fault = "no sentence";
    ts_catalog_release(catalog);
    if (fault == NULL) return;
    fprintf(stderr, "%s (%s: %s)\n", fault, ts_status_text(status),
            error.message);
    abort();
}

#endif
