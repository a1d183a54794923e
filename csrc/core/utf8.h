/* utf8.h -- is this text?  UTF-8 by the letter of RFC 3629.
 *
 * No overlong forms, no surrogates, nothing above U+10FFFF.  NUL is a valid
 * character here; who cannot have one looks for it. */
#ifndef TS_CORE_UTF8_H
#define TS_CORE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* The number of leading bytes that are valid: size when all of them are. */
size_t ts_utf8_valid(const void *bytes, size_t size);

/* Write one code point (a scalar value, at most U+10FFFF) as 1 to 4 bytes;
 * returns how many. */
size_t ts_utf8_put(uint32_t code, uint8_t out[4]);

#endif
