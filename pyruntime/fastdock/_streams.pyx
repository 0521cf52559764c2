# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Byte loops that make Python objects: the log's lines and the API's multiplexed streams.

A line of the log is what csrc/monitor/log.h says; lines that somebody else wrote in the same format (Docker's
json-file) are read as well, and what is no such line is left out.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t
from libc.string cimport memchr, memcmp, memcpy

import base64


cdef class LogEntry:
    """``stream`` (1 output, 2 errors), ``time`` (seconds since the epoch), ``stamp`` (RFC 3339), ``data``."""

    cdef readonly int stream
    cdef readonly double time
    cdef readonly str stamp
    cdef readonly bytes data

    def __init__(self, int stream, double time, str stamp, bytes data):
        self.stream, self.time, self.stamp, self.data = stream, time, stamp, data

    def __iter__(self):
        return iter((self.stream, self.time, self.data))

    def __eq__(self, other):
        return isinstance(other, LogEntry) and tuple(self) == tuple(other)

    __hash__ = None

    def __repr__(self):
        return f"LogEntry(stream={self.stream}, stamp={self.stamp!r}, data={self.data!r})"


cdef int _hex(char c) noexcept nogil:
    if c'0' <= c <= c'9':
        return c - c'0'
    if c'a' <= c <= c'f':
        return c - c'a' + 10
    if c'A' <= c <= c'F':
        return c - c'A' + 10
    return -1


cdef Py_ssize_t _put_utf8(char* out, uint32_t code) noexcept nogil:
    if code < 0x80:
        out[0] = <char>code
        return 1
    if code < 0x800:
        out[0] = <char>(0xC0 | code >> 6)
        out[1] = <char>(0x80 | code & 0x3F)
        return 2
    if code < 0x10000:
        out[0] = <char>(0xE0 | code >> 12)
        out[1] = <char>(0x80 | code >> 6 & 0x3F)
        out[2] = <char>(0x80 | code & 0x3F)
        return 3
    out[0] = <char>(0xF0 | code >> 18)
    out[1] = <char>(0x80 | code >> 12 & 0x3F)
    out[2] = <char>(0x80 | code >> 6 & 0x3F)
    out[3] = <char>(0x80 | code & 0x3F)
    return 4


cdef int _read_unit(const char* at, const char* end) noexcept nogil:
    # Four hexadecimal digits, or -1.
    cdef int value = 0, digit, i
    if end - at < 4:
        return -1
    for i in range(4):
        digit = _hex(at[i])
        if digit < 0:
            return -1
        value = value << 4 | digit
    return value


cdef Py_ssize_t _unescape(const char* at, const char* end, char* out) noexcept nogil:
    # The text of a JSON string from `at` (after its quote): its length in `out`, which has room for end - at
    # bytes, or -1 where it is malformed.  No escape is shorter than what it stands for.
    cdef char* begin = out
    cdef const char* slash
    cdef int code, low
    while at < end:
        slash = <const char*>memchr(at, c'\\', end - at)
        if slash == NULL:
            slash = end
        memcpy(out, at, slash - at)
        out += slash - at
        at = slash
        if at == end:
            break
        at += 1
        if at == end:
            return -1
        if at[0] == c'n':
            out[0] = c'\n'
        elif at[0] == c'r':
            out[0] = c'\r'
        elif at[0] == c't':
            out[0] = c'\t'
        elif at[0] == c'b':
            out[0] = c'\b'
        elif at[0] == c'f':
            out[0] = c'\f'
        elif at[0] == c'u':
            code = _read_unit(at + 1, end)
            if code < 0:
                return -1
            at += 5
            if 0xD800 <= code < 0xDC00 and end - at >= 6 and at[0] == c'\\' and at[1] == c'u':
                low = _read_unit(at + 2, end)
                if 0xDC00 <= low < 0xE000:
                    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
                    at += 6
            if 0xD800 <= code < 0xE000:
                code = 0xFFFD
            out += _put_utf8(out, code)
            continue
        else:
            out[0] = at[0]
        out += 1
        at += 1
    return out - begin


cdef const char* _closing_quote(const char* at, const char* end) noexcept nogil:
    cdef const char* quote = at
    cdef const char* before
    while True:
        quote = <const char*>memchr(quote, c'"', end - quote)
        if quote == NULL:
            return NULL
        before = quote
        while before > at and (before - 1)[0] == c'\\':
            before -= 1
        if (quote - before) % 2 == 0:
            return quote
        quote += 1


cdef struct Line:
    const char* text
    const char* text_end
    int stream
    const char* stamp
    const char* stamp_end
    const char* raw
    const char* raw_end


cdef bint _split(const char* at, const char* end, Line* line) noexcept nogil:
    # {"log":"…","stream":"stdout","time":"…"[,"raw":"…"]}
    if end - at < 40 or memcmp(at, b'{"log":"', 8) != 0:
        return False
    line.text = at + 8
    line.text_end = _closing_quote(line.text, end)
    if line.text_end == NULL:
        return False
    at = line.text_end
    if end - at < 28 or memcmp(at, b'","stream":"std', 15) != 0:
        return False
    line.stream = 1 if at[15] == c'o' else 2
    at += 18
    if memcmp(at, b'","time":"', 10) != 0:
        return False
    line.stamp = at + 10
    line.stamp_end = <const char*>memchr(line.stamp, c'"', end - line.stamp)
    if line.stamp_end == NULL:
        return False
    at = line.stamp_end
    line.raw = NULL
    if end - at > 9 and memcmp(at, b'","raw":"', 9) == 0:
        line.raw = at + 9
        line.raw_end = <const char*>memchr(line.raw, c'"', end - line.raw)
        if line.raw_end == NULL:
            return False
    return True


