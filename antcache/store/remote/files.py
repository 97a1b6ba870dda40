"""Objects below a URL: the only file that talks to fsspec.

Promise: what is not there is a `FileNotFoundError`; whatever else goes wrong is an `Unreachable`,
which nothing takes for damage: a network that fails says nothing about the data. Each process has
connections of its own, so that forked and spawned workers can read.
"""

from __future__ import annotations

import hashlib
import logging
import os
import uuid
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from antcache.errors import AntcacheError, BadConfig, MissingExtra, Unreachable, needs
from antcache.store.faults import damaged, require_fetched
from antcache.store.format import STAGING, TEXT_BYTES, digest
from antcache.store.reading.proof import Count

logger = logging.getLogger(__name__)

T = TypeVar("T")

BATCH_BYTES = 32 << 20
"""How much is sent or fetched at once; the objects of a batch go in parallel."""

BATCH_FILES = 64

STREAM_BYTES = 4 << 20
"""How much of a large object is fetched at once."""

S3, WEB = ("s3", "s3a"), ("http", "https")
# A server that is not there is told of in seconds; fsspec's own defaults would try for minutes.
S3_TIMES = {"connect_timeout": 5, "read_timeout": 15}
S3_ATTEMPTS = 2

VERSION = ("ETag", "etag", "LastModified", "Last-Modified", "Content-MD5", "mtime")
"""How filesystems call what changes when an object is written anew."""
NEVER = f'"{"0" * 32}"'
"""The tag of no object."""

_LOST = ("PreconditionFailed", "ConditionalRequestConflict")


@dataclass(frozen=True)
class RemoteFacts:
    """What a server says of an object.

    Attributes:
        size: its bytes; None if they are not said.
        version: what changes when it is written anew, as far as that is said.
    """

    size: int | None
    version: str


