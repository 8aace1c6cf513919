"""Real kernels, booted: the same checks on every kernel that Debian serves, under qemu without KVM.

``apt`` downloads, ``image`` makes what a guest boots from, and ``machine`` boots it. ``guest`` has the checks, which
run inside the guest as one process of pytest. ``report`` renders what the guests found, for the terminal and for
docs/kernels.md. ``python -m tests.kernels`` does all of it.
"""
