"""Puts an adapter on its base, and makes one model of both.

Refuses an adapter that was made for another base, by shapes and names, before loading it.
"""

import json
import warnings
from pathlib import Path
from typing import Any

from runner.core.artifact import write_whole
from runner.core.errors import ModelError, told
from runner.models.facts import facts
from runner.models.locate import ADAPTER as CONFIG
from runner.models.locate import Located
from runner.models.quiet import quiet

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
SHARED = ("vblora_vector_bank", "prompt_encoder", "tinylora_v", "unilora_theta_d")  # not in the file for each layer


def attach(base: Any, located: Located) -> Any:
    """The base with the adapter beside it, nothing trainable.

    Raises:
        ModelError: no adapter weights, they do not fit the base, or are not those that the adapter's config names.
    """
    folder = located.adapter
    assert folder is not None
    if not (folder / WEIGHTS).is_file():
        raise ModelError(f"{folder}: holds no {WEIGHTS}. Adapters are read from safetensors only.")
    check_fit(base, folder, located)
    made = _read(base, folder)
    made.active_peft_config.base_model_name_or_path = str(located.base)  # peft looks there while it saves
    made.active_peft_config.revision = located.revision
    return made


def _read(base: Any, folder: Path) -> Any:
    """peft starts what it does not find anew and leaves out what it does not expect, with a warning at most."""
    from peft import PeftModel

    try:
        with quiet(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Found missing adapter keys", category=UserWarning)
            made = PeftModel.from_pretrained(base, folder, is_trainable=False)
            found: Any = made.load_adapter(folder, "default")  # again, as only here it says what it found
    except (ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise ModelError(f"{folder}: this adapter cannot be put on its base: {told(error)}.") from error
    except RuntimeError as error:
        if "size mismatch" not in str(error):
            raise  # memory that ran out is told by who asked for the model
        raise ModelError(
            f"{folder}: {WEIGHTS} and {CONFIG} are of different adapters: {str(error).splitlines()[1].strip()}"
        ) from error
    missing = [name for name in found.missing_keys if not any(mark in name for mark in SHARED)]
    for names, wrong in (
        (missing, f"are named by {CONFIG} and not in {WEIGHTS}"),
        (found.unexpected_keys, f"in {WEIGHTS} are not named by {CONFIG}"),
    ):
        if names:
            raise ModelError(f"{folder}: {len(names)} weights {wrong}, for example {sorted(names)[0]}.")
    return made


def merged(model: Any) -> Any:
    """One model of a base and the adapter around it.

    Where embeddings are the output layer too, and the adapter lies on one of them or on both, each gets a weight of its
    own first: in a shared one what is added to either would be found in the other. Those that it keeps alike stay one.
    """
    from peft.tuners.lora import LoraLayer
    from torch.nn import Parameter

    base: Any = model.get_base_model()
    places: list[Any] = [base.get_input_embeddings(), base.get_output_embeddings()]
    plain: list[Any] = [place.get_base_layer() if isinstance(place, LoraLayer) else place for place in places]
    shared = any(isinstance(place, LoraLayer) for place in places) and plain[0].weight is plain[1].weight
    alike = bool(getattr(model.active_peft_config, "ensure_weight_tying", False))
    if shared:
        plain[1].weight = Parameter(plain[1].weight.detach().clone(), requires_grad=False)
        _call_tied(base, False)
    made = model.merge_and_unload()
    if shared and alike:
        made.get_output_embeddings().weight = made.get_input_embeddings().weight
        _call_tied(made, True)
    return made


def _call_tied(model: Any, tied: bool) -> None:
    model.config.tie_word_embeddings = model.config.get_text_config().tie_word_embeddings = tied


def name_base(folder: Path, name: str) -> None:
    """Write into a saved adapter what its base is called, a hub id for example, instead of where it lay."""
    if not name:
        return
    file = folder / CONFIG
    told = facts(file)
    write_whole(file, json.dumps({**told, "base_model_name_or_path": name}, indent=2) + "\n")


def check_fit(base: Any, folder: Path, located: Located) -> None:
    """Compare every low-rank pair of the adapter with the layer of the base that it belongs to."""
    from safetensors import SafetensorError, safe_open

    layers = dict(base.named_modules())
    told = f"{folder}: this adapter was made for another base than {located.name or located.base}"
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{folder / WEIGHTS}: cannot be read: {error}.") from error
    for name, shape in shapes.items():
        path, _, side = name.removeprefix(PREFIX).partition(".lora_")
        if side[:1] not in ("A", "B") or len(shape) != 2:
            continue
        layer = layers.get(path)
        if layer is None or getattr(layer, "weight", None) is None:
            raise ModelError(
                f"{told}: the base has no layer {path}. Name its own base: model.id=BASE model.adapter={folder}"
            )
        wide, size = ("inputs", _sizes(layer)[0]) if side.startswith("A") else ("outputs", _sizes(layer)[1])
        own = shape[1] if side.startswith("A") else shape[0]
        if size is not None and own != size:
            raise ModelError(
                f"{told}: {path} has {size} {wide} in the base and {own} in the adapter. "
                f"Name its own base: model.id=BASE model.adapter={folder}"
            )


def _sizes(layer: Any) -> tuple[int | None, int | None]:
    """Inputs and outputs of a layer; of GPT-2's, which is no linear one of torch's, by its weights; None of others."""
    if hasattr(layer, "in_features"):
        return layer.in_features, layer.out_features
    if hasattr(layer, "nf"):
        return layer.weight.shape[0], layer.weight.shape[1]
    return None, None
