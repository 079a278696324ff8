"""The picture: CPU time for an event, a panel for each of three works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.contestants import TRIOSHARD, TRIOSHARD_TW

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.figures import Results
    from benchmarks.works import Work

__all__ = ["draw"]

_PANELS: Final = {
    "burst-raw": "burst, every event raw",
    "burst-typed": "burst, typed messages",
    "paced-tls": "200 events a second, TLS",
}
_TEXT: Final = "#808890"
_OURS: Final = "#2f81f7"
_THEIRS: Final = "#9aa4ae"
"""All three have enough contrast on white and on the dark of code hosts."""


def draw(results: Results, works: Sequence[Work], file: Path) -> bool:
    """Draw what was measured of the three works as SVG; return whether there was anything.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    panels = [work for work in works if work.name in _PANELS]
    bars = {work.name: _bars(results, work) for work in panels}
    panels = [work for work in panels if bars[work.name]]
    if not panels:
        return False
    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": "benchmarks",
        "font.family": "sans-serif",
        "text.color": _TEXT,
        "axes.labelcolor": _TEXT,
        "xtick.color": _TEXT,
        "ytick.color": _TEXT,
        "axes.edgecolor": _TEXT,
    }
    with mpl.rc_context(style):
        heights = [len(bars[work.name]) + 1 for work in panels]
        figure, axes = pyplot.subplots(
            len(panels), 1, squeeze=False, height_ratios=heights, figsize=(8, 0.34 * sum(heights) + 0.3)
        )
        for axis, work in zip(axes[:, 0], panels, strict=True):
            names = list(bars[work.name])
            values = list(bars[work.name].values())
            colors = [_OURS if name in (TRIOSHARD, TRIOSHARD_TW) else _THEIRS for name in names]
            drawn = axis.barh(names, values, color=colors, height=0.7)
            axis.bar_label(drawn, fmt="{:.1f}", padding=4, color=_TEXT)
            axis.set_title(f"{_PANELS[work.name]}: µs of CPU for an event", loc="left", fontsize=10, color=_TEXT)
            axis.invert_yaxis()
            axis.set_xticks([])
            axis.spines[["top", "right", "bottom"]].set_visible(False)
            axis.tick_params(length=0)
            axis.margins(x=0.12)
        figure.tight_layout()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
        pyplot.close(figure)
    return True


def _bars(results: Results, work: Work) -> dict[str, float]:
    values = {name: results.value(work.name, name, "us") for name in work.clients}
    return {name: value for name, value in values.items() if value is not None}
