"""Answers as bytes: whole in every framing HTTP allows, and such as no server should send.

Shared by the tests of what comes out of an exchange. Answers that break off are in `test_worker_faults`.
"""

from __future__ import annotations

import gzip
import zlib

from scripted_server import OK_BODY, response

BIG = b"x" * 8_000_000
"""More than the buffers of a loopback connection hold."""

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ZIPPED = zlib.compressobj(wbits=-15)

WHOLE = {
    "content-length": (response(), True),
    "chunked": (CHUNKED + b"5\r\n" + OK_BODY[:5] + b"\r\nd;x=y\r\n" + OK_BODY[5:] + b"\r\n0\r\nx-end: 1\r\n\r\n", True),
    "100 first": (b"HTTP/1.1 100 Continue\r\n\r\n" + response(), True),
    "103 first": (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + response(), True),
    "gzip": (response(gzip.compress(OK_BODY), "Content-Encoding: gzip"), True),
    "two gzip members": (
        response(gzip.compress(OK_BODY[:4]) + gzip.compress(OK_BODY[4:]), "Content-Encoding: gzip"),
        True,
    ),
    "deflate": (response(zlib.compress(OK_BODY), "Content-Encoding: deflate"), True),
    "bare deflate": (response(ZIPPED.compress(OK_BODY) + ZIPPED.flush(), "Content-Encoding: deflate"), True),
    "identity": (response(OK_BODY, "Content-Encoding: identity"), True),
    "connection close": (response(OK_BODY, "Connection: close"), False),
    "until the end": (b"HTTP/1.1 200 OK\r\n\r\n" + OK_BODY, False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\n" + OK_BODY, False),
    "bytes behind the end": (response() + b"HTTP/1.1 200 OK\r\n", False),
    "an answer behind the end": (response() + response(b'{"usage": [9, 9]}'), False),
    "bad cookie and location": (response(OK_BODY, "Set-Cookie: \xff;;=", "Location: http://["), True),
}

NOT_WHOLE = {
    "half a status line": b"HTTP/1.1 2",
    "only 100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "garbage": b"\x00\x01\x02 hello\r\n\r\n",
    "html without a head": b"<html>bad gateway</html>\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\x00" * 18,
    "TLS alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "bad header": b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n{}",
    "bad length": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "bad chunk": CHUNKED + b"zz\r\n{}",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 40_000,
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
}
