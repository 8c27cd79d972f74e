"""Content-addressed results: a value's key names its folder. Atomic, locked, safe to kill.

    store/
      STORE                      version of the layout
      networks/<key>/            entry.json, model.safetensors, log.csv
      crafted/<key>/             entry.json, images.safetensors: a network's adversarial images, to be transferred
      outcomes/<key>/            entry.json, outcome.parquet
      studies/<key>/             entry.json, and the tables and pictures of one study of a network
      partial/<key>              what an interrupted run continues from
      failed/<key>.txt           the traceback of what could not be computed
      locks/

An entry is written into a temporary folder and renamed, so it is there whole or not at all. `entry.json` holds the specification,
the SHA-256 of the images and of every result that it was computed from, the provenance, and the SHA-256 of every file; each read
checks it. Behind the store lies committed evidence, which is read as if it were in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from filelock import FileLock, Timeout

from fpdlib.errors import Busy, FPDError, NotComputed
from fpdlib.evaluation import studies
from fpdlib.evaluation.outcomes import read_outcome
from fpdlib.files import project_folder, replace_file, sha256, writing
from fpdlib.keys import plain
from fpdlib.results.committed import Committed

if TYPE_CHECKING:
    from fpdlib.results.values import Network, Outcome, Result, Study

VERSION = 2
KINDS = ("networks", "crafted", "outcomes", "studies")
KEY = re.compile(r".+-[0-9a-f]{12}")  # see `keys.key_of`


def key_of_partial(path: Path) -> str:
    """The key in the name of a result's folder, of an unfinished state (`<key>@<weights>`), or of what was being written (`.tmp`)."""
    name = path.name.rsplit(".", 2)[0] if path.name.endswith(".tmp") else path.name
    return name.split("@")[0]


