"""A web server of a test's own on this machine."""

import http.server
import sys
from typing import Any


class LocalServer(http.server.ThreadingHTTPServer):
    """A client that was killed, or gave up, is no news: its traceback would stand in what a later test prints."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)
