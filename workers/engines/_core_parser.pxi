# Responses as C structs: the same codec as http1.ResponseReader, state for state and text for text, for bytes that
# come in any pieces. What is clean (nearly every head) is parsed here; a head with anything odd in it is parsed by
# http1.HeadParser, so that there is one opinion on oddities. No sockets, no clock.
#
# Every function that returns an int returns MORE, DONE, FAILED (then ``parser.error`` names the text), or -1 with a
# Python exception set.

cdef enum:
    MORE = 0
    DONE = 1
    FAILED = 2

cdef enum:
    # States of a parser.
    P_HEAD = 0
    P_LENGTH = 1
    P_CLOSE = 2
    P_CHUNK_SIZE = 3
    P_CHUNK_DATA = 4
    P_CHUNK_END = 5
    P_TRAILERS = 6
    P_DONE = 7

cdef enum:
    # When the bytes of a head are kept for Python.
    KEEP_HEAD = 1
    KEEP_COOKIES = 2
    KEEP_LOCATION = 4

cdef enum:
    CODING_NONE = 0
    CODING_GZIP = 1
    CODING_DEFLATE = 2

cdef enum:
    CACHED_HEADS = 4
    CACHED_HEAD_SIZE = 2048

ctypedef struct Bounds:
    # http1.Limits.
    int64_t head
    int64_t interim
    int64_t chunk_line
    int64_t body

ctypedef struct Head:
    int64_t length  # -1: there is none
    int status
    int coding
    bint chunked
    bint keep_alive
    bint cookies
    bint location

ctypedef struct Parser:
    Bounds* bounds
    Head head
    int64_t interim
    int64_t raw
    int64_t received
    uint64_t left
    # An incomplete head or line of chunked framing.
    char* partial
    Py_ssize_t partial_size
    Py_ssize_t partial_room
    # The head's bytes without its blank line, where they were asked for.
    char* block
    Py_ssize_t block_size
    # The decoded body, where it was asked for.
    char* body
    Py_ssize_t body_size
    Py_ssize_t body_room
    PyObject* content
    int error
    int seen_status
    unsigned char state
    unsigned char keep_head
    bint no_body
    bint keep_body
    bint excess
    bint has_head

ctypedef struct CachedHead:
    Py_ssize_t size  # with the blank line; 0: nothing is kept here
    Head head
    char bytes[CACHED_HEAD_SIZE + 4]

cdef CachedHead cached_heads[CACHED_HEADS]
cdef int next_cached = 0
cdef unsigned char token_chars[256]


cdef void prepare_tables() noexcept:
    cdef int i
    cdef const char* others = "!#$%&'*+.^_`|~-"
    memset(token_chars, 0, sizeof(token_chars))
    memset(cached_heads, 0, sizeof(cached_heads))
    for i in range(10):
        token_chars[48 + i] = 1
    for i in range(26):
        token_chars[65 + i] = 1
        token_chars[97 + i] = 1
    while others[0]:
        token_chars[<unsigned char>others[0]] = 1
        others += 1


cdef void parser_begin(Parser* p, Bounds* bounds, bint no_body, bint keep_body, int keep_head) noexcept nogil:
    """Expect the response to a request. The parser holds nothing any more of the one before."""
    parser_clear(p)
    p.bounds = bounds
    p.state = P_HEAD
    p.no_body = no_body
    p.keep_body = keep_body
    p.keep_head = <unsigned char>keep_head
    p.interim = p.raw = p.received = 0
    p.left = 0
    p.error = p.seen_status = 0
    p.excess = p.has_head = False


cdef void parser_clear(Parser* p) noexcept nogil:
    """Give back what a response has taken."""
    if p.partial != NULL:
        free(p.partial)
        p.partial = NULL
    if p.block != NULL:
        free(p.block)
        p.block = NULL
    if p.body != NULL:
        free(p.body)
        p.body = NULL
    if p.content != NULL:
        drop_reference(p.content)
        p.content = NULL
    p.partial_size = p.partial_room = p.block_size = p.body_size = p.body_room = 0


cdef void drop_reference(PyObject* held) noexcept with gil:
    Py_DECREF(<object>held)


cdef bint parser_reusable(Parser* p) noexcept nogil:
    """Whether the connection may carry another request."""
    return p.state == P_DONE and p.has_head and p.head.keep_alive and not p.excess


cdef int parser_status(Parser* p) noexcept nogil:
    """The final status, 0 where no status line came back."""
    if p.has_head:
        return p.head.status
    if p.state != P_HEAD:
        return 0
    return p.seen_status if p.error else final_status_of(p.partial, p.partial_size)


