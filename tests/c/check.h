/* check.h -- the whole of our C test framework: say what must hold.
 *
 * A test file defines functions, and a main that RUNs them.  A failing CHECK
 * prints where and what, and the program ends with 1 after the last test. */
#ifndef TS_TESTS_CHECK_H
#define TS_TESTS_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_failures;

#define CHECK(condition, ...)                                                 \
    do {                                                                      \
        if (!(condition)) {                                                   \
            check_failures++;                                                 \
            fprintf(stderr, "%s:%d: not true: %s", __FILE__, __LINE__,        \
                    #condition);                                              \
            fprintf(stderr, "  " __VA_ARGS__);                                \
            fputc('\n', stderr);                                              \
            if (check_failures > 20) exit(1);                                 \
        }                                                                     \
    } while (0)

/* For calls that take a ts_error: shows the sentence when they fail. */
#define CHECK_OK(call)                                                        \
    do {                                                                      \
        ts_error check_error_ = {0};                                          \
        ts_error *error = &check_error_;                                      \
        ts_status check_status_ = (call);                                     \
        CHECK(check_status_ == TS_OK, "%s", check_error_.message);            \
    } while (0)

/* The call fails with this status and a sentence that holds these words. */
#define CHECK_FAILS(call, want, words)                                        \
    do {                                                                      \
        ts_error check_error_ = {0};                                          \
        ts_error *error = &check_error_;                                      \
        ts_status check_status_ = (call);                                     \
        CHECK(check_status_ == (want), "got '%s': %s",                        \
              ts_status_text(check_status_), check_error_.message);           \
        CHECK(strstr(check_error_.message, words) != NULL, "said: %s",        \
              check_error_.message);                                          \
    } while (0)

#define RUN(test)                                                             \
    do {                                                                      \
        int before_ = check_failures;                                         \
        test();                                                               \
        printf("%s %s\n", check_failures == before_ ? "ok  " : "FAIL",        \
               #test);                                                        \
    } while (0)

#define CHECK_END()                                                           \
    return check_failures == 0                                                \
               ? 0                                                            \
               : (fprintf(stderr, "%d checks failed\n", check_failures), 1)

#endif
