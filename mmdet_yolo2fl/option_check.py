"""Options of registered parts, compared with the annotations of their constructors.

A config is written by hand, and MMEngine passes it on as it is: a text in place of a number would
fail somewhere inside, with a message that names neither the part nor the option.
"""

import functools
import inspect
import math
import numbers
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmengine.registry import MODELS, Registry

# Options that go to MMCV, which does not say what it did not find.
LAYERS = ('conv_cfg', 'norm_cfg', 'act_cfg')
PACKAGE = __name__.partition('.')[0]


class OptionError(ValueError, TypeError):
    """An option of a wrong type: a ``ValueError``, as the parts document it, and Python's own."""


def check_options_of(*registries: Registry) -> None:
    """Let every part of this package in some registries check the types of its options.

    Of an option that does not fit its annotation, or is NaN, it raises :class:`OptionError`, which
    names the part, the option and the value.
    """
    for registry in registries:
        for part in registry.module_dict.values():
            for cls in getattr(part, '__mro__', ()):
                own = cls.__dict__.get('__init__')
                is_ours = cls.__module__.startswith(PACKAGE) and inspect.isfunction(own)
                if is_ours and not hasattr(own, '__wrapped__'):
                    cls.__init__ = _checked(own)


def _checked(init: Callable) -> Callable:
    signature, hints = inspect.signature(init), typing.get_type_hints(init)
    kinds = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    hints = {k: v for k, v in hints.items() if k != 'return' and k in signature.parameters}
    hints = {k: v for k, v in hints.items() if signature.parameters[k].kind not in kinds}

    @functools.wraps(init)
    def checked(self, *args, **kwargs):
        name = type(self).__name__
        try:
            given = signature.bind(self, *args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f'{name}: {error}') from None
        found = {k: problem(k, given[k], hint) for k, hint in hints.items() if k in given}
        wrong = {key: text for key, text in found.items() if text}
        try:
            init(self, *args, **kwargs)
        except Exception as error:
            # What the part itself says of its options is better.
            if wrong and not any(word in str(error) for word in (name, *wrong)):
                raise OptionError(f'{name}: {next(iter(wrong.values()))}') from error
            raise
        if wrong:
            raise OptionError(f'{name}: {next(iter(wrong.values()))}')

    return checked


def problem(key: str, value: Any, hint: Any) -> str | None:
    """What is wrong with an option, or None."""
    if isinstance(value, float) and math.isnan(value):
        return f'{key} is NaN'
    if key in LAYERS and isinstance(value, Mapping) and not _is_layer(value):
        return f'{key} names no layer that is known: {value!r:.200}'
    if not fits(value, hint):
        return f'{key} must be {_in_words(hint)}, got {value!r:.200}'
    return None


def _is_layer(cfg: Mapping) -> bool:
    kind = cfg.get('type')
    if not isinstance(kind, str):
        return bool(kind)
    # Where MMCV looks: in the registry of the scope, MMDetection's or another one.
    with MODELS.switch_scope_and_registry(None) as registry:
        return registry.get(kind) is not None


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type, as far as configs can tell them apart.

    A list may stand for a tuple, an integer for a float, 0 and 1 for a bool; arrays are sequences
    of their numbers. Annotations of other kinds fit everything.
    """
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in inside)
    if hint is None or hint is type(None):
        return value is None
    if hint is bool:
        return isinstance(value, bool) or (isinstance(value, int) and value in (0, 1))
    if hint in (int, float):
        kinds = numbers.Integral if hint is int else numbers.Real  # NumPy's as well
        return isinstance(value, kinds) and not isinstance(value, bool) and value == value
    if hint is str:
        return isinstance(value, str)
    if hint is dict:
        return isinstance(value, Mapping)
    if hint in (list, tuple) or origin in (list, tuple, Sequence):
        values = value.tolist() if hasattr(value, 'tolist') else value
        if not isinstance(values, Sequence) or isinstance(values, (str, bytes)):
            return False
        if origin is tuple and Ellipsis not in inside:
            return len(values) == len(inside) and all(map(fits, values, inside))
        return all(fits(one, inside[0]) for one in values) if inside else True
    return True


def _in_words(hint: Any) -> str:
    text = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
    return text.replace('collections.abc.', '').replace('typing.', '').replace(' | ', ' or ')
