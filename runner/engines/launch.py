"""Which processes a stage is spread over, and what each one is told: pure, nothing is started here (see ranks.py).

One process a device. They find each other as PyTorch's `env://` wants it: RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT.
On one node a free port of this machine serves. Several nodes meet where the recipe says (parallelism.master, port,
node_rank) or the cluster's environment does (torchrun's names or Slurm's); without either they are refused.
"""

import dataclasses
import re
from collections.abc import Mapping, MutableMapping
from typing import Any

from runner.core import schema
from runner.core.errors import ConfigError
from runner.core.specs import Parallelism
from runner.engines import zero

RANK, WORLD, LOCAL_RANK, LOCAL_WORLD = "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"
MASTER, PORT = "MASTER_ADDR", "MASTER_PORT"
# MPI's, and RANK, are those of a process: of a node where the cluster starts one on each
NODE_RANKS = ("NODE_RANK", "GROUP_RANK", "SLURM_NODEID", "RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
DEFAULT_PORT = 29500
NODE = "RUNNER_NODE_RANK"  # what another node than the first tells its workers: their orders are the first one's
KEY = "parallelism"


def spread(parallelism: Parallelism) -> bool:
    """Whether the work runs in processes of their own, one a device. DDP on one device is one plain process."""
    several = parallelism.gpus * parallelism.nodes > 1
    return parallelism.preset != "single" and (several or parallelism.preset != "ddp")


def wanted(kind: Any, values: Mapping[str, Any]) -> Parallelism | None:
    """How a stage is to be spread, by its keys; None for a stage that runs in one process."""
    if not any(field.name == KEY for field in dataclasses.fields(kind)) or getattr(kind, "replicates", False):
        return None  # what replicates starts its own processes, one an engine
    found = schema.build(Parallelism, values.get(KEY) or {}, KEY)
    return found if spread(found) else None


def settle(values: Mapping[str, Any], environment: MutableMapping[str, str]) -> None:
    """A stage in one process is no member of a group, whatever a cluster says of the nodes; which node, it remembers.

    Raises:
        ConfigError: several nodes, and nothing says which of them this is.
    """
    told = values.get(KEY) or {}
    if told.get("nodes", 1) > 1:
        environment[NODE] = str(node_rank(schema.build(Parallelism, told, KEY), environment))
    for name in (RANK, WORLD):
        environment.pop(name, None)


def is_first(environment: Mapping[str, str]) -> bool:
    """Whether this process writes what the stage made: the first of a group, on the first node."""
    if LOCAL_RANK in environment:
        return environment[RANK] == "0"
    return environment.get(NODE, "0") == "0"


def ranks(
    parallelism: Parallelism, visible: int, environment: Mapping[str, str], free_port: int
) -> list[dict[str, str]]:
    """The variables of each process of this node, by local rank.

    Args:
        visible: GPUs of this node; 0: the processes work on the CPU. free_port: used on a single node.

    Raises:
        ConfigError: more GPUs than there are, an engine that cannot work here, or nodes that do not know where to meet.
    """
    _check_engine(parallelism, visible)
    if 0 < visible < parallelism.gpus:
        raise ConfigError(
            f"{KEY}.gpus", f"{parallelism.gpus} wanted and {visible} visible on this node",
            f"Take {KEY}.gpus={visible}, or look at CUDA_VISIBLE_DEVICES.",
        )  # fmt: skip
    world = parallelism.gpus * parallelism.nodes
    alone = parallelism.nodes == 1
    master, port = ("127.0.0.1", free_port) if alone else meeting_point(parallelism, environment)
    node = 0 if alone else node_rank(parallelism, environment)
    return [
        {
            RANK: str(node * parallelism.gpus + local), WORLD: str(world), LOCAL_RANK: str(local),
            LOCAL_WORLD: str(parallelism.gpus), MASTER: master, PORT: str(port),
        }
        for local in range(parallelism.gpus)
    ]  # fmt: skip


def _check_engine(parallelism: Parallelism, visible: int) -> None:
    """Before any process reads the data: a plan may be made elsewhere, so it is no mistake there."""
    if parallelism.preset in zero.STAGES:
        zero.need(parallelism.preset)
    if parallelism.preset == "fsdp2" and visible == 0:
        raise ConfigError(f"{KEY}.preset", "fsdp2 needs a GPU", "Take ddp, or zero1 to zero3, on a CPU.")


def node_rank(parallelism: Parallelism, environment: Mapping[str, str]) -> int:
    """Which of the nodes this is, from 0.

    Raises:
        ConfigError: nothing says it, or it is no number below `nodes`.
    """
    if parallelism.nodes == 1:
        return 0
    if NODE in environment:
        return int(environment[NODE])
    found = next((name for name in NODE_RANKS if environment.get(name)), None)
    if parallelism.node_rank is None and found is None:
        raise ConfigError(
            f"{KEY}.nodes", f"{parallelism.nodes} nodes, and nothing says which of them this is",
            f"Give each its {KEY}.node_rank, or NODE_RANK in its environment, or start them by Slurm.",
        )  # fmt: skip
    text = str(parallelism.node_rank) if parallelism.node_rank is not None else environment[found or ""]
    if not text.isdigit() or int(text) >= parallelism.nodes:
        key = f"{KEY}.node_rank" if parallelism.node_rank is not None else str(found)
        raise ConfigError(key, f"should be one of 0 to {parallelism.nodes - 1}, not {text!r}")
    return int(text)


def meeting_point(parallelism: Parallelism, environment: Mapping[str, str]) -> tuple[str, int]:
    """The host and port at which the processes of several nodes find each other.

    Raises:
        ConfigError: nothing says it.
    """
    slurm = environment.get("SLURM_JOB_NODELIST") or environment.get("SLURM_NODELIST")
    master = parallelism.master or environment.get(MASTER) or (first_host(slurm) if slurm else None)
    if not master:
        raise ConfigError(
            f"{KEY}.nodes", f"{parallelism.nodes} nodes, and nothing says where they meet",
            f"Give {KEY}.master=HOST (the first node), or MASTER_ADDR in the environment, or start them by Slurm.",
        )  # fmt: skip
    port = environment.get(PORT, "")
    return master, parallelism.port or (int(port) if port.isdigit() else DEFAULT_PORT)


def first_host(nodes: str) -> str:
    """The first host of a Slurm list such as `gpu[03-06,9]-ib,login1`."""
    found = re.match(r"(?:[^\[,]|\[[^\]]*\])*", nodes.strip())
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", found.group()) if found else ""
