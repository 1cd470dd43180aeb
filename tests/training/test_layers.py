"""Layers run compiled and checkpointed give the gradient that they give plainly."""

import pytest
import torch

from runner.training.layers import arrange, repeated
from tests.training import small


def gradient(model: torch.nn.Module) -> torch.Tensor:
    model.zero_grad()
    ids = torch.arange(3, 40)[None]
    model.train()(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])


@pytest.mark.parametrize("learner", [small.model(), small.adapter(dropout=0.0)], ids=["full", "lora"])
def test_recomputing_layers_changes_no_gradient(learner):
    assert len(repeated(learner)) == 2
    plain, calls = gradient(learner), []
    for layer in repeated(learner):
        layer.input_layernorm.register_forward_hook(lambda *_: calls.append(1))
    arrange(learner, "full", compiled=False)
    assert torch.allclose(gradient(learner), plain, atol=1e-6)
    assert len(calls) == 4, "each layer ran a second time in the backward pass"
    arrange(learner, "off", compiled=False)
    gradient(learner)
    assert len(calls) == 6


def test_layers_are_compiled_and_let_go_again(monkeypatch):
    model, compiled = small.model(), []
    monkeypatch.setattr(torch, "compile", lambda call, **keys: compiled.append(keys) or call)
    arrange(model, "selective", compiled=True)
    assert compiled == [{"dynamic": True}] * 2
    assert torch._functorch.config.activation_memory_budget == 0.5
    arrange(model, "off", compiled=False)
    assert all(layer._compiled_call_impl is None for layer in repeated(model))
    assert torch._functorch.config.activation_memory_budget == 1.0


def test_one_layer_is_compiled_for_all_and_for_micro_batches_of_any_size(monkeypatch):
    """A compiler that only counts: graphs, and what of their inputs is no tensor or size (it would run on the host)."""
    graphs = []

    def count(graph, inputs):
        kinds = {
            type(node.meta.get("example_value")).__name__ for node in graph.graph.nodes if node.op == "placeholder"
        }
        graphs.append(kinds | {node.name for node in graph.graph.nodes if node.name.startswith("item")})
        return graph

    plain = torch.compile
    monkeypatch.setattr(torch, "compile", lambda call, **keys: plain(call, backend=count, **keys))
    model = small.adapter(dropout=0.1)
    arrange(model.train(), "off", compiled=True)
    for length in (7, 30, 12, 55):
        ids = torch.arange(3, 3 + length)[None]
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    assert len(graphs) == 1
    assert not any("Float" in kind or kind.startswith("item") for kind in graphs[0]), graphs[0]
    arrange(model, "off", compiled=False)


@pytest.mark.parametrize(("learning", "reached"), [("layers.1.", False), ("layers.0.", True)])
def test_gradients_end_where_nothing_below_learns(monkeypatch, learning, reached):
    """Compiled layers sent them down to the embeddings whatever was frozen."""
    model = small.model().train()
    for name, weight in model.named_parameters():
        weight.requires_grad_(learning in name)
    monkeypatch.setattr(torch, "compile", lambda call, **keys: call)
    arrange(model, "off", compiled=True)
    entered = []
    model.get_submodule("model.layers.0").register_forward_hook(lambda _, __, out: entered.append(out.requires_grad))
    gradient(model)
    assert entered == [reached]
    arrange(model, "off", compiled=False)
