# The engine itself: reading, writing, what comes next, and when Python is asked.
#
# A request that begins is PENDING (something will come back for it) or ENDED (``lane.ended`` stands, and ``lane.error``
# where it has failed); the functions that go on with it say which. What may call Python back may find the lane in
# another state afterwards, and connections closed: those are buried at the end of a batch, so that no event of the
# batch meets a connection that is gone.

cdef enum:
    PENDING = 0
    ENDED = 1

cdef enum:
    # Operations: see program.py.
    OP_SEND = 0
    OP_WAIT = 1
    OP_CHOOSE = 2
    OP_JUMP = 3
    OP_REPEAT = 4
    OP_AGAIN = 5
    OP_KEEP = 6
    OP_END = 7

cdef enum:
    OUT_OK = 0
    OUT_FAILED = 1
    OUT_INTERRUPTED = 2

cdef enum:
    BUFFER = 65536
    BATCH = 128
    MOST_ROUNDS = 8
    MOST_AT_ONCE = 50  # requests of a lane that end without any wait
    MOST_OTHER_ORIGINS = 1000
    LINGER_MS = 1
    SLICE_NS = 1000000
    ARCHIVED_SECONDS = 150  # recorder.ARCHIVED_SECONDS

ctypedef struct Op:
    int kind
    int64_t a
    int64_t b

ctypedef struct SendOp:
    # A request of the plan; its wire belongs to the program's Send, which outlives the core.
    const char* wire
    Py_ssize_t wire_size
    int64_t timeout_ns
    int32_t series
    int32_t origin
    bint simple
    bint told
    bint ends
    bint closing
    bint no_body
    bint keep_body
    unsigned char accepts[1000]


@cython.no_gc_clear
cdef class Seat:
    """A seat (see seat.py): one user, or one arrival at a time."""

    cdef Lane lane
    cdef Core core
    cdef object on_over
    cdef object walk
    cdef object visit
    cdef object jar
    cdef bint walking
    cdef public object kept
    cdef public bint busy
    cdef public object connector
    """Python's own: what opens this seat's next connection."""

    def __cinit__(self):
        memset(&self.lane, 0, sizeof(Lane))
        self.lane.heap_place = -1
        self.lane.origin = -1
        self.lane.seat = <PyObject*>self

    def __dealloc__(self):
        parser_clear(&self.lane.parser)
        free(self.lane.counters)
        if self.core is not None:
            while self.lane.idle.newest != NULL:
                self.core.drop_conn(self.lane.idle.newest)
            self.core.bury()
            self.core.set_origin(&self.lane, -1)
            heap_remove(&self.core.heap, &self.lane)

    def enter(self):
        """A user becomes active."""
        self.jar = None
        self.walk = None
        self.lane.has_cookies = False
        self.kept = {}

    def leave(self):
        """Give back what belongs to the seat alone."""
        cdef Lane* lane = &self.lane
        while lane.idle.newest != NULL:
            self.core.drop_conn(lane.idle.newest)
        if self.connector is not None:
            self.connector.release()
            self.connector = None
        if not self.busy:
            heap_remove(&self.core.heap, lane)
            self.walk = None
        self.core.bury()

    def reserve(self):
        """Make sure that the first request finds a socket; raises Resource."""
        cdef int32_t origin = self.core.first_origin
        if origin >= 0 and not self.core.has_idle(&self.lane, origin):
            self.core.hooks.reserve(self, self.core.origins[origin])

    def ride(self, visit, int64_t due, int64_t key, int64_t now):
        """Start an iteration, and go on with it until it first waits."""
        cdef Core core = self.core
        self.visit = visit
        if self.lane.guest:
            self.jar = None
            self.kept = {} if not core.bare else None
            self.lane.has_cookies = False
        core.come_in()
        try:
            self.lane.riding = True
            core.start_turn(&self.lane, due, key, now, core.bare or bool(visit.fresh))
            core.run(&self.lane)
        except Exception:
            core.crash()
        finally:
            self.lane.riding = False
            core.go_out()

    def interrupt(self):
        """End the iteration, if there is one, as interrupted."""
        cdef Core core = self.core
        if not self.busy:
            return
        core.come_in()
        try:
            core.cut(&self.lane)
        except Exception:
            core.crash()
        finally:
            core.go_out()

    def again(self, int64_t until):
        """Start the next turns without asking, as long as they begin before a time, within the permit."""
        self.lane.again_until = until

    # What Python tells of the connection that it was asked for

    def connected(self, int fd, tls, int64_t dns_ns, int64_t connect_ns, int64_t tls_ns):
        """Here it is; the descriptor is the core's from now on."""
        cdef Core core = self.core
        cdef Lane* lane = &self.lane
        if lane.state != L_CONNECT or core.closed:
            c_close(fd)
            return
        core.come_in()
        try:
            lane.dns_ns += dns_ns
            lane.connect_ns += connect_ns
            lane.tls_ns += tls_ns
            core.openings -= 1
            lane.conn = core.new_conn(fd, lane, tls)
            if core.write_request(lane) == ENDED:
                core.answered(lane)
        except Exception:
            core.crash()
        finally:
            core.go_out()

    def refused(self, str error, int64_t dns_ns, int64_t connect_ns, int64_t tls_ns):
        """There is none, and why."""
        cdef Core core = self.core
        cdef Lane* lane = &self.lane
        if lane.state != L_CONNECT:
            return
        core.come_in()
        try:
            lane.dns_ns += dns_ns
            lane.connect_ns += connect_ns
            lane.tls_ns += tls_ns
            core.openings -= 1
            lane.error = text_id(error)
            core.broken(lane)
            core.answered(lane)
        except Exception:
            core.crash()
        finally:
            core.go_out()

    def settle(self, x):
        """Count an exchange of the walk's, whose figures are still the lane's."""
        cdef Lane* lane = &self.lane
        cdef Tally* tally
        lane.error = text_id(x.error) if x.error is not None else E_NONE
        tally = self.core.settle(lane)
        if x.checks is not None:
            for name, passed in x.checks:
                count_pair(tally, PAIR_PASSED if passed else PAIR_CHECK_FAILED, text_id(name))


