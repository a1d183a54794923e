#include "status.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const texts[] = {
#define XX(name, text) text,
    TS_STATUS_MAP(XX)
#undef XX
};

const char *ts_status_text(ts_status status)
{
    return (unsigned)status < TS_STATUS_COUNT ? texts[status] : "unknown";
}

static void fill(ts_error *error, ts_status status, int os_errno,
                 uint64_t offset, const char *format, va_list args)
{
    assert(status != TS_OK);
    if (error == NULL) return;
    error->status = status;
    error->os_errno = os_errno;
    error->offset = offset;
    error->file[0] = '\0';
    error->tensor[0] = '\0';
    vsnprintf(error->message, sizeof error->message, format, args);
}

ts_status (ts_fail)(ts_error *error, ts_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(error, status, 0, TS_NO_OFFSET, format, args);
    va_end(args);
    return status;
}

ts_status (ts_fail_at)(ts_error *error, ts_status status, uint64_t offset,
                       const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(error, status, 0, offset, format, args);
    va_end(args);
    return status;
}

ts_status (ts_fail_os)(ts_error *error, int os_errno, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(error, TS_IO, os_errno, TS_NO_OFFSET, format, args);
    va_end(args);
    return TS_IO;
}

/* The beginning and the end of a long name say more than its middle. */
static void copy_cut(char *out, size_t room, const char *in, size_t size)
{
    if (size < room) {
        memcpy(out, in, size);
        out[size] = '\0';
        return;
    }
    size_t tail = (room - 4) / 2, head = room - 4 - tail;
    memcpy(out, in, head);
    memcpy(out + head, "...", 3);
    memcpy(out + head + 3, in + size - tail, tail);
    out[room - 1] = '\0';
}

ts_status ts_error_in_file(ts_error *error, ts_status status, const char *path)
{
    if (error == NULL || status == TS_OK) return status;
    if (error->file[0] == '\0')
        copy_cut(error->file, sizeof error->file, path, strlen(path));
    return status;
}

ts_status ts_error_in_tensor(ts_error *error, ts_status status,
                             const char *name, size_t name_size)
{
    if (error == NULL || status == TS_OK) return status;
    if (error->tensor[0] == '\0')
        copy_cut(error->tensor, sizeof error->tensor, name, name_size);
    return status;
}
