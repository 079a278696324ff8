"""The whole state of a Trio run between two turns, as a few bytes: equal bytes, equal futures.

Between two turns every task is suspended, so all there is to know lies in memory: where each task stands, its variables
and what lies on its stack, what it will be woken with, whose cancellation reaches it, and every object that can be
reached from there. `fingerprint` walks through all of it, in an order that the state itself decides, writes down types,
values, and which reference leads to which object, and hashes that. So two states with the same fingerprint are the same
but for memory addresses, and what can follow after one can follow after the other.

This holds for code whose behaviour depends on nothing else: no addresses, no I/O, no threads, no chance but from a
`random.Random` that can be reached, no module variables that change. Left out because nothing in a run depends on them:
tracebacks, Trio's statistics, loggers, context variables. An object whose inside cannot be seen is an error, not a
guess. Two states that differ can be mistaken for each other only if BLAKE2b collides.
"""

from __future__ import annotations

import contextvars
import enum
import functools
import gc
import logging
import random
import re
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec
import trio
import trio.testing
from trio._core._asyncgens import AsyncGenerators
from trio._core._run import Runner
from trio.lowlevel import Task

__all__ = ["Opaque", "fingerprint"]

_VALUES: Final = frozenset({type(None), bool, int, float, complex, str, bytes, range, type(Ellipsis)})

_NAMED: Final[tuple[type, ...]] = (
    type,
    enum.Enum,
    types.ModuleType,
    types.CodeType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    re.Pattern,
)
"""What never changes, and is told apart by its name or text."""

_LEFT_OUT: Final[tuple[type, ...]] = (
    Runner,
    AsyncGenerators,
    contextvars.Context,
    contextvars.ContextVar,
    logging.Logger,
    trio.testing.MockClock,
    types.FrameType,
    types.TracebackType,
)

_NO_ITEMS: Final[dict[Any, Any]] = {}
_EMPTY: Final[tuple[Iterable[Any], ...]] = (
    *([], (), range(0), set[Any](), deque[Any](), "", "\xe9", b""),
    *(_NO_ITEMS.keys(), _NO_ITEMS.values(), _NO_ITEMS.items()),
)
_ITERATORS: Final[tuple[type, ...]] = (*(type(iter(empty)) for empty in _EMPTY), type(iter(int, 1)))

_AWAITABLES: Final = frozenset({"coroutine_wrapper", "async_generator_asend", "async_generator_athrow"})
"""Types without a name to import: each holds the coroutine or generator that it drives."""

_COUNTED: Final = frozenset({"_counter", "_cancel_points", "_schedule_points"})
"""What Trio notes of a task, and no task can see."""

Seen = tuple[str, Sequence[Any]]
"""What an object is in itself, and what it refers to."""

Look = Callable[[Any], Seen]


class Opaque(TypeError):
    """An object whose inside cannot be seen: a state that holds it has no fingerprint."""


def fingerprint(roots: Iterable[object], *, closed: Sequence[object] = ()) -> bytes:
    """Return the fingerprint of everything that can be reached from ``roots``.

    Args:
        roots: where to begin; their order counts.
        closed: objects that are not looked into, as nothing in the run depends on what is in them.

    Raises:
        Opaque: there is an object among it that cannot be looked into.
    """
    numbers = {id(one): number for number, one in enumerate(closed)}
    kept: list[object] = []  # what is made on the way must not lend its address to the next
    text: list[str] = []
    to_visit: list[object] = list(roots)[::-1]
    while to_visit:
        found: object = to_visit.pop()
        kind = type(found)
        if kind in _VALUES:
            text.append(repr(found))
            continue
        number = numbers.get(id(found))
        if number is not None:
            text.append(f"#{number}")
            continue
        numbers[id(found)] = len(numbers)
        look = _LOOKS.get(kind)
        if look is None:
            look = _LOOKS[kind] = f"{kind.__module__}.{kind.__qualname__}", _choose_look(kind)
        name, inside = look[1](found)
        text.append(f"{look[0]} {name} ({len(inside)}")
        kept += (found, inside)
        to_visit += inside[::-1]
    return blake2b("\n".join(text).encode(errors="surrogatepass"), digest_size=16).digest()


def _choose_look(kind: type) -> Look:
    """Return how to look into objects of this type. What Python classes add to a built-in type is seen as well."""
    looks: list[Look] = []
    for bases, look in _BY_BASE:
        if issubclass(kind, bases):
            looks.append(look)
            break
    if kind.__name__ in _AWAITABLES:
        looks.append(_referents)
    if not looks or looks[0] in _MAY_HAVE_MORE:
        slots: list[str] = _slot_names(kind)
        if slots or kind.__dictoffset__ != 0 or "__slots__" in vars(kind):
            looks.append(functools.partial(_attributes, slots))
    if not looks:
        raise Opaque(f"cannot look into {kind.__module__}.{kind.__qualname__}")
    return looks[0] if len(looks) == 1 else functools.partial(_all_of, looks)


