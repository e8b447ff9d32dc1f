# Requests: from a lane that has one to make to its place in the books.
#
# A request that begins is PENDING (something will come back for it) or ENDED (``lane.ended`` stands, and ``lane.error``
# where it has failed); the functions that go on with it say which. What may call Python back may find the lane in
# another state afterwards, and connections closed.

cdef enum:
    PENDING = 0
    ENDED = 1
    MOST_OPENINGS = 64  # so many connections that arrivals share are being opened at once
    MOST_LOOKED_AT = 16  # of the arrivals that wait for one, where they go to several origins


cdef class Requests(Connections):
    """One request of a lane after another: sent, answered, judged and counted."""

    cdef bint awaiting
    cdef int64_t wakes
    cdef bint redirects
    cdef bint cookies
    cdef int64_t openings
    cdef Queue dialing
    """Arrivals that wait for a connection: one that is opened for them, or that another one has done with."""
    cdef object make_walk
    cdef object make_jar
    cdef object heads

    cdef int run(self, Lane* lane) except -1:
        """Go on with an iteration: see Turns."""
        raise NotImplementedError

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
            if lane.guest:
                queue_push(&self.dialing, lane)
            if not lane.opening and (not lane.guest or self.openings < MOST_OPENINGS):
                self.open_for(lane)
            return PENDING
        return self.take_conn(lane, conn)

    cdef int open_for(self, Lane* lane) except -1:
        """Have a connection opened; whoever waits for one may take it."""
        lane.opening = True
        lane.dial_origin = lane.origin
        self.shared[lane.origin].uses += 1
        self.openings += 1
        self.make_room(lane)
        self.hooks.connect(<object>lane.seat, self.origins[lane.origin])
        return 0

    cdef void opened(self, Lane* lane) noexcept:
        """What Python was asked to open is there, or will not come."""
        if lane.opening:
            lane.opening = False
            self.shared[lane.dial_origin].uses -= 1
            self.openings -= 1

    cdef int give_up_opening(self, Lane* lane) except -1:
        """The lane wants no connection any more."""
        queue_remove(&self.dialing, lane)
        if not lane.opening:
            lane.phase = CONNECTING
            return 0
        self.opened(lane)
        phase, dns_ns, connect_ns = self.hooks.abandon(<object>lane.seat)
        lane.phase = <unsigned char>(<int>phase)
        lane.dns_ns += dns_ns
        lane.connect_ns += connect_ns
        return 0

    cdef int match_up(self) except -1:
        """Give connections that are idle to those that wait for one, and have more opened for the others."""
        cdef Lane* lane = self.dialing.first
        cdef Lane* following
        cdef Conn* conn
        cdef int looked_at = 0
        while lane != NULL and looked_at < MOST_LOOKED_AT:
            following = lane.next_waiting
            conn = self.idle_of(lane, lane.origin)
            if conn == NULL:
                looked_at += 1
            else:
                queue_remove(&self.dialing, lane)
                if not lane.opening and (<Seat>lane.seat).connector is not None:
                    (<Seat>lane.seat).connector.release()  # The socket that was reserved for it.
                if self.take_conn(lane, conn) == ENDED:
                    self.answered(lane)
                following = self.dialing.first
                looked_at = 0
            lane = following
        lane = self.dialing.first
        while lane != NULL and self.openings < MOST_OPENINGS:
            following = lane.next_waiting
            if not lane.opening:
                self.open_for(lane)
            lane = following
        return 0

    cdef int take_conn(self, Lane* lane, Conn* conn) except -1:
        """Send over a connection that was idle."""
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
