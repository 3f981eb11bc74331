"""Secrets, and ids: UUIDs of version 7, which lie together on disk (RFC 9562, 5.7). No order is read from one."""

from __future__ import annotations

import base64
import os
import secrets
import time


def new_id() -> str:
    """A new one: 48 bits of milliseconds, then 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    digits = f"{value:032x}"  # a tenth of the time of a UUID object
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def new_nonce() -> str:
    """A secret of 128 bits that stands with a booking; links that were made with it end when it changes."""
    return secrets.token_hex(16)


def new_webhook_secret() -> str:
    """A new secret for an endpoint: 256 random bits, written as Standard Webhooks has it."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
