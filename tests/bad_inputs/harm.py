"""Makes things bad: models, adapters, runs of other recipes."""

import json
import shutil
from pathlib import Path

from tests.user import User


def without(*patterns: str):
    """A model folder that lacks files."""

    def harm(user: User) -> None:
        for pattern in patterns:
            for file in (user.root / "tiny").glob(pattern):
                file.unlink()

    return harm


def edit(file: str, **keys: object):
    """A JSON file of the model with other values; None removes a key."""

    def harm(user: User) -> None:
        path = user.root / "tiny" / file
        values = {**json.loads(path.read_text()), **keys}
        path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))

    return harm


def cut(file: str, size: int = 1000):
    """A file of the model that ends too early."""

    def harm(user: User) -> None:
        path = user.root / "tiny" / file
        path.write_bytes(path.read_bytes()[:size])

    return harm


def another_vocabulary(user: User) -> None:
    """A model `other` beside `tiny`, of whose words two have changed places."""
    shutil.copytree(user.root / "tiny", user.root / "other")
    file = user.root / "other" / "tokenizer.json"
    held = json.loads(file.read_text(encoding="utf-8"))
    words = held["model"]["vocab"]
    words["a"], words["b"] = words["b"], words["a"]
    file.write_text(json.dumps(held), encoding="utf-8")


def other_weights(user: User) -> None:
    """Weights without one of their tensors."""
    from safetensors.torch import load_file, save_file

    file = user.root / "tiny" / "model.safetensors"
    weights = load_file(file)
    weights.pop("model.norm.weight")
    save_file(weights, file, metadata={"format": "pt"})


def pickled(user: User) -> None:
    """Weights as a pickle only."""
    (user.root / "tiny" / "model.safetensors").rename(user.root / "tiny" / "pytorch_model.bin")


def adapter(user: User, hidden: int = 64, base: str | None = "tiny") -> Path:
    """An adapter beside the model, made for one of that size."""
    import peft
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = json.loads((user.root / "tiny" / "config.json").read_text())
    model = LlamaForCausalLM(LlamaConfig(**{**shape, "hidden_size": hidden, "head_dim": hidden // 4}))
    folder = user.root / "adapter"
    peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules="all-linear")).save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(user.root / base) if base else None
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def adapter_of_another_base(user: User) -> None:
    adapter(user, hidden=32)


def adapter_without_base(user: User) -> None:
    adapter(user, base=None)


def adapter_of_a_lost_base(user: User) -> None:
    adapter(user, base="gone")


def adapter_without_weights(user: User) -> None:
    (adapter(user) / "adapter_model.safetensors").unlink()


def broken_adapter(user: User) -> None:
    file = adapter(user) / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:50])


def two_adapters(user: User) -> None:
    shutil.copytree(adapter(user), user.root / "other")


def another_recipe(user: User) -> None:
    """Finished work of other settings in the folder."""
    code, told = user.tell("recipe=mine", "max_updates=1")
    assert code == 0, told


def checkpoint_of_another_model(user: User) -> None:
    """A training that was begun, then the model in the folder is replaced by another."""
    another_recipe(user)
    (user.root / "outputs" / "mine" / "train" / "artifact.json").unlink()
    edit("config.json", rms_norm_eps=0.5)(user)


def checkpoint_of_other_data(user: User) -> None:
    another_recipe(user)
    (user.root / "outputs" / "mine" / "train" / "artifact.json").unlink()
    user.write("rows.jsonl", (user.root / "rows.jsonl").read_bytes() * 2)


def half_a_checkpoint(user: User) -> None:
    """A checkpoint folder without its mark, given as a model."""
    another_recipe(user)
    for mark in (user.root / "outputs" / "mine" / "train").glob("checkpoint-*/complete.json"):
        mark.unlink()


def half_a_stage(user: User) -> None:
    another_recipe(user)
    shutil.rmtree(user.root / "outputs" / "mine" / "train" / "model")


def unfinished(user: User) -> None:
    another_recipe(user)
    (user.root / "outputs" / "mine" / "train" / "artifact.json").unlink()


def half_an_artifact(user: User) -> None:
    another_recipe(user)
    (user.root / "outputs" / "mine" / "train" / "artifact.json").write_text('{"kind": "ada')


def half_a_job(user: User) -> None:
    another_recipe(user)
    (user.root / "outputs" / "mine" / "train" / "artifact.json").unlink()
    (user.root / "outputs" / "mine" / "train" / "job.yaml").write_text("name: [train")
