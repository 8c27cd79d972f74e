"""Folders of the project, checksums, and files that are there whole or not at all."""

import errno
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from fpdlib.errors import FPDError


def project_folder(name: str, variable: str) -> Path:
    """A folder of the project: the environment variable if set, else `name` beside the package's checkout.

    Not relative to the working directory: JupyterLab runs a notebook in `notebooks/`, papermill in the project's root.
    """
    return Path(os.environ.get(variable) or project() / name)


def project() -> Path:
    """The checkout of the package, or the working directory if it is installed without one."""
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "pyproject.toml").exists() else Path.cwd()


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def writing(what: Path) -> Iterator[None]:
    """Turn a failed write of this file or folder (full disk, no permission) into one clear error; other errors go on."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        full = getattr(error, "errno", 0) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or "No space left" in str(error)
        if not full and isinstance(error, SafetensorError):
            raise
        name, why = Path(str(getattr(error, "filename", None) or what)), getattr(error, "strerror", None) or error
        if not full and what not in (name, *name.parents) and name not in what.parents and name.parent != what.parent:
            raise
        hint = "The disk is full: free some space" if full else "Check the folder's permissions"
        raise FPDError(
            f"{what} could not be written ({why}). Nothing was half-written and earlier results are intact. {hint} or set "
            "FPD_STORE to another folder, then run the same command again."
        ) from error


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file through a temporary neighbour, so that `path` is either the old or the new content."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(temporary)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
