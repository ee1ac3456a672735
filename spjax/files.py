"""Atomic file writes that survive a power cut, and digests that reveal damage."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

DIGEST = "content_sha256"  # the key of a JSON object's own digest
_ALGORITHM = "sha256:"
JSON_BYTES = 100 * 10**6  # as much as a safetensors header may have

# Of a folder that may be written but not read, and of file systems that cannot sync folders.
_NO_FOLDER_SYNC = {errno.EACCES, errno.EINVAL, errno.ENOTSUP}


def default_cache_dir() -> Path:
    """Returns the folder named by the environment variable SPJAX_CACHE, else `~/.cache/spjax`."""
    return Path(os.environ.get("SPJAX_CACHE") or Path.home() / ".cache" / "spjax")


def expanded(path: Any) -> Any:
    """Expands a leading "~" to the home folder; values that are no text are returned as they are.

    The shell leaves "~" alone after a "=", as in `--gin.MODEL_DIR=~/runs`.
    """
    return os.path.expanduser(path) if isinstance(path, str) else path


def write_text(path: Path, text: str) -> None:
    """Writes a text file, in full or not at all; missing folders are made.

    Raises:
      OSError: it cannot be written; `filename` names the path, also where the disk is full.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk is met without a name
        raise


def append_line(path: Path, line: str, is_synced: bool = True) -> None:
    """Appends a line to a text file and waits until it is on the disk.

    Args:
      path: of the file; made if missing.
      line: without its end.
      is_synced: False for a line that a power cut may take away.

    Raises:
      OSError: as for `write_text`.
    """
    try:
        with open(path, "a", encoding="utf-8", newline="") as file:
            file.write(line + "\n")
            if is_synced:
                sync(file)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a free name beside `path` that becomes `path` when the block ends well.

    What was written there, a file or a folder, is on the disk before it gets its name. Two
    processes that write the same path at once do not meet. Missing folders are made.

    Raises:
      OSError: it cannot be written, or something stands there that is no file, such as a device.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "it is a device or a pipe, which a file would replace")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        sync_tree(temporary)
        os.replace(temporary, path)
    sync_folder(path.parent)


def sync(file: IO) -> None:
    """Waits until what was written to an open file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_tree(path: Path) -> None:
    """Waits until a file, or a folder with everything in it, is on the disk."""
    if not path.is_dir():
        _sync_path(path)
        return
    for folder, _, names in os.walk(path):
        for name in names:
            _sync_path(Path(folder) / name)
        sync_folder(Path(folder))


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk, where the file system can do that."""
    try:
        _sync_path(folder)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def _sync_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class DamagedFile(ValueError):
    """A file of spjax is not what was written: cut short, or with other bits."""


def open_regular(path: Path | str) -> io.BufferedReader:
    """Opens a regular file for reading bytes.

    A named pipe would wait for a writer for ever, and a device may have no end.

    Raises:
      OSError: it cannot be opened, or is a folder, a pipe, a socket or a device; `strerror` says
        which.
    """
    name = os.fspath(path)
    _check_regular(os.stat(name).st_mode, name)  # first, because opening a device may act on it
    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check_regular(os.fstat(descriptor).st_mode, name)  # what has the name may have changed
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_regular(path: Path | str) -> None:
    """Demands a regular file, as `open_regular` does, for a file that a library will open.

    Raises:
      OSError: as `open_regular`.
    """
    _check_regular(os.stat(path).st_mode, os.fspath(path))


def _check_regular(mode: int, name: str) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    if not stat.S_ISREG(mode):
        kind = next((text for holds, text in _KINDS if holds(mode)), "something else")
        raise OSError(errno.EINVAL, f"it is {kind}, not a regular file", name)


