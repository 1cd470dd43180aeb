"""A teacher behind a server: for each trained token the log-probabilities of the teacher's likeliest words, and of the
token itself.

The server is vLLM's (`vllm serve`), asked at /completions with token ids, `max_tokens: 1` and `prompt_logprobs`, which
tell a model's own probabilities, at temperature 1 and before any cut. Requests go out side by side, bounded, and are
repeated with growing waits. A server that refuses, tells something else or has another vocabulary ends the training.
"""

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt

from runner.algorithms.gkd import IDS, LOGPROBS, NOTHING
from runner.backends._connect import Connection, connect
from runner.backends._endpoint import Endpoint
from runner.core.errors import ModelError, RunnerError, StageError, first_line
from runner.core.schema import EXECUTION, component
from runner.core.specs import Count
from runner.core.types import Encoded
from runner.data.collate import trained
from runner.rollouts.draw import together

if TYPE_CHECKING:
    from runner.training.algorithm import Learner

KEY = "teacher_server"
ENOUGH = 0.9  # share of a teacher's probability in the words that it tells


@component
class TeacherServer:
    """Where a teacher is. base_url: up to and with /v1. key_env: the environment variable that holds the key.

    top_k: likeliest words that it tells of each token; a vLLM server tells at most its --max-logprobs, 20 unless said.
    tokenizer: the model whose tokenizer the server has, where the server calls it by a name of its own.
    concurrency: requests at a time. retries: after each the wait doubles. timeout: seconds of one request.
    """

    base_url: Annotated[str, EXECUTION]
    key_env: Annotated[str, EXECUTION] = "OPENAI_API_KEY"
    top_k: Count = 20
    tokenizer: Annotated[str | None, EXECUTION] = None
    concurrency: Annotated[Count, EXECUTION] = 32
    retries: Annotated[Annotated[int, Ge(0)], EXECUTION] = 5
    timeout: Annotated[Annotated[float, Gt(0)], EXECUTION] = 600.0

    def endpoint(self) -> Endpoint:
        """As any other server is met."""
        return Endpoint(base_url=self.base_url, key_env=self.key_env, retries=self.retries, timeout=self.timeout)

    def meet(self, name: str) -> Connection:
        """See `connect`."""
        return connect(self.endpoint(), name, KEY, KEY, "teacher.id")


