"""The exceptions that a caller of the kit handles, and the checks that raise them."""

import dataclasses
import math
import numbers
import typing


class FPDError(Exception):
    """A mistake in what the user gave, or a file that cannot be used.

    The message names the thing, the value it got, what is accepted and what to do next. `python -m fpdlib`
    prints it without a traceback and exits with status 2.
    """


class NotComputed(FPDError):
    """A result that is neither in the store nor committed."""


class Incomplete(FPDError):
    """Some results could not be computed, as of a data set that is not there; all others are (exit status 1)."""


class Busy(FPDError):
    """Another process computes this result."""


class BudgetExhausted(Exception):
    """The wall-clock budget ran out. Everything done so far is saved; the same command continues from there."""

    def __str__(self) -> str:
        return super().__str__() or "the wall-clock budget ran out; everything done so far is saved"


def said(error: Exception) -> str:
    """What someone else's code raised, in a line."""
    return f"{type(error).__name__}: {(str(error).splitlines() or ['no words'])[0]}"


def choose(name: str, value, accepted, hint: str = ""):
    """`value` if it is one of `accepted`, else an `FPDError` that lists what is.

    Equal is not enough: `True` is not `1`, so the types must agree as well.
    """
    accepted = list(accepted)
    if not any(type(value) is type(item) and value == item for item in accepted):
        listed = ", ".join(map(repr, accepted))
        raise FPDError(f"{name} is {value!r}; accepted: {listed}." + (f" {hint}" if hint else ""))
    return value


def positive(name: str, value, kind: type = numbers.Real, hint: str = "") -> None:
    """FPDError unless it is a number above 0, of a kind (`numbers.Integral`: an integer), and finite."""
    if isinstance(value, bool) or not isinstance(value, kind) or not 0 < value < math.inf:
        accepted = "an integer from 1" if kind is numbers.Integral else "a number above 0"
        raise FPDError(f"{name} is {value!r}; accepted: {accepted}{hint}.")


def check(value) -> None:
    """`choose` for every field of a dataclass whose type is a `Literal`, or a tuple of one."""
    for field in dataclasses.fields(value):
        several = typing.get_origin(field.type) is tuple
        kind = typing.get_args(field.type)[0] if several else field.type
        if typing.get_origin(kind) is typing.Literal:
            for one in getattr(value, field.name) if several else (getattr(value, field.name),):
                choose(field.name, one, typing.get_args(kind))
