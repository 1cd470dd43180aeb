"""Writes a model or an adapter into a repository on a hub, with a model card of where it comes from.

Sent is what loads the model, nothing of the training beside it; what the hub holds already is not sent again, so the
same command goes on after a failure. The token comes from the environment or the hub's login, and from nowhere else.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from runner.core.artifact import Artifact
from runner.core.errors import ConfigError
from runner.core.job import Job
from runner.core.schema import EXECUTION, component
from runner.core.specs import Model, Text

NAME = re.compile(r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?/[A-Za-z0-9_](?:[\w.-]*[A-Za-z0-9_])?", re.ASCII)
LONGEST = 96


@component
class Push:
    """A model or an adapter on a hub.

    repo: owner/name there. revision: a branch, the hub's own when not given. private: whether others may not see it.
    license: what the card says, for example apache-2.0. message: of the commit. dry_run: only list what would be sent.
    """

    model: Model
    repo: Text
    hub: Literal["modelscope", "huggingface"] = "modelscope"
    revision: Text | None = None
    private: bool = True
    license: Text | None = None
    message: Text | None = None
    dry_run: Annotated[bool, EXECUTION] = False
    accepts: ClassVar[dict[str, tuple[str, ...]]] = {"model": ("model", "adapter")}
    reuse: ClassVar[str] = "never"
    interactive: ClassVar[bool] = False

    def produces(self) -> str:
        """Nothing on this machine."""
        return "none"

    def check(self, roots: Sequence[Path], key: str) -> None:
        """Refuse a name that no hub takes, a folder without a model, a hub's library or a token that is not here."""
        import importlib.util

        from runner.models.hub import MODULES
        from runner.models.locate import check
        from runner.models.repository import has_token, login

        wrong = not NAME.fullmatch(self.repo) or len(self.repo) > LONGEST or "--" in self.repo or ".." in self.repo
        if wrong or self.repo.endswith(".git"):
            fix = "Write owner/name: letters, digits and single - _ . between them."
            raise ConfigError(f"{key}.repo", f"no hub takes the name {self.repo!r}", fix)
        check(self.model, f"{key}.model")
        if importlib.util.find_spec(MODULES[self.hub]) is None:
            raise ConfigError(f"{key}.hub", f"{MODULES[self.hub]} is not installed", "Install the extra: hub.")
        if not self.dry_run and not has_token(self.hub):
            raise ConfigError(f"{key}.hub", f"no token for {self.hub}", login(self.hub))

    def run(self, job: Job) -> Artifact:
        """Gather the files, write the card, send what the hub does not hold."""
        from runner.models.locate import ADAPTER, locate
        from runner.stages._card import card
        from runner.stages._package import README, base_here, contents, written_by_hand
        from runner.stages._sending import Order, send

        located = locate(self.model, job.hub)
        files, left = contents(located)
        own = README in files and written_by_hand(files[README])
        if not own:
            files[README] = job.folder / README
            files[README].write_text(card(self.repo, self.hub, located, job.run, self.license), encoding="utf-8")
        kind = "model" if located.adapter is None else "adapter"
        where = f"{self.repo} on {self.hub}" + (f", revision {self.revision}" if self.revision else "")
        print(f"{kind} {located.adapter or located.base} -> {where}", flush=True)
        if located.adapter is not None and (base := base_here(located.adapter)):
            print(f"{ADAPTER} names its base by a place on this machine, {base}: others must name theirs", flush=True)
        if self.hub == "modelscope" and self.license is None:
            print(f"no stages.{job.name}.license: ModelScope calls a new repository Apache-2.0", flush=True)
        if left:
            print(f"not sent, it does not load the model: {', '.join(left)}", flush=True)
        size = sum(file.stat().st_size for file in files.values())
        if self.dry_run:
            for name, file in sorted(files.items()):
                print(f"  would send {file.stat().st_size:>14,} bytes  {name}", flush=True)
            return Artifact("none", self.repo, metrics={"files": len(files), "bytes": size, "sent": 0})
        message = self.message or f"Upload {kind}"
        order = Order(self.hub, self.repo, self.revision, self.private, self.license, message, files, own)
        sent = send(order, job)
        return Artifact("none", sent.address, metrics={"files": len(files), "bytes": size, "sent": len(sent.names)})
