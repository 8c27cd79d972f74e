"""Notebooks are tested on what the profile smoke computes: in a store of its own, by the same workers that a user starts."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest


def pytest_configure(config):
    config.fpd_store = tempfile.mkdtemp(prefix="fpd-test-store-")
    os.environ["FPD_STORE"] = config.fpd_store  # notebook kernels inherit it


def pytest_collection_finish(session):
    """Compute smoke once, if notebooks are to be tested."""
    if session.config.option.collectonly or not any(str(item.path).endswith(".ipynb") for item in session.items):
        return
    command = [sys.executable, "-m", "fpdlib", "work", "--profile", "smoke"]
    with session.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        if subprocess.run(command, cwd=Path(__file__).parent).returncode:
            pytest.exit(f"{' '.join(command[1:])} failed, so the notebooks have nothing to show", returncode=1)


def pytest_unconfigure(config):
    shutil.rmtree(config.fpd_store, ignore_errors=True)
