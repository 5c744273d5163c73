"""How the project may react to bad input: one clear error, or a result without NaN. Never else."""

import contextlib
import hashlib
import io
import signal
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
from hypothesis import HealthCheck, settings

# Distinct inputs that a module has tried, by the kind of the input; conftest.py counts them.
EXECUTED: dict[str, set[str]] = defaultdict(set)

CLEAR = (
    ValueError, TypeError, KeyError, OSError, RuntimeError, FloatingPointError, ImportError,
    AssertionError,
)  # fmt: skip
# Subclasses of the above, or none of them: what a library throws where nobody has looked.
OBSCURE = (UnicodeError, NotImplementedError, RecursionError, struct.error, cv2.error)
UNFINISHED = ('.tmp', '.unfinished')
# Where CI is set, Hypothesis draws the same examples every time. Files are slow at first.
FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
CPU_SECONDS, WALL_SECONDS = 10, 60


class HangError(BaseException):
    """The call was still at work when its time was over."""


class Reaction(NamedTuple):
    """What a call did.

    Attributes:
        error (BaseException | None): What it raised, None if it came to its end.
        message (str): Of the error, with what was printed to the error stream.
        value (Any): What it returned.
    """

    error: BaseException | None
    message: str
    value: Any


def react(
    kind: str,
    case: Any,
    call: Callable[[], Any],
    names: Iterable[str] = (),
    folder: Path | None = None,
) -> Reaction:
    """Run a call with a bad input and check that its reaction is one of those allowed.

    Args:
        kind (str): Of the input, for the count.
        case (Any): The input, or what tells it from others; equal ones count once.
        call (Callable): Takes no argument.
        names (Iterable[str]): A clear message has one of them: the file, the key, the class.
        folder (Path, optional): Where the call writes: after an error it has no more files than
            before, and never an unfinished one.

    Returns:
        Reaction: To be looked at further.
    """
    EXECUTED[kind].add(hashlib.sha256(repr(case).encode('utf-8', 'replace')).hexdigest())
    before = _files(folder)
    error, value, printed = None, None, io.StringIO()
    try:
        with _limited_time(), contextlib.redirect_stderr(printed):
            value = call()
    except SystemExit as stop:
        error = stop if stop.code not in (0, None) else None
    except Exception as raised:
        error = raised
    message = ''
    if error is not None:
        message = _message(error, printed.getvalue())
        assert isinstance(error, (*CLEAR, SystemExit)), _told(case, error)
        assert not isinstance(error, OBSCURE), _told(case, error)
        assert len(message) > 5, _told(case, error)
        assert not names or any(name.lower() in message.lower() for name in names), _told(
            case, error, message, names
        )
        assert 'Traceback' not in message
        assert _files(folder) <= before, _files(folder) - before
    left = [name for name in _files(folder) if any(part in name for part in UNFINISHED)]
    assert not left, left
    return Reaction(error, message, value)


def refuse(*args, **kwargs) -> str:
    """As :func:`react`, of an input that must not pass; its message."""
    reaction = react(*args, **kwargs)
    assert reaction.error is not None, f'{args[1]!r:.300}: taken for good'
    return reaction.message


def _message(error: BaseException, printed: str) -> str:
    if isinstance(error, SystemExit):
        # Without the usage, in which every option has its name.
        told = printed.strip().rpartition(': error: ')[2]
        return error.code if isinstance(error.code, str) else told
    return str(error).strip()


def _told(case, error, message='', names=()) -> str:
    where, trace = [], error.__traceback__
    while trace is not None:
        where.append(f'{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}')
        trace = trace.tb_next
    return f'{case!r:.400}\n  {error!r:.600}\n  {message:.600}\n  {list(names)}\n  {where[-4:]}'


def _files(folder: Path | None) -> set[str]:
    if folder is None:
        return set()
    return {str(path) for path in folder.rglob('*') if not path.is_dir()}


@contextlib.contextmanager
def _limited_time():
    """Of this process, and, much longer, of the clock: other work may run beside."""

    def stop(*_):
        raise HangError

    timers = (
        (signal.SIGPROF, signal.ITIMER_PROF, CPU_SECONDS),
        (signal.SIGALRM, signal.ITIMER_REAL, WALL_SECONDS),
    )
    former = [signal.signal(number, stop) for number, _, _ in timers]
    try:
        for _, timer, seconds in timers:
            signal.setitimer(timer, seconds)
        yield
    finally:
        for (number, timer, _), handler in zip(timers, former):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)
