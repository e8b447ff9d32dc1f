# Iterations: what comes next in the program, and who hears that one is over.

cdef enum:
    OUT_OK = 0
    OUT_FAILED = 1
    OUT_INTERRUPTED = 2

cdef class Turns(Requests):
    """One iteration of a lane after another: begun, carried on, and over."""

    cdef Queue over
    cdef bint over_soon
    cdef bint flowing
    cdef public int64_t turns
    """Turns that the users of the load model have begun."""
    cdef public bint stopped
    """No turn is started by the core itself any more."""

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
                self.give_up_opening(lane)
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
