# Seats: what Python sees of a lane.


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
        if self.lane.guest and self.core.openings >= MOST_OPENINGS:
            return  # It waits for a connection, and may well get one that is open.
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
        cdef bint waits = lane.state == L_CONNECT and lane.origin == lane.dial_origin
        core.opened(lane)
        if core.closed or not (waits or lane.guest):
            c_close(fd)
            return
        core.come_in()
        try:
            if waits:
                queue_remove(&core.dialing, lane)
                lane.dns_ns += dns_ns
                lane.connect_ns += connect_ns
                lane.tls_ns += tls_ns
                lane.conn = core.new_conn(fd, lane, lane.origin, tls)
                if core.write_request(lane) == ENDED:
                    core.answered(lane)
            else:
                core.keep_spare(fd, lane, tls)
            core.match_up()
        except Exception:
            core.crash()
        finally:
            core.go_out()

    def refused(self, str error, int64_t dns_ns, int64_t connect_ns, int64_t tls_ns):
        """There is none, and why."""
        cdef Core core = self.core
        cdef Lane* lane = &self.lane
        cdef bint waits = lane.state == L_CONNECT and lane.origin == lane.dial_origin
        core.opened(lane)
        if core.closed:
            return
        core.come_in()
        try:
            if waits:
                queue_remove(&core.dialing, lane)
                lane.dns_ns += dns_ns
                lane.connect_ns += connect_ns
                lane.tls_ns += tls_ns
                lane.error = text_id(error)
                core.broken(lane)
                core.answered(lane)
            core.match_up()
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
