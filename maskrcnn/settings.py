"""Nested frozen dataclasses as settings: built from JSON, changed by dotted names, checked by their type hints."""

import dataclasses
import difflib
import json
import types
import typing
from typing import Any, Literal


class SettingError(ValueError):
    """An unknown setting, or a value that its type does not allow."""


def field_paths(cls: type, prefix: str = "") -> list[str]:
    """Dotted names of all fields of a dataclass and of the dataclasses in it."""
    paths = []
    for name, hint in typing.get_type_hints(cls).items():
        if dataclasses.is_dataclass(hint):
            paths += field_paths(typing.cast(type, hint), f"{prefix}{name}.")
        else:
            paths.append(prefix + name)
    return paths


def resolve(cls: type, name: str, *, optional_prefix: str) -> str:
    """The full dotted name of a setting, whose ``optional_prefix`` may be omitted.

    Raises:
        SettingError: there is none of that name; the nearest ones are named.
    """
    known = field_paths(cls)
    for candidate in (name, f"{optional_prefix}{name}"):
        if candidate in known:
            return candidate
    short = [path.removeprefix(optional_prefix) for path in known]
    near = difflib.get_close_matches(name, known + short, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else f"; known: {', '.join(known)}"
    raise SettingError(f"unknown setting {name!r}{hint}")


def replace(settings: Any, path: str, value: Any) -> Any:
    """The settings with the field at a full dotted name changed; a string is read as JSON where it is JSON.

    Raises:
        SettingError: a value of the wrong type.
    """
    head, _, rest = path.partition(".")
    if rest:
        new = replace(getattr(settings, head), rest, value)
    else:
        new = _convert(typing.get_type_hints(type(settings))[head], _parse(value), head)
    return dataclasses.replace(settings, **{head: new})


def _parse(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(value, value)


def build(cls: type, values: dict[str, Any], prefix: str = "") -> Any:
    """A dataclass from nested dicts; absent fields keep their defaults.

    Raises:
        SettingError: an unknown field, or a value of the wrong type.
    """
    hints = typing.get_type_hints(cls)
    for name in values:
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            raise SettingError(f"unknown setting {prefix + name!r}" + (f"; did you mean {near[0]}?" if near else ""))
    return cls(**{name: _convert(hints[name], value, prefix + name) for name, value in values.items()})


def _convert(hint: Any, value: Any, name: str) -> Any:
    """``value`` as the type ``hint``; JSON's lists become tuples, integers become floats where the type is float."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    wrong = SettingError(f"setting {name!r}: {value!r} is not {getattr(hint, '__name__', hint)}")
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise wrong
        return build(typing.cast(type, hint), value, f"{name}.")
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _convert(next(arg for arg in args if arg is not type(None)), value, name)
    if origin is Literal:
        if value not in args:
            raise SettingError(f"setting {name!r}: {value!r} is not one of {', '.join(map(repr, args))}")
        return value
    if origin is tuple:
        return _convert_tuple(args, value, name, wrong)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise wrong
    return value


def _convert_tuple(args: tuple[Any, ...], value: Any, name: str, wrong: SettingError) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise wrong
    variadic = len(args) == 2 and args[1] is Ellipsis
    if not variadic and len(value) != len(args):
        raise wrong
    kinds = [args[0]] * len(value) if variadic else args
    return tuple(_convert(kind, item, f"{name}[{i}]") for i, (kind, item) in enumerate(zip(kinds, value, strict=True)))
