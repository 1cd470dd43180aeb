"""Loss-scale rules: plugin functions that cut a span into pieces and give each a factor; factors multiply in order.

`default`, `last_round` and `all` say what is trained at all; without one of them `default` stands in front. A message's
own `loss` stands in for these three, its own `loss_scale` for all the others. A rule by the name NAME is the plugin
plugins/loss_scales/NAME.py, or conf/loss_scale/NAME.yaml with the `rule` that it is made of and that rule's parameters.
Refuses rules that change the text or return numbers that are no weights.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from runner.core import registry
from runner.core.errors import ConfigError, PluginError, RunnerError, near_miss
from runner.core.imported import source
from runner.core.places import package_root
from runner.core.specs import Rules as RuleNames
from runner.core.types import Span

KIND = "loss_scales"
BASE = ("default", "last_round", "all")
SHORT = 12  # characters of a span that comes again and again
Weights = list[tuple[int, float]]  # so many characters, and the weight of each


@dataclass(frozen=True)
class Rule:
    """One rule of a recipe. plugin: the function's name; params: its keywords."""

    name: str
    plugin: str
    params: Mapping[str, Any]
    file: Path
    function: Callable[..., Any] | None = None

    def factors(self, span: Span) -> Weights:
        """What the rule says about a span.

        Raises:
            PluginError: it fails, its pieces do not make up the text, or a factor is no weight.
        """
        assert self.function is not None
        try:
            pieces = [(str(text), float(factor)) for text, factor in self.function(span, **self.params)]
        except RunnerError:
            raise
        except (Exception, SystemExit) as error:  # a plugin may raise anything
            raise PluginError(
                f"{self.file}: {self.name} failed on {_short(span.text)}: {type(error).__name__}: {error}."
            ) from error
        if "".join(text for text, _ in pieces) != span.text:
            raise PluginError(
                f"{self.file}: the pieces that {self.name} returns do not make up the span {_short(span.text)}. "
                "Joined they must be its text, nothing left out and nothing changed."
            )
        wrong = [factor for _, factor in pieces if not math.isfinite(factor) or factor < 0]
        if wrong:
            raise PluginError(
                f"{self.file}: {self.name} returns {wrong[0]} as a weight. Weights are numbers from 0 on."
            )
        return [(len(text), factor) for text, factor in pieces]


@dataclass(frozen=True)
class Rules:
    """All rules of a recipe, loaded. base: those that say what is trained at all; scaling: the others."""

    base: tuple[Rule, ...]
    scaling: tuple[Rule, ...]
    _known: dict[Any, Weights] = field(default_factory=dict, repr=False, compare=False)  # end-of-turn tokens, newlines

    @cached_property
    def context(self) -> bool:
        """Whether anything but assistant turns can be trained."""
        shipped = package_root() / "plugins" / KIND
        return not any(rule.file.parent == shipped and rule.plugin in ("default", "last_round") for rule in self.base)

    def weigh(self, span: Span, loss: bool | None = None, scale: float | None = None) -> Weights:
        """The weights of a span's characters. loss, scale: the message's own words, if it has any."""
        if len(span.text) > SHORT:
            return self._weighed(span, loss, scale)
        key = (span, loss, scale)
        if key not in self._known:
            if len(self._known) > 10_000:
                self._known.clear()
            self._known[key] = self._weighed(span, loss, scale)
        return self._known[key]

    def _weighed(self, span: Span, loss: bool | None, scale: float | None) -> Weights:
        made: Weights = [(len(span.text), 1.0 if loss is None else float(loss))]
        for rule in self.base if loss is None else ():
            made = _times(made, rule.factors(span))
        if scale is not None:
            return [(count, weight * scale) for count, weight in made]
        for rule in self.scaling if any(weight for _, weight in made) else ():
            made = _times(made, rule.factors(span))
        return made


def _times(left: Weights, right: Weights) -> Weights:
    """Both cut at each other's borders, multiplied."""
    if len(left) == 1:
        return [(count, left[0][1] * factor) for count, factor in right]
    made: Weights = []
    ours, theirs = iter(left), iter(right)
    (a, x), (b, y) = next(ours, (0, 0.0)), next(theirs, (0, 0.0))
    while a or b:
        step = min(a, b) if a and b else 0
        if step:
            made.append((step, x * y))
        a, b = a - step, b - step
        if not a:
            a, x = next(ours, (0, 0.0))
        if not b:
            b, y = next(theirs, (0, 0.0))
    return made


