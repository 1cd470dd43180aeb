"""Models that cannot be put on a hub: no token, no such name, nothing to send, nobody there."""

from tests.bad_inputs.case import Case
from tests.user import User

PUSH = "recipe=push stages.push.repo=me/mine "


def logged_in(user: User) -> None:
    """As a hub's login leaves it; the tokens are nobody's."""
    user.write(".home/token", "hf_nobody")
    user.write(".home/credentials/cookies", "nobody")


CASES = {
    "a push without a token for ModelScope": Case(
        "stages.push.hub: no token for modelscope. Put it into MODELSCOPE_API_TOKEN, or log in",
        words=PUSH + "model=tiny",
    ),
    "a push without a token for Hugging Face": Case(
        "command line: hub (stage push): no token for huggingface. Put it into HF_TOKEN, or log in: hf auth login.",
        words=PUSH + "model=tiny hub=huggingface",
    ),
    "a repository's name without an owner": Case(
        "stages.push.repo: no hub takes the name 'mine'. Write owner/name: letters, digits and single - _ . between",
        words="recipe=push model=tiny stages.push.repo=mine",
        harm=logged_in,
    ),
    "a repository's name with a space": Case(
        "stages.push.repo: no hub takes the name 'me/my model'.",
        words="recipe=push model=tiny 'stages.push.repo=me/my model'",
        harm=logged_in,
    ),
    "a repository that is not named": Case(
        "stages.push.repo: missing.", words="recipe=push model=tiny", harm=logged_in
    ),
    "a token in a recipe": Case(
        "stages.push.token: no such key", words=PUSH + "model=tiny +stages.push.token=hf_x", harm=logged_in
    ),
    "a push of a folder without a model": Case(
        "recipes: holds no model: neither config.json nor adapter_config.json",
        words=PUSH + "model=recipes",
        harm=logged_in,
    ),
    "a push of a model without weights": Case(
        "half: holds no weights (*.safetensors): nothing to send.",
        words=PUSH + "model=half",
        files=(("half/config.json", "{}"), ("half/pytorch_model.bin", "x")),
        harm=logged_in,
    ),
    "a push to a hub that is down": Case(
        "stages.push.hub: modelscope does not answer (Connection refused). Nothing was sent.",
        words=PUSH + "model=tiny",
        code=1,
        harm=logged_in,
    ),
}  # fmt: skip
