# Connections: opened in Python, kept and closed here. Those that are gone are buried at the end of a batch, so that no
# event of the batch meets one of them.


cdef class Connections(Ground):
    """The connections of lanes, in use and idle."""

    cdef int shared_count
    cdef int shared_most
    cdef Conn* graveyard
    cdef int batch

    cdef Conn* new_conn(self, int fd, Lane* lane, int32_t origin, tls) except NULL:
        cdef epoll_event event
        cdef Conn* conn = <Conn*>calloc(1, sizeof(Conn))
        if conn == NULL:
            c_close(fd)
            raise MemoryError
        conn.fd = fd
        conn.lane = lane
        conn.owner = NULL if lane.guest else lane
        conn.origin = origin
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

    cdef int keep_spare(self, int fd, Lane* lane, tls) except -1:
        """A connection that nobody waits for any more is one that arrivals share."""
        cdef Conn* conn = self.new_conn(fd, lane, lane.dial_origin, tls)
        self.make_room(lane)
        self.shared_count += 1
        conn.lane = NULL
        pool_push(&self.shared[conn.origin], conn)
        return 0

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
