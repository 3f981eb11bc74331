"""What a booking is about, as frozen dataclasses that check themselves: hosts, event types, times, answers."""
