"""Notebooks are tested on committed evidence: they compute nothing (FPD_COMPUTE=0), and have a store of their own."""

import os
import shutil
import tempfile


def pytest_configure(config):
    config.fpd_store = tempfile.mkdtemp(prefix="fpd-test-store-")
    os.environ |= {"FPD_STORE": config.fpd_store, "FPD_COMPUTE": "0"}  # notebook kernels inherit it


def pytest_unconfigure(config):
    shutil.rmtree(config.fpd_store, ignore_errors=True)
