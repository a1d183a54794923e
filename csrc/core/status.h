/* status.h -- how every fallible function says what happened.
 *
 * A function that can fail returns a ts_status and takes a caller-owned
 * ts_error as its last argument.  The status is for the program, the error is
 * for the person: a sentence, and the file, tensor and byte it is about.  The
 * inner layer writes the sentence; each outer layer adds what only it knows
 * (ts_error_in_file, ts_error_in_tensor), and never overwrites. */
#ifndef TS_CORE_STATUS_H
#define TS_CORE_STATUS_H

#include <stddef.h>
#include <stdint.h>

#define TS_STATUS_MAP(XX)                                                     \
    XX(OK, "no error")                                                        \
    XX(NOMEM, "out of memory")                                                \
    XX(ARGUMENT, "argument out of range")                                     \
    XX(IO, "input or output failed") /* error->os_errno says why */           \
    XX(FORMAT, "malformed file")     /* error->offset says where */           \
    XX(CORRUPT, "content does not match its checksum")                        \
    XX(CHANGED, "file changed while in use")                                  \
    XX(UNSUPPORTED, "not supported on this machine or by this build")         \
    XX(BUDGET, "over the memory budget")                                      \
    XX(CLOSED, "already closed")                                              \
    XX(CANCELLED, "cancelled")

typedef enum {
#define XX(name, text) TS_##name,
    TS_STATUS_MAP(XX)
#undef XX
    TS_STATUS_COUNT
} ts_status;

#define TS_NO_OFFSET UINT64_MAX

typedef struct {
    ts_status status;
    int os_errno;      /* 0 unless the system reported one */
    uint64_t offset;   /* byte offset in the file, or TS_NO_OFFSET */
    char message[320]; /* one sentence, no trailing period */
    char file[256];    /* path, or "" ; cut in the middle when longer */
    char tensor[160];  /* name, or "" ; cut in the middle when longer */
} ts_error;

/* "malformed file", and so on: never NULL, never freed. */
const char *ts_status_text(ts_status status);

/* Fill *error (when not NULL) and return status, so that failing is one line:
 *     return ts_fail(error, TS_FORMAT, "header length %zu exceeds file", n); */
ts_status ts_fail(ts_error *error, ts_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same, with the byte of the file that the sentence is about. */
ts_status ts_fail_at(ts_error *error, ts_status status, uint64_t offset,
                     const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The same, for a failed system call: records errno.  */
ts_status ts_fail_os(ts_error *error, int os_errno, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Add where it happened, unless an inner layer already has.  Both return
 * error->status, so that they can end a chain; NULL error gives status. */
ts_status ts_error_in_file(ts_error *error, ts_status status,
                           const char *path);
ts_status ts_error_in_tensor(ts_error *error, ts_status status,
                             const char *name, size_t name_size);

/* The three as macros that yield the very status they were given: compilers
 * and analyzers then see that nothing goes on as if it had succeeded, without
 * looking into another file. */
#define TS_FAILED(status, call)                                               \
    __extension__({                                                           \
        ts_status failed_ = (status);                                         \
        (void)call;                                                           \
        failed_;                                                              \
    })
#define ts_fail(error, status, ...)                                           \
    TS_FAILED(status, (ts_fail)(error, failed_, __VA_ARGS__))
#define ts_fail_at(error, status, ...)                                        \
    TS_FAILED(status, (ts_fail_at)(error, failed_, __VA_ARGS__))
#define ts_fail_os(error, ...)                                                \
    TS_FAILED(TS_IO, (ts_fail_os)(error, __VA_ARGS__))

/* Return at once if expr fails.  Only where nothing needs undoing. */
#define TS_TRY(expr)                                                          \
    do {                                                                      \
        ts_status status_ = (expr);                                           \
        if (status_ != TS_OK) return status_;                                 \
    } while (0)

#endif
