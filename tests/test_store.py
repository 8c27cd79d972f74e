"""Atomic, checksummed, versioned, locked; a full disk and a second process. On results that write a line of text."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from safetensors import SafetensorError

from fpdlib.errors import Busy, FPDError, NotComputed
from fpdlib.files import replace_file
from fpdlib.results import store as store_module
from fpdlib.results.store import Store

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Text:
    """A result that is a text; needs: others whose text it was made from."""

    key: str = "a-1"
    text: str = "hello"
    needs: tuple = ()

    kind: ClassVar[str] = "outcomes"
    file: ClassVar[str] = "data.txt"
    what: ClassVar[str] = "text"

    @property
    def network(self):
        return SimpleNamespace(name="T", seed=0, network=SimpleNamespace(dataset="none"))

    @property
    def identity(self):
        return {"text": self.text}

    def compute(self, folder, inputs):
        (folder / self.file).write_text(self.text)
        return {"n": 1}


def put(store, result=None):
    store.prepare()
    store.add(result or Text(), SimpleNamespace(used={}, images_of="images"), {"code": "c"})


def test_an_entry_round_trips(tmp_path):
    store = Store(tmp_path)
    assert not store.has(Text()) and not store.here(Text())
    put(store)
    assert store.has(Text()) and store.here(Text()) and store.file(Text()).read_text() == "hello"
    meta = store.entry(Text())["meta"]
    assert meta["n"] == 1 and meta["seconds"] > 0 and meta["spec"] == {"text": "hello"} and meta["data"] == ""
    assert {"needs", "provenance", "name", "seed", "what"} <= set(meta) and not list((tmp_path / "partial").iterdir())


def test_reading_makes_no_folder(tmp_path):
    store = Store(tmp_path / "typo")
    assert not store.has(Text()) and not (tmp_path / "typo").exists()
    with pytest.raises(NotComputed, match=r"a-1 is not in the store .*typo; `python -m fpdlib work` computes it"):
        store.entry(Text())


def test_an_entry_without_its_checkpoint_can_be_made_again(tmp_path):
    store = Store(tmp_path)
    put(store)
    (store.folder(Text()) / "data.txt").unlink()
    assert store.has(Text()) and not store.here(Text())
    put(store, Text(text="again"))
    assert store.file(Text()).read_text() == "again"


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"x" + b[1:], lambda b: b""])
def test_damaged_files_are_named(tmp_path, damage):
    store = Store(tmp_path)
    put(store)
    path = store.folder(Text()) / "data.txt"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FPDError, match=r"data\.txt is damaged.*Delete the folder"):
        store.file(Text())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"meta": {}}'])
def test_a_damaged_entry_is_named(tmp_path, text):
    store = Store(tmp_path)
    put(store)
    (store.folder(Text()) / "entry.json").write_text(text)
    with pytest.raises(FPDError, match=r"entry\.json cannot be read.*Delete the folder"):
        store.entry(Text())


def test_a_store_of_another_version_is_refused_and_left_alone(tmp_path):
    put(Store(tmp_path))
    (tmp_path / "STORE").write_text("99\n")
    with pytest.raises(FPDError, match=r"layout version '99'.*reads 2.*another folder"):
        Store(tmp_path)
    assert (tmp_path / "outcomes" / "a-1" / "data.txt").read_text() == "hello"


def test_what_is_no_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FPDError, match="is a file, not a folder"):
        Store(tmp_path / "file")
    with pytest.raises(FPDError, match="store is 3"):
        Store(3)
    with pytest.raises(FPDError, match="could not be written"):
        Store(tmp_path / "file" / "store").prepare()


class Full(Text):
    def compute(self, folder, inputs):
        (folder / self.file).write_text("half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_everything_as_it_was(tmp_path):
    store = Store(tmp_path)
    put(store)
    with pytest.raises(FPDError, match=r"No space left.*Nothing was half-written.*FPD_STORE"):
        put(store, Full("b-2"))
    target = tmp_path / "state"
    target.write_text("old")
    with pytest.raises(FPDError, match="disk is full"):
        replace_file(target, lambda path: Full().compute(path.parent, None))
    assert target.read_text() == "old" and not store.has(Full("b-2")) and store.has(Text())
    assert not list((tmp_path / "partial").iterdir()) and not list(tmp_path.glob("*.tmp"))


def test_a_file_size_limit_is_a_full_disk(tmp_path):
    """A real refusal by the operating system, not a simulated one."""
    script = (
        "import resource, signal, sys; sys.path.insert(0, 'tests'); from test_store import Store, Text, put\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "store = Store(sys.argv[1]); store.prepare()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "put(store, Text(text='x' * 5000))\n"
    )
    run = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode != 0 and "could not be written (File too large)" in run.stderr
    assert not Store(tmp_path).has(Text()) and not list((tmp_path / "partial").iterdir())


def test_killed_between_writing_and_renaming(tmp_path, monkeypatch):
    store = Store(tmp_path)

    class Killed(BaseException):
        pass

    monkeypatch.setattr(store_module.os, "rename", lambda *_: (_ for _ in ()).throw(Killed()))
    with pytest.raises(Killed):
        put(store)
    monkeypatch.undo()
    assert not store.has(Text())
    put(store)
    assert store.has(Text())


def test_what_was_computed_from_other_images_is_refused(tmp_path):
    store = Store(tmp_path)
    put(store, Text("n-1"))
    entry = tmp_path / "outcomes" / "n-1" / "entry.json"
    entry.write_text(entry.read_text().replace('"data": ""', '"data": "other"'))
    with pytest.raises(FPDError, match=r"the images of none are others .*than those of n-1 \(other"):
        put(store, Text("a-1", needs=(Text("n-1"),)))
    assert not store.has(Text())


def test_the_rename_keeps_it_right_without_locks(tmp_path, monkeypatch):
    """Two processes that both computed it: one entry, whole, and no error."""
    store = Store(tmp_path)
    monkeypatch.setattr(Store, "lock", lambda self, key: __import__("contextlib").nullcontext())

    class Slow(Text):
        def compute(self, folder, inputs):
            Store(tmp_path).add(Text(text="the other's"), inputs, {})  # it was faster
            return super().compute(folder, inputs)

    put(store, Slow(text="mine"))
    assert store.file(Text()).read_text() == "mine" and not list((tmp_path / "partial").iterdir())


def test_a_lock_is_never_waited_for_and_dies_with_its_holder(tmp_path):
    script = (
        "import sys, time; from fpdlib.results.store import Store\n"
        "store = Store(sys.argv[1]); store.prepare()\n"
        "with store.lock('k'): print('held', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout.readline() == b"held\n"
    store, started = Store(tmp_path), time.monotonic()
    with pytest.raises(Busy, match="computed by another process"), store.lock("k"):
        pass
    assert time.monotonic() - started < 1 and store.busy("k") and not store.busy("other")
    process.kill()
    process.wait()
    with store.lock("k"):
        assert not store.busy("other")
    assert not store.busy("k")


def test_an_unfinished_state_belongs_to_the_weights_it_was_begun_with(tmp_path):
    """Retrained with other bits, a network is attacked from the first image on: no outcome is of two networks."""
    store = Store(tmp_path)
    put(store)
    after = Text("after-1", needs=(Text(),))
    first = store.partial(after)
    assert first.name.startswith("after-1@") and store.partial(Text()).name == "a-1"
    (store.folder(Text()) / "data.txt").unlink()
    put(store, Text(text="other bits"))
    assert store.partial(after) != first


def test_what_a_killed_process_was_writing_is_cleared(tmp_path):
    store = Store(tmp_path)
    store.prepare()
    (tmp_path / "partial" / "a-1@12345678.ab12cd34.tmp").write_text("half a state")
    (tmp_path / "partial" / "b-2.ab12cd34.tmp").mkdir()
    store.prepare()
    assert not list((tmp_path / "partial").iterdir())


class Elsewhere(Text):
    def compute(self, folder, inputs):
        return open("/nowhere/images.npz")


def test_what_fails_elsewhere_is_not_called_a_full_store(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"images\.npz"):
        put(Store(tmp_path), Elsewhere())
    assert not list((tmp_path / "partial").iterdir())


def test_what_no_plan_knows(tmp_path):
    store = Store(tmp_path)
    put(store)
    put(store, Text("old-000000000001"))
    (tmp_path / "partial" / "old-000000000002").write_text("")
    paths = store.unknown({"a-1"})
    assert [path.name for path in paths] == ["old-000000000001", "old-000000000002"]
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert store.has(Text()) and not store.unknown({"a-1"})


def test_what_is_no_result_s_is_nobody_s_to_delete(tmp_path):
    """Folders of other things that are called alike, and files beside the entries."""
    (tmp_path / "elsewhere" / "networks" / "mine-0123456789ab").mkdir(parents=True)
    with pytest.raises(FPDError, match="is no store: it has no file STORE"):
        Store(tmp_path / "elsewhere").unknown(set())
    store = Store(tmp_path / "store")
    put(store)
    (store.root / "studies" / "2023").mkdir()
    (store.root / "networks" / "net-0123456789ab").write_text("a file")
    (store.root / "networks" / "old-0123456789ab").mkdir()
    assert [path.name for path in store.unknown({"a-1"})] == ["old-0123456789ab"]
    assert store.seeds() == [0] and Store(tmp_path / "nothing").seeds() == []


def test_a_store_that_can_only_be_read_is_not_busy(tmp_path, monkeypatch):
    store = Store(tmp_path)
    put(store)

    def refused(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("fpdlib.results.store.FileLock.acquire", refused)
    assert (tmp_path / "locks" / "a-1.lock").exists() and not store.busy("a-1")


def test_a_part_of_the_store_on_another_file_system_is_named_before_anything_is_computed(tmp_path):
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no other file system")
    with tempfile.TemporaryDirectory(dir=memory) as there:
        (tmp_path / "networks").symlink_to(there)
        with pytest.raises(FPDError, match=r"networks lies on another file system than the store"):
            put(Store(tmp_path))


def test_a_full_disk_is_said_whoever_writes(tmp_path):
    def full(path):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    def damaged(path):
        raise SafetensorError("header too small")

    with pytest.raises(FPDError, match="The disk is full"):
        replace_file(tmp_path / "x", full)
    with pytest.raises(SafetensorError):
        replace_file(tmp_path / "x", damaged)
