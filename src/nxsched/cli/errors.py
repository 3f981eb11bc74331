"""Errors as a person at a terminal reads them: one line that names what they have written."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from nxsched.errors import InvalidInput, NxschedError

_OPTIONS = {
    "database": "--url",
    "to": "--to",
    "app_role": "--app-role",
    "worker_role": "--worker-role",
    "redis": "--redis",
    "worker_url": "--worker-url",
    "tenant": "--tenant",
    "booking": "--booking",
    "id": "ID",
    "url": "--url",
}
"""What a person has written, for what the error of a value names."""


@contextmanager
def one_line_errors(**options: str) -> Iterator[None]:
    """End with status 2 for what nxsched raises on purpose; `options` are names that a command has for fields."""
    names = {**_OPTIONS, **options}
    try:
        yield
    except NxschedError as error:
        if isinstance(error, InvalidInput) and (option := names.get(error.field.partition("[")[0])):
            error = InvalidInput(field=option, reason=error.reason)
        click.echo(" ".join(str(error).split()), err=True)
        sys.exit(2)
