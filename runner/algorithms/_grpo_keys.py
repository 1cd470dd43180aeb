"""The keys of GRPO's loss that a recipe says: of the algorithm, and of the stage that learns by it."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt

from runner.core.schema import component


@component
class GrpoKeys:
    """Names as in TRL's GRPOConfig.

    loss_type: over what the loss is a mean. grpo: over answers, each a mean over its tokens; bnpo and dapo: over the
    tokens of the update; dr_grpo: over answers times the tokens that one may have.
    importance_sampling_level: whether the ratio of new to old is a token's or a whole answer's.
    epsilon, epsilon_high: the ratio counts from 1 - epsilon to 1 + epsilon_high (epsilon where that is not given).
    delta: the ratio's bound where the advantage is negative. beta: weight of the divergence from the reference.
    use_bias_correction_kl: whether the ratio weighs that divergence. correction_max, correction_min: see
    rollouts/correction.py.
    """

    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo"] = "dapo"
    importance_sampling_level: Literal["token", "sequence"] = "token"
    epsilon: Annotated[float, Gt(0)] = 0.2
    epsilon_high: Annotated[float, Gt(0)] | None = None
    delta: Annotated[float, Gt(0)] | None = None
    beta: Annotated[float, Ge(0)] = 0.0
    use_bias_correction_kl: bool = True
    correction_max: Annotated[float, Gt(0)] | None = 3.0
    correction_min: Annotated[float, Ge(0)] | None = None
