"""Fuzzing of what is read from outside: the kernel's replies and files, the operator's words, what comes by network.

A target is a function of bytes that ends silently where the product kept its promise: only an ``ExporterError`` leaves
it, and where there is another way to the answer, the two agree. ``corpus`` has the inputs to begin with, and every one
that found something. ``make fuzz`` searches for more; the tests run all targets over the corpus and some mutants of it.
"""
