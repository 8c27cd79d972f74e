"""A profile's results as a few tidy files, which are committed: what a fresh clone shows without computing anything.

    results/<profile>/evidence/
      README.md               the data card
      results.parquet         a row a result: kind, key, setting, network, seed, what, meta and sha256 (JSON)
      outcomes-*.parquet      a row an attacked image and epsilon, one file a setting; `key` names the result
      logs.parquet            training logs, a row an epoch
      studies.parquet         the files of studies of a network
      SHA256SUMS              of the files above

Checkpoints are no evidence: a network is trained again when something that is not here needs it, unless it is one of the few that lie
beside (`results/<profile>/checkpoints/<key>.safetensors`, checked against the SHA-256 that `results.parquet` has).
"""

import functools
import json
import shutil
from io import BytesIO
from pathlib import Path

import pandas as pd

from fpdlib.errors import FPDError
from fpdlib.files import replace_file, sha256, writing

SUMS = "SHA256SUMS"
CARD = Path(__file__).with_name("card.md")  # of the evidence, with fields to be filled


class Committed:
    """What a folder of evidence holds, by key; empty if there is no such folder. FPDError for a file that is damaged or missing."""

    def __init__(self, folder: Path):
        self.folder, self._parts = folder, functools.cache(self._grouped)

    @functools.cached_property
    def _sums(self) -> dict[str, str]:
        lines = (self.folder / SUMS).read_text().splitlines() if (self.folder / SUMS).exists() else []
        return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}

    def _read(self, name: str) -> pd.DataFrame:
        path = self.folder / name
        if not path.exists() or sha256(path) != self._sums.get(name):
            raise FPDError(f"{path} is damaged or missing: its SHA-256 is not that of {SUMS}. Restore it with `git checkout`.")
        return pd.read_parquet(path)

    @functools.cached_property
    def results(self) -> dict[str, dict]:
        """key -> kind, setting, network, seed, what, meta and sha256 (as JSON)."""
        return self._read("results.parquet").set_index("key").to_dict("index") if self._sums else {}

    def has(self, key: str) -> bool:
        return key in self.results

    def entry(self, key: str) -> dict:
        """`meta` and `sha256` of a result, as the store's entry.json has them."""
        return {name: json.loads(self.results[key][name]) for name in ("meta", "sha256")}

    def checkpoint(self, key: str) -> Path | None:
        """The committed weights of a network, or None."""
        path = self.folder.parent / "checkpoints" / f"{key}.safetensors"
        return path if self.has(key) and path.exists() else None

    def _grouped(self, name: str) -> dict[str, pd.DataFrame]:
        groups = self._read(name).groupby("key", sort=False)
        return {key: part.drop(columns="key").reset_index(drop=True) for key, part in groups}

    def outcome(self, key: str) -> pd.DataFrame:
        return self._parts(f"outcomes-{self.results[key]['setting']}.parquet")[key].copy()

    def log(self, key: str) -> pd.DataFrame:
        return self._parts("logs.parquet")[key].copy()

    def files(self, key: str) -> dict[str, BytesIO]:
        """The files of a study."""
        part = self._parts("studies.parquet")[key]
        return {name: BytesIO(content) for name, content in zip(part["file"], part["content"], strict=True)}


def export(rows: pd.DataFrame, store, folder: Path) -> Path:
    """Write what is there of a plan's networks, outcomes and studies as evidence, a folder anew; returns it.

    rows: of a plan; each result goes with the first setting that has it. Raises FPDError if nothing is there.
    """
    results, outcomes, logs, files = [], {}, {}, []
    for line in rows.drop_duplicates("key").sort_values(["kind", "key"]).itertuples():
        result = line.result
        if line.kind == "crafted" or not store.has(result):
            continue
        entry = store.entry(result)
        results.append({"kind": line.kind, "key": line.key, "setting": line.setting, "network": line.network, "seed": line.seed,
                        "what": line.attack or result.what, "meta": json.dumps(entry["meta"]),
                        "sha256": json.dumps(entry["sha256"])})  # fmt: skip
        if line.kind == "networks":
            logs[line.key] = store.log(result)
        elif line.kind == "outcomes":
            outcomes.setdefault(line.setting, {})[line.key] = store.outcome(result)
        else:
            files += [{"key": line.key, "file": name, "content": file.getvalue() if isinstance(file, BytesIO) else file.read_bytes()}
                      for name, file in store.files(result).items()]  # fmt: skip
    if not results:
        raise FPDError(f"nothing of it is in the store {store.root}; run `python -m fpdlib work` first.")
    tables = {"results.parquet": pd.DataFrame(results), "logs.parquet": stacked(logs)}
    tables |= {f"outcomes-{setting}.parquet": stacked(frames) for setting, frames in outcomes.items()}
    tables["studies.parquet"] = pd.DataFrame(files, columns=["key", "file", "content"])
    counts = tables["results.parquet"]["kind"].value_counts()
    card = CARD.read_text().format(profile=folder.parent.name, count=len(results), others=len(of_others(results)),
                       **{kind: counts.get(kind, 0) for kind in ("networks", "outcomes", "studies")})  # fmt: skip
    with writing(folder):
        for name, table in tables.items():
            replace_file(folder / name, lambda path, table=table: table.to_parquet(path, index=False, compression="zstd"))
        replace_file(folder / "README.md", lambda path: path.write_text(card))
        for path in folder.glob("*.parquet"):
            if path.name not in tables:
                path.unlink()
        names = sorted([*tables, "README.md"])
        replace_file(folder / SUMS, lambda path: path.write_text("".join(f"{sha256(folder / n)}  {n}\n" for n in names)))
    return folder


def of_others(results: list[dict]) -> list[str]:
    """The keys of what was measured on other weights than those whose training stands beside it."""
    trained = {line["key"]: json.loads(line["sha256"]).get("model.safetensors") for line in results if line["kind"] == "networks"}
    used = {line["key"]: json.loads(line["meta"]).get("needs", {}) for line in results}
    return [key for key, needs in used.items() if any(trained.get(need, weights) != weights for need, weights in needs.items())]


def keep_checkpoints(rows: pd.DataFrame, store, folder: Path) -> list[Path]:
    """Copy the weights of these networks beside the evidence, where the store has those of the evidence; others are deleted."""
    kept = []
    with writing(folder):
        for result in rows.drop_duplicates("key")["result"]:
            target = folder / f"{result.key}.safetensors"
            same = store.here(result) and store.near(result)["sha256"][result.file] == store.entry(result)["sha256"][result.file]
            if same and store.file(result) != target:
                replace_file(target, lambda path, result=result: shutil.copyfile(store.file(result), path))
            if same or target.exists():
                kept.append(target)
        for path in set(folder.glob("*.safetensors")) - set(kept):
            path.unlink()
    return kept


def stacked(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Frames under each other, `key` first, in the order of their keys."""
    parts = [frame.assign(key=key)[["key", *frame.columns]] for key, frame in sorted(frames.items())]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"key": []})
