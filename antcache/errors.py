"""One tree of errors: each leaf is also the standard exception it stands for.

Promise: every message is one line that says where (file or key), what is wrong, what was expected,
what was found and what to do, and quotes a bounded part of what a file holds. Whatever a user can
get wrong raises one of these, and the command line turns each into one line and exit code 2.
"""

from __future__ import annotations

import contextlib
import reprlib
from collections.abc import Iterator

from antcache.text import utf8

LONGEST = 1000
"""Characters of what was expected or found that a message repeats."""
LONGEST_PLACE = 5000
"""Of where and what is wrong: the longest path has 4,096."""

_SHORT = reprlib.Repr()
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = _SHORT.maxfrozenset = _SHORT.maxdict = 20
_SHORT.maxstring = _SHORT.maxother = 100
_SHORT.maxlevel = 4


def quoted(value: object) -> str:
    """A value of any size in one line of at most `LONGEST` characters."""
    try:
        if isinstance(value, dict | list | tuple | set | frozenset):
            text = _SHORT.repr(value)
        else:
            text = str(value)
    except ValueError:  # Python writes out no whole number of more than 4,300 digits
        text = type(value).__name__
    return " ".join(_cut(text, LONGEST).split()) if "\n" in text else _cut(text, LONGEST)


def interrupt_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """The interrupt during which, or because of which, an error came; None if there was none.

    What is cleared away after Ctrl-C may fail, and its error then stands in the interrupt's place.
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 34]} ... {text[-29:]}"


class AntcacheError(Exception):
    """Root of the tree.

    Args:
        problem: what is wrong, in a few words.
        where: the file, line or key it is about.
        expected: what would have been right.
        found: what is there instead.
        hint: what to do about it.
    """

    def __init__(
        self,
        problem: str,
        *,
        where: object = "",
        expected: object = "",
        found: object = "",
        hint: str = "",
    ) -> None:
        pair = ", ".join(
            f"{label} {text}"
            for label, value in (("expected", expected), ("found", found))
            if (text := quoted(value))
        )
        place = _cut(str(where), LONGEST_PLACE)
        self.message = (
            (f"{place}: " if place else "")
            + _cut(problem, LONGEST_PLACE)
            + (f": {pair}" if pair else "")
            + (f" ({hint})" if hint else "")
        )
        # A path may hold bytes that are no text: they are written out, for whoever keeps messages.
        self.message = utf8(self.message)
        super().__init__(self.message)

    def __str__(self) -> str:  # KeyError and OSError would format their arguments otherwise
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        # From another process it comes as it was, whatever its class is made with.
        return _again, (type(self), vars(self))


def _again(kind: type[AntcacheError], about: dict[str, object]) -> AntcacheError:
    error = kind.__new__(kind)
    vars(error).update(about)
    error.args = (error.message,)
    return error


class BadConfig(AntcacheError, ValueError):
    """A setting is out of range, or contradicts another."""


class BadAnnotations(AntcacheError, ValueError):
    """An annotation file does not say what its form promises."""


class NotFound(AntcacheError, FileNotFoundError):
    """A file or folder is not there."""


class AlreadyExists(AntcacheError, FileExistsError):
    """An output is already there; nothing is overwritten unasked."""


class NotAStore(AntcacheError, ValueError):
    """The path is not a store of a format that this version reads."""


class DamagedStore(AntcacheError, OSError):
    """What the store holds does not match its own record of it."""


class ReadFailed(AntcacheError):
    """What may be intact can't be read now.

    No `OSError` on purpose: where a store is read, those stand for damage.
    """


class Unreachable(AntcacheError):
    """A store at a URL can't be talked to; no `OSError`, as `ReadFailed`.

    Args:
        reason: what the other side, or the way there, says.
        where: the URL.
    """

    def __init__(self, reason: str, where: str) -> None:
        self.reason = reason
        super().__init__(
            f"can't be reached ({reason})",
            where=where,
            hint="check the URL, the credentials and the network",
        )


class WriteFailed(AntcacheError, OSError):
    """The disk or its owner refused a write; nothing was published."""

    @classmethod
    def because(cls, error: OSError, where: object) -> WriteFailed:
        """The error for what the system said of a write to `where`."""
        return cls(
            f"can't be written ({error.strerror or error})",
            where=where,
            hint="run the command again when the disk has room and allows it",
        )


class MissingKey(AntcacheError, KeyError):
    """The store has no such split, stream or soft targets."""


class MissingFeature(AntcacheError, KeyError):
    """A window needs feature rows that the store does not have."""


class MissingTarget(AntcacheError, KeyError):
    """A segment has no soft target where one is required."""


class BadPredictions(AntcacheError, ValueError):
    """A file of predictions does not say what its form promises, or does not fit the store."""


class RefusedPickle(AntcacheError, ValueError):
    """A pickle holds more than arrays and plain values, or is not whole; nothing of it ran."""


class FingerprintMismatch(AntcacheError, ValueError):
    """Two things that must come from one configuration do not."""


class UnreadableVideo(AntcacheError, OSError):
    """A video can't be decoded."""


class UnreadableArray(AntcacheError, ValueError):
    """A file of features can't be read, or does not hold what was said of it."""


class UnknownBackbone(AntcacheError, ValueError):
    """A backbone can't be loaded, or is of a kind that is not supported."""


class BadCheckpoint(AntcacheError, ValueError):
    """A checkpoint does not fit what it is loaded into, or is incomplete."""


class NotFinite(AntcacheError, FloatingPointError):
    """The loss or the gradient of a training step is not finite, or what is predicted from."""


class MissingExtra(AntcacheError, ImportError):
    """An optional package is not installed.

    Args:
        package: the package that is missing.
        extra: the pip extra that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"the package {package!r} is not installed",
            hint=f"pip install 'antcache[{extra}]'",
        )


@contextlib.contextmanager
def needs(package: str, extra: str) -> Iterator[None]:
    """Import an optional package inside.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtra(package, extra) from error
