"""Storms run on the same servers as the tests of the store."""

from __future__ import annotations

from store.conftest import db, server

__all__ = ["db", "server"]
