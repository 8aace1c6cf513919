"""The first module of the plugin as one file: makes the package importable from the archive, and runs the plugin.

``python -m pyz`` stores it as ``__main__.py``. The package stands beside it as tables of modules, one compiled table for
each Python that the file was built for, and the sources for any other. A zip of modules would be simpler, but Python
keeps no compiled code for it, so that each start would compile everything and take three times as long.
"""

import itertools
import marshal
import sys

if sys.version_info < (3, 9):
    print("TCP STATES UNKNOWN: expected Python 3.9 or newer, this is %d.%d" % sys.version_info[:2])
    sys.exit(3)

import builtins  # noqa: E402 - an old Python gets the sentence above
from importlib.machinery import ModuleSpec  # noqa: E402

if sys.version_info < (3, 10):
    # All that the plugin's modules use and Python 3.9 does not have: tests/e2e/test_plugin_file.py has the list.
    plain_zip = zip

    def zip_strict(*iterables, strict=False):
        """As zip() of 3.10, but a mismatch is raised at once."""
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

    builtins.zip = zip_strict
    itertools.pairwise = pairwise


def stored(name):
    """The table *name* of the archive: by module, whether it is a package, its path and its code or source."""
    return marshal.loads(__loader__.get_data(__loader__.archive + "/" + name))  # noqa: S302 - our own file


def compiled(_path, code):
    """The code of a module from a compiled table."""
    return marshal.loads(code)  # noqa: S302 - our own file


def from_source(path, text):
    """The code of a module from its source."""
    return compile(text, path, "exec", dont_inherit=True)


try:
    if sys.version_info.releaselevel != "final":
        raise OSError("a development version: its code may be another's")
    table, code_of = stored(sys.implementation.cache_tag), compiled
except OSError:
    table, code_of = stored("source"), from_source


class Modules:
    """Finder and loader of the modules in the table, for the import system."""

    @staticmethod
    def find_spec(name, _path=None, _target=None):
        """The module's specification, None for one that is not ours."""
        return ModuleSpec(name, Modules, is_package=table[name][0]) if name in table else None

    @staticmethod
    def create_module(_spec):
        """Leave that to the import system."""

    @staticmethod
    def exec_module(module):
        """Run the module's code."""
        exec(code_of(*table[module.__name__][1:]), module.__dict__)  # noqa: S102 - what an import is


sys.meta_path.insert(0, Modules)

from exporter.nagios.check import main  # noqa: E402 - importable from here on

main()
