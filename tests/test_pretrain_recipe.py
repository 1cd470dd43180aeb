"""The pretrain recipe in miniature: as it is, but a tiny model without a chat template, short texts, few updates."""

import json

from runner.data.store import Stored
from tests.user import User, tiny_folder, user_at_work  # noqa: F401 - fixtures

SMALL = [
    "model=tiny", "model.dtype=auto", "mix.datasets=[texts.jsonl]", "mix.validation.fraction=0.065", "max_length=32",
    "batch.packs=4", "epochs=3", "optim.lr=1e-2", "eval.every=5", "log.every=1", "data.processes=1",
]  # fmt: skip
WORDS = "the capital of France is Paris and I am a small model made for tests, hello and thank you"


def texts() -> list[str]:
    """Sixty documents of many lengths, two of them twice."""
    made = [f"{number}: {WORDS * (number % 4)} {WORDS[: number + 5]}" for number in range(60)]
    return [*made, made[3], made[7]]


def test_the_recipe_in_miniature(user: User) -> None:
    """Every token learned but the first of each window, packs nearly full, a loss that falls; copies are taken out."""
    user.write("texts.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in texts()))
    (user.root / "tiny" / "chat_template.jinja").unlink()
    code, told = user.tell("recipe=pretrain", *SMALL)
    assert code == 0, told
    folder = user.root / "outputs" / "pretrain" / "train"
    gone = [json.loads(line) for line in (folder / "dropped.jsonl").read_text().splitlines()]
    assert [row["row"] for row in gone] == [60, 61]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    logged = [line for line in lines if "loss" in line]
    assert logged[-1]["loss"] < 0.8 * logged[0]["loss"]
    assert sum("eval_loss" in line for line in lines) >= 2
    (cached,) = (user.root / ".cache" / "encoded").glob("*/train.arrow")
    report = json.loads((cached.parent / "about.json").read_text())["report"]
    assert any(said.startswith("2 rows to train on are the same as an earlier one") for said in report)
    held = Stored(cached)
    assert max(held.lengths) == 32 and len(held) > len(set(held.rows)) == 56
    assert list(held.trained()) == [length - 1 for length in held.lengths]
    per_epoch = len(logged) // 3
    assert sum(held.lengths) > 0.9 * 32 * 4 * (per_epoch - 1)
    assert list(cached.parent.glob("packs-32-*.npy"))


def test_no_row_is_left_to_train_on(user: User) -> None:
    """All are copies of the one that validates."""
    user.write("texts.jsonl", (json.dumps({"text": "the same"}) + "\n") * 2)
    code, told = user.tell("recipe=pretrain", *SMALL)
    assert code == 2 and told.startswith("stages.train.mix: all rows are kept aside for validation, or copies"), told
