"""The first module of the plugin as one file: makes the package importable from the archive, and runs the plugin.

``python -m pyz`` stores it as ``__main__.py``. The package stands beside it as tables of modules: a compiled table for
each Python that the file was built for, and the sources for any other. A zip of modules would be simpler, but Python
keeps no compiled code for it, so that each start would compile everything and take three times as long.

Without annotations, which Python 3.6 would not read: it has to reach the sentence for an old Python.
"""

import marshal
import sys

if sys.version_info < (3, 9):
    print("TCP STATES UNKNOWN: expected Python 3.9 or newer, this is %d.%d" % sys.version_info[:2])
    sys.exit(3)

from importlib.machinery import ModuleSpec

if sys.version_info < (3, 10):
    import python39  # noqa: F401 - for its effects


def stored(name):
    """The table *name* of the archive: by module, whether it is a package, its path and its code or source."""
    return marshal.loads(__loader__.get_data(__loader__.archive + "/" + name))


def compiled(_path, code):
    """The code of a module from a compiled table."""
    return marshal.loads(code)


def from_source(path, text):
    """The code of a module from its source."""
    return compile(text, path, "exec", dont_inherit=True)


try:
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
