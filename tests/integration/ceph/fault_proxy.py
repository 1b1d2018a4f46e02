"""A proxy that hands bytes through, or does not."""

import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable

Edit = Callable[[bytes], bytes | None]


class FaultProxy:
    """Stands between a client and a server on this machine.

    Attributes:
        edit: Given a piece of a response, returns what is sent on; ``None`` cuts the connection.
        requests: First lines of all requests.
        unanswered: Connections with an upload that the server has not answered yet.
        pause_s: Seconds to wait before handing on a full piece (64 KiB) of a request.
        connections: How many were opened.

    Args:
        port: Of the server.
    """

    def __init__(self, port: int) -> None:
        self.edit: Edit | None = None
        self.requests: list[str] = []
        self.unanswered: set[socket.socket] = set()
        self.pause_s = 0.0
        self.connections = 0
        fault_proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                fault_proxy.connections += 1
                with socket.create_connection(("127.0.0.1", port)) as server:
                    back = threading.Thread(target=fault_proxy.answer, args=(server, self.request))
                    back.start()
                    fault_proxy.ask(self.request, server)
                    back.join()

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_: object) -> None:
                """A broken connection is what we are for."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "FaultProxy":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def ask(self, client: socket.socket, server: socket.socket) -> None:
        """Hand requests on."""
        try:
            while data := client.recv(1 << 16):
                lines = [line.decode() for line in re.findall(rb"^(?:GET|HEAD|PUT) \S+", data)]
                self.requests += lines
                if any(line.startswith("PUT") for line in lines):
                    self.unanswered.add(client)
                if self.pause_s and len(data) > 4096:
                    time.sleep(self.pause_s)
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)
        except OSError:
            server.close()

    def answer(self, server: socket.socket, client: socket.socket) -> None:
        """Hand responses back, edited."""
        try:
            while data := server.recv(1 << 16):
                if not data.startswith(b"HTTP/1.1 100"):
                    self.unanswered.discard(client)
                if self.edit is not None:
                    edited = self.edit(data)
                    if edited is None:
                        break
                    data = edited
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)
        except OSError:
            server.close()
        finally:
            self.unanswered.discard(client)
