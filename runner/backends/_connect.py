"""The way to an OpenAI-compatible server: is it there, does it take the key, does it know the model?"""

import os
from dataclasses import dataclass
from typing import Any

from runner.backends._endpoint import Endpoint
from runner.core.errors import ConfigError, StageError


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
    client = openai.OpenAI(
        base_url=keys.base_url,
        api_key=os.environ.get(keys.key_env) or "none",
        max_retries=keys.retries,
        timeout=keys.timeout,
    )
    try:
        models = list(client.with_options(timeout=20, max_retries=2).models.list())
    except openai.AuthenticationError:
        fix = f"Put it into the environment variable {keys.key_env}."
        raise ConfigError(f"{at}.key_env", f"{keys.base_url} refuses the key", fix) from None
    except openai.APIConnectionError as error:
        reason = str(error.__cause__ or error).rstrip(".")
        raise StageError(f"{at}.base_url: no server answers at {keys.base_url} ({reason}).") from None
    except openai.APIStatusError:
        return Connection(client, openai, 1 << 30)  # a server without a list of models
    except (ValueError, AttributeError, TypeError):  # what the package makes of a page, or of half a reply
        fix = "Is it the address of the interface, up to and with /v1?"
        raise ConfigError(f"{at}.base_url", f"{keys.base_url}/models gives no list of models", fix) from None
    known = {model.id: model for model in models}
    if known and name not in known:
        raise ConfigError(named, f"the server has no model {name!r}", f"It has: {', '.join(sorted(known))}.")
    return Connection(client, openai, int(getattr(known.get(name), "max_model_len", None) or 1 << 30))
