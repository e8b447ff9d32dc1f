# The core itself: what the loop calls, and what goes in and out.


cdef class Core(Turns):
    """The lanes, connections, alarms and counts of one engine. ``hooks`` is compiled.Seats: whom it asks."""

    cdef epoll_event events[BATCH]

    def __cinit__(self):
        self.fd = self.timer_fd = -1
        self.first_origin = self.lasting_origins = -1
        memset(&self.bounds, 0, sizeof(Bounds))
        memset(&self.heap, 0, sizeof(Heap))
        memset(&self.tallies, 0, sizeof(Tallies))
        memset(&self.waiting, 0, sizeof(Queue))
        memset(&self.dialing, 0, sizeof(Queue))
        memset(&self.over, 0, sizeof(Queue))
        memset(self.os_errors, 0, sizeof(self.os_errors))
        self.buffer = <char*>malloc(BUFFER)
        if self.buffer == NULL:
            raise MemoryError

    def __init__(self, hooks, world):
        cdef epoll_event event
        scenario, net = world.scenario, world.net
        limits = net.limits
        self.hooks = hooks
        self.gate, self.permit, self.recorder = net.gate, world.permit, world.recorder
        self.program = scenario.program
        self.make_walk, self.make_jar = hooks.walk, scenario.jar
        self.heads = net.heads
        self.base = world.base
        self.bounds = Bounds(limits.head, limits.interim, limits.chunk_line, limits.body)
        self.redirects = scenario.redirects > 0
        self.cookies = scenario.cookies
        self.bare = self.program.bare
        self.shared_most = max(world.order.max_in_flight, 1)
        self.origins = []
        self.origin_numbers = {}
        self.names = []
        self.take_program()
        first = next(scenario.origins(), None)
        if first is not None:
            self.first_origin = self.origin_number(first)
        self.lasting_origins = self.last_reused = len(self.origins)
        self.fd = epoll_create1(EPOLL_CLOEXEC)
        if self.fd < 0:
            raise OSError(errno, os.strerror(errno))
        self.timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC)
        if self.timer_fd < 0:
            raise OSError(errno, os.strerror(errno))
        event.events = EPOLLIN
        event.data.ptr = NULL
        if epoll_ctl(self.fd, EPOLL_CTL_ADD, self.timer_fd, &event):
            raise OSError(errno, os.strerror(errno))

    def __dealloc__(self):
        self.shut()
        free(self.ops)
        free(self.sends)
        free(self.shared)
        free(self.heap.lanes)
        free(self.buffer)
        clear_tallies(&self.tallies)

    def seat(self, on_over, bint guest):
        """A new seat."""
        cdef Seat seat = Seat.__new__(Seat)
        seat.core = self
        seat.on_over = on_over
        seat.lane.guest = guest
        if self.counters:
            seat.lane.counters = <int*>calloc(<size_t>self.counters, sizeof(int))
            if seat.lane.counters == NULL:
                raise MemoryError
        return seat

    def close(self):
        """Close the connections that are shared, and give the descriptors back."""
        self.shut()

    cdef void shut(self) noexcept:
        cdef int i
        self.closed = True
        for i in range(self.origin_room):
            while self.shared[i].newest != NULL:
                self.drop_conn(self.shared[i].newest)
        self.bury()
        if self.fd >= 0:
            c_close(self.fd)
            c_close(self.timer_fd)
            self.fd = self.timer_fd = -1

    cdef int come_in(self) except -1:
        self.depth += 1
        if self.depth == 1:
            self.look_at_permit()
        return 0

    cdef int go_out(self) except -1:
        if self.depth == 1:
            self.bury()
            self.arm()
            self.tell()
            if self.used:
                self.used = False
                self.hooks.ask_for_more()
            if self.over.first != NULL and not self.over_soon:
                self.over_soon = True
                self.hooks.soon()
        self.depth -= 1
        return 0

    def drain(self):
        """Deal with what is ready, for a millisecond or so: it is called again where that was not all."""
        cdef int count
        cdef int64_t begun
        if self.closed:
            return
        self.come_in()
        try:
            self.now = begun = clock_now()
            self.flowing = False
            while not self.closed:
                count = epoll_wait(self.fd, self.events, BATCH, 0)
                if count == 0 and self.flowing and not self.openings:
                    self.arm()
                    # Users' turns follow one another in here: the next answer is near, and the way through the loop
                    # costs more than an answer does. Whoever else has something to do waits for two milliseconds.
                    with nogil:
                        count = epoll_wait(self.fd, self.events, BATCH, LINGER_MS)
                    self.now = clock_now()
                if count <= 0:
                    break
                self.take_batch(count)
                self.bury()
                self.now = clock_now()  # Whatever came, even if it was all written or of no use, has taken its time.
                if self.now - begun > SLICE_NS:
                    break
        except Exception:
            self.crash()
        finally:
            self.batch = 0
            self.go_out()

    cdef int take_batch(self, int count) except -1:
        cdef int i
        cdef Conn* conn
        cdef bint ring = False
        cdef int64_t until = self.now + SLICE_NS
        self.batch += 1
        # Idle connections first: what has happened to them must be known before anybody takes one.
        for i in range(count):
            conn = <Conn*>self.events[i].data.ptr
            if conn == NULL:
                ring = True
            elif conn.lane == NULL and not conn.buried:
                self.stir(conn)
        for i in range(count):
            conn = <Conn*>self.events[i].data.ptr
            if conn != NULL and not conn.buried and conn.lane != NULL:
                try:
                    self.on_event(conn, self.events[i].events)
                except Exception:
                    self.crash()
                if self.now > until:
                    break  # What is left is still ready when others have had their turn.
        if ring:
            self.ring()
        if self.dialing.first != NULL:
            self.match_up()
        self.batch -= 1
        return 0

    cdef int ring(self) except -1:
        """The first alarm's time has come."""
        cdef uint64_t times
        cdef Lane* lane
        cdef Py_ssize_t most = self.heap.size
        cdef int64_t until
        c_read(self.timer_fd, &times, sizeof(times))
        self.armed = 0
        self.now = clock_now()
        until = self.now + SLICE_NS
        # What is set meanwhile, for at once even, is for the next time, and so is what is left when the time is over:
        # everything else has its turn in between.
        while most and self.heap.size and self.heap.lanes[0].alarm <= self.now < until:
            most -= 1
            lane = self.heap.lanes[0]
            heap_remove(&self.heap, lane)
            try:
                self.on_alarm(lane)
            except Exception:
                self.crash()
            self.now = clock_now()
        return 0

    cdef int on_alarm(self, Lane* lane) except -1:
        if lane.state == L_PAUSE:
            if self.now < lane.wake:
                heap_set(&self.heap, lane, lane.wake)
                return 0
            return self.run(lane)
        if not lane.deadline or lane.state == L_IDLE or lane.state == L_OVER:
            return 0
        if self.now < lane.deadline:
            heap_set(&self.heap, lane, lane.deadline)
            return 0
        if lane.state == L_CONNECT:
            self.give_up_opening(lane)
        lane.error = E_TIMEOUT + lane.phase
        self.broken(lane)
        return self.answered(lane)

    def wake(self):
        """The permit may have changed."""
        cdef Lane* lane
        self.awaiting = False
        self.wakes += 1
        self.come_in()
        try:
            self.now = clock_now()
            while self.waiting.first != NULL and self.waiting.first.woken != self.wakes:
                lane = self.waiting.first
                queue_remove(&self.waiting, lane)
                try:
                    self.on_permit(lane)
                except Exception:
                    self.crash()
        finally:
            self.go_out()

    cdef int on_permit(self, Lane* lane) except -1:
        cdef int code
        if lane.state == L_ASKING:
            code = self.begin_request(lane)
        elif self.now < self.until:
            lane.deadline = self.now + lane.wake
            self.watch_deadline(lane)
            code = self.find_conn(lane)
        else:
            self.wait_for_permit(lane)
            return 0
        return self.answered(lane) if code == ENDED else 0

    def tell_over(self):
        """Tell load models of iterations that have ended without waiting for anything."""
        cdef Queue told = self.over
        cdef Lane* lane
        self.over.first = self.over.last = NULL
        self.over_soon = False
        self.come_in()
        try:
            self.now = clock_now()
            while told.first != NULL:
                lane = told.first
                queue_remove(&told, lane)
                lane.state = L_IDLE
                self.report(lane)
        finally:
            self.go_out()

    def take(self, int64_t floor):
        """What was counted since the last call: [(second, name or None for the row, counts, histograms, pairs)].

        ``floor`` is the recorder's first second that is kept. Pairs are {"statuses": [(status, count)], ...}.
        """
        self.floor = floor
        found = []
        for second, series, counts, histograms, pairs in take_tallies(&self.tallies):
            name = self.names[series] if series != ROW_SERIES else None
            told = {}
            if pairs:
                told["statuses"] = pairs[PAIR_STATUS]
                told["errors"] = [(_TEXTS[key], count) for key, count in pairs[PAIR_ERROR]]
                told["passed"] = [(_TEXTS[key], count) for key, count in pairs[PAIR_PASSED]]
                told["failed"] = [(_TEXTS[key], count) for key, count in pairs[PAIR_CHECK_FAILED]]
            found.append((second, name, counts, histograms, told))
        return found