@dataclass
class Teacher:
    """What the server tells, put to sequences. name: the server's of the model. tokenizer: of both models."""

    server: TeacherServer
    name: str
    tokenizer: Any
    met: Connection
    _compared: bool = field(default=False)
    _weighed: bool = field(default=False)

    def told(self, sequences: Sequence[Encoded], learner: "Learner") -> list[Encoded]:
        """The sequences with `teacher_ids` and `teacher_logprobs`; each device asks a part, and all get all.

        Raises:
            StageError: a server that does not do what it is asked. ModelError: another vocabulary than ours.
        """
        args = learner.trainer.args
        mine = range(args.process_index, len(sequences), args.world_size)
        asked = [place for place in mine if trained(sequences[place])]
        found: Any = {}
        try:
            for place, words in self._asked({place: sequences[place].input_ids for place in asked}):
                found[place] = words
                learner.stop_if_asked()
        except RunnerError as error:
            if args.world_size == 1:
                raise
            found = error
        known: dict[int, Any] = {}
        for part in together(found, args.world_size):
            if isinstance(part, RunnerError):
                raise StageError(str(part))
            known |= part
        made = [self._with(one, known.get(place)) for place, one in enumerate(sequences)]
        if not self._weighed and known:
            self._weighed = True
            self._weigh(made, args.process_index == 0)
        return made

    def _weigh(self, sequences: Sequence[Encoded], first: bool) -> None:
        """Say where much of the teacher's probability is in words that it does not tell."""
        rows: Any = [one.per_token[LOGPROBS][i] for one in sequences for i, _ in trained(one)]
        told = sum(math.exp(value) for row in rows for value in row) / max(len(rows), 1)
        if first and told < ENOUGH:
            print(
                f"{KEY}: the {self.server.top_k} words that it tells hold {told:.0%} of the teacher's probability; the "
                "rest is compared as one word. Raise top_k (and the server's --max-logprobs).",
                flush=True,
            )

    def _with(self, sequence: Encoded, words: "Sequence[Mapping[int, float]] | None") -> Encoded:
        """A sequence with what was told, as rows of one width: top_k words and the token itself."""
        width = self.server.top_k + 1
        ids, told = [], []
        for words_of in words if words is not None else [{} for _ in sequence.input_ids]:
            left = width - len(words_of)
            ids.append([*words_of, *[-1] * left])
            told.append([*words_of.values(), *[NOTHING] * left])
        return replace(sequence, per_token={**sequence.per_token, IDS: ids, LOGPROBS: told})

    def _asked(self, asked: Mapping[int, Sequence[int]]) -> Iterator[tuple[int, list[dict[int, float]]]]:
        """What is told of each sequence, as it comes."""
        todo, done = SimpleQueue[Any](), SimpleQueue[Any]()
        workers = min(self.server.concurrency, len(asked))
        for item in [*asked.items(), *[None] * workers]:
            todo.put(item)
        gone = threading.Event()

        def work() -> None:
            while (item := todo.get()) is not None and not gone.is_set():
                try:
                    done.put((item[0], self._one(item[1])))
                except Exception as error:  # noqa: BLE001 - raised again where it is waited for
                    done.put((item[0], error))

        for _ in range(workers):  # daemons: a request that hangs must not hold up the end of the process
            threading.Thread(target=work, daemon=True).start()
        try:
            for _ in asked:
                place, made = done.get()
                if isinstance(made, Exception):
                    raise made
                yield place, made
        finally:
            gone.set()

    def _one(self, ids: Sequence[int]) -> list[dict[int, float]]:
        at, errors = f"{KEY} {self.server.base_url}", self.met.errors
        if len(ids) >= self.met.context:
            raise StageError(
                f"{at}: a sequence of {len(ids)} tokens leaves no room: the teacher takes {self.met.context}. Lower "
                "max_length or sampling.max_new_tokens, or serve it with a larger --max-model-len."
            )
        try:
            reply = self.met.client.completions.create(
                model=self.name, prompt=list(ids), max_tokens=1, temperature=0,
                extra_body={"prompt_logprobs": self.server.top_k},
            )  # fmt: skip
        except errors.APIStatusError as error:
            said = first_line(error.body.get("message") if isinstance(error.body, dict) else error)
            said = self.server.endpoint().without_key(said)
            hint = f" Serve it with --max-logprobs {self.server.top_k}, or lower {KEY}.top_k." * ("logprobs" in said)
            raise StageError(f"{at}: refuses a request: {said}.{hint}") from None
        except errors.APIError as error:
            raise StageError(f"{at}: does not answer: {first_line(error.__cause__ or error)}.") from None
        held = getattr(reply.choices[0], "prompt_logprobs", None) if reply.choices else None
        if not isinstance(held, list) or len(held) != len(ids):
            raise StageError(f"{at}: tells no prompt_logprobs of {len(ids)} tokens. Take a server of vLLM's.")
        self._compare(ids, held)
        return [self._words(each) for each in held]

    def _words(self, held: Mapping[str, Any] | None) -> dict[int, float]:
        """The words of a token and their log-probabilities: the likeliest and the token itself; the first has none."""
        made = {int(word): float(told["logprob"]) for word, told in (held or {}).items()}
        most = self.server.top_k
        if len(made) > most + 1:
            raise StageError(f"{KEY} {self.server.base_url}: tells {len(made)} words where {most} were asked for.")
        return {word: NOTHING if math.isnan(value) else max(value, NOTHING) for word, value in made.items()}

    def _compare(self, ids: Sequence[int], held: Sequence[Mapping[str, Any] | None]) -> None:
        """Whether the server reads the ids of one sequence as the words that they are here."""
        if self._compared:
            return
        for token, told in zip(ids, held, strict=True):
            theirs = str(((told or {}).get(str(token)) or {}).get("decoded_token") or "").strip()
            ours = self.tokenizer.decode([token]).strip()
            if theirs and theirs.isascii() and ours.isascii() and theirs != ours:
                raise ModelError(
                    f"{KEY} {self.server.base_url}: reads the token {token} as {theirs!r}, here it is {ours!r}, so "
                    "probabilities cannot be compared. Serve a teacher of the same family."
                )
        self._compared = True
