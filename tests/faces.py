"""The faces for asyncio are written from the others: `python tests/faces.py` writes them, a test compares.

What is the same in both has one source: names, parameters, words and what each method does. What differs is `await`.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "nxsched"

FACES = {
    "scheduler.py": "async_scheduler.py",
    "tenant.py": "async_tenant.py",
    "self_service.py": "async_self_service.py",
    "outbox.py": "async_outbox.py",
    "webhooks.py": "async_webhooks.py",
    "messages.py": "async_messages.py",
    "preferences.py": "async_preferences.py",
}

_NAMES = {
    "Tenant": "AsyncTenant",
    "Scheduler": "AsyncScheduler",
    "ManagedBooking": "AsyncManagedBooking",
    "AttendeeBookings": "AsyncAttendeeBookings",
    "Outbox": "AsyncOutbox",
    "Webhooks": "AsyncWebhooks",
    "Messages": "AsyncMessages",
    "Preferences": "AsyncPreferences",
    "Relay": "AsyncRelay",
    "Units": "AsyncUnits",
    "Joined": "AsyncJoined",
    "Engine": "AsyncEngine",
    "units_on": "async_units_on",
    "run_upgrade": "async_run_upgrade",
    "start_migrated": "async_start_migrated",
    "connect.made_or_checked": "async_connect.made_or_checked",
    "connect.engine": "async_connect.engine",
    "for_asyncio=False": "for_asyncio=True",
    "def __enter__": "async def __aenter__",
    "__exit__": "__aexit__",
}
_IMPORTS = {
    "from sqlalchemy import URL, AsyncEngine": "from sqlalchemy import URL",
    "import connect, migrate": (
        "import async_connect, connect, migrate\nfrom nxsched.store.async_connect import AsyncEngine"
    ),
    "upgrading import async_run_upgrade": "async_unit import async_run_upgrade",
    "relay.relay import": "relay.async_relay import",
    "deliver: Callable[[OutboxEvent], None]": "deliver: Callable[[OutboxEvent], Awaitable[None]]",
    "| WebhookDelivery": "| AsyncWebhookDelivery",
    "import WebhookDelivery": "import AsyncWebhookDelivery",
    "collections.abc import Callable,": "collections.abc import Awaitable, Callable,",
}

_WAITS = re.compile(
    r"(self\._(?:units|worker)\.(?:run|read|write|close)\(|self\.(?:_write|_page|_look_once|tenants|close)\("
    r"|found\.details\(|self\.render\(|Tenant\(self\._worker, one\.id\)\.sweep\(|embedded\.start_migrated\("
    r"|\brun_upgrade\(|\b(?:self\._(?:worker\.)?)?engine\.dispose\()"
)
"""The calls that go to the database."""

_HEAD = "# Written by tests/faces.py from {source}: change that, and run `make fix`.\n"


def face(source: str) -> str:
    """The face for asyncio of a module, before it is formatted."""
    words = (SOURCE / source).read_text(encoding="utf-8")
    lines = words.splitlines(keepends=True)
    for node in ast.walk(ast.parse(words)):
        if isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and _WAITS.search(ast.get_source_segment(words, method) or ""):
                    lines[method.lineno - 1] = lines[method.lineno - 1].replace("def ", "async def ", 1)
    found = _WAITS.sub(r"await \1", "".join(lines))
    found = re.sub(r"\b(" + "|".join(_NAMES) + r")\b", lambda match: _NAMES[match[1]], found)
    for module in ("self_service", "tenant", "outbox", "webhooks", "messages", "preferences"):
        found = found.replace(f"nxsched.{module} import", f"nxsched.async_{module} import")
    found = re.sub(
        r"from nxsched\.service\.unit import (.*?), Async(.*)\n",
        r"from nxsched.service.async_unit import Async\2\nfrom nxsched.service.unit import \1\n",
        found,
    )
    for before, after in _IMPORTS.items():
        found = found.replace(before, after)
    found = found.replace("between threads", "between tasks")
    return found.replace('."""\n', ', with asyncio."""\n', 1)


def formatted(source: str) -> str:
    """The face as it stands in the package."""
    ruff = [str(Path(sys.executable).parent / "ruff")]
    name = str(SOURCE / FACES[source])
    words = _HEAD.format(source=source) + face(source)
    for command in (["check", "--fix-only", "--quiet"], ["format"]):
        done = subprocess.run(
            [*ruff, *command, "--stdin-filename", name, "-"], input=words, capture_output=True, text=True, check=True
        )
        words = done.stdout
    return words


def main() -> None:
    """Write the faces."""
    for source, target in FACES.items():
        (SOURCE / target).write_text(formatted(source), encoding="utf-8")


if __name__ == "__main__":
    main()