_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_bytes(path: Path | str, limit: int | None = None) -> bytes:
    """Reads a regular file of at most `limit` bytes.

    Raises:
      OSError: as `open_regular`; or it is longer.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if limit is not None and size > limit:
            raise OSError(errno.EFBIG, f"it has {size} bytes, more than {limit}", os.fspath(path))
        return file.read()


def reason(error: Exception) -> str:
    """Returns the text of an error; of an OSError the system's words, without number and path."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def parse_json(text: str | bytes) -> Any:
    """Parses JSON text from an untrusted source.

    Raises:
      ValueError: it is no JSON, no UTF-8, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_json_object(text: str | bytes) -> dict[str, Any]:
    """Parses JSON text that must be an object, from an untrusted source."""
    content = parse_json(text)
    if not isinstance(content, dict):
        raise ValueError(f"it holds {type(content).__name__}, not a JSON object")
    return content


class JsonLine(NamedTuple):
    """One line of a file of JSON lines.

    Attributes:
      number: of the line, from 1.
      text: its bytes, with the line's end.
      value: what it holds; None where there is a problem.
      problem: the reason why it is no JSON; "" if it is.
    """

    number: int
    text: bytes
    value: Any
    problem: str = ""


def json_lines(lines: Iterable[bytes]) -> Iterator[JsonLine]:
    """Parses lines from an untrusted source, each as soon as it is read; skips blank ones."""
    for number, text in enumerate(lines, 1):
        line = text.removeprefix(b"\xef\xbb\xbf") if number == 1 else text
        if line.strip():
            try:
                yield JsonLine(number, text, json.loads(line.decode()))
            except UnicodeDecodeError as error:
                problem = f"not UTF-8 text ({error.reason} at byte {error.start + 1})"
                yield JsonLine(number, text, None, problem)
            except json.JSONDecodeError as error:
                problem = f"not a JSON object ({error.msg} at character {error.pos + 1})"
                yield JsonLine(number, text, None, problem)
            except RecursionError:
                yield JsonLine(number, text, None, "nested too deeply")
            except ValueError as error:  # a number of too many digits
                yield JsonLine(number, text, None, str(error))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Reads the objects that spjax has written to a file, one a line.

    A last line that was cut off, or is still being written, does not count.

    Raises:
      OSError: as `open_regular`.
      DamagedFile: another line is no JSON object; names the file and the line.
    """
    rows = []
    with open_regular(path) as file:
        for line in json_lines(file):
            if isinstance(line.value, dict):
                rows.append(line.value)
            elif line.text.endswith(b"\n"):
                problem = line.problem or f"it holds {type(line.value).__name__}"
                raise DamagedFile(f"{path}:{line.number} is damaged: {problem}")
    return rows


def json_digest(content: Mapping[str, Any]) -> str:
    """Returns `sha256:` and the SHA-256 in hex of a JSON object, whatever its text layout."""
    parsed = json.loads(json.dumps(dict(content)))
    text = json.dumps(parsed, sort_keys=True, separators=(",", ":"))
    return _ALGORITHM + hashlib.sha256(text.encode()).hexdigest()


def write_json(path: Path, content: Mapping[str, Any], indent: int | None = 2) -> dict[str, Any]:
    """Writes a JSON object with its digest under the key `DIGEST`, in full or not at all.

    Returns:
      What was written.

    Raises:
      OSError: as `write_text`.
    """
    sealed = {**content, DIGEST: json_digest(content)}
    text = json.dumps(sealed, indent=indent, sort_keys=True)
    write_text(path, text + "\n")
    return json.loads(text)


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object and checks the digest that `write_json` has put into it.

    Objects without a digest, of older versions, are taken as they are.

    Returns:
      The object without its digest.

    Raises:
      OSError: it cannot be opened.
      DamagedFile: it is no JSON object, or not the one that was written.
    """
    try:
        content = parse_json_object(read_bytes(path, JSON_BYTES))
    except ValueError as error:
        raise DamagedFile(f"{path} is damaged or cut short: {error}") from error
    digest = content.pop(DIGEST, None)
    if digest is None:  # under another name it is ours with a damaged key
        wrong = any(isinstance(x, str) and x.startswith(_ALGORITHM) for x in content.values())
    else:
        wrong = digest != json_digest(content)
    if wrong:
        raise DamagedFile(f"{path} is damaged: its content does not have the digest it names")
    return content


def file_digest(path: Path) -> str:
    """Returns the SHA-256 in hex of a file.

    Raises:
      OSError: as `open_regular`.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sums(path: Path, names: Sequence[str]) -> None:
    """Writes the digests of files beside `path`, as `sha256sum -c` reads them."""
    write_text(path, "".join(f"{file_digest(path.with_name(name))}  {name}\n" for name in names))


def check_sum(path: Path, name: str) -> None:
    """Checks that a file has the digest that `write_sums` has recorded, if any.

    Args:
      path: what `write_sums` wrote, or would have written.
      name: of the file beside it.

    Raises:
      OSError: the file cannot be opened.
      DamagedFile: it has another digest.
    """
    before = None
    while (sums := read_sums(path)) is not None and sums != before:
        if file_digest(path.with_name(name)) == sums.get(name, ""):
            return
        before = sums  # or both are being written anew
    if sums is not None:
        raise DamagedFile(
            f"{path.with_name(name)} is damaged, or was changed: it does not have the digest in "
            f"{path}"
        )


def read_sums(path: Path) -> dict[str, str] | None:
    """Returns the digest of each file by its name, as `write_sums` has recorded them.

    Returns:
      None where nothing is recorded.
    """
    try:
        lines = read_bytes(path, JSON_BYTES).decode(errors="replace").splitlines()
    except FileNotFoundError:
        return None
    return {line[66:]: line[:64] for line in lines if line[64:66] == "  "}
