# What was counted since it was last taken away: by (second, series) and by second. Bucket for bucket the same
# arithmetic as loads_queue.model.histogram. These are differences: a request that began before they were last taken
# and has ended since stands here with in_flight -1. Rows, caps on names and packing are the recorder's, in Python.

cdef enum:
    PAGES = 37  # of 64 buckets each: TOP_BUCKET is 2367
    TOP = 2367

cdef enum:
    # Histograms of a series.
    H_RESPONSE_OK = 0
    H_RESPONSE_FAILED = 1
    H_SERVICE = 2
    H_DNS = 3
    H_CONNECT = 4
    H_TLS = 5
    H_FIRST_BYTE = 6
    H_BODY = 7
    SERIES_HISTOGRAMS = 8

cdef enum:
    # Counts of a series.
    C_ATTEMPTED = 0
    C_UNSENT = 1
    C_ANSWERED = 2
    C_OK = 3
    C_FAILED = 4
    C_INTERRUPTED = 5
    C_IN_FLIGHT = 6
    C_REDIRECTS = 7
    C_BYTES_IN = 8
    C_BYTES_OUT = 9
    C_OPEN = 10  # how many more (or fewer) of the row are under way
    SERIES_COUNTS = 11

cdef enum:
    # Counts of a row.
    R_STARTED = 0
    R_OK = 1
    R_FAILED = 2
    R_INTERRUPTED = 3
    R_IN_FLIGHT = 4
    R_BEGAN = 5
    R_COMPLETED = 6
    R_OPEN = 7
    ROW_COUNTS = 8

cdef enum:
    # Histograms of a row.
    H_LATENESS = 0
    H_ITERATION_RESPONSE = 1
    H_ITERATION_SERVICE = 2
    ROW_HISTOGRAMS = 3

cdef enum:
    ROW_SERIES = -1

_SERIES_COUNT_NAMES = (
    "attempted", "unsent", "answered", "ok", "failed", "interrupted", "in_flight", "redirects", "bytes_in",
    "bytes_out", "open",
)
_SERIES_HISTOGRAM_NAMES = (
    "response_ok", "response_failed", "service", "dns", "connect", "tls", "first_byte", "body",
)
_ROW_COUNT_NAMES = ("started", "ok", "failed", "interrupted", "in_flight", "began", "completed", "open")
_ROW_HISTOGRAM_NAMES = ("lateness", "iteration_response", "iteration_service")

ctypedef struct Durations:
    uint64_t count
    uint64_t sum_low
    uint64_t sum_high
    int64_t least
    int64_t most
    uint64_t clamped
    uint32_t* pages[PAGES]

ctypedef struct Tally:
    # What a second's requests of one series came to; of series ROW_SERIES: its iterations.
    int64_t second
    int32_t series
    int32_t pairs_used
    int32_t pairs_room
    int64_t counts[SERIES_COUNTS]
    # (kind, key) -> count: few different ones, so they are searched one by one.
    uint64_t* pairs
    Durations durations[SERIES_HISTOGRAMS]

ctypedef struct Tallies:
    # A hash table by second and series.
    Tally** slots
    size_t room  # a power of two
    size_t used

cdef enum:
    PAIR_STATUS = 1
    PAIR_ERROR = 2
    PAIR_PASSED = 3
    PAIR_CHECK_FAILED = 4


cdef inline int bucket_of(int64_t value) noexcept nogil:
    cdef int octave, bucket
    if value < 64:
        return <int>value
    octave = 57 - __builtin_clzll(<unsigned long long>value)
    if octave > 36:
        return TOP
    bucket = (octave << 6) + <int>(value >> octave)
    return bucket if bucket < TOP else TOP


cdef int record(Durations* found, int64_t value) except -1:
    cdef int bucket
    cdef uint32_t* page
    if value < 0:
        value = 0
    bucket = bucket_of(value)
    page = found.pages[bucket >> 6]
    if page == NULL:
        page = found.pages[bucket >> 6] = <uint32_t*>calloc(64, sizeof(uint32_t))
        if page == NULL:
            raise MemoryError
    page[bucket & 63] += 1
    if found.count == 0 or value < found.least:
        found.least = value
    if value > found.most:
        found.most = value
    found.count += 1
    found.sum_low += <uint64_t>value
    if found.sum_low < <uint64_t>value:
        found.sum_high += 1
    if value >> 42:
        found.clamped += 1
    return 0


cdef object histogram_of(Durations* found):
    """The same as a Histogram, or None where nothing was recorded."""
    cdef int page, i
    cdef uint32_t* counts
    if found.count == 0:
        return None
    out = Histogram()
    buckets = out.counts
    for page in range(PAGES):
        counts = found.pages[page]
        if counts != NULL:
            for i in range(64):
                if counts[i]:
                    buckets[(page << 6) + i] = counts[i]
    out.count = found.count
    out.sum = (<object>found.sum_high << 64) + found.sum_low
    out.min = found.least
    out.max = found.most
    out.clamped = found.clamped
    return out