def named(rules: RuleNames) -> list[tuple[str, dict[str, Any]]]:
    """The rules of a recipe as (name, parameters), in order, `default` in front unless another base rule is there."""
    items = rules.items() if isinstance(rules, Mapping) else [pair for entry in rules for pair in _entry(entry)]
    made = [(name, dict(params or {})) for name, params in items]
    return made if any(name in BASE for name, _ in made) else [("default", {}), *made]


def _entry(entry: str | Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(entry, {})] if isinstance(entry, str) else list(entry.items())


def resolve(rules: RuleNames, roots: Sequence[Path], key: str = "loss_scale") -> list[Rule]:
    """Find each rule's plugin and parameters, without importing plugins.

    Raises:
        ConfigError: no rule of that name, or a parameter that its function does not take.
    """
    made: list[Rule] = []
    for name, params in named(rules):
        said = {**_yaml(name, roots), **params} if "rule" not in params else params
        plugin = str(said.pop("rule", name))
        known = registry.names(KIND, roots)
        if plugin not in known:
            choices = {*known, *_yaml_names(roots)}
            raise ConfigError(
                f"{key}.{name}" if plugin != name else key,
                f"no loss scale named {plugin!r}",
                near_miss(plugin, choices),
            )
        registry.check_params(KIND, plugin, said, roots, f"{key}.{name}")
        made.append(Rule(name, plugin, said, known[plugin]))
    return made


def _yaml(name: str, roots: Sequence[Path]) -> dict[str, Any]:
    """What conf/loss_scale/NAME.yaml says, in the first root that has a plugin or such a file."""
    for root in (*roots, package_root()):
        if (root / "plugins" / KIND / f"{name}.py").is_file():
            return {}
        file = root / "conf" / "loss_scale" / f"{name}.yaml"
        if file.is_file():
            held = yaml.safe_load(file.read_text(encoding="utf-8"))
            said = held.get(name) if isinstance(held, dict) else None
            if not isinstance(said, dict) or "rule" not in said:
                raise ConfigError(
                    str(file), f"says nothing about {name}", f"Form: {name}: {{rule: patterns, regex: {{…}}}}."
                )
            return said
    return {}


def _yaml_names(roots: Sequence[Path]) -> set[str]:
    return {file.stem for root in roots for file in (root / "conf" / "loss_scale").glob("*.yaml")}


def load(rules: RuleNames, roots: Sequence[Path] = (), key: str = "loss_scale") -> Rules:
    """Import the plugins of a recipe's rules."""
    places = list(roots) or [package_root()]
    made = [
        Rule(rule.name, rule.plugin, rule.params, rule.file, registry.load(KIND, rule.plugin, places, key))
        for rule in resolve(rules, places, key)
    ]
    return Rules(tuple(r for r in made if r.name in BASE), tuple(r for r in made if r.name not in BASE))


def check(rules: RuleNames, roots: Sequence[Path], key: str = "loss_scale") -> None:
    """At plan time: rules exist and take their parameters; those that are shipped are tried on a word.

    Raises:
        ConfigError, PluginError: what is wrong with which rule.
    """
    for rule in resolve(rules, roots, key):
        if rule.file.parent == package_root() / "plugins" / KIND:
            try:
                registry.load(KIND, rule.plugin, roots, key)(Span("word", "assistant", 1, True), **rule.params)
            except (TypeError, ValueError, AttributeError) as error:
                raise ConfigError(f"{key}.{rule.name}", f"does not take {dict(rule.params)!r}: {error}") from None


def sources(rules: RuleNames, roots: Sequence[Path]) -> dict[str, str]:
    """Each rule's name with a mark of its source text and parameters, for fingerprints."""
    return {
        rule.name: hashlib.sha256(source(rule.file) + repr(sorted(rule.params.items())).encode()).hexdigest()[:16]
        for rule in resolve(rules, roots)
    }


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
