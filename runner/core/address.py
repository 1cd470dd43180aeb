"""The address of a server, as a person writes it. It stands in files, logs and errors: no password in it."""

from urllib.parse import urlsplit

from runner.core.errors import ConfigError


def check(url: str, key: str, like: str = "http://127.0.0.1:8000/v1") -> None:
    """Refuse what is no address, and one with a name and a password, which is not repeated.

    Raises:
        ConfigError: with the key.
    """
    if "@" in url:
        raise ConfigError(
            key, "holds a name or a password", "Leave it out: a key is taken from the environment, see key_env."
        )
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise ConfigError(key, f"{url!r} is no address of a server", f"Say one such as {like}.")