cdef int final_status_of(const char* data, Py_ssize_t size) noexcept nogil:
    """The status of a whole status line that some bytes begin with; 0 where there is none or it is an interim one."""
    cdef Py_ssize_t i = 12
    cdef int status
    if size < 13 or memcmp(data, "HTTP/1.", 7) or (data[7] != 48 and data[7] != 49) or data[8] != 32:
        return 0
    if not (49 <= data[9] <= 57 and 48 <= data[10] <= 57 and 48 <= data[11] <= 57):
        return 0
    status = (data[9] - 48) * 100 + (data[10] - 48) * 10 + data[11] - 48
    if data[i] == 32:
        while i < size and data[i] != 0 and data[i] != 13 and data[i] != 10:
            i += 1
    if i < size and data[i] == 13:
        i += 1
    if i < size and data[i] == 10 and status >= 200:
        return status
    return 0


cdef int parser_feed(Parser* p, const char* data, Py_ssize_t size) except -1:
    """Take bytes in."""
    p.received += size
    if p.state == P_HEAD:
        return read_head(p, data, size)
    if p.state == P_LENGTH:
        return read_length(p, data, size)
    if p.state == P_CLOSE:
        return take_body(p, data, size)
    return read_chunks(p, data, size)


cdef int parser_finish(Parser* p) except -1:
    """The target has closed its side: DONE where that ends the response properly."""
    cdef int code
    if p.state == P_CLOSE:
        code = end_body(p)
        p.excess = True
        return code
    if p.state == P_HEAD and not p.partial_size and not p.interim:
        return fail(p, E_CLOSED)
    if p.state == P_HEAD:
        return fail(p, E_TRUNCATED_HEAD)
    if p.state != P_DONE:
        return fail(p, E_TRUNCATED_BODY)
    return DONE


cdef int fail(Parser* p, int error) noexcept nogil:
    p.seen_status = final_status_of(p.partial, p.partial_size)
    p.error = error
    return FAILED


cdef int keep_partial(Parser* p, const char* data, Py_ssize_t size) except -1:
    """Hold some bytes until more come. They may be the tail of what is held."""
    cdef char* grown
    if size > p.partial_room:
        grown = <char*>realloc(p.partial, size)
        if grown == NULL:
            raise MemoryError
        p.partial = grown
        p.partial_room = size
    if size:
        memmove(p.partial, data, size)
    p.partial_size = size
    return 0


cdef int add_partial(Parser* p, const char* data, Py_ssize_t size) except -1:
    """Put bytes behind those that are held."""
    cdef char* grown
    if p.partial_size + size > p.partial_room:
        grown = <char*>realloc(p.partial, p.partial_size + size)
        if grown == NULL:
            raise MemoryError
        p.partial = grown
        p.partial_room = p.partial_size + size
    memcpy(p.partial + p.partial_size, data, size)
    p.partial_size += size
    return 0


cdef Py_ssize_t find_head_end(
    const char* data, Py_ssize_t size, Py_ssize_t begin, Py_ssize_t* block
) noexcept nogil:
    """Where the bytes after the first blank line begin, and the size of the block before it; -1 where there is none."""
    cdef const char* at = data + begin
    cdef const char* end = data + size
    while True:
        at = <const char*>memchr(at, 10, end - at)
        if at == NULL:
            return -1
        if at + 1 < end and at[1] == 10:
            block[0] = at - data - (1 if at > data and (at - 1)[0] == 13 else 0)
            return at - data + 2
        if at + 2 < end and at[1] == 13 and at[2] == 10:
            block[0] = at - data - (1 if at > data and (at - 1)[0] == 13 else 0)
            return at - data + 3
        at += 1


