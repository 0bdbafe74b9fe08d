"""From a node of the configuration to the object that it describes.

A node names its target, a class or function, under ``_target_``; its other keys are the target's
keyword-only parameters, and all of them: a value stands in YAML, never as a default in Python.
The parameters' annotations say what a value may be (``PositiveInt``, ``Literal[...]``), so a
mistyped key or an impossible value is found here, before anything runs, and reported by its full
name. What the configuration cannot hold (the ops table, a generator) the caller adds by keyword.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from convexp.errors import UserError, choices

TARGET = "_target_"


def build(node: Mapping[str, Any], path: str, **runtime: Any) -> Any:
    """Call the target of a node.

    Args:
        node: the node, resolved: plain values, lists and mappings.
        path: its full name in the configuration, for messages.
        **runtime: the parameters that do not stand in the configuration.

    Returns:
        What the target returns.

    Raises:
        UserError: a key is unknown or missing, a value has the wrong type, or the target refuses
            the values by a ValueError or an OSError.
    """
    target = bind(node, path, **runtime)
    try:
        return target()
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: {error}") from error


def bind(node: Mapping[str, Any], path: str, **runtime: Any) -> partial[Any]:
    """The target of a node with its values bound to it, to be called with what is left.

    Args and errors as `build`'s, but that nothing is called: positional parameters and whatever
    keywords ``runtime`` announces with the value `LATER` remain open.
    """
    return bind_to(_target(node, path), node, path, **runtime)


def parameters(node: Mapping[str, Any], path: str) -> list[str]:
    """The names of the keyword-only parameters of a node's target.

    Raises:
        UserError: the node names no target, or one that cannot be imported.
    """
    return list(_keyword_only(_target(node, path)))


def bind_to(
    target: Callable[..., Any], node: Mapping[str, Any], path: str, **runtime: Any
) -> partial[Any]:
    """`bind` for a target that the node does not name."""
    values = {str(key): value for key, value in node.items() if key != TARGET}
    known = {k: p for k, p in _keyword_only(target).items() if k not in runtime}
    for key in values:
        if key not in known:
            raise UserError(f"{path} has no key '{key}'; {choices(key, known)}")
    for name, parameter in known.items():
        if name not in values and parameter.default is inspect.Parameter.empty:
            raise UserError(f"{path} lacks the key '{name}'")
    hints = get_type_hints(
        target.__init__ if inspect.isclass(target) else target, include_extras=True
    )
    for key, value in values.items():
        check(value, hints.get(key, Any), f"{path}.{key}")
    given = {name: value for name, value in runtime.items() if value is not LATER}
    return partial(target, **values, **given)


LATER = object()
"""Stands for a runtime parameter that is given when the bound target is called."""


def check(value: Any, annotation: Any, path: str) -> None:
    """Is this value of the annotated type?

    Raises:
        UserError: it is not; the sentence names the value by its path.
    """
    try:
        TypeAdapter(annotation).validate_python(value, strict=True)
    except ValidationError as error:
        details = error.errors()
        # Of a union (``int | None``) pydantic lists each member's complaint; the first is that
        # of the type that the value is usually meant for.
        where = _place(value, details[0]["loc"])
        if details[0]["type"] == "missing":
            raise UserError(f"{path}{where} lacks the key '{details[0]['loc'][-1]}'") from error
        message = details[0]["msg"][0].lower() + details[0]["msg"][1:]
        raise UserError(f"{path}{where} = {details[0]['input']!r}: {message}") from error


def _place(value: Any, loc: tuple[int | str, ...]) -> str:
    """Where in a value a complaint is about: ``[2]``, ``.stage2.filters``."""
    where = ""
    for part in loc:
        if isinstance(part, int) and isinstance(value, list):
            where, value = f"{where}[{part}]", value[part] if part < len(value) else None
        elif isinstance(value, Mapping) and part in value:
            where, value = f"{where}.{part}", value[part]
    return where


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested configuration as ``{"model.num_filters": 32, ...}``; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _keyword_only(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return {
        name: parameter
        for name, parameter in inspect.signature(target).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def _target(node: Mapping[str, Any], path: str) -> Callable[..., Any]:
    """The object that a node's dotted name stands for, its module imported."""
    if not isinstance(node, Mapping) or TARGET not in node:
        raise UserError(f"{path} has no {TARGET}, the name of what is to be built")
    name = node[TARGET]
    try:
        module, _, attribute = name.rpartition(".")
        # An attribute of the module, even where a submodule has the same name.
        target: Callable[..., Any] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{path}.{TARGET} = {name!r} cannot be imported: {error}") from error
    if not callable(target):
        raise UserError(f"{path}.{TARGET} = {name!r} is no class or function")
    return target