cdef double _seconds(const char* at, Py_ssize_t size) noexcept nogil:
    # Of an RFC 3339 time in UTC; 0 for another.
    cdef int fields[6]
    cdef int starts[6]
    cdef int lengths[6]
    cdef int i, j
    cdef long year, era, day_of_year, day_of_era, month
    cdef double fraction = 0, scale = 0.1
    starts[:] = [0, 5, 8, 11, 14, 17]
    lengths[:] = [4, 2, 2, 2, 2, 2]
    if size < 20 or at[size - 1] != c'Z':
        return 0
    for i in range(6):
        fields[i] = 0
        for j in range(starts[i], starts[i] + lengths[i]):
            if not c'0' <= at[j] <= c'9':
                return 0
            fields[i] = fields[i] * 10 + (at[j] - c'0')
    if at[19] == c'.':
        for j in range(20, <int>size - 1):
            fraction += (at[j] - c'0') * scale
            scale /= 10
    # Days since 1970-01-01: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil.
    month = fields[1]
    year = fields[0] - (1 if month <= 2 else 0)
    era = year // 400
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + fields[2] - 1
    day_of_era = (year - era * 400) * 365 + (year - era * 400) // 4 - (year - era * 400) // 100 + day_of_year
    return (era * 146097 + day_of_era - 719468) * 86400.0 + fields[3] * 3600 + fields[4] * 60 + fields[5] + fraction


cdef bytes _data(Line* line):
    cdef bytes out
    cdef Py_ssize_t size
    if line.raw != NULL:
        try:
            return base64.b64decode(line.raw[: line.raw_end - line.raw])
        except ValueError:
            return b""
    out = PyBytes_FromStringAndSize(NULL, line.text_end - line.text)
    size = _unescape(line.text, line.text_end, PyBytes_AS_STRING(out))
    return b"" if size < 0 else out[:size]


def parse_log(bytes block not None):
    """The entries of a block of whole lines."""
    cdef const char* at = PyBytes_AS_STRING(block)
    cdef const char* end = at + PyBytes_GET_SIZE(block)
    cdef const char* line_end
    cdef Line line
    cdef list entries = []
    while at < end:
        line_end = <const char*>memchr(at, c'\n', end - at)
        if line_end == NULL:
            line_end = end
        if _split(at, line_end, &line):
            stamp = line.stamp[: line.stamp_end - line.stamp].decode("ascii", "replace")
            entries.append(
                LogEntry(line.stream, _seconds(line.stamp, line.stamp_end - line.stamp), stamp, _data(&line))
            )
        at = line_end + 1
    return entries


def plain_log(bytes block not None):
    """The text alone: a list of (stream, bytes), neighbours of one stream in one piece."""
    cdef const char* at = PyBytes_AS_STRING(block)
    cdef const char* end = at + PyBytes_GET_SIZE(block)
    cdef const char* line_end
    cdef Line line
    cdef list pieces = []
    cdef bytes out = PyBytes_FromStringAndSize(NULL, end - at)
    cdef char* buffer = PyBytes_AS_STRING(out)
    cdef Py_ssize_t begin = 0, size = 0, count
    cdef int stream = 1
    cdef bytes raw
    while at < end:
        line_end = <const char*>memchr(at, c'\n', end - at)
        if line_end == NULL:
            line_end = end
        if _split(at, line_end, &line):
            if line.stream != stream:
                if size > begin:
                    pieces.append((stream, out[begin:size]))
                begin, stream = size, line.stream
            if line.raw != NULL:
                raw = _data(&line)
                memcpy(buffer + size, PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw))
                size += PyBytes_GET_SIZE(raw)
            else:
                count = _unescape(line.text, line.text_end, buffer + size)
                size += count if count > 0 else 0
        at = line_end + 1
    if size > begin:
        pieces.append((stream, out[begin:size]))
    return pieces


cdef class Demultiplexer:
    """Docker's multiplexed stream (attach, exec and logs without a terminal) taken apart as it arrives.

    A frame is ``[stream, 0, 0, 0, size (4 bytes, big endian)]`` and its bytes.
    """

    cdef bytes _rest

    def __init__(self):
        self._rest = b""

    def feed(self, data):
        """The whole frames so far: a list of (stream, bytes).  ValueError: this is no such stream."""
        cdef bytes block = self._rest + bytes(data)
        cdef const unsigned char* at = <const unsigned char*>PyBytes_AS_STRING(block)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(block), position = 0
        cdef uint32_t length
        cdef list frames = []
        while size - position >= 8:
            if at[position] > 3 or at[position + 1] or at[position + 2] or at[position + 3]:
                raise ValueError("not a multiplexed stream")
            length = (<uint32_t>at[position + 4] << 24 | <uint32_t>at[position + 5] << 16
                      | <uint32_t>at[position + 6] << 8 | at[position + 7])
            if size - position - 8 < length:
                break
            frames.append((at[position], block[position + 8 : position + 8 + length]))
            position += 8 + length
        self._rest = block[position:]
        return frames

    @property
    def pending(self):
        """Bytes of a frame that is not complete."""
        return len(self._rest)


def frame(int stream, bytes data not None):
    """One frame of a multiplexed stream."""
    return bytes((stream, 0, 0, 0)) + len(data).to_bytes(4, "big") + data
