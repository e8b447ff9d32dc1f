# The structs of a running engine: connections, and lanes (what a user or an arrival is to the core), each with at most
# one alarm in a heap. No bytes are read or written here.

cdef enum:
    L_IDLE = 0  # no iteration
    L_PAUSE = 1  # a pause of the plan
    L_ASKING = 2  # a request that has yet to begin waits for a permit
    L_CONNECT = 3  # Python connects
    L_HELD = 4  # a request that has begun waits for a permit
    L_SEND = 5  # part of a request has not left yet
    L_READ = 6  # the answer is awaited or read
    L_OVER = 7  # the iteration is over, and its load model has yet to hear of it

cdef enum:
    RESOLVING = 0
    CONNECTING = 1
    SHAKING = 2
    SENDING = 3
    WAITING = 4
    READING = 5

cdef enum:
    MOST_IDLE = 8  # connections of one user

ctypedef struct Lane

ctypedef struct Conn:
    int fd
    int32_t origin
    Lane* lane  # who uses it; NULL: it is idle
    Lane* owner  # whose it is when idle; NULL: everybody's
    Conn* newer  # among the idle ones of the same pool
    Conn* older
    PyObject* tls
    bint alive
    bint asks_write
    bint buried

ctypedef struct Pool:
    Conn* newest
    Conn* oldest
    int count
    int64_t uses  # of the origin whose pool it is: by connections, and by lanes whose last request was to it

ctypedef struct Lane:
    PyObject* seat
    Conn* conn
    Pool idle
    int* counters
    # The iteration.
    int64_t turn_second
    int64_t turn_due
    int64_t turn_started
    int64_t first_sent
    int64_t last_ended
    int64_t free
    int64_t again_until
    # The request.
    int64_t due
    int64_t sent
    int64_t first
    int64_t ended
    int64_t dns_ns
    int64_t connect_ns
    int64_t tls_ns
    int64_t sent_second
    int64_t deadline
    int64_t timeout_ns
    int64_t wake
    PyObject* exchange  # NULL: it is a simple one
    PyObject* held_wire
    const char* wire
    Py_ssize_t wire_size
    Py_ssize_t written
    Py_ssize_t cipher_done  # of TLS: how much of what was encrypted has left
    PyObject* cipher
    int64_t received
    int32_t series
    int32_t origin
    int32_t at
    int32_t send
    int32_t error
    int32_t status
    Parser parser
    # The alarm.
    int64_t alarm
    Py_ssize_t heap_place  # -1: none is set
    # Among those that wait for a permit, or for a connection that is shared, or whose end has yet to be told.
    Lane* next_waiting
    Lane* last_waiting
    int64_t woken
    bint queued
    bint held
    unsigned char state
    unsigned char phase
    bint guest
    bint ok
    bint hop
    bint closing
    bint keep_body
    bint no_body
    bint has_cookies
    bint waited
    bint riding
    bint opening  # Python opens a connection on its behalf, to ``dial_origin``
    int32_t dial_origin

ctypedef struct Queue:
    Lane* first
    Lane* last


cdef void queue_push(Queue* queue, Lane* lane) noexcept nogil:
    lane.next_waiting = NULL
    lane.last_waiting = queue.last
    if queue.last != NULL:
        queue.last.next_waiting = lane
    else:
        queue.first = lane
    queue.last = lane
    lane.queued = True


cdef void queue_remove(Queue* queue, Lane* lane) noexcept nogil:
    if not lane.queued:
        return
    if lane.last_waiting != NULL:
        lane.last_waiting.next_waiting = lane.next_waiting
    else:
        queue.first = lane.next_waiting
    if lane.next_waiting != NULL:
        lane.next_waiting.last_waiting = lane.last_waiting
    else:
        queue.last = lane.last_waiting
    lane.next_waiting = lane.last_waiting = NULL
    lane.queued = False


cdef void pool_push(Pool* pool, Conn* conn) noexcept nogil:
    conn.newer = NULL
    conn.older = pool.newest
    if pool.newest != NULL:
        pool.newest.newer = conn
    else:
        pool.oldest = conn
    pool.newest = conn
    pool.count += 1


cdef void pool_remove(Pool* pool, Conn* conn) noexcept nogil:
    if conn.newer != NULL:
        conn.newer.older = conn.older
    else:
        pool.newest = conn.older
    if conn.older != NULL:
        conn.older.newer = conn.newer
    else:
        pool.oldest = conn.newer
    conn.newer = conn.older = NULL
    pool.count -= 1


ctypedef struct Heap:
    # Lanes by alarm, the earliest first.
    Lane** lanes
    Py_ssize_t size
    Py_ssize_t room


cdef int heap_set(Heap* heap, Lane* lane, int64_t alarm) except -1:
    """Ring at a time, in place of any other."""
    cdef Lane** grown
    cdef Py_ssize_t room
    if lane.heap_place < 0:
        if heap.size == heap.room:
            room = heap.room * 2 if heap.room else 64
            grown = <Lane**>realloc(heap.lanes, <size_t>room * sizeof(Lane*))
            if grown == NULL:
                raise MemoryError
            heap.lanes = grown
            heap.room = room
        lane.alarm = alarm
        lane.heap_place = heap.size
        heap.lanes[heap.size] = lane
        heap.size += 1
        heap_up(heap, lane)
    elif alarm < lane.alarm:
        lane.alarm = alarm
        heap_up(heap, lane)
    else:
        lane.alarm = alarm
        heap_down(heap, lane)
    return 0


cdef void heap_remove(Heap* heap, Lane* lane) noexcept nogil:
    cdef Py_ssize_t place = lane.heap_place
    cdef Lane* last
    if place < 0:
        return
    lane.heap_place = -1
    heap.size -= 1
    if place == heap.size:
        return
    last = heap.lanes[heap.size]
    heap.lanes[place] = last
    last.heap_place = place
    heap_up(heap, last)
    heap_down(heap, last)


cdef void heap_up(Heap* heap, Lane* lane) noexcept nogil:
    cdef Py_ssize_t place = lane.heap_place
    cdef Py_ssize_t above
    while place:
        above = (place - 1) // 2
        if heap.lanes[above].alarm <= lane.alarm:
            break
        heap.lanes[place] = heap.lanes[above]
        heap.lanes[place].heap_place = place
        place = above
    heap.lanes[place] = lane
    lane.heap_place = place


cdef void heap_down(Heap* heap, Lane* lane) noexcept nogil:
    cdef Py_ssize_t place = lane.heap_place
    cdef Py_ssize_t below
    while True:
        below = 2 * place + 1
        if below >= heap.size:
            break
        if below + 1 < heap.size and heap.lanes[below + 1].alarm < heap.lanes[below].alarm:
            below += 1
        if lane.alarm <= heap.lanes[below].alarm:
            break
        heap.lanes[place] = heap.lanes[below]
        heap.lanes[place].heap_place = place
        place = below
    heap.lanes[place] = lane
    lane.heap_place = place
