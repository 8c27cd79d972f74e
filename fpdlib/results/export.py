"""From the store to evidence: everything of a profile that is there and that a table, claim or notebook reads."""

from __future__ import annotations

import io
import json
from pathlib import Path

from fpdlib.errors import FPDError
from fpdlib.paper.settings import SETTINGS
from fpdlib.results import evidence, plan
from fpdlib.results.lab import Lab


def export(labs: list[Lab], out: Path) -> Path:
    """Write everything of these labs' profile that is there, and that the plan still knows, as evidence; returns its folder."""
    rows, outcomes, logs, studies = [], {}, {}, {}
    store = labs[0].store

    def add(kind: str, key: str, result: plan.Result, what: str = "") -> None:
        entry = store.entry(kind, key)
        if kind == "outcomes" and "weights" not in entry["meta"]:  # from before outcomes named them: their store's network, inferred
            entry["meta"]["weights_inferred"] = True
            entry["meta"]["weights"] = store.entry("networks", entry["meta"]["network"])["sha256"].get("model.safetensors", "")
        rows.append({"kind": kind, "key": key, "setting": result.setting, "network": result.name, "seed": result.seed,
                     "what": what or result.what, "meta": json.dumps(entry["meta"]),
                     "sha256": json.dumps(entry["sha256"])})  # fmt: skip

    for result in plan.plan(labs, SETTINGS).values():
        lab = next(lab for lab in labs if lab.seed == result.seed).at(result.setting)
        if result.kind == "network" and store.has("networks", result.key):
            add("networks", result.key, result)
            logs[result.key] = lab.log(result.name)
            for key in (key for key in store.keys("diagnostics") if store.entry("diagnostics", key)["meta"]["network"] == result.key):
                add("diagnostics", key, result, store.entry("diagnostics", key)["meta"]["study"])
                files = lab.store.evidence.files(key) if not store.local("diagnostics", key) else {
                    name: store.file("diagnostics", key, name) for name in store.entry("diagnostics", key)["sha256"]}  # fmt: skip
                studies[key] = {name: content_of(file) for name, file in files.items()}
        elif result.kind == "outcome" and store.has("outcomes", result.key, "outcome.parquet"):
            add("outcomes", result.key, result)
            outcomes.setdefault(result.setting, {})[result.key] = lab.outcome(result.name, result.what)
    folder = out / labs[0].profile.name / "evidence"
    if not rows:
        raise FPDError(f"nothing of profile {labs[0].profile.name} is in the store {store.root}; run `python -m fpdlib work` first.")
    evidence.write(folder, labs[0].profile.name, rows, outcomes, logs, studies)
    return folder


def content_of(file: Path | io.BytesIO) -> bytes:
    return file.getvalue() if isinstance(file, io.BytesIO) else file.read_bytes()
