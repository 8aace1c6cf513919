"""The polling loop: when to sample, how much it may cost, and what the last minute saw."""
