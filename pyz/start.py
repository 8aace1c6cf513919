"""The first module of the plugin as one file: makes the package importable from the archive, and runs the plugin.

``python -m pyz`` stores it as ``__main__.py``. It is run by Python, as of any zip, or by the first lines of the file,
and has the file's name in ``sys.argv[0]``. The package stands beside it as tables of modules: a compiled table for
each Python that the file was built for, and the sources for any other. A zip of modules would be simpler, but Python
keeps no compiled code for it, so that each start would compile everything and take three times as long.

Without annotations, which Python 3.6 would not read: it has to reach the sentence for an old Python.
"""

import marshal
import sys

if sys.version_info < (3, 9):
    print("TCP STATES UNKNOWN: expected Python 3.9 or newer, this is %d.%d" % sys.version_info[:2])
    sys.exit(3)

# importlib.machinery has them too, and imports more.
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import PathFinder

PLACES = {}  # where each member begins in this file, and how many bytes it has: ``python -m pyz`` writes that here


def member(name):
    """The bytes of one member of the archive."""
    with open(sys.argv[0], "rb") as file:
        begin, length = PLACES[name]
        file.seek(begin)
        return file.read(length)


if sys.version_info < (3, 10):
    exec(member("python39"))  # noqa: S102 - for its effects


def from_source(path, text):
    """The code of a module from its source."""
    return compile(bytes(text), path, "exec", dont_inherit=True)


def from_code(_path, code):
    """The code of a module as marshal wrote it."""
    return marshal.loads(code)


if sys.implementation.cache_tag in PLACES:
    stored, code_of = member(sys.implementation.cache_tag), from_code
else:
    import zlib

    stored, code_of = zlib.decompress(member("source"), -15), from_source
# By module: whether it is a package, its path, and where its code begins and ends, counted from the end of the table.
# marshal reads the index and leaves what stands behind it, so nothing is copied but the modules that are imported.
index, view = marshal.loads(stored), memoryview(stored)


class Modules:
    """Finder and loader of the modules in the table, for the import system."""

    @staticmethod
    def find_spec(name, _path=None, _target=None):
        """The module's specification, None for one that is not ours."""
        return ModuleSpec(name, Modules, is_package=index[name][0]) if name in index else None

    @staticmethod
    def create_module(_spec):
        """Leave that to the import system."""

    @staticmethod
    def exec_module(module):
        """Run the module's code."""
        _, path, begin, end = index[module.__name__]
        exec(code_of(path, view[len(view) - begin : len(view) - end]), module.__dict__)  # noqa: S102 - what an import is


class Packages:
    """Finder for what nobody else has found: the packages of this Python, whose places -S leaves out at the start."""

    @staticmethod
    def find_spec(name, _path=None, _target=None):
        """Add the places, once, and look there."""
        import site  # noqa: PLC0415 - what -S is to save

        sys.meta_path.remove(Packages)
        site.main()
        return PathFinder.find_spec(name)


sys.meta_path.insert(0, Modules)
# Run by the first lines of the file. Where -S is on the command line of Python, no packages are wanted.
if __spec__ is None:
    sys.meta_path.append(Packages)

from exporter.nagios.check import main  # noqa: E402 - importable from here on

main()
