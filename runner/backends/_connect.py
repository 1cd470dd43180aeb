"""The way to an OpenAI-compatible server: is it there, does it take the key, does it know the model?"""

from dataclasses import dataclass
from typing import Any

from runner.backends._endpoint import ODD, Endpoint
from runner.core.errors import ConfigError, StageError

OPEN = 1 << 30  # the context of a model whose server does not tell it


@dataclass(frozen=True)
class Connection:
    """client: of the package openai; errors: that package. context: tokens that the model takes."""

    client: Any
    errors: Any
    context: int


def connect(keys: Endpoint, name: str, at: str, needs: str, named: str) -> Connection:
    """Meet a server.

    Args:
        name: of the model. at: where the endpoint's keys stand; needs: the key that asks for it; named: that of the
            model's name.

    Raises:
        StageError: nothing answers. ConfigError: another key or another name is needed, or a package.
    """
    try:
        import openai
    except ImportError:
        raise ConfigError(needs, "openai needs the package openai", "pip install openai") from None
    if not (keys.key.isascii() and keys.key.isprintable()):  # the package's own error would quote it
        fix = f"Look at the environment variable {keys.key_env}."
        raise ConfigError(f"{at}.key_env", "the key has characters that no request can carry", fix)
    try:
        client = openai.OpenAI(
            base_url=keys.base_url, api_key=keys.key or "none", max_retries=keys.retries, timeout=keys.timeout
        )
    except (ImportError, OSError, ValueError) as error:  # of a proxy or certificates that the environment names
        raise StageError(f"{at}.base_url: no way to {keys.base_url}: {str(error).rstrip('.')}.") from None
    try:
        known = {model.id: model for model in client.with_options(timeout=20, max_retries=2).models.list()}
        has = ", ".join(sorted(known))
    except openai.AuthenticationError:
        fix = f"Put it into the environment variable {keys.key_env}."
        raise ConfigError(f"{at}.key_env", f"{keys.base_url} refuses the key", fix) from None
    except openai.APIConnectionError as error:
        reason = keys.without_key(str(error.__cause__ or error)).rstrip(".")
        raise StageError(f"{at}.base_url: no server answers at {keys.base_url} ({reason}).") from None
    except openai.APIStatusError:
        return Connection(client, openai, OPEN)  # a server without a list of models
    except ODD:  # what the package makes of a page, or of half a reply
        fix = "Is it the address of the interface, up to and with /v1?"
        raise ConfigError(f"{at}.base_url", f"{keys.base_url}/models gives no list of models", fix) from None
    if known and name not in known:
        raise ConfigError(named, f"the server has no model {name!r}", f"It has: {has}.")
    most = getattr(known.get(name), "max_model_len", None)
    return Connection(client, openai, most if isinstance(most, int) and most > 0 else OPEN)
