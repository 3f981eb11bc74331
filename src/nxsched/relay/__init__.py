"""Deliver the events of the outbox: leased, in the order of each booking, at least once."""
