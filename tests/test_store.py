"""Atomic, checksummed, versioned, locked; a full disk and a second process."""

import errno
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from fpdlib.errors import FPDError
from fpdlib.files import replace_file
from fpdlib.results import store as store_module
from fpdlib.results.store import Store, key_of, plain

ROOT = Path(__file__).parent.parent


def put(store, key="a-1", text="hello"):
    store.write("outcomes", key, {"data.txt": lambda path: path.write_text(text)}, {"n": 1})


def test_an_entry_round_trips(tmp_path):
    store = Store(tmp_path)
    assert not store.has("outcomes", "a-1")
    put(store)
    assert store.has("outcomes", "a-1", "data.txt") and store.keys("outcomes") == ["a-1"]
    assert store.file("outcomes", "a-1", "data.txt").read_text() == "hello"
    assert store.entry("outcomes", "a-1")["meta"] == {"n": 1}
    assert not list((tmp_path / "partial").iterdir())


def test_an_entry_without_its_checkpoint_can_be_made_again(tmp_path):
    store = Store(tmp_path)
    put(store)
    (store.folder("outcomes", "a-1") / "data.txt").unlink()
    assert store.has("outcomes", "a-1") and not store.has("outcomes", "a-1", "data.txt")
    put(store, text="again")
    assert store.file("outcomes", "a-1", "data.txt").read_text() == "again"


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"x" + b[1:], lambda b: b""])
def test_damaged_files_are_named(tmp_path, damage):
    store = Store(tmp_path)
    put(store)
    path = store.folder("outcomes", "a-1") / "data.txt"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FPDError, match=r"data\.txt is damaged.*Delete the folder"):
        store.file("outcomes", "a-1", "data.txt")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"meta": {}}'])
def test_a_damaged_entry_is_named(tmp_path, text):
    store = Store(tmp_path)
    put(store)
    (store.folder("outcomes", "a-1") / "entry.json").write_text(text)
    with pytest.raises(FPDError, match=r"entry\.json cannot be read.*Delete the folder"):
        store.entry("outcomes", "a-1")


def test_a_store_of_another_version_is_refused_and_left_alone(tmp_path):
    put(Store(tmp_path))
    (tmp_path / "STORE").write_text("99\n")
    with pytest.raises(FPDError, match=r"layout version '99'.*reads 1.*another folder"):
        Store(tmp_path)
    assert (tmp_path / "outcomes" / "a-1" / "data.txt").read_text() == "hello"


def test_a_full_disk_leaves_everything_as_it_was(tmp_path, monkeypatch):
    store = Store(tmp_path)
    put(store)

    def full(path):
        path.write_text("half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(FPDError, match=r"No space left.*Nothing was half-written.*FPD_STORE"):
        store.write("outcomes", "b-2", {"data.txt": full}, {})
    target = tmp_path / "state"
    target.write_text("old")
    with pytest.raises(FPDError, match="disk is full"):
        replace_file(target, full)
    assert target.read_text() == "old" and store.keys("outcomes") == ["a-1"]
    assert not list((tmp_path / "partial").iterdir()) and not list(tmp_path.glob("*.tmp"))


def test_a_file_size_limit_is_a_full_disk(tmp_path):
    """A real refusal by the operating system, not a simulated one."""
    script = (
        "import resource, signal, sys; from fpdlib.results.store import Store\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "store = Store(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "store.write('outcomes', 'a-1', {'big': lambda p: p.write_bytes(bytes(5000))}, {})\n"
    )
    run = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode != 0 and "could not be written (File too large)" in run.stderr
    assert Store(tmp_path).keys("outcomes") == [] and not list((tmp_path / "partial").iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FPDError, match="could not be written"):
        Store(tmp_path / "file" / "store")


def test_killed_between_writing_and_renaming(tmp_path, monkeypatch):
    store = Store(tmp_path)

    class Killed(BaseException):
        pass

    monkeypatch.setattr(store_module.os, "rename", lambda *_: (_ for _ in ()).throw(Killed()))
    with pytest.raises(Killed):
        put(store)
    monkeypatch.undo()
    assert store.keys("outcomes") == []
    put(store)
    assert store.keys("outcomes") == ["a-1"]


def test_two_processes_share_a_store(tmp_path):
    """The second waits for the first; a lock dies with its holder."""
    script = (
        "import sys, time; from fpdlib.results.store import Store\n"
        "with Store(sys.argv[1]).lock('k'): print('held', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout.readline() == b"held\n"
    store = Store(tmp_path)
    with pytest.raises(FPDError, match="computed by another process"), store.lock("k", patience=0.2):
        pass
    with store.lock("other", patience=0.2):
        pass
    process.kill()
    process.wait()
    started = time.monotonic()
    with store.lock("k", patience=10):
        assert time.monotonic() - started < 5


@dataclass(frozen=True)
class Spec:
    a: int = 1
    b: tuple = (("x", (1, 2)),)


def test_keys_are_stable_readable_and_differ_with_the_spec():
    assert key_of("F (release)", {"s": Spec()}) == key_of("F (release)", {"s": Spec(1)})
    assert key_of("F (release)", {"s": Spec()}).startswith("F__release_-")
    assert len({key_of("F", {"s": s}) for s in (Spec(), Spec(2), Spec(b=()))}) == 3
    assert plain(Spec(a=5)) == {"type": "Spec", "a": 5}
    with pytest.raises(TypeError, match="plain values"):
        plain({"x": object()})
    json.dumps(plain({"x": Spec(b=(1,))}))
