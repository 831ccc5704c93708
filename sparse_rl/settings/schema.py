"""How a frozen dataclass is a schema: fields with ranges, and one clear error for what does not fit."""

import dataclasses
import difflib
import functools
import sys
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from sparse_rl.extensions import OwnCode


class ConfigError(ValueError):
    """A setting is unknown, of the wrong type or out of range."""


def limited(allowed: str, test: Any, **default: Any) -> Any:
    """A dataclass field with a range: ``allowed`` is its description for people."""
    return dataclasses.field(metadata={"allowed": allowed, "test": test}, **default)


def at_least(low: float, **default: Any) -> Any:
    """A field with a lower bound."""
    return limited(f">= {low}", lambda v: v >= low, **default)


def positive(**default: Any) -> Any:
    """A field above zero."""
    return limited("> 0", lambda v: v > 0, **default)


def share(**default: Any) -> Any:
    """A field in [0, 1)."""
    return limited("0 <= value < 1", lambda v: 0 <= v < 1, **default)


def later(field: Any) -> Any:
    """A field that came after runs without it were recorded: at its default, which changes nothing, it
    is no part of a run's identity (:func:`decisive`)."""
    return dataclasses.field(default=field.default, metadata={**field.metadata, "later": True})


def decisive(settings: Any) -> dict[str, Any]:
    """The fields of a frozen dataclass that make a run what it is, one level deep."""
    return {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if not field.metadata.get("later") or getattr(settings, field.name) != field.default
    }


def check_multiple(key: str, value: int, of: str, unit: int) -> None:
    """Raise :class:`ConfigError`, naming the nearest multiples, if ``unit`` does not divide it."""
    if value % unit:
        below, above = value // unit * unit, (value // unit + 1) * unit
        near = f"{below} or {above}" if below else f"{above}"
        raise ConfigError(f"{key}={value} must be a multiple of {of} (= {unit}); the nearest are {near}")


MOST = 2**53
"""Whole numbers from here on are no longer all numbers of float64."""


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value is of the annotated type; whole numbers are numbers, infinities are not."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(fits(value, option) for option in get_args(hint))
    if get_origin(hint) is Literal:
        return isinstance(value, (str, int)) and value in get_args(hint)
    if get_origin(hint) is list:
        return isinstance(value, list) and all(fits(one, get_args(hint)[0]) for one in value)
    if get_origin(hint) is dict:
        kinds = get_args(hint)
        return isinstance(value, dict) and all(
            fits(name, kinds[0]) and fits(one, kinds[1]) for name, one in value.items()
        )
    if hint is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and abs(value) <= sys.float_info.max
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def whole(value: Any) -> Any:
    """A number with nothing behind its point as a whole one, as people write 1e6; all else as it is."""
    exact = isinstance(value, float) and value.is_integer() and abs(value) < MOST
    return int(value) if exact else value


def rounded(value: float) -> float:
    """A number without what arithmetic leaves behind it, so that 3 · 0.1 and 0.3 are one setting, one
    run and one point of a plot: 12 significant digits, and 0 below 1e-15."""
    return 0.0 if abs(value) < 1e-15 else float(f"{value:.12g}")


def _is_number(value: Any, hint: Any) -> bool:
    """Whether a value that fits its field is one of its numbers, which may be missing or whole."""
    numbers = hint is float or float in get_args(hint)
    return numbers and isinstance(value, (int, float))


WORDS: dict[Any, str] = {
    OwnCode: "my_package:name of your own",
    int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null",
}  # fmt: skip


def describe(hint: Any) -> str:
    """What a type allows, in words."""
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(describe(option) for option in get_args(hint))
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    if get_origin(hint) is list:
        return f"a list, each {describe(get_args(hint)[0])}"
    if get_origin(hint) is dict:
        return f"names, each with {describe(get_args(hint)[1])}"
    return str(WORDS.get(hint, hint.__name__))


def unknown(what: str, name: str, known: list[str]) -> ConfigError:
    """The error for a name that nobody knows, with the nearest known ones first."""
    near = difflib.get_close_matches(name, sorted(set(known)), n=3)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return ConfigError(f"unknown {what} {name!r}.{hint} Allowed: {', '.join(sorted(set(known)))}")


@functools.cache
def fields_of(cls: type) -> dict[str, tuple[Any, dataclasses.Field[Any]]]:
    """Name → type and field: looked up once, for grids of many thousand runs."""
    hints = get_type_hints(cls)
    return {field.name: (hints[field.name], field) for field in dataclasses.fields(cls)}


def build(cls: type, data: Mapping[str, Any], where: str) -> Any:
    """Check ``data`` against the dataclass ``cls`` and build it.

    Raises:
        ConfigError: the first key below ``where`` that is unknown, missing, of a wrong type or out
            of range.
    """
    fields = fields_of(cls)
    prefix = f"{where}." if where else ""
    for key in data:
        if key not in fields:
            raise unknown("key", prefix + str(key), [prefix + name for name in fields])
    values = {}
    for name, (hint, field) in fields.items():
        if dataclasses.is_dataclass(hint):
            given = data.get(name) or {}
            schema: type = hint  # type: ignore[assignment]
            built = isinstance(given, schema)
            values[name] = given if built else build(schema, given, prefix + name)
            continue
        if name not in data:
            if field.default is field.default_factory is dataclasses.MISSING:
                raise ConfigError(f"{prefix}{name} is missing; give {describe(hint)}")
            continue
        value = data[name] if fits(data[name], hint) else whole(data[name])
        if not fits(value, hint):
            raise ConfigError(f"{prefix}{name}={value!r} is not allowed; give {describe(hint)}")
        test = field.metadata.get("test")
        if isinstance(value, int) and abs(value) >= MOST:
            raise ConfigError(f"{prefix}{name}={value!r} is out of range; allowed: below 2**53")
        # 1 and 1.0, 0.3 and 3 · 0.1 are the same setting: they must give the same run id.
        kept = rounded(value) if _is_number(value, hint) else value
        if test and value is not None and not test(kept):
            allowed = field.metadata["allowed"]
            raise ConfigError(f"{prefix}{name}={value!r} is out of range; allowed: {allowed}")
        values[name] = kept
    return cls(**values)