class RemoteFiles:
    """The objects below `url`, by their names relative to it.

    Args:
        url: what fsspec understands.
        options: for the filesystem, over those from fsspec's configuration and environment.
    """

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        self.url = url
        self._options = dict(options or {})
        self._connected: tuple[int, Any, str] | None = None
        self._listens: bool | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_connected": None}

    def read(self, name: str) -> bytes:
        """An object; FileNotFoundError if it is not there, DamagedStore if it is too long."""
        with self._talking(name) as (fs, path):
            if _is_s3(fs):  # one request: no more of it is sent
                text = _start(fs, path, TEXT_BYTES + 1)
            elif (size := int(fs.info(path).get("size") or 0)) > TEXT_BYTES:
                raise damaged(f"{self.url}/{name}", f"{size} bytes are too many")
            else:
                text = bytes(fs.cat_file(path))
        if len(text) > TEXT_BYTES:
            raise damaged(f"{self.url}/{name}", f"its first {len(text)} bytes are too many")
        require_fetched(text, f"{self.url}/{name}")
        return text

    def digests(
        self, folder: str, names: Collection[str], count: Count
    ) -> Iterator[tuple[str, str]]:
        """Name and BLAKE2b (16 bytes, as hex) of those of a folder's objects that are there.

        Short ones are fetched in parallel, long ones a part at a time.
        """
        sizes = {name: size for name, size in self.sizes(folder).items() if name in names}
        short = {name: size for name, size in sizes.items() if size <= BATCH_BYTES}
        for batch in batches(short, short.__getitem__):
            found = self.read_many(f"{folder}/{name}" for name in batch)
            for name, raw in zip(batch, found, strict=True):
                if raw is not None:
                    count(len(raw))
                    yield name, digest(raw)
        for name in sizes.keys() - short.keys():
            total = hashlib.blake2b(digest_size=16)
            with suppress(FileNotFoundError), self._talking(f"{folder}/{name}") as (fs, path):
                for start in range(0, sizes[name], BATCH_BYTES):
                    end = min(sizes[name], start + BATCH_BYTES)
                    total.update(part := bytes(fs.cat_file(path, start=start, end=end)))
                    count(len(part))
            yield name, total.hexdigest()

    def read_many(self, names: Iterable[str]) -> list[bytes | None]:
        """Objects, fetched in parallel; None for one that is not there."""
        names = list(names)
        with self._talking() as (fs, root):
            found = fs.cat_ranges([f"{root}/{name}" for name in names], None, None)
            for each in found:
                if isinstance(each, Exception) and not isinstance(each, FileNotFoundError):
                    raise each
        texts = [None if isinstance(each, Exception) else bytes(each) for each in found]
        for name, text in zip(names, texts, strict=True):
            require_fetched(text or b"", f"{self.url}/{name}")
        return texts

    def facts(self, name: str = "") -> RemoteFacts:
        """What is said of an object; FileNotFoundError if it is not there."""
        with self._talking(name) as (fs, path):
            try:
                info = _info(fs, path)
            except FileNotFoundError as error:  # whatever goes wrong on the web is one
                cause = error.__cause__
                if _is_web(fs) and cause and getattr(cause, "status", None) not in (404, 410):
                    raise cause from error
                raise
            if info.get("type") != "file":
                raise FileNotFoundError(name)
            said = [str(info[key]) for key in VERSION if key in info]
            size = info.get("size")
            return RemoteFacts(size=None if size is None else int(size), version=" ".join(said))

    def stream(
        self, facts: RemoteFacts, name: str = "", *, start: int = 0
    ) -> Generator[bytes, None, None]:
        """The bytes of an object from `start` on, some at a time.

        Not every server on the web gives a part; one that does not is an `Unreachable`.
        """
        with self._talking(name) as (fs, path):
            options: dict[str, Any] = {"block_size": STREAM_BYTES, "cache_type": "none"}
            if _is_web(fs):  # which would ask for the size again; 0: in one answer
                options |= {"size": facts.size} if start else {"block_size": 0, "size": facts.size}
            with fs.open(path, "rb", **options) as file:
                if start:
                    file.seek(start)
                while part := file.read(STREAM_BYTES):
                    yield bytes(part)

    def write_many(self, files: Mapping[str, bytes]) -> None:
        """Write objects in parallel, over what is there."""
        with self._talking() as (fs, root):
            paths = {f"{root}/{name}": value for name, value in files.items()}
            try:
                fs.pipe(paths)
            except FileNotFoundError:
                # Either a filesystem with folders, or a bucket that is not there. The first part
                # of a path may be a bucket, and those are not ours to make.
                if not fs.isdir("/" * root.startswith("/") + root.strip("/").partition("/")[0]):
                    raise
                for folder in {path.rpartition("/")[0] for path in paths}:
                    fs.makedirs(folder, exist_ok=True)
                fs.pipe(paths)

    def create(self, name: str, value: bytes) -> None:
        """Write an object that must not be there yet.

        At once where the filesystem can (S3, Google and Azure do); elsewhere, and on a server that
        is known not to listen (`on_condition`), it is looked for first and then written, and two
        that do so within a moment both succeed.

        Raises:
            FileExistsError: it is there, with another value.
        """
        try:
            with self._talking(name) as (fs, path):
                listens = _is_s3(fs) and self._listens is not False
                if not listens and self.is_file(name):
                    raise FileExistsError(name)
                try:
                    if not _create(fs, path, value):
                        if listens and self.is_file(name):
                            raise FileExistsError(name)
                        fs.pipe_file(path, value)
                except FileNotFoundError:  # folders
                    self.write_many({name: value})
        except FileExistsError:
            # Sent twice because the answer to the first was lost?
            with suppress(FileNotFoundError):
                if self.read(name) == value:
                    return
            raise

    def on_condition(self) -> bool:
        """Whether the server refuses to create what is there, and S3 to replace what has changed.

        It is tried, once: some servers take no notice of a condition and write all the same.
        """
        if self._listens is None:
            with self._talking(f"{STAGING}/{uuid.uuid4().hex}.trial") as (fs, path):
                self._listens = _listens(fs, path, replacing=_is_s3(fs))
            if not self._listens:
                logger.info("%s does not write on condition: work may be done twice", self.url)
        return self._listens

    def swaps(self) -> bool:
        """Whether `replace` is done at once: on an S3 server that writes on condition."""
        with self._talking() as (fs, _):
            is_s3 = _is_s3(fs)
        return is_s3 and self.on_condition()

    def replace(self, name: str, value: bytes, *, was: bytes) -> bool:
        """Write over an object that holds `was`; false, and nothing done, if it does not.

        At once on S3; elsewhere it is read first and then written.
        """
        with self._talking(name) as (fs, path):
            try:
                tag = _info(fs, path).get("ETag")
                if fs.cat_file(path) != was:
                    return False
                if not tag or not _is_s3(fs) or self._listens is False:
                    fs.pipe_file(path, value)
                    return True
                try:
                    fs.pipe_file(path, value, IfMatch=tag)
                except OSError as error:
                    if _code(error) in _LOST:
                        return False
                    if _code(error) != "NotImplemented":
                        raise
                    fs.pipe_file(path, value)
            except FileNotFoundError:
                return False
            return True

    def copy_many(self, names: Mapping[str, str]) -> bool:
        """Copy objects to new names, on the server; false if the filesystem can't."""
        with self._talking() as (fs, root):
            try:
                for old, new in names.items():
                    fs.cp_file(f"{root}/{old}", f"{root}/{new}")
            except NotImplementedError:
                return False
            return True

    def delete(self, name: str) -> None:
        """Delete an object, if it is there."""
        with suppress(FileNotFoundError), self._talking(name) as (fs, path):
            fs.rm_file(path)

    def is_file(self, name: str) -> bool:
        """Whether there is an object of this name."""
        try:
            with self._talking(name) as (fs, path):
                return bool(_info(fs, path)["type"] == "file")
        except FileNotFoundError:
            return False

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Bytes of each object below a folder, by name relative to it."""
        try:
            with self._talking(folder) as (fs, path):
                start, (parent, _, own) = f"{path}/", path.rpartition("/")
                if parent and _is_s3(fs):  # which is asked again for an empty folder, else
                    found = fs.find(parent, detail=True, prefix=f"{own}/")
                else:
                    found = fs.find(path, detail=True)
                return {
                    name.removeprefix(start): int(info.get("size") or 0)
                    for name, info in found.items()
                    if name.startswith(start) and info["type"] == "file"
                }
        except FileNotFoundError:
            return {}

    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders in a folder, sorted."""
        try:
            with self._talking(folder) as (fs, path):
                found = [i["name"] for i in fs.ls(path, detail=True) if i["type"] == "directory"]
        except FileNotFoundError:
            return []
        names = {name.rstrip("/").rpartition("/")[2] for name in found}
        return sorted(name for name in names if not name.startswith("."))

    def is_empty(self) -> bool:
        """Whether nothing is at the URL."""
        try:
            with self._talking() as (fs, path):
                return not fs.ls(path, detail=True)
        except FileNotFoundError:
            return True

    def seconds_between(self, first: str, second: str) -> float | None:
        """How much later the second object was written, by the server's clock; None: unknown."""
        with self._talking() as (fs, root):
            try:
                times = [fs.modified(f"{root}/{name}") for name in (first, second)]
                return float((times[1] - times[0]).total_seconds())
            except (NotImplementedError, TypeError, KeyError):
                return None

    def _connect(self) -> tuple[Any, str]:
        """This process's filesystem, and our path in it."""
        if self._connected is None or self._connected[0] != os.getpid():
            fs, path = _filesystem(self.url, self._options)
            self._connected = (os.getpid(), fs, path.rstrip("/"))
        return self._connected[1:]

    @contextmanager
    def _talking(self, name: str = "") -> Iterator[tuple[Any, str]]:
        """The filesystem and the path of `name`; what goes wrong becomes ours."""
        fs, root = self._connect()
        fs.invalidate_cache()  # others write, too
        try:
            yield fs, f"{root}/{name}" if name else root
        except (FileNotFoundError, FileExistsError, AntcacheError):
            raise
        except (IsADirectoryError, NotADirectoryError) as error:
            raise FileNotFoundError(name) from error
        except Exception as error:  # each filesystem has errors of its own
            raise Unreachable(_reason(error), f"{self.url}/{name}".rstrip("/")) from error


