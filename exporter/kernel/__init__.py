"""Reading the kernel: ``reader`` is the only IO, everything beside it parses or derives and is pure."""

READERS = ("auto", "netlink", "procfs", "psutil")
"""Who may be asked to count the sockets; ``auto`` is the best that works."""
