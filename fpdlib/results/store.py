"""Content-addressed results: spec -> hash -> folder. Atomic, locked, safe to kill.

    store/
      STORE                        version of the layout
      networks/<name>-<hash>/      entry.json, model.safetensors, log.csv
      crafted/<name>-<hash>/       entry.json, images.safetensors: a network's adversarial images, to be transferred
      outcomes/<name>-<hash>/      entry.json, outcome.parquet
      diagnostics/<name>-<hash>/   entry.json, and the tables and pictures of one study of a network
      partial/<name>-<hash>.*      what an interrupted run continues from
      locks/

An entry is written into a temporary folder and renamed, so it is there whole or not at all. `entry.json` holds the
spec, the provenance and the SHA-256 of every file; each read checks it.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from filelock import FileLock, Timeout

from fpdlib.errors import Busy, FPDError
from fpdlib.results.evidence import Evidence
from fpdlib.files import project_folder, replace_file, sha256, writing

VERSION = 1
KINDS = ("networks", "crafted", "outcomes", "diagnostics")


def plain(value):
    """A spec as plain JSON values: dataclasses become objects that carry their type's name.

    Fields at their default are left out, so that a new option leaves the hashes of what exists alone; a field whose default
    is not what stood for it before it was added says so (`unnamed`). Neither may ever change; a test pins the hashes.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # a field that was renamed goes on under the name it was first hashed as
        fields = {
            f.metadata.get("hashed_as", f.name): (getattr(value, f.name), f.metadata.get("unnamed", f.default))
            for f in dataclasses.fields(value)
        }
        changed = {name: plain(given) for name, (given, unnamed) in fields.items() if given != unnamed}
        return {"type": type(value).__name__, **changed}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"a spec holds plain values only, not {type(value).__name__}")


def key_of(name: str, spec) -> str:
    """`<name>-<12 hex digits>`; the digits are the SHA-256 of the canonical JSON of `spec`."""
    text = json.dumps(plain(spec), sort_keys=True, separators=(",", ":"))
    slug = "".join(c if c.isalnum() or c in "._+" else "_" for c in name)
    return f"{slug}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


class Store:
    """Results under `root` (default: environment FPD_STORE, else `store/`), and behind them those of committed evidence.

    reading: nothing is written; without evidence, the folder has to be there.
    Raises FPDError when the folder was written by another version of the layout, is none, or cannot be written.
    """

    def __init__(self, root: str | os.PathLike | None = None, reading: bool = False, evidence: Evidence | None = None):
        self.evidence = evidence or Evidence(Path("no-evidence"))
        self.root = Path(root) if root else project_folder("store", "FPD_STORE")
        marker = self.root / "STORE"
        hint = "Name the folder of a store (FPD_STORE or --store), or run without --stored to make one."
        if self.root.exists() and not self.root.is_dir():
            raise FPDError(f"store {self.root} is a file, not a folder. {hint}")
        if reading and not marker.exists():
            if not self.evidence.results.empty:
                return  # nothing of one's own: what is committed can be read
            raise FPDError(f"there is no store in {self.root}. {hint}")
        with nullcontext() if reading else writing(self.root):
            for folder in () if reading else (*KINDS, "partial", "locks"):
                (self.root / folder).mkdir(parents=True, exist_ok=True)
            if not marker.exists():
                replace_file(marker, lambda path: path.write_text(f"{VERSION}\n"))
        try:
            found = marker.read_text().strip()
        except (OSError, ValueError) as error:
            raise FPDError(f"{marker} cannot be read ({error}). {hint}") from error
        if found != str(VERSION):
            raise FPDError(
                f"store {self.root} has layout version {found!r}; this version of the kit reads {VERSION}. "
                "Use the kit's version that wrote it, or another folder (FPD_STORE or --store)."
            )

    def folder(self, kind: str, key: str) -> Path:
        return self.root / kind / key

    def partial(self, key: str, suffix: str) -> Path:
        """Where an unfinished run of `key` keeps its state."""
        return self.root / "partial" / f"{key}{suffix}"

    def has(self, kind: str, key: str, *files: str) -> bool:
        """Whether an entry exists, here or as evidence, and has these files (evidence has no checkpoints)."""
        return self.local(kind, key, *files) or self.evidence.has(kind, key, *files)

    def local(self, kind: str, key: str, *files: str) -> bool:
        folder = self.folder(kind, key)
        return (folder / "entry.json").exists() and all((folder / file).exists() for file in files)

    def entry(self, kind: str, key: str, *fields: str) -> dict:
        """`entry.json` of an entry: spec, provenance, checksums. FPDError if it cannot be read, or its `meta` lacks a field."""
        path = self.folder(kind, key) / "entry.json"
        if not path.exists() and self.evidence.has(kind, key):
            return self.evidence.entry(kind, key)
        try:
            entry = json.loads(path.read_text())
            _ = entry["sha256"], [entry["meta"][name] for name in fields]
        except FileNotFoundError:
            raise FPDError(f"{path} is missing; run `python -m fpdlib status` to see what the store holds.") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FPDError(
                f"{path} cannot be read ({error}). Delete the folder {path.parent} to recompute it."
            ) from error
        return entry

    def file(self, kind: str, key: str, name: str) -> Path:
        """Path of one file of an entry, after its checksum was verified."""
        path = self.folder(kind, key) / name
        expected = self.entry(kind, key)["sha256"].get(name)
        found = sha256(path) if path.exists() else "no file"
        if found != expected:
            raise FPDError(
                f"{path} is damaged: its SHA-256 is {found[:12]}, entry.json says {str(expected)[:12]}. "
                f"Delete the folder {path.parent} to recompute it."
            )
        return path

    def write(self, kind: str, key: str, files: dict[str, Callable[[Path], None]], meta: dict) -> None:
        """Add an entry: each file is written by its function, then the folder appears in one rename."""
        target = self.folder(kind, key)
        temporary = self.root / "partial" / f"{key}.{uuid.uuid4().hex[:8]}.tmp"
        with writing(target):
            try:
                temporary.mkdir(parents=True)
                for name, write in files.items():
                    write(temporary / name)
                entry = {"meta": plain(meta), "sha256": {name: sha256(temporary / name) for name in files}}
                (temporary / "entry.json").write_text(json.dumps(entry, indent=1) + "\n")
                for path in temporary.iterdir():
                    with open(path, "rb") as file:
                        os.fsync(file.fileno())
                if target.exists():  # an entry without its checkpoint, made again
                    shutil.rmtree(target)
                os.rename(temporary, target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    def keys(self, kind: str) -> list[str]:
        return sorted({path.parent.name for path in (self.root / kind).glob("*/entry.json")} | set(self.evidence.keys(kind)))

    @contextmanager
    def lock(self, key: str, patience: float = -1) -> Iterator[None]:
        """Hold `key` against other processes; waits `patience` seconds (default: for ever), then Busy.

        The operating system drops the lock when its holder dies, so a killed run never blocks the next one.
        """
        lock = FileLock(self.root / "locks" / f"{key}.lock")
        try:
            with lock.acquire(timeout=patience):
                yield
        except Timeout:
            raise Busy(
                f"{key} is being computed by another process on store {self.root}. "
                "Wait for it, or give this run a store of its own (FPD_STORE or --store)."
            ) from None
