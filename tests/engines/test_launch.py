"""Which processes a stage is spread over, by recipe and environment: a table."""

import importlib.util
from typing import Any

import pytest

from runner.core import schema
from runner.core.errors import ConfigError
from runner.core.specs import Parallelism
from runner.engines import launch, presets, zero

TWO = {"preset": "ddp", "gpus": 4, "nodes": 2}


def ranks(given: dict[str, Any], environment: dict[str, str] | None = None, visible: int = 8) -> list[dict[str, str]]:
    return launch.ranks(schema.build(Parallelism, given, "parallelism"), visible, environment or {}, 4321)


def test_one_node_meets_on_a_free_port_whatever_the_environment_says():
    made = ranks({"preset": "ddp", "gpus": 2}, {"MASTER_ADDR": "elsewhere", "NODE_RANK": "1"})
    assert [told["RANK"] for told in made] == [told["LOCAL_RANK"] for told in made] == ["0", "1"]
    assert {(told["WORLD_SIZE"], told["MASTER_ADDR"], told["MASTER_PORT"]) for told in made} == {
        ("2", "127.0.0.1", "4321")
    }


@pytest.mark.parametrize(
    ("keys", "environment", "place"),
    [
        ({"master": "a", "port": 5, "node_rank": 1}, {}, ("4", "a", "5")),
        ({}, {"MASTER_ADDR": "b", "MASTER_PORT": "6", "NODE_RANK": "1"}, ("4", "b", "6")),
        ({}, {"MASTER_ADDR": "b", "GROUP_RANK": "0"}, ("0", "b", "29500")),
        ({}, {"MASTER_ADDR": "b", "RANK": "1", "WORLD_SIZE": "2"}, ("4", "b", "29500")),
        ({}, {"SLURM_JOB_NODELIST": "gpu[03-06,9],login", "SLURM_NODEID": "1"}, ("4", "gpu03", "29500")),
        ({}, {"MASTER_ADDR": "b", "OMPI_COMM_WORLD_RANK": "1"}, ("4", "b", "29500")),
        ({}, {"SLURM_JOB_NODELIST": "rack[2-3]n[07,9]-ib,x", "SLURM_NODEID": "0"}, ("0", "rack2n07-ib", "29500")),
        ({}, {"SLURM_JOB_NODELIST": "a1,b2", "SLURM_NODEID": "0"}, ("0", "a1", "29500")),
        ({"master": "a", "node_rank": 0}, {"MASTER_ADDR": "b", "NODE_RANK": "1"}, ("0", "a", "29500")),
    ],
)
def test_several_nodes(keys: dict[str, Any], environment: dict[str, str], place: tuple[str, str, str]):
    made = ranks({**TWO, **keys}, environment)
    assert (made[0]["RANK"], made[0]["MASTER_ADDR"], made[0]["MASTER_PORT"]) == place
    assert [told["LOCAL_RANK"] for told in made] == ["0", "1", "2", "3"] and made[0]["WORLD_SIZE"] == "8"


@pytest.mark.parametrize(
    ("given", "environment", "told"),
    [
        (TWO, {}, "parallelism.nodes: 2 nodes, and nothing says where they meet. Give parallelism.master=HOST"),
        (TWO, {"MASTER_ADDR": "b"}, "parallelism.nodes: 2 nodes, and nothing says which of them this is."),
        ({**TWO, "node_rank": 2, "master": "a"}, {}, "parallelism.node_rank: should be one of 0 to 1, not '2'"),
        (TWO, {"MASTER_ADDR": "b", "NODE_RANK": "x"}, "NODE_RANK: should be one of 0 to 1, not 'x'"),
        ({"preset": "ddp", "gpus": 9}, {}, "parallelism.gpus: 9 wanted and 8 visible on this node."),
        ({"preset": "zero3"}, {}, "parallelism.preset: zero3 needs the package deepspeed. pip install deepspeed, or"),
    ],
)
def test_refused(given: dict[str, Any], environment: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as error:
        ranks(given, environment)
    assert str(error.value).startswith(told)


def test_fsdp2_on_a_cpu_is_refused_before_any_data_is_read():
    assert len(ranks({"preset": "fsdp2", "gpus": 2})) == 2
    with pytest.raises(ConfigError, match="^parallelism.preset: fsdp2 needs a GPU. Take ddp, or zero1 to zero3, on a"):
        ranks({"preset": "fsdp2", "gpus": 2}, visible=0)


def test_processes_of_their_own_only_where_there_is_something_to_share():
    wanted = {preset: launch.spread(Parallelism(preset=preset)) for preset in ("single", "ddp", "zero1", "fsdp2")}
    assert wanted == {"single": False, "ddp": False, "zero1": True, "fsdp2": True}
    assert launch.spread(Parallelism(preset="ddp", nodes=2))


@pytest.mark.parametrize("bf16", [True, False])
def test_float32_stays_float32_under_zero(monkeypatch: pytest.MonkeyPatch, bf16: bool):
    """model.dtype=float32 on a GPU was bfloat16 without a word."""
    monkeypatch.setattr(zero, "need", lambda preset: None)
    made = presets.keywords(Parallelism(preset="zero2"), gpu=True, max_grad_norm=1.0, bf16=bf16)
    assert made["deepspeed"]["bf16"] == {"enabled": bf16}
