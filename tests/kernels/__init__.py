"""Real kernels, booted: the same checks on every kernel that Debian serves, under qemu without KVM.

``apt`` downloads, ``image`` makes what a guest boots from, ``machine`` boots it, and ``guest`` has the checks, which run
inside as one process of pytest. ``report`` turns what the guests found into docs/kernels.md. ``python -m tests.kernels``
does all of it.
"""