cdef int read_head(Parser* p, const char* data, Py_ssize_t size) except -1:
    cdef Py_ssize_t begin = 0
    cdef Py_ssize_t block = 0
    cdef Py_ssize_t end
    cdef CachedHead* known
    cdef Head head
    cdef int i, code
    if p.partial_size:
        begin = p.partial_size - 3 if p.partial_size > 3 else 0
        add_partial(p, data, size)
        data, size = p.partial, p.partial_size
    else:
        for i in range(CACHED_HEADS):
            known = &cached_heads[i]
            if known.size and known.size <= size and not memcmp(data, known.bytes, known.size):
                if keep_block(p, &known.head, data, known.size - 4) < 0:
                    return -1
                return begin_body(p, &known.head, data + known.size, size - known.size)
    while True:
        end = find_head_end(data, size, begin, &block)
        if end < 0 or block > p.bounds.head:
            keep_partial(p, data, size)
            return check_partial_head(p)
        begin = 0
        code = parse_head(p, &head, data, block)
        if code != DONE:
            keep_partial(p, data, end)
            p.seen_status = final_status_of(p.partial, p.partial_size)
            return code
        if head.status >= 200:
            remember_head(&head, data, block, end)
            if keep_block(p, &head, data, block) < 0:
                return -1
            p.partial_size = 0
            return begin_body(p, &head, data + end, size - end)
        data += end
        size -= end
        keep_partial(p, data, size)
        data = p.partial
        p.interim += 1
        if head.status == 101:
            return fail(p, E_UPGRADE)
        if p.interim > p.bounds.interim:
            return fail(p, E_INTERIM)
        if not size:
            return MORE


cdef int check_partial_head(Parser* p) noexcept nogil:
    cdef size_t size = <size_t>(p.partial_size if p.partial_size < 9 else 9)
    if p.partial_size > p.bounds.head:
        return fail(p, E_HEAD_LIMIT)
    if memcmp(p.partial, "HTTP/1.1 ", size) and memcmp(p.partial, "HTTP/1.0 ", size):
        return fail(p, E_STATUS_LINE)
    return MORE


cdef void remember_head(Head* head, const char* data, Py_ssize_t block, Py_ssize_t end) noexcept nogil:
    """Most of a target's heads are the same bytes for a whole second: they are compared, not parsed again."""
    global next_cached
    cdef CachedHead* slot
    if block > CACHED_HEAD_SIZE or end != block + 4:
        return
    slot = &cached_heads[next_cached]
    next_cached = (next_cached + 1) % CACHED_HEADS
    slot.size = end
    slot.head = head[0]
    memcpy(slot.bytes, data, end)


cdef int keep_block(Parser* p, Head* head, const char* data, Py_ssize_t size) except -1:
    cdef int keep = p.keep_head
    if not (
        keep & KEEP_HEAD or (keep & KEEP_COOKIES and head.cookies) or (keep & KEEP_LOCATION and head.location)
    ):
        return 0
    p.block = <char*>malloc(size if size else 1)
    if p.block == NULL:
        raise MemoryError
    memcpy(p.block, data, size)
    p.block_size = size
    return 0


cdef bint same_word(const char* data, Py_ssize_t size, const char* word, Py_ssize_t length) noexcept nogil:
    """Whether some bytes are a word, which is in lower case, whatever their case."""
    cdef Py_ssize_t i
    if size != length:
        return False
    for i in range(size):
        if (data[i] | 32 if 65 <= data[i] <= 90 else data[i]) != word[i]:
            return False
    return True


cdef int parse_head(Parser* p, Head* head, const char* data, Py_ssize_t size) except -1:
    """Parse a block without its blank line: DONE or FAILED."""
    if parse_clean_head(head, data, size):
        return DONE
    try:
        found = _parse_odd_head(PyBytes_FromStringAndSize(data, size))
    except ProtocolError as error:
        p.error = text_id(str(error))
        return FAILED
    head.status = found.status
    head.length = -1 if found.length is None else found.length
    head.chunked = found.chunked
    head.keep_alive = found.keep_alive
    head.coding = _CODINGS.get(found.coding, CODING_NONE)
    head.cookies = bool(found.cookies)
    head.location = found.get("location") is not None
    return DONE


