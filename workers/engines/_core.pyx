# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The compiled core of the HTTP engine: requests sent, answers parsed and counted without a Python object a request.

One ``Core`` an engine. Its sockets are in an epoll descriptor of its own, which gevent's loop watches like any other:
one call drains what is ready there, for a millisecond or two at most, so that timers, permits and the agent are never
starved. What the core can't decide alone is Python's: ``hooks`` connects, ``scenario_run.Walk`` builds and judges what
is not ``simple``, and a load model decides what follows an iteration. Everything runs in the hub, with the GIL held.

The semantics are user.User's, line for line where it matters: the clock is read right before the first byte of a
request and held against the permit; nothing is ever sent twice; texts of errors are the same.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memmove, memset

import os

from loads_queue.model.histogram import Histogram

from .content import ContentDecoder
from .errors import ProtocolError, RequestError, from_os_error
from .http1 import _parse_head as _parse_odd_head


cdef extern from *:
    """
    #ifndef LOADS_CORE_SOURCES
    #define LOADS_CORE_SOURCES ""
    #endif
    """
    int __builtin_clzll(unsigned long long) noexcept nogil
    const char* LOADS_CORE_SOURCES

cdef extern from "<time.h>" nogil:
    ctypedef long time_t
    struct timespec:
        time_t tv_sec
        long tv_nsec
    struct itimerspec:
        timespec it_interval
        timespec it_value
    int clock_gettime(int, timespec*)
    enum: CLOCK_BOOTTIME

cdef extern from "<sys/timerfd.h>" nogil:
    int timerfd_create(int, int)
    int timerfd_settime(int, int, const itimerspec*, itimerspec*)
    enum: TFD_NONBLOCK
    enum: TFD_CLOEXEC
    enum: TFD_TIMER_ABSTIME

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        void* ptr
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int)
    int epoll_ctl(int, int, int, epoll_event*)
    int epoll_wait(int, epoll_event*, int, int)
    enum: EPOLLIN
    enum: EPOLLOUT
    enum: EPOLL_CTL_ADD
    enum: EPOLL_CTL_MOD
    enum: EPOLL_CLOEXEC

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int, void*, size_t, int)
    ssize_t send(int, const void*, size_t, int)
    enum: MSG_DONTWAIT
    enum: MSG_NOSIGNAL

cdef extern from "<unistd.h>" nogil:
    int c_close "close"(int)
    ssize_t c_read "read"(int, void*, size_t)


cdef enum:
    SECOND = 1000000000

# Texts by number, so that a count needs no Python object: those that the core itself knows, then others as they come.
# All of them come from closed sets (errors, statuses, the plan's checks), so the list is bounded.
cdef enum:
    E_NONE = 0
    E_CLOSED = 1
    E_TRUNCATED_HEAD = 2
    E_TRUNCATED_BODY = 3
    E_UPGRADE = 4
    E_INTERIM = 5
    E_HEAD_LIMIT = 6
    E_STATUS_LINE = 7
    E_BODY_LIMIT = 8
    E_CHUNK = 9
    E_TRAILERS = 10
    E_HEADER = 11
    E_TIMEOUT = 12  # and one for each phase

cdef list _TEXTS = [
    "",
    "closed: before the response",
    "truncated: the target closed within the head",
    "truncated: the target closed within the body",
    "protocol: 101 without an upgrade",
    "limit: too many interim responses",
    "limit: a response head over 64 KiB",
    "protocol: not an HTTP/1 status line",
    "limit: a body over the limit",
    "protocol: a malformed chunk",
    "limit: trailers over 64 KiB",
    "protocol: a malformed header",
    "timeout: resolving",
    "timeout: connecting",
    "timeout: shaking hands",
    "timeout: sending",
    "timeout: waiting for the response",
    "timeout: reading the body",
]
cdef dict _NUMBERS = {text: number for number, text in enumerate(_TEXTS)}
cdef dict _CODINGS = {"gzip": CODING_GZIP, "x-gzip": CODING_GZIP, "deflate": CODING_DEFLATE}


cdef int text_id(str text) except -1:
    """The number of a text."""
    found = _NUMBERS.get(text)
    if found is None:
        found = _NUMBERS[text] = len(_TEXTS)
        _TEXTS.append(text)
    return found


cdef inline int64_t clock_now() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_BOOTTIME, &now)
    return <int64_t>now.tv_sec * SECOND + now.tv_nsec


SOURCES = LOADS_CORE_SOURCES.decode()

include "_core_parser.pxi"
include "_core_tally.pxi"
include "_core_lane.pxi"
include "_core_reader.pxi"
include "_core_ground.pxi"
include "_core_connections.pxi"
include "_core_requests.pxi"
include "_core_turns.pxi"
include "_core_engine.pxi"
include "_core_seat.pxi"

prepare_tables()
