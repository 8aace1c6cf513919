"""What the plugin's modules use and Python 3.9 does not have, put in its place; importing this module is its effect.

``start`` imports it on Python 3.9 alone. Nothing can stand in for newer syntax or for a new method of a built-in type:
the plugin's modules do without, and ``tests/e2e/test_plugin_file.py`` proves it.
"""

import builtins
import itertools

plain_zip = zip


def zip_strict(*iterables, strict=False):
    """As zip() of 3.10, except that with *strict* a mismatch is raised at once and not at the end."""
    if not strict:
        return plain_zip(*iterables)
    columns = [tuple(iterable) for iterable in iterables]
    if len({len(column) for column in columns}) > 1:
        raise ValueError("zip() arguments have different lengths")
    return plain_zip(*columns)


def pairwise(iterable):
    """As itertools.pairwise() of 3.10."""
    items = tuple(iterable)
    return plain_zip(items, items[1:])


builtins.zip = zip_strict  # type: ignore[assignment,misc]  # the same by its calls
itertools.pairwise = pairwise
