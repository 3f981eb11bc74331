"""Forked children: what they must not share with their parent they begin anew.

A lock that another thread held at the fork is held forever in the child, where that thread is not; and two processes
cannot talk on one connection.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

_DONE: Final[WeakKeyDictionary[object, Callable[[object], None]]] = WeakKeyDictionary()


def in_children(one: T, do: Callable[[T], None]) -> T:
    """Have something done to it in each child, before anything else there; `do` must not refer to it by itself."""
    _DONE[one] = do  # type: ignore[assignment] # it is called with nothing else
    return one


def _in_child() -> None:
    for one, do in [*_DONE.items()]:
        do(one)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_in_child)
