"""``Enum`` and ``IntEnum`` as ``enum`` has them, without ``enum``: the plugin starts often, and that is a third of it.

To a type checker they are enum's; at run time they have of those what is used: members in order, by name and by value.
Like ``record`` it is for the modules that the plugin imports.
"""

from __future__ import annotations

from exporter.record import TYPE_CHECKING

if TYPE_CHECKING:
    from enum import Enum, IntEnum
else:

    class _Members(type):
        """Turns the public values of a class's body into its instances."""

        def __new__(mcs, name, bases, namespace):
            values = {key: it for key, it in namespace.items() if not key.startswith("_") and not callable(it)}
            rest = {key: it for key, it in namespace.items() if key not in values}
            members = {}
            cls = super().__new__(mcs, name, bases, {"__members__": members} | rest)
            for key, value in values.items():
                member = cls.__new__(cls, *(value if isinstance(value, tuple) else (value,)))
                member.__dict__ |= {"name": key, "value": member.__dict__.get("_value_", value)}
                members[key] = member
                setattr(cls, key, member)
            return cls

        def __call__(cls, value):
            """The member of this value."""
            for member in cls:
                if member.value == value:
                    return member
            raise ValueError(f"{value!r} is not a valid {cls.__qualname__}")

        def __iter__(cls):
            return iter(cls.__members__.values())

        def __len__(cls):
            return len(cls.__members__)

        def __contains__(cls, member):
            return any(member is it for it in cls)

        def __getitem__(cls, name):
            return cls.__members__[name]

    class Enum(metaclass=_Members):
        """One of a fixed set of values, each equal only to itself."""

        def __new__(cls, _value):
            """Make a member; enum does so once for each."""
            return object.__new__(cls)

        def __repr__(self):
            return f"<{type(self).__name__}.{self.name}: {self.value!r}>"

        def __str__(self):
            return f"{type(self).__name__}.{self.name}"

        def __reduce__(self):
            """Copies and pickles are the member itself."""
            return type(self), (self.value,)

    class IntEnum(Enum, int):
        """One of a fixed set of integers."""

        def __new__(cls, value):
            """Make a member; enum does so once for each."""
            return int.__new__(cls, value)

        __str__ = int.__repr__


__all__ = ["Enum", "IntEnum"]
