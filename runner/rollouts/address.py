"""The address of a vLLM server that samples for a training: how it is written, whether the server answers there."""

import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from runner.core import address
from runner.core.errors import ConfigError

HERE = ("localhost", "127.0.0.1", "::1")
PAUSE = 2.0  # seconds between two looks


def check(server: str, key: str) -> None:
    """Refuse what is no address, and a path: the ways of the weights lie beside /v1, not below it.

    Raises:
        ConfigError: with the key.
    """
    address.check(server, key, "http://127.0.0.1:8000")
    parts = urlsplit(server)
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError(key, f"{server!r} has a path", "Say http://HOST:PORT, without one such as /v1.")


def is_here(server: str) -> bool:
    """Whether the server is on this machine."""
    return urlsplit(server).hostname in HERE


def wait(server: str, patience: float) -> None:
    """Wait for a server that is still loading its model.

    Raises:
        ConnectionError: it is not up after so many seconds, or something else than vLLM answers.
    """
    end = time.monotonic() + patience
    while True:
        try:
            urllib.request.urlopen(f"{server}/health", timeout=PAUSE * 5).close()
            return
        except urllib.error.HTTPError as error:
            error.close()
            said = f"it answers {error.code} to /health"
            if error.code < 500:
                raise ConnectionError(f"{said}, which is no server of vLLM's") from None
        except OSError as error:
            said = str(getattr(error, "reason", error))
        if time.monotonic() > end:
            raise ConnectionError(f"it is not up after {patience:g} s ({said})")
        time.sleep(PAUSE)
