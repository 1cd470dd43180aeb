"""The course of a training as a picture: training and evaluation loss, or rewards, and the learning rate below."""

import json
import warnings
from pathlib import Path
from typing import Any

FILE = "loss.png"


def curve(metrics: Path, picture: Path, title: str = "", what: str = "loss") -> Path | None:
    """Draw metrics.jsonl.

    Args:
        metrics: the file; lines that are cut off are left out. picture: a PNG, replaced whole.
        what: the figure that is drawn.

    Returns:
        The picture; None when there is nothing to draw.
    """
    lines = _read(metrics)
    trained = [line for line in lines if line.get(what) is not None]
    if not trained:
        return None
    # no pyplot: it would keep a global state and look for a display
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    evaluated = [line for line in lines if line.get(f"eval_{what}") is not None]
    _figures(above, trained, evaluated, title, what)
    below.plot([line["update"] for line in trained], [line["lr"] for line in trained], color="tab:gray")
    below.set(xlabel="update", ylabel="learning rate", ylim=(0, None))
    below.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    side = picture.with_name(f".{picture.name}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters of a run's name that the font lacks are boxes
        figure.savefig(side, format="png", dpi=120)
    side.replace(picture)
    return picture


def _figures(
    axes: Any, trained: list[dict[str, Any]], evaluated: list[dict[str, Any]], title: str, what: str
) -> None:  # fmt: skip
    updates, values = [line["update"] for line in trained], [line[what] for line in trained]
    marker = "." if len(trained) <= 40 else ""
    axes.plot(updates, values, marker=marker, color="tab:blue", label=f"training, last {values[-1]:.3g}")
    if evaluated:
        name = f"eval_{what}"
        saved = [line for line in evaluated if line["update"]] or evaluated  # of the start no model is kept
        best = (max if what == "reward" else min)(saved, key=lambda line: line[name])
        places, values = [line["update"] for line in evaluated], [line[name] for line in evaluated]
        label = f"evaluation, best {best[name]:.3g} at update {best['update']}"
        axes.plot(places, values, marker="o", markersize=4, color="tab:orange", label=label)
        bounds = [[line.get(f"{name}_{end}", line[name]) for line in evaluated] for end in ("low", "high")]
        axes.fill_between(places, *bounds, color="tab:orange", alpha=0.15, linewidth=0)
    axes.set(ylabel=what)
    axes.set_title(title, parse_math=False)  # a run's name may have dollar signs
    axes.grid(alpha=0.3)
    axes.legend()


def _read(metrics: Path) -> list[dict[str, Any]]:
    found = []
    for line in metrics.read_text(encoding="utf-8").splitlines() if metrics.is_file() else ():
        try:
            found.append(json.loads(line))
        except ValueError:  # written while we read
            continue
    return found
