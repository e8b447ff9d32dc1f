"""A scheduler's file routes, as workers see them: by digest, for those who know the token."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves contents by digest; ``statuses`` are answered first, one a request: a 200 of them breaks off."""

    def __init__(self, files: Mapping[str, bytes], token: str = "token", statuses: tuple[int, ...] = ()) -> None:
        self.asked: list[str] = []
        waiting = list(statuses)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.asked.append(self.path)
                prefix, _, digest = self.path.rpartition("/")
                if waiting and waiting[0] == 200:
                    self._answer(waiting.pop(0), files[digest][:1000], len(files[digest]))
                    self.close_connection = True
                elif waiting:
                    self._answer(waiting.pop(0), b"not now")
                elif self.headers["Authorization"] != f"Bearer {token}":
                    self._answer(401, b"who are you?")
                elif prefix != "/api/v1/files" or digest not in files:
                    self._answer(404, b"nothing here")
                else:
                    self._answer(200, files[digest])

            def _answer(self, status: int, content: bytes, length: int | None = None) -> None:
                self.send_response(status)
                if status in (301, 302):
                    self.send_header("Location", f"http://127.0.0.1:{outer.port}/elsewhere")
                self.send_header("Content-Length", str(len(content) if length is None else length))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> FileServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
