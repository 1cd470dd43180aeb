"""Makes the command line kind before Hydra reads it, and touches nothing that Hydra understands already.

- `recipe=x` becomes `+recipe=x`; a recipe named by its file, `recipes/x.yaml`, is x; one elsewhere is its whole path.
- Flags may stand anywhere: they go in front, `-m` in the middle included.
- Values with `#`, `<`, `=`, spaces and the like are quoted; a backslash-n in a prefix becomes a newline.
- `model=X` where X is no option of the group means `model.id=X`; likewise `against` and `teacher`. Beside
  `backend=openai` any name may be one that the server knows.
- `stages.a.b=v` and other keys under which names are free become `++...`: our schema checks them.
"""

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from runner.core.errors import ConfigError, near_miss
from runner.core.places import roots

VERBS = ("plan", "inspect", "explain", "list", "cache", "schema", "diff", "rerun", "reward", "answers")
VALUE_FLAGS = {"--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd", "--package", "-p"}
VALUE_FLAGS |= {"--cfg", "-c", "--experimental-rerun"}
OPTIONAL_VALUE_FLAGS = {"--info", "-i"}
JOBS = ("run", "train", "sft", "pt", "rlhf", "export", "eval", "predict", "deploy", "fine-tune")  # other tools' verbs
MODEL_KEYS = ("model", "against", "teacher")
SERVED = {"backend=openai", "backend.name=openai"}
_KEY = re.compile(r"^(?P<sign>\+\+|\+|~)?(?P<key>[^=\s'\"]+?)=(?P<value>.*)$", re.DOTALL)
_PLAIN = re.compile(r"^[\w./\-+$%*@?|\\:]+$", re.ASCII)  # Hydra's grammar knows no other letters
_NESTED = re.compile(r"\$\{[^{}]*\$\{")  # an interpolation inside another
_CALL = re.compile(r"^[a-z_]+\(.*\)$", re.DOTALL)


def kind(arguments: Sequence[str], models: Collection[str] = (), free: Collection[str] = ("stages",)) -> list[str]:
    """Rewrite the arguments.

    Args:
        models: options of the group `model`.
        free: dotted keys under which the user may write names of their own.
    """
    flags, overrides = split(arguments)
    served = not SERVED.isdisjoint(overrides)
    return flags + [_override(text, models, free, served) for text in overrides]


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags with their values, and overrides, each in the order given.

    Raises:
        ConfigError: a flag whose value is not there.
    """
    flags: list[str] = []
    overrides: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            overrides.append(word)
            continue
        flags.append(word)
        wants = word in VALUE_FLAGS or (word in OPTIONAL_VALUE_FLAGS and rest[:1] and "=" not in rest[0])
        if wants and rest and not rest[0].startswith("-"):
            flags.append(rest.pop(0))
        elif word in VALUE_FLAGS:
            raise ConfigError("command line", f"{word} has no value", f"Write {word} VALUE.")
        elif word in OPTIONAL_VALUE_FLAGS:
            flags.append("all")  # else it would take the override that comes to stand behind it
    return flags, overrides


def bare_words(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words that are no overrides, such as the keys of `explain`, and the rest of the command line."""
    flags, overrides = split(arguments)
    bare = [word for word in overrides if "=" not in word and not word.startswith("~")]
    return bare, [*flags, *(word for word in overrides if word not in bare)]


def refuse_bytes(arguments: Sequence[str]) -> None:
    """Refuse what is no text: a name in another encoding, or any letter beside ASCII where the locale knows no other.

    Raises:
        ConfigError: with the word.
    """
    for word in arguments:
        try:
            word.encode()
        except UnicodeEncodeError:
            shown = word.encode("utf-8", "backslashreplace").decode()
            raise ConfigError(
                "command line", f"{shown} is not UTF-8 text", "Rename the file, or LC_ALL=C.UTF-8."
            ) from None


def option(arguments: Sequence[str], *names: str) -> str | None:
    """The value of a flag (`--config-dir DIR` or `--config-dir=DIR`), or of a plain override (`plugins_path=DIR`)."""
    for position, word in enumerate(arguments):
        if word in names and position + 1 < len(arguments):
            return arguments[position + 1]
        for name in names:
            if word.startswith(name + "="):
                return word.split("=", 1)[1]
    return None


def places(arguments: Sequence[str]) -> tuple[Path, ...]:
    """The search roots of a command line.

    Raises:
        ConfigError: no such folder.
    """
    config_dir = option(arguments, "--config-dir", "-cd")
    if config_dir is not None and not Path(config_dir).is_dir():
        raise ConfigError("--config-dir", f"no folder {config_dir!r}", "Give the folder that holds conf/ or recipes/.")
    return tuple(roots(config_dir, option(arguments, "plugins_path")))