cdef void clear_durations(Durations* found) noexcept nogil:
    cdef int page
    for page in range(PAGES):
        if found.pages[page] != NULL:
            free(found.pages[page])
    memset(found, 0, sizeof(Durations))


cdef inline size_t slot_of(int64_t second, int32_t series, size_t room) noexcept nogil:
    cdef uint64_t key = (<uint64_t>second << 12) ^ <uint64_t>(series + 1)
    return <size_t>((key * <uint64_t>0x9E3779B97F4A7C15) >> 20) & (room - 1)


cdef Tally* tally_of(Tallies* tallies, int64_t second, int32_t series) except NULL:
    """The tally of a second and series, made where there is none."""
    cdef size_t at
    cdef Tally* found
    if 2 * (tallies.used + 1) > tallies.room:
        grow_tallies(tallies)
    at = slot_of(second, series, tallies.room)
    while True:
        found = tallies.slots[at]
        if found == NULL:
            break
        if found.second == second and found.series == series:
            return found
        at = (at + 1) & (tallies.room - 1)
    found = <Tally*>calloc(1, sizeof(Tally))
    if found == NULL:
        raise MemoryError
    found.second = second
    found.series = series
    tallies.slots[at] = found
    tallies.used += 1
    return found


cdef int grow_tallies(Tallies* tallies) except -1:
    cdef size_t room = tallies.room * 2 if tallies.room else 64
    cdef Tally** slots = <Tally**>calloc(room, sizeof(Tally*))
    cdef size_t i, at
    if slots == NULL:
        raise MemoryError
    for i in range(tallies.room):
        if tallies.slots[i] != NULL:
            at = slot_of(tallies.slots[i].second, tallies.slots[i].series, room)
            while slots[at] != NULL:
                at = (at + 1) & (room - 1)
            slots[at] = tallies.slots[i]
    free(tallies.slots)
    tallies.slots = slots
    tallies.room = room
    return 0


cdef int count_pair(Tally* tally, int kind, int32_t key) except -1:
    """One more of a status, an error or a check's result."""
    cdef uint64_t name = (<uint64_t>kind << 32) | <uint32_t>key
    cdef uint64_t* grown
    cdef int i
    for i in range(tally.pairs_used):
        if tally.pairs[2 * i] == name:
            tally.pairs[2 * i + 1] += 1
            return 0
    if tally.pairs_used == tally.pairs_room:
        grown = <uint64_t*>realloc(tally.pairs, <size_t>(tally.pairs_room + 8) * 2 * sizeof(uint64_t))
        if grown == NULL:
            raise MemoryError
        tally.pairs = grown
        tally.pairs_room += 8
    tally.pairs[2 * tally.pairs_used] = name
    tally.pairs[2 * tally.pairs_used + 1] = 1
    tally.pairs_used += 1
    return 0


cdef void free_tally(Tally* tally) noexcept nogil:
    cdef int i
    for i in range(SERIES_HISTOGRAMS):
        clear_durations(&tally.durations[i])
    free(tally.pairs)
    free(tally)


cdef object pairs_of(Tally* tally, int kind):
    """Those of a kind, as [(key, count)]."""
    cdef int i
    found = []
    for i in range(tally.pairs_used):
        if tally.pairs[2 * i] >> 32 == <uint64_t>kind:
            found.append((<int32_t>(tally.pairs[2 * i] & 0xFFFFFFFF), tally.pairs[2 * i + 1]))
    return found


cdef list take_tallies(Tallies* tallies):
    """Everything counted since the last call, as [(second, series, {name: count}, {name: Histogram}, pairs)]."""
    cdef size_t i
    cdef int j
    cdef Tally* tally
    cdef Tally** slots = tallies.slots
    cdef size_t room = tallies.room
    found = []
    # What is built below may run other code: the table is emptied first.
    tallies.slots = NULL
    tallies.room = tallies.used = 0
    for i in range(room):
        tally = slots[i]
        if tally == NULL:
            continue
        of_row = tally.series == ROW_SERIES
        names = _ROW_COUNT_NAMES if of_row else _SERIES_COUNT_NAMES
        counts = {names[j]: tally.counts[j] for j in range(len(names)) if tally.counts[j]}
        names = _ROW_HISTOGRAM_NAMES if of_row else _SERIES_HISTOGRAM_NAMES
        histograms = {}
        for j in range(len(names)):
            histogram = histogram_of(&tally.durations[j])
            if histogram is not None:
                histograms[names[j]] = histogram
        pairs = {kind: pairs_of(tally, kind) for kind in range(1, 5)} if tally.pairs_used else {}
        found.append((tally.second, tally.series, counts, histograms, pairs))
        free_tally(tally)
    free(slots)
    found.sort(key=_by_second)
    return found


def _by_second(found):
    return found[0], found[1]


cdef void clear_tallies(Tallies* tallies) noexcept nogil:
    cdef size_t i
    for i in range(tallies.room):
        if tallies.slots[i] != NULL:
            free_tally(tallies.slots[i])
    free(tallies.slots)
    tallies.slots = NULL
    tallies.room = tallies.used = 0
