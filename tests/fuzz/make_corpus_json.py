"""Make corpus/json: small documents, one for each corner of RFC 8259."""

from seeds import write_seeds

SEEDS = {
    "nothing": b"",
    "word": b"true",
    "words": b"[true,false,null]",
    "numbers": b"[0,-0,7,-7,1.5,-1.5e3,1E+2,1e-2,18446744073709551615,-9223372036854775808]",
    "large": b"[18446744073709551616,1e308,1e999,5e-324,123456789012345678901234567890]",
    "bad-numbers": b"[01,+1,.5,1.,1e,-]",
    "strings": b'["","plain ascii that is longer than sixteen bytes","caf\xc3\xa9"]',
    "escapes": b'["\\"\\\\\\/\\b\\f\\n\\r\\t","\\u0041\\u00e9\\u20ac","\\ud83d\\ude00"]',
    "surrogates": b'["\\ud83d","\\ude00","\\ud83d\\ud83d"]',
    "not-utf8": b'"\xff"',
    "control": b'"a\x01b"',
    "open": b'"no end',
    "object": b'{"a":{"b":[{},[]],"c":1},"d":"e"}',
    "commas": b"[1,,2,]",
    "brackets": b'{"a":[}]',
    "blanks": b' \t\r\n{ "a" : [ 1 , 2 ] } \n',
    "deep": b"[" * 64 + b"]" * 64,
    "deeper": b"[" * 70,
    "deep-object": b'{"a":' * 64 + b"1" + b"}" * 64,
    "entry": b'{"w":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}}',
}

if __name__ == "__main__":
    write_seeds("json", SEEDS)