def without_places(verb: str, arguments: Sequence[str]) -> list[str]:
    """The words of a verb that composes nothing, without those that say where things are looked for.

    Raises:
        ConfigError: another flag.
    """
    flags, words = split(arguments)
    wrong = [flag for flag in flags if flag.startswith("-") and flag.split("=")[0] not in ("--config-dir", "-cd")]
    if wrong:
        raise ConfigError(verb, f"takes no flag {wrong[0]}", "It takes --config-dir DIR.")
    return [word for word in words if not word.startswith("plugins_path=")]


def refuse_words(overrides: Sequence[str], recipes: Collection[str] = ()) -> None:
    """Refuse what is neither key=value nor ~key.

    Raises:
        ConfigError: with the verb that was probably meant.
    """
    for word in overrides:
        if not _KEY.match(word) and not (word.startswith("~") and len(word) > 1):
            hint = near_miss(word, VERBS)
            fix = hint if hint.startswith("Did") else f"Write key=value; the verb comes first ({', '.join(VERBS)})."
            if word in recipes:
                fix = f"A recipe is named by +recipe={word}."
            elif word in JOBS or word.endswith((".yaml", ".yml")):
                fix = "What to do is said by a recipe, +recipe=NAME; --help lists them, and yours lie in ./recipes."
            raise ConfigError("command line", f"{word!r} is no key=value", fix)


def _override(text: str, models: Collection[str], free: Collection[str], served: bool) -> str:
    match = _KEY.match(text)
    if match is None:
        return text
    sign, key, value = match["sign"] or "", match["key"], match["value"]
    if sign == "~":
        return text
    if key == "recipe":
        sign = sign or "+"
        value = re.sub(r"^(\./)?recipes/", "", value)
        if "/" in value and value.endswith(".yaml") and Path(value).is_file():
            value = os.path.abspath(value)
        value = value.removesuffix(".yaml")
    if key in MODEL_KEYS and _is_model_id(value, models, served and key == "model"):
        key = f"{key}.id"
        value = _quote(value) if "," in value else value  # a folder of that name, and no list
    if not sign and (any(key.startswith(name + ".") for name in free) or (key in free and value.startswith("{"))):
        sign = "++"
    if key.rsplit(".", 1)[-1].endswith("prefix"):
        value = value.replace("\\n", "\n")
    return f"{sign}{key}={quoted(value)}"


def _is_model_id(value: str, options: Collection[str], served: bool) -> bool:
    """An option of the group, or a word near one, stays a choice; a folder, a path, a hub id or a source is an id, and
    so is any other name where a server is asked.
    """
    if not value or value in options or value[0] in "[{'\"":
        return False
    if "," in value:
        return Path(value).is_dir()
    return served or any(mark in value for mark in "/:.") or value.startswith("~") or Path(value).is_dir()


def quoted(value: str) -> str:
    """Quote what Hydra's grammar cannot read, element by element in lists and sweeps."""
    if _NESTED.search(value) and not _whole(value):
        return _quote(value)
    if not value or _whole(value) or value[0] == "{" or "${" in value or _CALL.match(value):
        return value
    if value[0] == "[" and value[-1] == "]" and len(_elements(value)) == 1:
        return "[" + ",".join(quoted(part.strip()) for part in _elements(value[1:-1])) + "]"
    parts = _elements(value)
    if len(parts) > 1 and all(_PLAIN.match(part) for part in parts):
        return value
    if len(parts) > 1 and not any(" " in part for part in parts if part[:1] not in ("'", '"')):
        return ",".join(quoted(part) for part in parts)
    return value if _PLAIN.match(value) else _quote(value)


def _whole(value: str) -> bool:
    """One quoted text and nothing after it."""
    return value[0] in "'\"" and len(_elements(value)) == 1


def _quote(text: str) -> str:
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{chr(92) * trailing}'"


def _elements(text: str) -> list[str]:
    """Split at commas that stand outside of brackets and quotes."""
    parts, depth, quote, start = [], 0, "", 0
    for position, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote and text[position - 1] != "\\" else quote
        elif letter in "'\"" and not text[start:position].strip():
            quote = letter
        elif letter in "[{(":
            depth += 1
        elif letter in "]})":
            depth -= 1
        elif letter == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    parts.append(text[start:])
    return parts if text else []
