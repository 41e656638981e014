"""Nested frozen dataclasses as settings: built from JSON, changed by dotted names, checked by their type hints.

What a type does not say is a rule beside it: ``Annotated[int, between(1, 100)]``.
"""

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal

from maskrcnn.input_files import parse_json

NOUNS = {int: "an integer", float: "a number", bool: "true or false", str: "text"}
SHOWN = 60  # characters of a wrong value in an error


class SettingError(ValueError):
    """An unknown setting, or a value that its type does not allow."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """A condition on a value of the right type, and how an error states it."""

    holds: Callable[[Any], bool]
    text: str


def between(low: float, high: float) -> Rule:
    """A number's range, both ends included."""
    return Rule(lambda value: low <= value <= high, f"from {low} to {high}")


def field_paths(cls: type, prefix: str = "") -> list[str]:
    """Dotted names of all fields of a dataclass and of the dataclasses in it."""
    paths = []
    for name, hint in _hints(cls).items():
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
    known, name = field_paths(cls), str(name)
    for candidate in (name, f"{optional_prefix}{name}"):
        if candidate in known:
            return candidate
    if not name.startswith(optional_prefix):
        known = [path.removeprefix(optional_prefix) for path in known]
    near = difflib.get_close_matches(name[:SHOWN], known, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else "; config.json of any model folder has all of them"
    raise SettingError(f"unknown setting {_shown(name)}{hint}")


def hint_of(cls: type, path: str) -> Any:
    """The type hint, with its rules, of the field at a full dotted name."""
    head, _, rest = path.partition(".")
    return hint_of(_hints(cls)[head], rest) if rest else _hints(cls)[head]


def replace(settings: Any, path: str, value: Any) -> Any:
    """The settings with the field at a full dotted name changed; a string is read as JSON where it is JSON.

    Raises:
        SettingError: a value of the wrong type or out of range.
    """
    head, _, rest = path.partition(".")
    if rest:
        new = replace(getattr(settings, head), rest, value)
    else:
        new = convert(_hints(type(settings))[head], _parse(value), head)
    return dataclasses.replace(settings, **{head: new})


def _parse(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(value, value)


def build(cls: type, values: dict[str, Any], prefix: str = "") -> Any:
    """A dataclass from nested dicts; absent fields keep their defaults.

    Raises:
        SettingError: an unknown or missing field, or a value of the wrong type or out of range.
    """
    hints = _hints(cls)
    for name in values:
        if name not in hints:
            near = difflib.get_close_matches(name[:SHOWN], hints, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SettingError(f"unknown setting {_shown(prefix + name)}{hint}")
    for field in dataclasses.fields(cls):
        if {field.default, field.default_factory} == {dataclasses.MISSING} and field.name not in values:
            raise SettingError(f"{prefix}{field.name} is missing")
    return cls(**{name: convert(hints[name], value, prefix + name) for name, value in values.items()})


def convert(hint: Any, value: Any, name: str) -> Any:
    """``value`` as the type ``hint``; JSON's lists become tuples, integers become floats where the type is float.

    Raises:
        SettingError: of another type, out of range, or a float that is not finite; ``name`` begins its text.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else convert(without_none(hint), value, name)
    wrong = SettingError(f"{name}: {_shown(value)} is not {describe(hint)}")
    if origin is Annotated:
        value = convert(args[0], value, name)
        if not all(rule.holds(value) for rule in args[1:]):
            raise wrong
        return value
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return build(typing.cast(type, hint), value, f"{name}.")
    if origin is tuple and isinstance(value, list | tuple):
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else args
        if len(kinds) != len(value):
            raise wrong
        return tuple(convert(kind, value[i], f"{name}[{i}]") for i, kind in enumerate(kinds))
    return _convert_scalar(hint, value, wrong)


def _convert_scalar(hint: Any, value: Any, wrong: SettingError) -> Any:
    if typing.get_origin(hint) is Literal:
        if not any(value == arg and type(value) is type(arg) for arg in typing.get_args(hint)):
            raise wrong
    elif hint is float and type(value) is int and abs(value) < 2**63:
        return float(value)
    elif type(value) is not hint or (hint is float and not math.isfinite(value)):
        raise wrong
    return value


def parse_text(hint: Any, text: str) -> Any:
    """The value that the text of a flag stands for.

    Raises:
        SettingError: not a value of the type ``hint``.
    """
    kind = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
    try:
        return convert(hint, kind(text) if kind in (int, float) else text, "")
    except ValueError as error:
        raise SettingError(f"{_shown(text)} is not {describe(hint)}") from error


def item_type(hint: Any) -> tuple[Any, bool]:
    """The type of a field without its None or, if it is a list, of its items; and whether it is one."""
    hint = without_none(hint)
    items = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
    return (typing.get_args(items)[0], True) if typing.get_origin(items) is tuple else (hint, False)


def without_none(hint: Any) -> Any:
    """The type of an optional field without its None."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return next(arg for arg in typing.get_args(hint) if arg is not type(None))
    return hint


def describe(hint: Any) -> str:
    """A type with its rules in words: ``an integer from 1 to 100``."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return " ".join([describe(args[0]), *(rule.text for rule in args[1:])])
    if origin is Literal:
        return f"one of {', '.join(map(str, args))}"
    if origin is tuple:
        return "a list" if args[-1] is Ellipsis else f"a list of {len(args)}"
    return NOUNS.get(hint, "an object")


def _shown(value: Any) -> str:
    """A value for an error message, which may come from a hostile file: short and printable."""
    try:
        text = ascii(value) if not isinstance(value, str) else repr(value)
    except (ValueError, RecursionError):  # of more than 4,300 digits; a list in itself
        text = f"an unreadable {type(value).__name__}"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)
