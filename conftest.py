"""Notebooks are tested on committed evidence: they compute nothing (FPD_COMPUTE=0), have a store of their own, and publish aside."""

import os
import shutil
import tempfile


def pytest_configure(config):
    config.fpd_store = tempfile.mkdtemp(prefix="fpd-test-store-")
    config.fpd_publish = tempfile.mkdtemp(prefix="fpd-test-results-")
    # notebook kernels inherit it
    os.environ |= {"FPD_STORE": config.fpd_store, "FPD_COMPUTE": "0", "FPD_PUBLISH": config.fpd_publish}


def pytest_unconfigure(config):
    shutil.rmtree(config.fpd_store, ignore_errors=True)
    shutil.rmtree(config.fpd_publish, ignore_errors=True)