def batches(items: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Items of so many bytes in groups that may be in memory, and under way, at once."""
    batch: list[T] = []
    total = 0
    for item in items:
        own = size(item)
        if batch and (total + own > BATCH_BYTES or len(batch) == BATCH_FILES):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += own
    if batch:
        yield batch


def _is_s3(fs: Any) -> bool:
    return not _protocols(fs).isdisjoint(S3)


def _is_web(fs: Any) -> bool:
    return not _protocols(fs).isdisjoint(WEB)


def _protocols(fs: Any) -> set[str]:
    return {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)


def _filesystem(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    with needs("fsspec", "remote"):
        import fsspec
        from fsspec.config import conf
        from fsspec.core import url_to_fs
    protocol = url.partition("://")[0]
    configured = {key for name in S3 for key in conf.get(name, {})}
    own = _s3_options() if protocol in S3 else {}
    own = {name: value for name, value in own.items() if name not in configured}
    if protocol in WEB and "client_kwargs" not in conf.get(protocol, {}):
        own = _web_options()
    try:
        fs, path = url_to_fs(url, **{**own, **options})
    except ImportError as error:
        if protocol in S3:
            raise MissingExtra("s3fs", "remote") from error
        raise BadConfig("a package is missing for this URL", where=url, found=error) from error
    except (ValueError, TypeError, KeyError) as error:
        known = ", ".join(("s3", "gs", "abfs", "sftp"))
        raise BadConfig(
            f"not a URL that fsspec {fsspec.__version__} understands",
            where=url,
            expected=f"{known}, ...",
            found=_reason(error),
        ) from error
    if "config_kwargs" in own and "config_kwargs" not in options:
        fs.retries = S3_ATTEMPTS
    return fs, path


def _s3_options() -> dict[str, Any]:
    """What s3fs is told unless the user says otherwise; new each time, botocore writes into it."""
    return {
        "config_kwargs": {**S3_TIMES, "retries": {"max_attempts": S3_ATTEMPTS}},
        # Else the size of each object is asked for before it is fetched; ours are small.
        "max_concurrency": 1,
    }


def _web_options() -> dict[str, Any]:
    """What aiohttp is told: its own default ends a request after five minutes, however it goes."""
    with needs("aiohttp", "remote"):
        from aiohttp import ClientTimeout
    times = ClientTimeout(
        total=None, sock_connect=S3_TIMES["connect_timeout"], sock_read=S3_TIMES["read_timeout"]
    )
    return {"client_kwargs": {"timeout": times}}


def _reason(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _info(fs: Any, path: str) -> dict[str, Any]:
    """What is said of an object. An S3 server is asked once: s3fs would ask again, whether one that
    is not there is a folder."""
    if not _is_s3(fs) or "/" not in path:
        return dict(fs.info(path))
    bucket, key, _ = fs.split_path(path)
    said = fs.call_s3("head_object", Bucket=bucket, Key=key)
    return {**said, "size": said["ContentLength"], "type": "file"}


def _start(fs: Any, path: str, size: int) -> bytes:
    """The first bytes of an object on an S3 server, or all of them."""
    try:
        return bytes(fs.cat_file(path, start=0, end=size))
    except OSError as error:
        if _code(error) != "InvalidRange":  # it is empty
            raise
        return b""


def _create(fs: Any, path: str, value: bytes) -> bool:
    """Write an object that must not be there, at once; false, and nothing done, where that can't
    be asked for.

    Raises:
        FileExistsError: it is there.
    """
    try:
        fs.pipe_file(path, value, mode="create")
    except (TypeError, NotImplementedError):
        return False
    except OSError as error:
        if _code(error) in _LOST:
            raise FileExistsError(path) from error
        if _code(error) != "NotImplemented":
            raise
        return False
    return True


def _listens(fs: Any, path: str, *, replacing: bool) -> bool:
    """Whether a second creator of `path` is refused, and, of an S3, a late replacer."""
    try:
        if not _create(fs, path, b"first"):
            return False
        with suppress(FileExistsError):
            _create(fs, path, b"second")
            return False
        if replacing:
            fs.pipe_file(path, b"third", IfMatch=NEVER)
    except FileNotFoundError:  # folders: of a disk, on which claims are locks
        return False
    except OSError as error:
        if _code(error) not in (*_LOST, "NotImplemented"):
            raise
        return _code(error) in _LOST
    finally:
        with suppress(FileNotFoundError):
            fs.rm_file(path)
    return not replacing


def _code(error: OSError) -> str:
    """S3's own name for an error."""
    answer = getattr(error.__cause__, "response", None) or {}
    return str(answer.get("Error", {}).get("Code", ""))
