"""The pure slot calculator: no database, no clock, no input or output."""

from nxsched.slots.answer import Slots
from nxsched.slots.calculator import find_slots
from nxsched.slots.explain import explain
from nxsched.slots.query import SlotQuery

__all__ = ["SlotQuery", "Slots", "explain", "find_slots"]
