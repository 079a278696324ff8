"""What a campaign has met so far, and what is missing: each kind of trouble in each phase in which it has to be met."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from trioshard import Phase
from trioshard._simulation.setup import ENDINGS, LAST_ACTS, available_compressions
from trioshard._simulation.troubles import CODES, ENDS, INTERLUDES
from trioshard._simulation.users import HABITS
from trioshard._simulation.weather import ANSWERS, CONNECTS, GREETINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trioshard._simulation.history import Result

__all__ = ["EXPECTED", "Coverage"]

BETWEEN: Final = "between"
"""Between two connections: no phase of any."""

COLUMNS: Final = (
    BETWEEN,
    *(phase.value for phase in Phase if phase not in (Phase.CLOSING, Phase.CLOSED)),
)


def _expected() -> dict[str, frozenset[str]]:
    connected = frozenset(COLUMNS) - {BETWEEN, Phase.CONNECTING.value}
    handshaking = frozenset({Phase.IDENTIFYING.value, Phase.RESUMING.value})
    ready = frozenset({Phase.READY.value})
    expected = {
        name: frozenset(phase.value for phase in trouble.phases) for name, trouble in {**ENDS, **INTERLUDES}.items()
    }
    expected |= dict.fromkeys(CONNECTS, frozenset({Phase.CONNECTING.value}))
    expected |= dict.fromkeys(GREETINGS, frozenset({Phase.AWAITING_HELLO.value}))
    expected |= dict.fromkeys(ANSWERS, handshaking)
    expected["drop in the replay"] = frozenset({Phase.RESUMING.value})
    expected |= dict.fromkeys(LAST_ACTS, connected)
    expected |= dict.fromkeys(HABITS, ready)
    expected["caller cancelled"] = frozenset(COLUMNS)
    expected["slow listener"] = expected["queue full"] = frozenset(
        {BETWEEN, Phase.CONNECTING.value, Phase.RESUMING.value, Phase.READY.value}
    )
    return expected


EXPECTED: Final = _expected()
"""By kind of trouble or habit, the phases in which it has to be met."""


class Coverage:
    """Counts what the histories have met.

    Args:
        transports: the transports that are to occur.
    """

    def __init__(self, transports: Iterable[str]) -> None:
        self.met: Counter[tuple[str, str]] = Counter()
        self.closes: Counter[int] = Counter()
        self.traits: dict[str, Counter[str]] = {
            "transport": Counter(dict.fromkeys(transports, 0)),
            "compression": Counter({str(compression): 0 for compression in available_compressions()}),
            "end": Counter(dict.fromkeys(ENDINGS, 0)),
            "opening": Counter({"READY": 0, "RESUMED": 0}),
        }

    def add(self, result: Result) -> None:
        """Count one history."""
        self.met.update(result.met)
        self.closes.update(result.closes)
        for counts, trait in zip(self.traits.values(), result.traits, strict=False):
            counts[trait] += 1
        self.traits["opening"].update({"READY": result.opened[0], "RESUMED": result.opened[1]})

    def missing(self) -> list[str]:
        """Return what has to be met and was not, in words."""
        pairs = [
            f"{kind} while {phase}"
            for kind, phases in EXPECTED.items()
            for phase in COLUMNS
            if phase in phases and not self.met[kind, phase]
        ]
        codes = [f"close code {code}" for code in CODES if not self.closes[code]]
        traits = [f"{what} {name}" for what, counts in self.traits.items() for name in counts if not counts[name]]
        return pairs + codes + traits

    def table(self) -> list[str]:
        """Return the table of all pairs: a dot where one does not have to be met, ``NONE`` where it was not."""
        rows = [["", *COLUMNS]]
        for kind, phases in EXPECTED.items():
            rows.append([kind, *(self._cell(kind, phase, phase in phases) for phase in COLUMNS)])
        lines = _aligned(rows)
        codes = "  ".join(f"{code}: {self.closes[code]:,}" for code in sorted(CODES))
        lines += ["", f"close codes   {codes}"]
        for what, counts in self.traits.items():
            lines.append(f"{what:<12}  " + "  ".join(f"{name}: {count:,}" for name, count in counts.items()))
        return lines

    def _cell(self, kind: str, phase: str, expected: bool) -> str:
        count = self.met[kind, phase]
        return f"{count:,}" if count else ("NONE" if expected else ".")


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
