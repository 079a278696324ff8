"""What a person sees when several tasks fail: one plain exception wherever there is one."""

from __future__ import annotations

from typing import cast

__all__ = ["members_of", "sole"]


def members_of(error: BaseException) -> tuple[BaseException, ...]:
    """Return what an exception group holds; nothing for any other exception."""
    if not isinstance(error, BaseExceptionGroup):
        return ()
    return cast("BaseExceptionGroup[BaseException]", error).exceptions


def sole(error: BaseException) -> BaseException:
    """Return the only exception inside a group of groups; anything else as it is."""
    while len(members := members_of(error)) == 1:
        error = members[0]
    return error