def _slot_names(kind: type) -> list[str]:
    names: set[str] = set()
    for base in kind.__mro__:
        declared: str | Iterable[str] = vars(base).get("__slots__", ())
        for name in (declared,) if isinstance(declared, str) else declared:
            hidden = name.startswith("__") and not name.endswith("__")
            names.add(f"_{base.__name__.lstrip('_')}{name}" if hidden else name)
    return sorted(names - {"__dict__", "__weakref__"})


def _all_of(looks: list[Look], found: Any) -> Seen:
    seen = [look(found) for look in looks]
    return " ".join(f"{name}/{len(inside)}" for name, inside in seen), [one for _, inside in seen for one in inside]


def _attributes(slots: list[str], found: Any) -> Seen:
    names = [name for name in slots if hasattr(found, name)]
    inside = [getattr(found, name) for name in names]
    own: dict[str, Any] = getattr(found, "__dict__", {})
    for name in sorted(own):
        names.append(name)
        inside.append(own[name])
    return ",".join(names), inside


def _named(found: Any) -> Seen:
    if isinstance(found, enum.Enum):
        return found.name, []
    if isinstance(found, type):
        return f"{found.__module__}.{found.__qualname__}", []
    return repr(found), []


def _function(function: types.FunctionType) -> Seen:
    code = function.__code__
    name = f"{code.co_filename}:{code.co_firstlineno} {function.__qualname__}"
    return name, [function.__closure__, function.__defaults__, function.__kwdefaults__]


def _cell(cell: types.CellType) -> Seen:
    try:
        return "full", [cell.cell_contents]
    except ValueError:
        return "empty", []


def _suspended(found: Any) -> Seen:
    """Look into a coroutine or generator: where it stands, its variables, and its stack."""
    prefix = {types.CoroutineType: "cr", types.GeneratorType: "gi", types.AsyncGeneratorType: "ag"}[type(found)]
    frame: types.FrameType | None = getattr(found, f"{prefix}_frame")
    code: types.CodeType = getattr(found, f"{prefix}_code")
    name = f"{code.co_filename}:{code.co_firstlineno} {found.__qualname__}"
    if frame is None:
        return f"{name} over", []
    local = frame.f_locals
    inside: list[Any] = [local[variable] for variable in sorted(local)]
    # Unnamed values live on the stack: the exits of open `with` blocks, iterators of loops, what is awaited.
    inside += [
        one for one in gc.get_referents(found) if one is not local and one is not frame.f_globals and one is not code
    ]
    running = getattr(found, f"{prefix}_running") if prefix == "ag" else False
    return f"{name} at {frame.f_lasti} {running} {','.join(sorted(local))}", inside


def _referents(found: Any) -> Seen:
    return "", gc.get_referents(found)


def _iterator(found: Any) -> Seen:
    # A copy, made by what `__reduce__` tells: the original must not move on.
    return "", list(found.__reduce__()[1:])


def _mapping(found: Mapping[Any, Any]) -> Seen:
    return "", [one for item in found.items() for one in item]


def _sequence(found: Iterable[Any]) -> Seen:
    return "", list(found)


def _set(found: Iterable[Any]) -> Seen:
    # Trio puts in order by age what it takes out of a set of tasks; ours are sets of values.
    members = list(found)
    if all(isinstance(member, Task) for member in members):
        return "", sorted(members, key=lambda task: task._counter)
    if all(type(member) in _VALUES or isinstance(member, (type, enum.Enum)) for member in members):
        return ",".join(sorted(map(repr, members))), []
    raise Opaque("a set whose members have no order")


def _exception(found: BaseException) -> Seen:
    # Not its text: arguments and attributes say it. Not the traceback: it is for people.
    return str(found.__suppress_context__), [found.args, found.__cause__, found.__context__]


def _nothing(found: Any) -> Seen:
    return "", ()


_BY_BASE: Final[list[tuple[tuple[type, ...], Look]]] = [
    (_LEFT_OUT, _nothing),
    ((Task,), functools.partial(_attributes, [name for name in _slot_names(Task) if name not in _COUNTED])),
    (_NAMED, _named),
    ((types.FunctionType,), _function),
    ((types.MethodType,), lambda found: ("", [found.__func__, found.__self__])),
    ((types.BuiltinFunctionType, types.MethodWrapperType), lambda found: (found.__qualname__, [found.__self__])),
    ((functools.partial,), lambda found: ("", [found.func, found.args, found.keywords])),
    ((types.CellType,), _cell),
    ((types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType), _suspended),
    (_ITERATORS, _iterator),
    ((dict, types.MappingProxyType), _mapping),
    ((list, tuple, deque), _sequence),
    ((set, frozenset), _set),
    ((BaseException,), _exception),
    ((random.Random,), lambda found: (str(hash(found.getstate())), ())),
    ((weakref.ref,), lambda found: ("", [found()])),
    ((msgspec.Raw,), lambda found: (repr(bytes(found)), ())),
    ((msgspec.Struct,), lambda found: ("", [getattr(found, name) for name in found.__struct_fields__])),
    ((int, float, str, bytes), lambda found: (repr(found), ())),
]
_MAY_HAVE_MORE: Final = (_mapping, _sequence, _set, _exception)

# A bare object has nothing but its identity, as a mark that some module compares with.
_LOOKS: Final[dict[type, tuple[str, Look]]] = {object: ("object", lambda found: (str(id(found)), ()))}
