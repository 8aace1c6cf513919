"""Reading the kernel: ``reader`` is the only IO, everything beside it parses or derives and is pure."""
