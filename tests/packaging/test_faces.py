"""The faces for asyncio are the others, awaited: same names, same parameters, same words."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

import faces
import nxsched

PAIRS = (
    "Scheduler",
    "Tenant",
    "ManagedBooking",
    "AttendeeBookings",
    "Outbox",
    "Relay",
    "Webhooks",
    "Messages",
    "Preferences",
)


@pytest.mark.parametrize("source", faces.FACES)
def test_the_faces_are_those_that_are_written_from_the_others(source: str) -> None:
    written = (faces.SOURCE / faces.FACES[source]).read_text(encoding="utf-8")
    assert written == faces.formatted(source), "run make fix"


def public(face: type) -> dict[str, Any]:
    """What a face has to offer, by name."""
    renamed = {"__aenter__": "__enter__", "__aexit__": "__exit__"}
    names = [name for name in vars(face) if not name.startswith("_") or name in {"__init__", "__enter__", "__exit__"}]
    return {renamed.get(name, name): vars(face)[name] for name in [*names, *(renamed.keys() & vars(face).keys())]}


def plain(found: Any) -> Callable[..., object]:  # noqa: ANN401 - whatever a class holds
    """The function behind a property or a class method."""
    if isinstance(found, property):
        assert found.fget is not None
        return found.fget
    function: Callable[..., object] = found.__func__ if isinstance(found, classmethod) else found
    return function


def without_async(words: object) -> str:
    found = re.sub(r"Awaitable\[(\w+)\]", r"\1", str(words or "").replace("Async", "").replace("async_", ""))
    for theirs, ours in (
        ("between tasks", "between threads"),
        ("in tasks", "in threads"),
        ("asyncio.Event", "threading.Event"),
        (", with asyncio:", ":"),
    ):
        found = found.replace(theirs, ours)
    return found


@pytest.mark.parametrize("name", PAIRS)
def test_both_faces_have_the_same_names_parameters_and_words(name: str) -> None:
    face, async_face = getattr(nxsched, name), getattr(nxsched, f"Async{name}")
    assert without_async(async_face.__doc__) == face.__doc__
    one, other = public(face), public(async_face)
    assert one.keys() == other.keys()
    for method, found in one.items():
        twin = plain(other[method])
        assert without_async(inspect.signature(twin)) == str(inspect.signature(plain(found))), method
        assert without_async(twin.__doc__) == (plain(found).__doc__ or ""), method


@pytest.mark.parametrize("name", PAIRS)
def test_all_that_goes_to_the_database_is_awaited_and_nothing_else(name: str) -> None:
    waits = {
        method
        for method, found in public(getattr(nxsched, f"Async{name}")).items()
        if inspect.iscoroutinefunction(plain(found))
    }
    stays = {
        "__init__",
        "id",
        "engine",
        "for_attendee",
        "for_caller",
        "outbox",
        "relay",
        "webhooks",
        "messages",
        "preferences",
        "with_token",
        "preview_template",
        "recipients",
    }
    assert waits == public(getattr(nxsched, name)).keys() - stays
