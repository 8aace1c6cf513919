"""``NamedTuple`` as ``typing`` has it, without ``typing``: the plugin's values are made of it, and it starts often.

``typing`` and the classes that its NamedTuple compiles would be a quarter of the plugin's whole run. To a type checker
it is ``typing.NamedTuple``; at run time it has of that what is used: fields, defaults, ``_asdict``, ``_replace``. The
constructor of a class is compiled once many of its values are made, as they are in the daemon.
"""

from __future__ import annotations

from _collections import _tuplegetter  # type: ignore[import-not-found]  # what collections.namedtuple reads fields with, in C

TYPE_CHECKING = False  # type checkers take it for true; importing it from typing is what is avoided here

if TYPE_CHECKING:
    from typing import NamedTuple
else:

    class _Fields(type):
        """Turns a class's annotations into the fields of a tuple."""

        def __new__(mcs, name, bases, namespace):
            fields = tuple(namespace.get("__annotations__", ()))
            namespace["_fields"] = fields
            namespace["_defaults"] = {field: namespace.pop(field) for field in fields if field in namespace}
            namespace |= {field: _tuplegetter(position, None) for position, field in enumerate(fields)}
            return super().__new__(mcs, name, bases, {"__slots__": ()} | namespace)

    _COMPILED_FROM = 50  # values: compiling takes as long as making about twenty of them

    _made = {}  # values by class, of those that are not compiled

    def _compile(cls):
        """Give the class a constructor that takes its fields by name itself: five times faster."""
        values = ", ".join(cls._fields)
        parameters = ", ".join(f"{it}=_defaults[{it!r}]" if it in cls._defaults else it for it in cls._fields)
        code = f"lambda _cls, {parameters}: _new(_cls, ({values},))"
        # The names of a class's fields are all that is in it.
        cls.__new__ = eval(code, {"_new": tuple.__new__, "_defaults": cls._defaults})  # noqa: S307 - see above

    class NamedTuple(tuple, metaclass=_Fields):
        """An immutable value with named fields."""

        __slots__ = ()

        def __new__(cls, *values, **named):
            """Take the fields by position, then by name, then from the defaults."""
            fields = cls._fields
            _made[cls] = made = _made.get(cls, 0) + 1
            if made == _COMPILED_FROM:
                _compile(cls)
            if named or len(values) != len(fields):
                given = cls._defaults | dict(zip(fields, values, strict=False)) | named
                twice = named.keys() & set(fields[: len(values)])
                if twice or len(values) > len(fields) or given.keys() != set(fields):
                    got = f"{len(values)} values and {sorted(named)}"
                    raise TypeError(f"{cls.__name__} has the fields {', '.join(fields)}: got {got}")
                values = [given[field] for field in fields]
            return tuple.__new__(cls, values)

        def __getnewargs__(self):
            """Copy and pickle field by field."""
            return tuple(self)

        def _asdict(self):
            """The values by field."""
            return dict(zip(self._fields, self, strict=True))

        def _replace(self, **named):
            """Copy it with other values in some fields."""
            values = [named.pop(field, value) for field, value in zip(self._fields, self, strict=True)]
            if named:
                raise TypeError(f"{type(self).__name__} has no field {', '.join(named)}")
            return tuple.__new__(type(self), values)

        def __repr__(self):
            fields = ", ".join(f"{field}={value!r}" for field, value in self._asdict().items())
            return f"{type(self).__name__}({fields})"


__all__ = ["TYPE_CHECKING", "NamedTuple"]
