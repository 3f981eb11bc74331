"""The command line: `nxsched slots`, `migrate`, `doctor`, `outbox`, `relay`, `sweep`, `torture`; it is an extra."""

from __future__ import annotations

import sys
from io import TextIOWrapper

from nxsched.errors import MissingExtra

try:
    import click
    import rich  # noqa: F401 - asked for here, so that its absence is named here
except ModuleNotFoundError as _missing:
    raise MissingExtra(what="The command line", extra="cli") from _missing

from nxsched import __version__
from nxsched.cli.database import doctor, migrate
from nxsched.cli.outbox import outbox
from nxsched.cli.relay import relay
from nxsched.cli.slots import slots
from nxsched.cli.sweep import sweep
from nxsched.cli.torture import torture


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nxsched")
def main() -> None:
    """Compute the free slots of people, rooms and teams, and look after the database of bookings.

    \b
    Example:
      nxsched slots examples/clinic.json --timezone Europe/London
    """  # noqa: D301 - click ends the wrapping of lines at a backspace
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a name that the terminal has no letters for is no reason to fail
            stream.reconfigure(errors="backslashreplace")


main.add_command(slots)
main.add_command(migrate)
main.add_command(doctor)
main.add_command(outbox)
main.add_command(relay)
main.add_command(sweep)
main.add_command(torture)
