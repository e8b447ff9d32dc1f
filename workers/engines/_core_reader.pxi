cdef class Reader:
    """The parser by itself, with the face of ``http1.ResponseReader``; for its tests."""

    cdef Parser parser
    cdef Bounds bounds

    def __cinit__(self, limits):
        memset(&self.parser, 0, sizeof(Parser))
        self.bounds = Bounds(limits.head, limits.interim, limits.chunk_line, limits.body)
        parser_begin(&self.parser, &self.bounds, False, False, KEEP_HEAD)

    def __dealloc__(self):
        parser_clear(&self.parser)

    def begin(self, str method, bint keep):
        """Expect the response to a request; its body is kept only where ``keep`` says so."""
        parser_begin(&self.parser, &self.bounds, method == "HEAD", keep, KEEP_HEAD)

    def feed(self, bytes data):
        """Take bytes in; True once the response is complete. Raises ProtocolError."""
        # A copy of its exact size, so that a tool that watches memory sees every byte read beyond it.
        cdef Py_ssize_t size = len(data)
        cdef char* copy = <char*>malloc(size if size else 1)
        cdef int code
        if copy == NULL:
            raise MemoryError
        memcpy(copy, PyBytes_AS_STRING(data), size)
        try:
            code = parser_feed(&self.parser, copy, size)
        finally:
            free(copy)
        if code == FAILED:
            raise ProtocolError(_TEXTS[self.parser.error])
        return code == DONE

    def finish(self):
        """The target has closed its side; raises ProtocolError unless that ends the response properly."""
        if parser_finish(&self.parser) == FAILED:
            raise ProtocolError(_TEXTS[self.parser.error])

    @property
    def block(self):
        """The final head's bytes, without its blank line; None before it came."""
        cdef Parser* p = &self.parser
        return PyBytes_FromStringAndSize(p.block, p.block_size) if p.has_head else None

    @property
    def framing(self):
        """What the head means: (status, length, chunked, keep_alive, coding), or None before it came."""
        cdef Head* head = &self.parser.head
        if not self.parser.has_head:
            return None
        length = head.length if head.length >= 0 else None
        return head.status, length, bool(head.chunked), bool(head.keep_alive), head.coding

    @property
    def body(self):
        """The decoded body so far."""
        return PyBytes_FromStringAndSize(self.parser.body, self.parser.body_size)

    @property
    def status(self):
        """The final status, or None where no status line came back."""
        return parser_status(&self.parser) or None

    @property
    def reusable(self):
        """Whether the connection may carry another request."""
        return bool(parser_reusable(&self.parser))

    @property
    def received(self):
        """Bytes taken in."""
        return self.parser.received

    @property
    def excess(self):
        """More came than the response."""
        return bool(self.parser.excess)


cdef class Tallied:
    """A tally of durations by itself, for its tests."""

    cdef Durations durations

    def __cinit__(self):
        memset(&self.durations, 0, sizeof(Durations))

    def __dealloc__(self):
        clear_durations(&self.durations)

    def record(self, int64_t value):
        """Count a duration in nanoseconds."""
        record(&self.durations, value)

    def histogram(self):
        """The same as a Histogram; None where nothing was recorded."""
        return histogram_of(&self.durations)