cdef bint parse_clean_head(Head* head, const char* data, Py_ssize_t size) noexcept nogil:
    """Parse a block that has nothing odd in it; False where Python is to look at it."""
    cdef const char* end = data + size
    cdef const char* at
    cdef const char* stop
    cdef const char* name
    cdef const char* colon
    cdef bint lengths = False
    cdef bint keep_word = False
    cdef bint close_word = False
    cdef Py_ssize_t width
    if size < 12 or memcmp(data, "HTTP/1.", 7) or (data[7] != 48 and data[7] != 49) or data[8] != 32:
        return False
    if not (49 <= data[9] <= 57 and 48 <= data[10] <= 57 and 48 <= data[11] <= 57):
        return False
    head.status = (data[9] - 48) * 100 + (data[10] - 48) * 10 + data[11] - 48
    head.length = -1
    head.coding = CODING_NONE
    head.chunked = head.cookies = head.location = False
    at = data + 12
    if at < end and at[0] == 32:
        while at < end and at[0] != 0 and at[0] != 13 and at[0] != 10:
            at += 1
    while at < end:
        # ``at`` is at a line's end: the next header comes after it.
        if at[0] == 13:
            at += 1
        if at >= end or at[0] != 10:
            return False
        at += 1
        name = at
        while at < end and token_chars[<unsigned char>at[0]]:
            at += 1
        if at == name or at >= end or at[0] != 58:
            return False
        colon = at
        at += 1
        while at < end and at[0] != 10 and at[0] != 13 and at[0] != 0:
            at += 1
        if at < end and at[0] == 0:
            return False
        if at == end - 1:
            return False  # One line end is the block's last byte: is it one?
        width = colon - name
        stop = at
        colon += 1
        while colon < stop and (colon[0] == 32 or colon[0] == 9):
            colon += 1
        while stop > colon and ((stop - 1)[0] == 32 or (stop - 1)[0] == 9):
            stop -= 1
        if width == 14 and same_word(name, width, "content-length", 14):
            if lengths or not read_number(colon, stop, &head.length):
                return False
            lengths = True
        elif width == 17 and same_word(name, width, "transfer-encoding", 17):
            if head.chunked or not same_word(colon, stop - colon, "chunked", 7):
                return False
            head.chunked = True
        elif width == 10 and same_word(name, width, "connection", 10):
            read_connection(colon, stop, &keep_word, &close_word)
        elif width == 16 and same_word(name, width, "content-encoding", 16):
            return False
        elif width == 10 and same_word(name, width, "set-cookie", 10):
            head.cookies = True
        elif width == 8 and same_word(name, width, "location", 8):
            head.location = True
    head.keep_alive = keep_word if data[7] == 48 else not close_word
    if head.chunked and lengths:
        head.keep_alive = False
    return True


cdef bint read_number(const char* at, const char* end, int64_t* number) noexcept nogil:
    cdef int64_t found = 0
    if at == end or end - at > 18:
        return False
    while at < end:
        if not 48 <= at[0] <= 57:
            return False
        found = found * 10 + at[0] - 48
        at += 1
    number[0] = found
    return True


cdef void read_connection(const char* at, const char* end, bint* keep_word, bint* close_word) noexcept nogil:
    cdef const char* start
    cdef const char* stop
    while at < end:
        start = at
        while at < end and at[0] != 44:
            at += 1
        stop = at
        at += 1
        while start < stop and (start[0] == 32 or start[0] == 9):
            start += 1
        while stop > start and ((stop - 1)[0] == 32 or (stop - 1)[0] == 9):
            stop -= 1
        if same_word(start, stop - start, "keep-alive", 10):
            keep_word[0] = True
        elif same_word(start, stop - start, "close", 5):
            close_word[0] = True


cdef int begin_body(Parser* p, Head* head, const char* data, Py_ssize_t size) except -1:
    p.head = head[0]
    p.has_head = True
    if p.no_body or head.status == 204 or head.status == 304:
        p.state = P_DONE
        p.excess = size > 0
        return DONE
    if head.coding != CODING_NONE:
        content = ContentDecoder(head.coding == CODING_GZIP, p.bounds.body)
        Py_INCREF(content)
        p.content = <PyObject*>content
    if head.chunked:
        p.state = P_CHUNK_SIZE
        return read_chunks(p, data, size)
    if head.length < 0:
        p.state = P_CLOSE
        return take_body(p, data, size)
    if head.length > p.bounds.body:
        # The reader holds no bytes of a head any more, nor does it expect any of a body.
        p.error = E_BODY_LIMIT
        return FAILED
    p.state = P_LENGTH
    p.left = <uint64_t>head.length
    return read_length(p, data, size)


cdef int read_length(Parser* p, const char* data, Py_ssize_t size) except -1:
    cdef int code
    if <uint64_t>size < p.left:
        p.left -= <uint64_t>size
        return take_body(p, data, size)
    if <uint64_t>size > p.left:
        p.excess = True
        size = <Py_ssize_t>p.left
    code = take_body(p, data, size)
    if code != MORE:
        return code
    return end_body(p)


cdef int take_body(Parser* p, const char* data, Py_ssize_t size) except -1:
    """Count, decode and keep a piece of the body: MORE or FAILED."""
    p.raw += size
    if p.raw > p.bounds.body:
        p.error = E_BODY_LIMIT
        return FAILED
    if p.content != NULL:
        return decode(p, PyBytes_FromStringAndSize(data, size))
    if p.keep_body and size:
        keep_body(p, data, size)
    return MORE


