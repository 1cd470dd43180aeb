"""The command line: `python -m runner`, also installed as `runner`. A verb is the first word, and only if it is one."""

import io
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

from runner.core.errors import Interrupted, RunnerError, disk_error, missing_extra

ALONE = ("list", "schema", "diff", "rerun", "cache", "answers")  # verbs that compose nothing: cli/VERB.py does it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 2 the user's mistake, 1 a stage failed, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _hear_and_speak()
    try:
        return _dispatch(words)
    except RunnerError as error:
        with suppress(OSError):  # a terminal that was closed
            print(error, file=sys.stderr, flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        return Interrupted.exit_code
    except BrokenPipeError:  # `runner plan ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # rich's way to end a table that nobody reads
            return 0
        raise
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        print(missing, file=sys.stderr)
        return missing.exit_code
    except OSError as error:
        sentence = disk_error(error)
        if sentence is None:
            raise
        print(sentence, file=sys.stderr)
        return sentence.exit_code


def _hear_and_speak() -> None:
    """Signals that stop, and streams that take every text."""
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # a closed terminal; not under nohup
        signal.signal(signal.SIGHUP, _stop)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        lossless = sys.stdout.errors == "surrogateescape" and sys.stdout.encoding.lower() == "utf-8"
        sys.stdout.reconfigure(errors=None if lossless else "backslashreplace")  # a letter it lacks ends nothing


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _dispatch(words: list[str]) -> int:
    """Answer what needs no Hydra here; hand the rest to `cli.verbs`."""
    from runner.cli import argv

    argv.refuse_bytes(words)
    verb = words.pop(0) if words and words[0] in argv.VERBS else "run"
    places = argv.places(words)
    if (not words and verb == "run") or any(word in ("--help", "-h") for word in words):
        from runner.cli.help import text

        print(text(places))
        return 0
    if verb in ALONE:
        return int(import_module(f"runner.cli.{verb}").main(words, places))
    if any(word.startswith("query=") for word in words) and ("-sc" in words or "--shell-completion" in words):
        from runner.cli.completion import query

        return query()
    from runner.cli.verbs import composed

    return composed(verb, words)


if __name__ == "__main__":
    sys.exit(main())