cdef class Core:
    """The lanes, connections, alarms and counts of one engine. ``parts`` is compiled.Parts: what it is to run."""

    cdef readonly int fd
    """Readable when ``drain`` has something to do."""
    cdef int timer_fd
    cdef int64_t armed
    cdef Heap heap
    cdef Tallies tallies
    cdef Queue waiting
    cdef Queue over
    cdef bint over_soon
    cdef bint awaiting
    cdef int64_t wakes
    cdef Op* ops
    cdef SendOp* sends
    cdef int counters
    cdef int end_at
    cdef int do_at
    cdef bint bare
    cdef bint redirects
    cdef bint cookies
    cdef Bounds bounds
    cdef Pool* shared
    cdef int origin_room
    cdef int lasting_origins
    cdef int last_reused
    cdef int shared_count
    cdef int shared_most
    cdef Conn* graveyard
    cdef char* buffer
    cdef epoll_event events[BATCH]
    cdef int depth
    cdef int batch
    cdef bint flowing
    cdef int64_t openings
    cdef int64_t now
    # The permit, as it stood when the core was entered.
    cdef int64_t until
    cdef int64_t most_requests
    cdef int64_t most_turns
    cdef int64_t attempts
    # Since Python was last told.
    cdef int64_t new_attempts
    cdef int64_t new_started
    cdef int64_t new_in_flight
    cdef int64_t new_attempted
    cdef bint used
    cdef int64_t base
    cdef int64_t floor
    cdef int32_t first_origin
    cdef readonly list origins
    cdef dict origin_numbers
    cdef object hooks
    cdef object gate
    cdef object permit
    cdef object recorder
    cdef object program
    cdef object make_walk
    cdef object make_jar
    cdef object heads
    cdef list names
    cdef int32_t os_errors[256]
    cdef public int64_t turns
    """Turns that the users of the load model have begun."""
    cdef public bint stopped
    """No turn is started by the core itself any more."""
    cdef readonly bint closed

    def __cinit__(self):
        self.fd = self.timer_fd = -1
        self.first_origin = self.lasting_origins = -1
        memset(&self.bounds, 0, sizeof(Bounds))
        memset(&self.heap, 0, sizeof(Heap))
        memset(&self.tallies, 0, sizeof(Tallies))
        memset(&self.waiting, 0, sizeof(Queue))
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

    cdef int take_program(self) except -1:
        cdef int i
        cdef SendOp* send
        program = self.program
        count = len(program.ops)
        self.ops = <Op*>calloc(<size_t>count, sizeof(Op))
        self.sends = <SendOp*>calloc(<size_t>len(program.sends) + 1, sizeof(SendOp))
        if self.ops == NULL or self.sends == NULL:
            raise MemoryError
        self.counters, self.end_at, self.do_at = program.counters, program.end_at, program.do_at
        numbers = {}
        for i in range(count):
            op = program.ops[i]
            kind = self.ops[i].kind = op.kind
            if kind == OP_SEND:
                self.ops[i].a = op.number
            elif kind == OP_WAIT:
                self.ops[i].a, self.ops[i].b = op.low_ns, op.spread_ns
            elif kind == OP_JUMP:
                self.ops[i].a = op.to
            elif kind == OP_REPEAT:
                self.ops[i].a, self.ops[i].b = op.slot, op.times
            elif kind == OP_AGAIN:
                self.ops[i].a, self.ops[i].b = op.slot, op.to
        for i in range(len(program.sends)):
            op = program.sends[i]
            send = &self.sends[i]
            if op.name not in numbers:
                numbers[op.name] = len(self.names)
                self.names.append(op.name)
            send.series = numbers[op.name]
            send.simple, send.ends, send.closing, send.keep_body = op.simple, op.ends, op.closing, op.keep_body
            send.no_body = op.method == "HEAD"
            send.timeout_ns = op.timeout_ns
            send.origin = -1
            if op.simple:
                send.origin = self.origin_number(op.origin)
                send.wire, send.wire_size = PyBytes_AS_STRING(op.wire), len(op.wire)
                send.told = op.judge.of_status(200)[1] is not None
                for status in range(1000):
                    send.accepts[status] = op.judge.of_status(status)[0] is None
        return 0

    cdef int32_t origin_number(self, origin) except -1:
        """The number of an origin. Redirects and templates may bring new ones all the time: of those that are not the
        plan's, and that nobody uses, the numbers are given to others."""
        cdef int room
        cdef int i
        cdef Pool* grown
        found = self.origin_numbers.get(origin)
        if found is not None:
            return found
        if 0 <= self.lasting_origins and len(self.origins) >= self.lasting_origins + MOST_OTHER_ORIGINS:
            for i in range(MOST_OTHER_ORIGINS):
                self.last_reused += 1
                if self.last_reused >= len(self.origins):
                    self.last_reused = self.lasting_origins
                if not self.shared[self.last_reused].uses:
                    del self.origin_numbers[self.origins[self.last_reused]]
                    self.origin_numbers[origin] = self.last_reused
                    self.origins[self.last_reused] = origin
                    return self.last_reused
        if len(self.origins) == self.origin_room:
            room = self.origin_room * 2 if self.origin_room else 4
            grown = <Pool*>realloc(self.shared, <size_t>room * sizeof(Pool))
            if grown == NULL:
                raise MemoryError
            memset(grown + self.origin_room, 0, <size_t>(room - self.origin_room) * sizeof(Pool))
            self.shared = grown
            self.origin_room = room
        self.origin_numbers[origin] = len(self.origins)
        self.origins.append(origin)
        return len(self.origins) - 1

    cdef void set_origin(self, Lane* lane, int32_t origin) noexcept:
        """Where the lane's request goes; -1: nowhere."""
        if lane.origin >= 0:
            self.shared[lane.origin].uses -= 1
        lane.origin = origin
        if origin >= 0:
            self.shared[origin].uses += 1

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

    # In and out: what Python may have changed in between, and what it has to hear

    cdef int come_in(self) except -1:
        self.depth += 1
        if self.depth == 1:
            self.look_at_permit()
        return 0

    cdef int look_at_permit(self) except -1:
        permit = self.permit
        self.until = permit.until
        self.most_requests = permit.requests
        self.most_turns = permit.iterations
        self.attempts = self.gate.attempts
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

    cdef int tell(self) except -1:
        """Bring Python's counters up to date."""
        if self.new_attempts:
            self.used = True
            self.attempts += self.new_attempts
            self.gate.attempts = self.attempts
            self.new_attempts = 0
        if self.new_started:
            self.used = True
            self.recorder.started += self.new_started
            self.new_started = 0
        if self.new_in_flight:
            self.recorder.in_flight += self.new_in_flight
            self.new_in_flight = 0
        if self.new_attempted:
            self.recorder.attempted += self.new_attempted
            self.new_attempted = 0
        return 0

    cdef int crash(self) except -1:
        """In an ``except`` clause: the engine ends, and its last snapshot has to balance."""
        self.tell()
        self.hooks.crash()
        return 0

    cdef int arm(self) except -1:
        """Set the timer to the first alarm, where it stands later."""
        cdef itimerspec spec
        cdef int64_t due
        if not self.heap.size or self.timer_fd < 0:
            return 0
        due = self.heap.lanes[0].alarm
        if self.armed and self.armed <= due:
            return 0
        self.armed = due
        if due < 1:
            due = 1
        spec.it_interval.tv_sec = spec.it_interval.tv_nsec = 0
        spec.it_value.tv_sec = due // SECOND
        spec.it_value.tv_nsec = due % SECOND
        timerfd_settime(self.timer_fd, TFD_TIMER_ABSTIME, &spec, NULL)
        return 0

    # What the loop calls

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
        self.batch -= 1
        return 0

    cdef int on_event(self, Conn* conn, uint32_t events) except -1:
        cdef Lane* lane = conn.lane
        if lane.state == L_SEND:
            if lane.written and events & ~<uint32_t>EPOLLOUT:
                # It answers before it has everything, or has broken off: what it says is the answer.
                conn.alive = False
                self.ask_write(conn, False)
                lane.state = L_READ
                lane.phase = WAITING
                return self.receive(lane)
            if self.push(lane) == ENDED:
                return self.answered(lane)
            return 0
        if lane.state == L_READ:
            return self.receive(lane)
        return 0

    cdef int stir(self, Conn* conn) except -1:
        """An idle connection is over or broken, unless it is TLS saying something of its own (session tickets)."""
        cdef ssize_t got
        if conn.tls != NULL:
            got = recv(conn.fd, self.buffer, BUFFER, MSG_DONTWAIT)
            if got < 0 and errno in (EAGAIN, EINTR):
                return 0
            if got > 0:
                try:
                    tls = <object>conn.tls
                    tls.put_input(PyBytes_FromStringAndSize(self.buffer, got))
                    if tls.read() is None:
                        return 0
                except RequestError:
                    pass
        self.drop_conn(conn)
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
            self.openings -= 1
            phase, dns_ns, connect_ns = self.hooks.abandon(<object>lane.seat)
            lane.phase = <unsigned char>(<int>phase)
            lane.dns_ns += dns_ns
            lane.connect_ns += connect_ns
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

    # Connections

    cdef Conn* new_conn(self, int fd, Lane* lane, tls) except NULL:
        cdef epoll_event event
        cdef Conn* conn = <Conn*>calloc(1, sizeof(Conn))
        if conn == NULL:
            c_close(fd)
            raise MemoryError
        conn.fd = fd
        conn.lane = lane
        conn.owner = NULL if lane.guest else lane
        conn.origin = lane.origin
        self.shared[conn.origin].uses += 1
        conn.alive = True
        if tls is not None:
            Py_INCREF(tls)
            conn.tls = <PyObject*>tls
        event.events = EPOLLIN
        event.data.ptr = conn
        if epoll_ctl(self.fd, EPOLL_CTL_ADD, fd, &event):
            number = errno
            self.drop_conn(conn)
            raise OSError(number, os.strerror(number))
        return conn

    cdef void drop_conn(self, Conn* conn) noexcept:
        """Close a connection, idle or not; its struct lives on to the end of the batch."""
        cdef Pool* pool
        if conn.buried:
            return
        if conn.lane == NULL:
            if conn.owner != NULL:
                pool = &conn.owner.idle
            else:
                pool = &self.shared[conn.origin]
                self.shared_count -= 1
            pool_remove(pool, conn)
        elif conn.lane.conn == conn:
            conn.lane.conn = NULL
        self.shared[conn.origin].uses -= 1
        c_close(conn.fd)  # which takes it out of the epoll descriptor too
        conn.fd = -1
        conn.lane = NULL
        conn.buried = True
        conn.older = self.graveyard
        self.graveyard = conn
        if conn.tls != NULL:
            drop_reference(conn.tls)
            conn.tls = NULL

    cdef void bury(self) noexcept:
        cdef Conn* conn
        if self.batch:
            return
        while self.graveyard != NULL:
            conn = self.graveyard
            self.graveyard = conn.older
            free(conn)

    cdef Pool* pool_of(self, Lane* lane, int32_t origin) noexcept:
        return &self.shared[origin] if lane.guest else &lane.idle

    cdef Conn* idle_of(self, Lane* lane, int32_t origin) noexcept:
        cdef Conn* conn = self.pool_of(lane, origin).newest
        while conn != NULL and conn.origin != origin:
            conn = conn.older
        return conn

    cdef bint has_idle(self, Lane* lane, int32_t origin) noexcept:
        return self.idle_of(lane, origin) != NULL

    cdef void give_back(self, Lane* lane) noexcept:
        """The lane's connection may carry another request: it is idle from now on."""
        cdef Conn* conn = lane.conn
        lane.conn = NULL
        self.make_room(lane)
        if lane.guest:
            self.shared_count += 1
        conn.lane = NULL
        pool_push(self.pool_of(lane, conn.origin), conn)

    cdef void make_room(self, Lane* lane) noexcept:
        """Room for one more connection, open or idle, where the lane's are kept."""
        cdef int i
        if not lane.guest:
            if lane.idle.count >= MOST_IDLE:
                self.drop_conn(lane.idle.oldest)
        elif self.shared_count >= self.shared_most:
            for i in range(self.origin_room):
                if self.shared[i].oldest != NULL:
                    self.drop_conn(self.shared[i].oldest)
                    break

    cdef void ask_write(self, Conn* conn, bint wanted) noexcept:
        cdef epoll_event event
        if conn.asks_write == wanted:
            return
        conn.asks_write = wanted
        event.events = EPOLLIN | EPOLLOUT if wanted else EPOLLIN
        event.data.ptr = conn
        epoll_ctl(self.fd, EPOLL_CTL_MOD, conn.fd, &event)

    cdef int32_t os_error(self, int number) except -1:
        """The text of an operating system's error."""
        cdef int slot = number if 0 <= number < 256 else 0
        if not self.os_errors[slot]:
            self.os_errors[slot] = text_id(str(from_os_error(OSError(number, ""))))
        return self.os_errors[slot]

    # Iterations

    cdef int64_t second_of(self, int64_t at) noexcept:
        """The second of the schedule that a time lies in; one whose row is forgotten counts as the first one kept."""
        cdef int64_t second = (at - self.base) // SECOND if at > self.base else 0
        return self.floor if second < self.floor - ARCHIVED_SECONDS else second

    cdef int start_turn(self, Lane* lane, int64_t due, int64_t key, int64_t now, bint fresh) except -1:
        cdef Tally* tally
        cdef int64_t second = self.second_of(key)
        cdef int64_t began = self.second_of(now)
        tally = tally_of(&self.tallies, second, ROW_SERIES)
        tally.counts[R_STARTED] += 1
        tally.counts[R_IN_FLIGHT] += 1
        tally.counts[R_OPEN] += 1
        record(&tally.durations[H_LATENESS], now - due)
        if began != second:
            tally = tally_of(&self.tallies, began, ROW_SERIES)
        tally.counts[R_BEGAN] += 1
        self.new_started += 1
        self.new_in_flight += 1
        lane.turn_second = second
        lane.turn_due = lane.free = due
        lane.turn_started = now
        lane.first_sent = lane.last_ended = 0
        lane.ok = True
        lane.waited = False
        lane.at = 0 if fresh else self.do_at
        (<Seat>lane.seat).busy = True
        (<Seat>lane.seat).walking = False
        if not lane.held:
            # Sockets, alarms and queues point to a busy lane.
            lane.held = True
            Py_INCREF(<object>lane.seat)
        if now > self.now:
            self.now = now
        return 0

    cdef int end_turn(self, Lane* lane, int outcome) except -1:
        cdef Seat seat = <Seat>lane.seat
        cdef Tally* tally = tally_of(&self.tallies, lane.turn_second, ROW_SERIES)
        cdef int64_t now = self.now
        cdef int64_t second
        tally.counts[R_IN_FLIGHT] -= 1
        tally.counts[R_OPEN] -= 1
        self.new_in_flight -= 1
        seat.busy = False
        if outcome == OUT_INTERRUPTED:
            tally.counts[R_INTERRUPTED] += 1
        else:
            tally.counts[R_OK if outcome == OUT_OK else R_FAILED] += 1
            record(&tally.durations[H_ITERATION_RESPONSE], now - lane.turn_due)
            record(
                &tally.durations[H_ITERATION_SERVICE],
                (lane.last_ended or now) - (lane.first_sent or lane.turn_started),
            )
            second = self.second_of(now)
            if second != lane.turn_second:
                tally = tally_of(&self.tallies, second, ROW_SERIES)
            tally.counts[R_COMPLETED] += 1
        return 0

    cdef int over_with(self, Lane* lane, int outcome) except -1:
        """The iteration is over: ENDED where another one has been started, else its load model hears of it."""
        self.end_turn(lane, outcome)
        if lane.riding or not lane.waited:
            lane.state = L_OVER
            queue_push(&self.over, lane)
            return PENDING
        if (
            outcome != OUT_INTERRUPTED
            and self.now < lane.again_until
            and not self.stopped
            and self.now < self.until
            and self.turns < self.most_turns
            and (self.first_origin < 0 or self.has_idle(lane, self.first_origin))
        ):
            self.turns += 1
            self.flowing = True
            self.start_turn(lane, self.now, self.now, self.now, True)
            return ENDED
        lane.state = L_IDLE
        self.report(lane)
        return PENDING

    cdef int report(self, Lane* lane) except -1:
        cdef Seat seat = <Seat>lane.seat
        self.tell()
        lane.held = False
        try:
            seat.on_over(seat)
        except Exception:
            self.crash()
        Py_DECREF(seat)
        return 0

    cdef int run(self, Lane* lane) except -1:
        """Go on with an iteration until it waits or is over."""
        cdef Seat seat = <Seat>lane.seat
        cdef Op* op
        cdef int64_t rest
        cdef int ended = 0
        while True:
            op = &self.ops[lane.at]
            lane.at += 1
            if op.kind == OP_SEND:
                if self.begin_send(lane, <int32_t>op.a) == PENDING or self.take_answer(lane) == PENDING:
                    lane.waited = True
                    return 0
                ended += 1
                if ended > MOST_AT_ONCE:
                    return self.pause(lane, clock_now())  # Others have their turn.
            elif op.kind == OP_WAIT:
                rest = op.a
                if op.b:
                    rest = self.program.ops[lane.at - 1].duration(seat.visit)
                lane.free += rest
                return self.pause(lane, lane.free)
            elif op.kind == OP_CHOOSE:
                lane.at = self.program.ops[lane.at - 1].pick(seat.visit)
            elif op.kind == OP_JUMP:
                lane.at = <int32_t>op.a
            elif op.kind == OP_REPEAT:
                lane.counters[op.a] = <int>op.b
            elif op.kind == OP_AGAIN:
                lane.counters[op.a] -= 1
                if lane.counters[op.a]:
                    lane.at = <int32_t>op.b
            elif op.kind == OP_KEEP:
                seat.kept.update(seat.visit.vars)
            elif self.over_with(lane, OUT_OK if lane.ok else OUT_FAILED) == PENDING:
                return 0

    cdef int pause(self, Lane* lane, int64_t until) except -1:
        """Go on at a time, in a later turn of the loop."""
        lane.wake = until
        lane.state = L_PAUSE
        lane.deadline = 0
        lane.waited = True
        heap_set(&self.heap, lane, until)
        return 0

    cdef int cut(self, Lane* lane) except -1:
        """The iteration ends here, because its run does."""
        cdef Tally* tally
        self.now = clock_now()
        if lane.state == L_PAUSE:
            heap_remove(&self.heap, lane)
        elif lane.state == L_ASKING:
            queue_remove(&self.waiting, lane)
            self.forget_exchange(lane)
        else:
            if lane.state == L_CONNECT:
                self.openings -= 1
                self.hooks.abandon(<object>lane.seat)
            elif lane.state == L_HELD:
                queue_remove(&self.waiting, lane)
            self.broken(lane)
            tally = self.close_request(lane)
            tally.counts[C_INTERRUPTED] += 1
            self.clean(lane)
            self.forget_exchange(lane)
        lane.waited = True
        self.over_with(lane, OUT_INTERRUPTED)
        return 0

    # Requests

    cdef int begin_send(self, Lane* lane, int32_t number) except -1:
        cdef SendOp* send = &self.sends[number]
        lane.send = number
        lane.hop = False
        if send.simple and not lane.has_cookies:
            lane.wire, lane.wire_size = send.wire, send.wire_size
            self.set_origin(lane, send.origin)
            lane.closing = send.closing
            lane.no_body = send.no_body
            lane.keep_body = False
            lane.timeout_ns = send.timeout_ns
            lane.series = send.series
            lane.error = E_NONE
        else:
            self.take_exchange(lane, self.walk_of(lane).send(self.program.sends[number]))
        return self.begin_request(lane)

    cdef object walk_of(self, Lane* lane):
        """The walk that decides what the core can't, as far as the lane has come."""
        cdef Seat seat = <Seat>lane.seat
        if not seat.walking:
            if seat.walk is None:
                seat.walk = self.make_walk(seat.settle)
            if seat.jar is None:
                seat.jar = self.make_jar()
            seat.walk.begin(seat.visit, seat.jar, seat.kept)
            seat.walking = True
        seat.walk.at = lane.at
        seat.walk.ok = lane.ok
        return seat.walk

    cdef int take_exchange(self, Lane* lane, x) except -1:
        """Have the lane carry out an exchange of the walk's."""
        self.forget_exchange(lane)
        Py_INCREF(x)
        lane.exchange = <PyObject*>x
        wire = x.wire
        lane.wire, lane.wire_size = PyBytes_AS_STRING(wire), len(wire)
        self.set_origin(lane, self.origin_number(x.origin) if x.origin is not None else -1)
        lane.closing = x.closing
        lane.no_body = x.method == "HEAD"
        lane.keep_body = x.keep_body
        lane.timeout_ns = x.timeout_ns
        lane.hop = x.hop
        lane.series = self.sends[lane.send].series
        lane.error = text_id(x.error) if x.error is not None else E_NONE
        return 0

    cdef void forget_exchange(self, Lane* lane) noexcept:
        if lane.exchange != NULL:
            drop_reference(lane.exchange)
            lane.exchange = NULL
        if lane.cipher != NULL:
            drop_reference(lane.cipher)
            lane.cipher = NULL

    cdef int begin_request(self, Lane* lane) except -1:
        """A request of the lane's begins, as soon as the permit covers it."""
        cdef int64_t now
        if lane.exchange != NULL:
            self.now = clock_now()  # Python has taken its time.
        now = self.now
        if now >= self.until or self.attempts + self.new_attempts >= self.most_requests:
            lane.state = L_ASKING
            self.wait_for_permit(lane)
            return PENDING
        self.new_attempts += 1
        lane.due = lane.free
        lane.sent = lane.first = lane.dns_ns = lane.connect_ns = lane.tls_ns = 0
        lane.written = 0
        lane.status = 0
        lane.received = 0
        if lane.error:
            lane.ended = now
            return ENDED
        lane.deadline = now + lane.timeout_ns
        self.watch_deadline(lane)
        return self.find_conn(lane)

    cdef int wait_for_permit(self, Lane* lane) except -1:
        lane.woken = self.wakes
        queue_push(&self.waiting, lane)
        if not self.awaiting:
            self.awaiting = True
            self.tell()
            self.hooks.await_permit()
        return 0

    cdef int watch_deadline(self, Lane* lane) except -1:
        """Arm the alarm only where it would ring too late: a lane's requests share one, which follows them."""
        if lane.heap_place < 0 or lane.alarm > lane.deadline:
            heap_set(&self.heap, lane, lane.deadline)
        return 0

    cdef int find_conn(self, Lane* lane) except -1:
        cdef Conn* conn = self.idle_of(lane, lane.origin)
        if conn == NULL:
            lane.state = L_CONNECT
            lane.phase = RESOLVING
            self.openings += 1
            self.make_room(lane)
            self.hooks.connect(<object>lane.seat, self.origins[lane.origin])
            return PENDING
        pool_remove(self.pool_of(lane, lane.origin), conn)
        if lane.guest:
            self.shared_count -= 1
        conn.lane = lane
        lane.conn = conn
        return self.write_request(lane)

    cdef int write_request(self, Lane* lane) except -1:
        cdef int keep = (KEEP_COOKIES if self.cookies else 0) | (KEEP_LOCATION if self.redirects else 0)
        if lane.exchange != NULL:
            keep = KEEP_HEAD
        parser_begin(&lane.parser, &self.bounds, lane.no_body, lane.keep_body, keep)
        lane.phase = SENDING
        if lane.conn.tls != NULL:
            try:
                tls = <object>lane.conn.tls
                tls.write(PyBytes_FromStringAndSize(lane.wire, lane.wire_size))
                cipher = tls.take_output()
            except RequestError as error:
                lane.error = text_id(str(error))
                self.broken(lane)
                return ENDED
            if lane.cipher != NULL:
                drop_reference(lane.cipher)
            Py_INCREF(cipher)
            lane.cipher = <PyObject*>cipher
        return self.push(lane)

    cdef int push(self, Lane* lane) except -1:
        """Write what has not left yet; not a byte of it once the permit is over, which the clock says right before."""
        cdef Conn* conn = lane.conn
        cdef const char* data = lane.wire
        cdef Py_ssize_t size = lane.wire_size
        cdef ssize_t gone
        cdef int number
        if conn.tls != NULL:
            data = PyBytes_AS_STRING(<object>lane.cipher)
            size = len(<bytes>lane.cipher)
        while lane.written < size:
            if not lane.written:
                self.now = clock_now()
                if self.now >= self.until:
                    return self.hold(lane)
                lane.sent = self.now
            gone = send(conn.fd, data + lane.written, <size_t>(size - lane.written), MSG_DONTWAIT | MSG_NOSIGNAL)
            if gone < 0:
                number = errno
                if not lane.written:
                    lane.sent = 0
                if number == EAGAIN or number == EINTR:
                    lane.state = L_SEND
                    self.ask_write(conn, True)
                    return PENDING
                if not lane.written:
                    lane.error = self.os_error(number)
                    self.broken(lane)
                    return ENDED
                conn.alive = False
                break
            if not lane.written:
                self.count_sent(lane)
            lane.written += gone
        self.ask_write(conn, False)
        lane.state = L_READ
        lane.phase = WAITING
        return PENDING

    cdef int hold(self, Lane* lane) except -1:
        """Connecting, or a pause of the whole process, has outlived the permit: the request's time stands still."""
        if lane.conn.tls != NULL:
            self.drop_conn(lane.conn)  # What was encrypted and not sent is a gap in the stream.
        else:
            self.ask_write(lane.conn, False)
            self.give_back(lane)
        lane.wake = lane.deadline - self.now
        lane.deadline = 0
        lane.state = L_HELD
        self.wait_for_permit(lane)
        return PENDING

    cdef int receive(self, Lane* lane) except -1:
        """Something has come for a lane, or the end of the stream."""
        cdef Conn* conn = lane.conn
        cdef ssize_t got
        cdef int code
        cdef int rounds = 0
        while True:
            got = recv(conn.fd, self.buffer, BUFFER, MSG_DONTWAIT)
            if got < 0 and (errno == EAGAIN or errno == EINTR):
                return 0
            if got < 0:
                lane.error = self.os_error(errno)
                self.broken(lane)
                return self.answered(lane)
            self.now = clock_now()
            if conn.tls != NULL:
                code = self.decrypt(lane, got)
            elif got == 0:
                code = parser_finish(&lane.parser)
            else:
                if not lane.first:
                    lane.first = self.now
                code = parser_feed(&lane.parser, self.buffer, got)
            if code == MORE:
                if lane.first:
                    lane.phase = READING
                rounds += 1
                if got == BUFFER and rounds < MOST_ROUNDS:
                    continue
                return 0  # What is left makes the next event.
            if code == DONE:
                self.complete(lane)
            else:
                if lane.parser.error:
                    lane.error = lane.parser.error
                self.broken(lane)
            return self.answered(lane)

    cdef int decrypt(self, Lane* lane, ssize_t got) except -1:
        """Cipher bytes, of which none are the end of the stream, to the parser as plain ones."""
        cdef int code = MORE
        cdef bytes data
        tls = <object>lane.conn.tls
        try:
            if got:
                tls.put_input(PyBytes_FromStringAndSize(self.buffer, got))
            else:
                tls.put_end()
            while code == MORE:
                plain = tls.read()
                if plain is None:
                    return MORE
                data = plain
                if not data:
                    return parser_finish(&lane.parser)
                if not lane.first:
                    lane.first = self.now
                code = parser_feed(&lane.parser, PyBytes_AS_STRING(data), len(data))
        except RequestError as error:
            lane.error = text_id(str(error))
            return FAILED
        if code == DONE:
            try:
                # More than the answer, or the stream's end, may lie here already: no event will tell of it.
                if tls.read() is not None:
                    lane.parser.excess = True
            except RequestError:
                lane.parser.excess = True
        return code

    cdef int complete(self, Lane* lane) except -1:
        """A whole response has come."""
        lane.ended = self.now
        lane.deadline = 0
        lane.status = lane.parser.head.status
        lane.received = lane.parser.received
        if parser_reusable(&lane.parser) and lane.conn.alive and not lane.closing:
            self.give_back(lane)
        else:
            self.drop_conn(lane.conn)
        return 0

    cdef int broken(self, Lane* lane) except -1:
        """A request has ended without a proper response: its connection is never used again."""
        lane.ended = self.now = clock_now()
        lane.deadline = 0
        if lane.sent:
            lane.status = parser_status(&lane.parser)
            lane.received = lane.parser.received
        if lane.conn != NULL:
            self.drop_conn(lane.conn)
        return 0

    cdef int answered(self, Lane* lane) except -1:
        """A request that was pending has ended: go on."""
        lane.waited = True
        if self.take_answer(lane) == PENDING:
            return 0
        return self.run(lane)

    cdef int take_answer(self, Lane* lane) except -1:
        """Judge and count a request that has ended, and carry out the redirects that follow it."""
        cdef SendOp* send = &self.sends[lane.send]
        cdef Tally* tally
        while True:
            lane.free = lane.last_ended = lane.ended
            if not lane.first_sent:
                lane.first_sent = lane.sent
            if lane.exchange == NULL and (lane.error or lane.parser.block == NULL):
                if not lane.error and not send.accepts[lane.status]:
                    lane.error = text_id(f"status: {lane.status}")
                    if send.told:
                        tally = self.settle(lane)
                        count_pair(tally, PAIR_CHECK_FAILED, text_id("status"))
                    else:
                        self.settle(lane)
                else:
                    tally = self.settle(lane)
                    if send.told and not lane.error:
                        count_pair(tally, PAIR_PASSED, text_id("status"))
                if lane.error:
                    lane.ok = False
                    if send.ends:
                        lane.at = self.end_at
                self.clean(lane)
                return ENDED
            hop = self.judge(lane)
            if hop is None:
                return ENDED
            if self.begin_request(lane) == PENDING:
                return PENDING

    cdef object judge(self, Lane* lane):
        """Have the walk take an exchange in; gives the next hop, which the lane has taken over, or None."""
        cdef Seat seat = <Seat>lane.seat
        walk = self.walk_of(lane)
        if lane.exchange != NULL:
            x = <object>lane.exchange
        else:
            # A simple request that was answered by a cookie or a redirect.
            x = walk.send(self.program.sends[lane.send])
        x.due, x.sent, x.first, x.ended = lane.due, lane.sent, lane.first, lane.ended
        x.dns_ns, x.connect_ns, x.tls_ns = lane.dns_ns, lane.connect_ns, lane.tls_ns
        x.status = lane.status or None
        x.bytes_in = lane.received
        x.bytes_out = min(lane.written, lane.wire_size)
        if lane.error:
            x.error = _TEXTS[lane.error]
        elif lane.parser.has_head:
            block = PyBytes_FromStringAndSize(lane.parser.block, lane.parser.block_size)
            x.head = self.heads.known(block) or self.heads.parse(block)
            if lane.keep_body:
                x.body = PyBytes_FromStringAndSize(lane.parser.body, lane.parser.body_size)
        self.clean(lane)
        hop = walk.took(x)
        lane.has_cookies = bool(seat.jar)
        if hop is None:
            lane.at = walk.at
            lane.ok = walk.ok
            self.forget_exchange(lane)
            return None
        self.take_exchange(lane, hop)
        return hop

    cdef void clean(self, Lane* lane) noexcept:
        parser_clear(&lane.parser)

    # Counts

    cdef int count_sent(self, Lane* lane) except -1:
        """The first bytes of a request have left, at ``lane.sent``."""
        cdef Tally* tally
        lane.sent_second = self.second_of(lane.sent)
        tally = tally_of(&self.tallies, lane.sent_second, lane.series)
        tally.counts[C_OPEN] += 1
        tally.counts[C_ATTEMPTED] += 1
        tally.counts[C_IN_FLIGHT] += 1
        if lane.hop:
            tally.counts[C_REDIRECTS] += 1
        self.new_attempted += 1
        return 0

    cdef Tally* close_request(self, Lane* lane) except NULL:
        cdef Tally* tally
        cdef Py_ssize_t written = lane.written
        if lane.sent:
            tally = tally_of(&self.tallies, lane.sent_second, lane.series)
            tally.counts[C_OPEN] -= 1
            tally.counts[C_IN_FLIGHT] -= 1
        else:
            tally = tally_of(&self.tallies, self.second_of(lane.ended), lane.series)
            tally.counts[C_ATTEMPTED] += 1
            tally.counts[C_UNSENT] += 1
            if lane.hop:
                tally.counts[C_REDIRECTS] += 1
            self.new_attempted += 1
        if lane.status:
            tally.counts[C_ANSWERED] += 1
            count_pair(tally, PAIR_STATUS, lane.status)
        tally.counts[C_BYTES_IN] += lane.received
        tally.counts[C_BYTES_OUT] += written if written < lane.wire_size else lane.wire_size
        return tally

    cdef Tally* settle(self, Lane* lane) except NULL:
        """A request is over and judged: ok, or failed for ``lane.error``."""
        cdef Tally* tally = self.close_request(lane)
        cdef Durations* durations = &tally.durations[0]
        if lane.error:
            tally.counts[C_FAILED] += 1
            record(&durations[H_RESPONSE_FAILED], lane.ended - lane.due)
            count_pair(tally, PAIR_ERROR, lane.error)
        else:
            tally.counts[C_OK] += 1
            record(&durations[H_RESPONSE_OK], lane.ended - lane.due)
        if lane.sent:
            record(&durations[H_SERVICE], lane.ended - lane.sent)
        if lane.first:
            record(&durations[H_FIRST_BYTE], lane.first - lane.sent)
            if lane.ended > lane.first:
                record(&durations[H_BODY], lane.ended - lane.first)
        if lane.connect_ns:
            record(&durations[H_CONNECT], lane.connect_ns)
            if lane.tls_ns:
                record(&durations[H_TLS], lane.tls_ns)
        if lane.dns_ns:
            record(&durations[H_DNS], lane.dns_ns)
        return tally

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