cdef int decode(Parser* p, bytes data) except -1:
    cdef bytes piece
    try:
        for piece in (<object>p.content).feed(data):
            if p.keep_body:
                keep_body(p, PyBytes_AS_STRING(piece), len(piece))
    except ProtocolError as error:
        p.error = text_id(str(error))
        return FAILED
    return MORE


cdef int keep_body(Parser* p, const char* data, Py_ssize_t size) except -1:
    cdef Py_ssize_t room = p.body_room
    cdef char* grown
    if p.body_size + size > room:
        room = p.body_size + size
        if p.body_size:
            room += room // 2
        grown = <char*>realloc(p.body, room)
        if grown == NULL:
            raise MemoryError
        p.body = grown
        p.body_room = room
    memcpy(p.body + p.body_size, data, size)
    p.body_size += size
    return 0


cdef int end_body(Parser* p) except -1:
    if p.content != NULL:
        try:
            (<object>p.content).finish()
        except ProtocolError as error:
            p.error = text_id(str(error))
            return FAILED
    p.state = P_DONE
    return DONE


cdef int read_chunks(Parser* p, const char* data, Py_ssize_t size) except -1:
    cdef const char* end
    cdef const char* line_end
    cdef Py_ssize_t piece
    cdef int code
    if p.partial_size:
        add_partial(p, data, size)
        data, size = p.partial, p.partial_size
        p.partial_size = 0
    end = data + size
    while True:
        if p.state == P_CHUNK_DATA:
            piece = end - data
            if <uint64_t>piece > p.left:
                piece = <Py_ssize_t>p.left
            code = take_body(p, data, piece)
            if code != MORE:
                return code
            p.left -= <uint64_t>piece
            data += piece
            if p.left:
                return MORE
            p.state = P_CHUNK_END
        line_end = <const char*>memchr(data, 10, end - data) if data < end else NULL
        if line_end == NULL:
            return keep_line(p, data, end - data)
        code = chunk_line(p, data, line_end - data)
        data = line_end + 1
        if code == DONE:
            p.excess = data < end
            return end_body(p)
        if code != MORE:
            return code


cdef int keep_line(Parser* p, const char* data, Py_ssize_t size) except -1:
    if size > p.bounds.chunk_line or (p.state == P_CHUNK_END and not (size == 0 or (size == 1 and data[0] == 13))):
        p.error = E_CHUNK
        return FAILED
    keep_partial(p, data, size)
    return MORE


cdef int chunk_line(Parser* p, const char* line, Py_ssize_t size) noexcept nogil:
    """Take one line of chunked framing in: DONE after the last one."""
    cdef bint empty = size == 0 or (size == 1 and line[0] == 13)
    if p.state == P_CHUNK_END:
        if not empty:
            p.error = E_CHUNK
            return FAILED
        p.state = P_CHUNK_SIZE
        return MORE
    if p.state == P_CHUNK_SIZE:
        if size > p.bounds.chunk_line or not chunk_size(line, line + size, &p.left):
            p.error = E_CHUNK
            return FAILED
        p.state = P_CHUNK_DATA if p.left else P_TRAILERS
        return MORE
    p.interim += size
    if empty:
        return DONE
    if p.interim > p.bounds.head:
        p.error = E_TRAILERS
        return FAILED
    if not clean_trailer(line, line + size):
        p.error = E_HEADER
        return FAILED
    return MORE


cdef bint chunk_size(const char* at, const char* end, uint64_t* size) noexcept nogil:
    cdef const char* start = at
    cdef uint64_t found = 0
    while at < end:
        if 48 <= at[0] <= 57:
            found = (found << 4) + <uint64_t>(at[0] - 48)
        elif 97 <= (at[0] | 32) <= 102:
            found = (found << 4) + <uint64_t>((at[0] | 32) - 87)
        else:
            break
        at += 1
        if at - start > 16:
            return False
    if at == start:
        return False
    while at < end and (at[0] == 32 or at[0] == 9):
        at += 1
    if at < end and at[0] == 59:
        while at < end and at[0] != 0 and at[0] != 13 and at[0] != 10:
            at += 1
    if at < end and at[0] == 13:
        at += 1
    if at != end:
        return False
    size[0] = found
    return True


cdef bint clean_trailer(const char* at, const char* end) noexcept nogil:
    """Whether a line is a header; the carriage returns at its end are not part of it."""
    cdef const char* start = at
    while end > at and (end - 1)[0] == 13:
        end -= 1
    while at < end and token_chars[<unsigned char>at[0]]:
        at += 1
    if at == start or at >= end or at[0] != 58:
        return False
    while at < end:
        if at[0] == 0 or at[0] == 13:
            return False
        at += 1
    return True