class Store:
    """Results under `root` (default: environment FPD_STORE, else `store/`); reading makes no folder.

    committed: what lies behind it. Raises FPDError when the folder was written by another version of the layout, is none, or cannot
    be written.
    """

    def __init__(self, root: str | os.PathLike | None = None, committed: Committed | None = None):
        if root is not None and not isinstance(root, (str, os.PathLike)):
            raise FPDError(f"store is {root!r}; accepted: the path of a folder, or '' for the default.")
        self.committed = committed or Committed(Path("nothing"))
        self.root = Path(root).expanduser() if root else project_folder("store", "FPD_STORE")
        if self.root.exists() and not self.root.is_dir():
            raise FPDError(f"store {self.root} is a file, not a folder. Name a folder (FPD_STORE or --store).")
        marker = self.root / "STORE"
        if marker.exists() and (found := marker.read_text(errors="replace").strip()) != str(VERSION):
            raise FPDError(
                f"store {self.root} has layout version {found!r}; this version of the kit reads {VERSION}. "
                "Use the kit's version that wrote it, or another folder (FPD_STORE or --store)."
            )

    def prepare(self) -> None:
        """Make the folders, before something is computed, and clear what a killed process was writing."""
        with writing(self.root):
            for folder in (*KINDS, "partial", "failed", "locks"):
                (self.root / folder).mkdir(parents=True, exist_ok=True)
                if (self.root / folder).stat().st_dev != self.root.stat().st_dev:  # nothing could be renamed into it
                    raise FPDError(f"{self.root / folder} lies on another file system than the store; accepted: one for all of it.")
            if not (self.root / "STORE").exists():
                replace_file(self.root / "STORE", lambda path: path.write_text(f"{VERSION}\n"))
            for path in (self.root / "partial").glob("*.tmp"):
                if not self.busy(key_of_partial(path)):  # its writer may end at this moment, and take it away
                    shutil.rmtree(path, ignore_errors=True)
                    with contextlib.suppress(OSError):
                        path.unlink()

    def folder(self, result: Result) -> Path:
        return self.root / result.kind / result.key

    def partial(self, result: Result) -> Path:
        """The unfinished state of a result, which belongs to the very weights that it is computed from."""
        weights = "".join(self.near(need)["sha256"][need.file] for need in result.needs)
        return self.root / "partial" / (result.key + (f"@{hashlib.sha256(weights.encode()).hexdigest()[:8]}" if weights else ""))

    def own(self, result: Result) -> bool:
        """Whether the store itself has a result, and the file of it that others are computed from."""
        return (self.folder(result) / "entry.json").exists() and (self.folder(result) / result.file).exists()

    def busy(self, key: str) -> bool:
        """Whether another process computes a result now."""
        if not (self.root / "locks" / f"{key}.lock").exists():
            return False
        try:
            with self.lock(key):
                return False
        except Busy:
            return True
        except OSError:  # a store that can only be read
            return False

    def here(self, result: Result) -> bool:
        """Whether the file is there that others are computed from, in the store itself or as a committed checkpoint."""
        return self.own(result) or self.committed.checkpoint(result.key) is not None

    def has(self, result: Result) -> bool:
        """Whether a result can be read, here or as evidence (which has few checkpoints)."""
        return self.committed.has(result.key) or (self.folder(result) / "entry.json").exists()

    def entry(self, result: Result) -> dict:
        """`meta` and `sha256` of a result, as evidence has them, else from here."""
        return self.committed.entry(result.key) if self.committed.has(result.key) else self.own_entry(result)

    def near(self, result: Result) -> dict:
        """The entry that belongs to the file which `file` gives: the store's own, else the committed one."""
        own = self.own(result) or not self.committed.checkpoint(result.key)
        return self.own_entry(result) if own else self.committed.entry(result.key)

    def own_entry(self, result: Result) -> dict:
        """`entry.json` of a result in the store itself. NotComputed if it is not there."""
        path = self.folder(result) / "entry.json"
        if not path.exists():
            raise NotComputed(f"{result.key} is not in the store {self.root}; `python -m fpdlib work` computes it.")
        try:
            entry = json.loads(path.read_text())
            _ = entry["sha256"], entry["meta"]["needs"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FPDError(f"{path} cannot be read ({error}). Delete the folder {path.parent} to recompute it.") from error
        return entry

    def file(self, result: Result, name: str = "") -> Path:
        """Path of one file of a result in the store itself, or of a committed checkpoint (default: the main one), after its checksum
        was verified."""
        name = name or result.file
        path, expected = self.folder(result) / name, self.near(result)["sha256"].get(name)
        if not self.own(result) and name == result.file:
            path = self.committed.checkpoint(result.key) or path
        found = sha256(path) if path.exists() else "no file"
        if found != expected:
            mend = (
                f"Delete the folder {path.parent} to recompute it."
                if self.root in path.parents
                else "Restore it with `git checkout`."
            )
            raise FPDError(f"{path} is damaged: its SHA-256 is {found[:12]}, its entry says {str(expected)[:12]}. {mend}")
        return path

    def outcome(self, result: Outcome) -> pd.DataFrame:
        """A row an attacked image and epsilon (see `evaluation.outcomes`)."""
        if self.committed.has(result.key):
            return self.committed.outcome(result.key)
        self._check_needs(result)
        return read_outcome(self.file(result))

    def log(self, network: Network) -> pd.DataFrame:
        """Training log, one row an epoch."""
        if self.committed.has(network.key):
            return self.committed.log(network.key)
        return pd.read_csv(self.file(network, "log.csv"))

    def files(self, study: Study) -> dict[str, Path | BytesIO]:
        if self.committed.has(study.key):
            return self.committed.files(study.key)
        self._check_needs(study)
        return {name: self.file(study, name) for name in self.own_entry(study)["sha256"]}

    def study(self, study: Study) -> studies.Found:
        return studies.read(self.files(study))

    def _check_needs(self, result: Result) -> None:
        """A network trained again elsewhere (other threads, a GPU) has other bits than the one that was attacked."""
        for need in result.needs:
            attacked = self.own_entry(result)["meta"]["needs"].get(need.key)
            if attacked and self.here(need) and attacked != (now := self.near(need)["sha256"].get(need.file)):
                raise FPDError(
                    f"{result.key} was computed on other weights of {need.network.name} (SHA-256 {attacked[:12]}) than the store has "
                    f"now ({now[:12]}). Delete {self.folder(result)} to compute it anew from the present ones."
                )

    def _same_images(self, result: Result, images: str) -> None:
        for need in result.needs:
            if (before := self.near(need)["meta"]["data"]) != images:
                raise FPDError(
                    f"the images of {result.network.network.dataset} are others (SHA-256 {images[:12]}) than those of {need.key} "
                    f"({before[:12]}). Restore the data folder, or use another store (FPD_STORE or --store)."
                )

    def add(self, result: Result, inputs, provenance: dict) -> None:
        """Compute a result and add it: its files are written beside, then the folder appears in one rename.

        Raises Busy, without waiting, if another process computes it; nothing is computed if it has appeared meanwhile.
        """
        with self.lock(result.key):
            if self.here(result):
                return
            inputs.used, inputs.images_of = {}, ""
            temporary = self.root / "partial" / f"{result.key}.{uuid.uuid4().hex[:8]}.tmp"
            with writing(self.root):
                try:
                    temporary.mkdir(parents=True)
                    started = time.monotonic()
                    found = {"seconds": 0.0, **result.compute(temporary, inputs)}
                    elapsed = time.monotonic() - started  # of this run, substitutes and measuring included
                    found |= {"seconds": found["seconds"] or elapsed, "elapsed": elapsed}
                    self._same_images(result, inputs.images_of)
                    meta = {"name": result.network.name, "seed": result.network.seed, "what": result.what,
                            "spec": plain(result.identity), "needs": inputs.used, "data": inputs.images_of, **found,
                            "provenance": provenance | {"finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}}  # fmt: skip
                    sums = {path.name: sha256(path) for path in sorted(temporary.iterdir())}
                    (temporary / "entry.json").write_text(json.dumps({"meta": meta, "sha256": sums}, indent=1) + "\n")
                    for path in temporary.iterdir():
                        with open(path, "rb") as file:
                            os.fsync(file.fileno())
                    shutil.rmtree(self.folder(result), ignore_errors=True)  # an entry without its checkpoint, made again
                    os.rename(temporary, self.folder(result))
                finally:
                    shutil.rmtree(temporary, ignore_errors=True)
            self.partial(result).unlink(missing_ok=True)

    def unknown(self, keys: set[str]) -> list[Path]:
        """Folders and unfinished states of results that are not among these keys, and that nobody computes now; what has no result's
        name is somebody else's. FPDError if the folder is no store."""
        if self.root.exists() and not (self.root / "STORE").exists():
            raise FPDError(f"{self.root} is no store: it has no file STORE. Name the folder of a store (FPD_STORE or --store).")
        paths = [path for kind in (*KINDS, "partial") for path in sorted((self.root / kind).glob("*"))]
        named = [path for path in paths if KEY.fullmatch(key_of_partial(path)) and (path.is_dir() or path.parent.name == "partial")]
        return [path for path in named if (key := key_of_partial(path)) not in keys and not self.busy(key)]

    def seeds(self) -> list[int]:
        """Of the results that are there, whatever plan they are of."""
        found = set()
        for path in (path for kind in KINDS for path in (self.root / kind).glob("*/entry.json")):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # a damaged one says so when it is read
                found.add(int(json.loads(path.read_text())["meta"]["seed"]))
        return sorted(found)

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold `key` against other processes, or Busy at once.

        The operating system drops the lock when its holder dies, so a killed run never blocks the next one.
        """
        lock = FileLock(self.root / "locks" / f"{key}.lock")
        try:
            with lock.acquire(timeout=0):
                yield
        except Timeout:
            raise Busy(f"{key} is being computed by another process on store {self.root}.") from None
