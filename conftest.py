"""Tests and notebooks read a copy of the committed smoke outcomes, so that nothing they do changes the evidence."""

import os
import shutil
import tempfile
from pathlib import Path

EVIDENCE = Path(__file__).parent / "results" / "smoke" / "store"


def pytest_configure(config):
    config.fpd_store = tempfile.mkdtemp(prefix="fpd-test-store-")
    if EVIDENCE.exists():
        shutil.copytree(EVIDENCE, config.fpd_store, dirs_exist_ok=True)
    os.environ["FPD_STORE"] = config.fpd_store  # notebook kernels inherit it


def pytest_unconfigure(config):
    shutil.rmtree(config.fpd_store, ignore_errors=True)
