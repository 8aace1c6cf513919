"""Compiles a table of sources for the Python that runs it; by ``pyz.__main__`` as a program, in each of them.

From standard input to standard output, both as ``marshal`` writes them. It runs on Python 3.9 as well, without the rest
of this package.
"""

import marshal
import sys

sources = marshal.loads(sys.stdin.buffer.read())
table = {
    name: (is_package, path, marshal.dumps(compile(text, path, "exec", dont_inherit=True, optimize=2)))
    for name, (is_package, path, text) in sources.items()
}
sys.stdout.buffer.write(marshal.dumps((sys.implementation.cache_tag, marshal.dumps(table, 2)), 2))
