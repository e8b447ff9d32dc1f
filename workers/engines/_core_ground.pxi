# What all of the core stands on: program and permit, clock, alarms and counters. No bytes are read or written here.
#
# One class stands on the other, each for one thing: Ground, Connections, Requests, Turns, Core; Seat is what Python
# holds of a lane.

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


cdef class Ground:
    """What all of the core stands on: its program and permit, its clock and counters, alarms, and what Python is told."""

    """The lanes, connections, alarms and counts of one engine. ``parts`` is compiled.Parts: what it is to run."""

    cdef readonly int fd
    """Readable when ``drain`` has something to do."""
    cdef int timer_fd
    cdef int64_t armed
    cdef Heap heap
    cdef Tallies tallies
    cdef Queue waiting
    cdef Op* ops
    cdef SendOp* sends
    cdef int counters
    cdef int end_at
    cdef int do_at
    cdef bint bare
    cdef Bounds bounds
    cdef Pool* shared
    cdef int origin_room
    cdef int lasting_origins
    cdef int last_reused
    cdef char* buffer
    cdef int depth
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
    cdef list names
    cdef int32_t os_errors[256]
    cdef readonly bint closed

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

    cdef int look_at_permit(self) except -1:
        permit = self.permit
        self.until = permit.until
        self.most_requests = permit.requests
        self.most_turns = permit.iterations
        self.attempts = self.gate.attempts
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

    cdef int64_t second_of(self, int64_t at) noexcept:
        """The second of the schedule that a time lies in; one whose row is forgotten counts as the first one kept."""
        cdef int64_t second = (at - self.base) // SECOND if at > self.base else 0
        return self.floor if second < self.floor - ARCHIVED_SECONDS else second

    cdef int32_t os_error(self, int number) except -1:
        """The text of an operating system's error."""
        cdef int slot = number if 0 <= number < 256 else 0
        if not self.os_errors[slot]:
            self.os_errors[slot] = text_id(str(from_os_error(OSError(number, ""))))
        return self.os_errors[slot]
