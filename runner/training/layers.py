"""The repeated layers of a model: compiled, and run again in the backward pass instead of kept (checkpointing).

One layer is compiled for all, with shapes left open, so that micro-batches of other sizes compile nothing anew. Three
ways to spend memory: `off` keeps what the backward pass needs; `selective` keeps half of what compiled layers would
(the compiler recomputes what is cheap); `full` keeps only what goes into each layer.
"""

from typing import Any, Literal

Checkpointing = Literal["off", "selective", "full"]
SHARE = {"off": 1.0, "selective": 0.5, "full": 1.0}  # of the activations of a compiled layer that are kept


def repeated(model: Any) -> list[Any]:
    """The layers that a model repeats, as it names them itself (`_no_split_modules`); empty where it names none."""
    names = set(getattr(model, "_no_split_modules", None) or ())
    return [part for part in model.modules() if type(part).__name__ in names]


def arrange(model: Any, checkpointing: Checkpointing, compiled: bool) -> None:
    """Make the layers run that way; may be called again, and what was compiled before is thrown away."""
    import torch
    from torch._dynamo import config as dynamo
    from torch._functorch import config as functorch

    _named(model, "checkpointing_disable")()
    if checkpointing == "full":
        _named(model, "checkpointing_enable")({"use_reentrant": False})
    functorch.activation_memory_budget = SHARE[checkpointing]
    torch._dynamo.reset()
    if compiled and any(weight.requires_grad for layer in repeated(model)[:1] for weight in layer.parameters()):
        _alike(model)  # else gradients would go down through layers that do not learn
    dynamo.specialize_float = True  # scales and rates never change, and as inputs they would be computed on the host
    for layer in repeated(model):
        layer._compiled_call_impl = None
        if compiled:
            layer.compile(dynamic=True)


def _alike(model: Any) -> None:
    """Under an adapter the first layer is given what needs no gradient, and would be compiled once more for that."""

    def needs_gradient(_: Any, __: Any, out: Any) -> Any:
        return out if out.requires_grad or not model.training else out.requires_grad_(True)

    embedding = model.get_input_embeddings()
    if not getattr(embedding, "needs_gradient", False):
        embedding.needs_gradient = True
        embedding.register_forward_hook(needs_gradient)


def _named(model: Any, what: str) -> Any:
    """transformers calls activation checkpointing by that name from 5.22 on, and gradient checkpointing before."""
    return getattr(model, f"activation_{what}", None) or getattr(model, f"gradient_{what}")
