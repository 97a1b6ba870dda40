"""Manners of transformers' models: no reports and bars, errors in one line, folders from anybody.

Promise: what `quiet` changes is as it was afterwards; `check_folder` and `check_size` let nothing
be made or read that the folder of a model does not hold. transformers is the caller's to import.
"""

from __future__ import annotations

import hashlib
import logging
import string
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from antcache.errors import AntcacheError, BadConfig, NotFound, Unreachable, needs
from antcache.untrusted import NotFetched, check_fetched, read_json

MOST_LAYERS = 1000
"""Of a model: the largest have some 200, and each is made before weights can be compared."""
NONSENSE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""What huggingface_hub raises of an answer that is no JSON, or of JSON that no hub says."""
NO_HUB = "an answer that is no hub's"
BYTES_PER_BYTE, BYTES_ALWAYS = 4, 1 << 30
"""What a model may take for each byte of its weights, and in any case: they may have 8 bits each,
and a teacher keeps a part of its vocabulary."""


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Keep the package `transformers` from writing reports and bars, and restore that after."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """The first line of an error's text that is not blank: transformers' own take many."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")


@contextmanager
def in_one_line(
    name: str | Path, kind: type[AntcacheError], what: str = "can't be used"
) -> Iterator[None]:
    """Whatever the code of a model raises inside becomes an error of ours that names the model.

    Running out of a GPU's memory passes as it is: it says nothing about the model.
    """
    import torch

    try:
        yield
    except (AntcacheError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:  # transformers, safetensors and torch have no common root
        found = first_line(error)
        raise kind(f"{what} ({type(error).__name__})", where=name, found=found) from error


def find_folder(
    name: str,
    patterns: Collection[str],
    *,
    kind: type[AntcacheError],
    expected: str,
    what: str = "model",
    extra: str = "hub",
    revision: str | None = None,
) -> Path:
    """The folder of that name, or one with the hub's files of that id: downloaded, or in the cache.

    Args:
        name: a path, or OWNER/NAME; a folder that is there wins.
        patterns: files of the hub's that are wanted.
        kind: what is raised.
        expected: what the name may be, in words.
        what: what is looked for.
        extra: of pip, which brings huggingface_hub.
        revision: of the hub's, a branch, tag or commit; the default branch unless given.

    Raises:
        AntcacheError: of that `kind`: there is neither, or the hub can't be reached.
        MissingExtra: huggingface_hub is not installed.
    """
    path = Path(name)
    if path.is_dir():
        return path
    if "://" in name:
        raise kind(f"a URL is no {what}'s name", where=name, expected=expected)
    if path.exists() or path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        found = "a file" if path.exists() else "nothing"
        raise kind("no such folder", where=name, expected=expected, found=found)
    with needs("huggingface_hub", extra):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    try:
        with _without_bars():
            return Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    except (OSError, HfHubHTTPError, HFValidationError, *NONSENSE, *transport_errors()) as error:
        raise kind(
            f"neither a folder here nor a {what} that can be fetched from the hub",
            where=name,
            found=not_fetched(error),
            hint="check the name and the network, or give a local folder",
        ) from error


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep the package `huggingface_hub` from drawing bars, and restore that after.

    What it warns of (that it tries again) goes to whoever shows warnings, in place of its own
    lines: they quote the hub.
    """
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
    from huggingface_hub.utils import enable_progress_bars as bars

    log = logging.getLogger("huggingface_hub")
    shown, kept = not are_progress_bars_disabled(), (log.handlers, log.propagate)
    disable_progress_bars()
    log.handlers, log.propagate = [], True
    try:
        yield
    finally:
        log.handlers, log.propagate = kept
        if shown:
            bars()


def not_fetched(error: Exception) -> str:
    """What the hub has instead of a model, in words, from what `snapshot_download` raised."""
    from huggingface_hub import errors

    reasons: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
        ((errors.GatedRepoError,), "a model whose licence has to be accepted on its page first"),
        ((errors.RepositoryNotFoundError,), "no public model of this name"),
        ((errors.RevisionNotFoundError,), "no such revision of the model"),
        ((errors.HFValidationError,), "no hub id, which reads OWNER/NAME"),
        (
            (errors.LocalEntryNotFoundError, ConnectionError),
            f"{_refusal(error) or 'no answer of the hub'}, and no copy in its cache",
        ),
        ((errors.HfHubHTTPError, OSError), first_line(error)),
        (NONSENSE, NO_HUB),
    )
    said = (words for kinds, words in reasons if isinstance(error, kinds))
    return next(said, first_line(error))


def _refusal(error: BaseException) -> str:
    """What the hub said in place of an answer, in words; empty if it said nothing.

    huggingface_hub looks into its cache then, and raises that nothing is there.
    """
    from huggingface_hub import errors

    inner = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) else error
    if not isinstance(inner, errors.HfHubHTTPError):
        return ""
    status = getattr(getattr(inner, "response", None), "status_code", None)
    why = {401: "no token, or one that is not valid", 403: "the token may not do this"}
    text = first_line(getattr(inner, "server_message", None) or inner)
    return why.get(status or 0, text)


def transport_errors() -> tuple[type[Exception], ...]:
    """What huggingface_hub's client of HTTP raises, whichever its version has: they have no common
    root."""
    clients = (sys.modules.get(name) for name in ("httpx2", "httpx"))
    return tuple(client.HTTPError for client in clients if client is not None)


@contextmanager
def talking(where: str) -> Iterator[None]:
    """Whatever huggingface_hub says of a repository becomes one line that names it.

    What the system says of files here passes as it is.

    Raises:
        NotFound: there is no such repository, or no such revision.
        BadConfig: its name is none.
        Unreachable: the hub does not answer, or refuses, as it does without a token.
        MissingExtra: huggingface_hub is not installed.
    """
    with needs("huggingface_hub", "hub"):
        from huggingface_hub import errors
    try:
        with _without_bars():
            yield
    except AntcacheError:
        raise
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        # The hub says the same of what is private and of what is not there.
        kind = "revision" if isinstance(error, errors.RevisionNotFoundError) else "repository"
        raise NotFound(
            f"no such {kind} on the hub, or none that this token may see",
            where=where,
            hint="check the name, and the token: hf auth login, or HF_TOKEN",
        ) from error
    except errors.HFValidationError as error:
        raise BadConfig("no hub id", where=where, expected="OWNER/NAME") from error
    except errors.LocalTokenNotFoundError as error:
        raise Unreachable("no token: hf auth login, or HF_TOKEN", where) from error
    except (
        errors.HfHubHTTPError,
        errors.LocalEntryNotFoundError,
        ConnectionError,
        *transport_errors(),
    ) as error:
        raise Unreachable(_refusal(error) or "no answer of the hub", where) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise Unreachable(first_line(error), where) from error  # other bytes than it promised
    except NONSENSE as error:
        raise Unreachable(NO_HUB, where) from error


def is_as_named(file: Path) -> bool:
    """Whether a file of huggingface_hub's cache has the bytes by whose hash the hub calls it.

    True where the cache does not keep files by their hashes, as where links can't be made.
    """
    path = file.resolve()
    kinds = {64: "sha256", 40: "sha1"}
    name = path.name
    if len(name) not in kinds or set(name) - set(string.hexdigits):
        return True
    # Of a file beside git it is the hash of the bytes, of one in git that of the blob.
    digest = hashlib.new(kinds[len(name)], usedforsecurity=False)
    digest.update(b"blob %d\0" % path.stat().st_size if len(name) == 40 else b"")
    with path.open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest() == name.lower()


def check_folder(folder: Path) -> None:
    """Check the settings of a model, before anything is made by them.

    Raises:
        ValueError: they can't be read, state very many layers, or say that weights lie elsewhere;
            or a file of the folder is a Git LFS pointer.
    """
    for file in sorted(folder.iterdir()):
        try:
            check_fetched(file)
        except NotFetched as error:
            raise NotFetched(file.name) from error
    _check_layers(read_json(folder / "config.json"))
    for index in folder.glob("*.index.json"):
        places = read_json(index)
        files = places.get("weight_map") if isinstance(places, dict) else None
        if not isinstance(files, dict) or not all(isinstance(name, str) for name in files.values()):
            raise ValueError(f"{index.name} is no index of weights")
        for name in files.values():
            if Path(name).name != name:
                raise ValueError(f"{index.name} says that weights lie outside of the folder")


def check_size(make: Callable[[], Any], weight_files: list[Path]) -> None:
    """Check that the model that `make` makes is not much larger than its weights.

    Raises:
        ValueError: it is.
    """
    import torch

    with torch.device("meta"):  # takes no memory
        needed = sum(4 * p.numel() for p in make().parameters())
    there = sum(file.stat().st_size for file in weight_files)
    if needed > BYTES_PER_BYTE * there + BYTES_ALWAYS:
        raise ValueError(f"settings for a model of {needed} bytes, and {there} bytes of weights")


def _check_layers(settings: Any) -> None:
    """Look at every number whose name speaks of how many layers, in settings within settings too.

    Sizes that are per layer (`vocab_size_per_layer_input`) say nothing about how many there are.
    """
    for each in settings if isinstance(settings, list) else [settings]:
        for name, value in each.items() if isinstance(each, Mapping) else ():
            _check_layers(value)
            words = str(name)
            if any(word in words for word in ("size", "channel", "dim")) or not any(
                word in words for word in ("layer", "depth", "block", "stage")
            ):
                continue
            for number in value if isinstance(value, list) else [value]:
                if isinstance(number, int | float) and number > MOST_LAYERS:
                    raise ValueError(f"{name} {number}, more than {MOST_LAYERS}")
