"""A profile's results as a few tidy files, which are committed: what a fresh clone shows without computing anything.

    results/<profile>/evidence/
      README.md               the data card
      results.parquet         a row a result: kind, key, setting, network, seed, what, meta and sha256 (JSON)
      outcomes-*.parquet      a row an attacked image and epsilon, one file a setting; `key` names the result
      logs.parquet            training logs, a row an epoch
      studies.parquet         the files of studies of a network
      SHA256SUMS              of the files above

Checkpoints are no evidence: a network is trained again when something that is not here needs it.
"""

from __future__ import annotations

import functools
import io
import json
from pathlib import Path

import pandas as pd

from fpdlib.errors import FPDError
from fpdlib.files import replace_file, sha256, writing

SUMS = "SHA256SUMS"
CARD = """# Evidence of the profile {profile}

{count} results: {networks} trained networks (their specification, recipe, training log and accuracy on the test images), {outcomes} outcomes
of attacks, {studies} studies of a network. Made by `python -m fpdlib export --profile {profile}`; read by every command, notebook and
test of the kit, and by anything that reads Parquet:

```python
import pandas as pd

results = pd.read_parquet("results.parquet")           # key, setting, network, seed, what, meta
outcomes = pd.read_parquet("outcomes-table1.parquet")  # a row an attacked image and epsilon; join by key
```

An outcome has, per image: `index` in the test set, `label`, `eps` (pixel units), `clean_prediction` and `adversarial_prediction` of the
deployed network (-1: not a number), `linf` and `l2` of the perturbation, `loss`, `gradient_is_zero`, `float64_prediction` (-1: not
finite; -2: not asked) and `broken`. Provenance (code, libraries, hardware, threads, time), the SHA-256 of the attacked weights and the
attack with all its parameters are in `meta`; where `weights_inferred` is true, the outcome did not record the weights, and the SHA-256
is that of the network beside it in the same store.

Images: MNIST (CC BY-SA 3.0), Caltech-101 (CC BY 4.0); these files hold predictions, pictures of a few images, and no other pixels.
"""


class Evidence:
    """What a folder of evidence holds, by kind and key; empty if there is no such folder.

    Raises FPDError for a file that is damaged or missing.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._frames: dict[str, dict] = {}

    @functools.cached_property
    def _sums(self) -> dict[str, str]:
        lines = (self.folder / SUMS).read_text().splitlines() if (self.folder / SUMS).exists() else []
        return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}

    def _read(self, name: str) -> pd.DataFrame:
        path = self.folder / name
        if not path.exists() or sha256(path) != self._sums.get(name):
            raise FPDError(f"{path} is damaged or missing: its SHA-256 is not that of {SUMS}. Restore it with `git checkout`.")
        return pd.read_parquet(path)

    @functools.cached_property
    def results(self) -> pd.DataFrame:
        """A row a result, by (kind, key)."""
        if not self._sums:
            return pd.DataFrame(columns=["kind", "key", "setting", "meta", "sha256"]).set_index(["kind", "key"])
        return self._read("results.parquet").set_index(["kind", "key"])

    @functools.cached_property
    def _index(self) -> dict[tuple[str, str], tuple[str, str, dict]]:
        """(kind, key) -> setting, meta as JSON, SHA-256 by file."""
        columns = (self.results[name] for name in ("setting", "meta", "sha256"))
        return {key: (setting, meta, json.loads(sums)) for key, setting, meta, sums in zip(self.results.index, *columns, strict=True)}

    def has(self, kind: str, key: str, *files: str) -> bool:
        found = self._index.get((kind, key))
        return found is not None and "model.safetensors" not in files and set(files) <= set(found[2])

    def keys(self, kind: str) -> list[str]:
        return sorted(key for one, key in self._index if one == kind)

    def entry(self, kind: str, key: str) -> dict:
        """`meta` and `sha256` of a result, as the store's entry.json has them."""
        _, meta, sums = self._index[kind, key]
        return {"meta": json.loads(meta), "sha256": sums}

    def _parts(self, name: str) -> dict[str, pd.DataFrame]:
        if name not in self._frames:
            groups = self._read(name).groupby("key", sort=False)
            self._frames[name] = {key: part.drop(columns="key").reset_index(drop=True) for key, part in groups}
        return self._frames[name]

    def outcome(self, key: str) -> pd.DataFrame:
        return self._parts(f"outcomes-{self._index['outcomes', key][0]}.parquet")[key].copy()

    def log(self, key: str) -> pd.DataFrame:
        return self._parts("logs.parquet")[key].copy()

    def files(self, key: str) -> dict[str, io.BytesIO]:
        """The files of a study."""
        part = self._parts("studies.parquet")[key]
        return {name: io.BytesIO(content) for name, content in zip(part["file"], part["content"], strict=True)}


def write(folder: Path, profile: str, rows: list[dict], outcomes: dict[str, dict[str, pd.DataFrame]], logs: dict[str, pd.DataFrame],
          studies: dict[str, dict[str, bytes]]) -> None:  # fmt: skip
    """Write a folder of evidence anew.

    rows: of `results.parquet`. outcomes: setting -> key -> frame. logs: key -> training log. studies: key -> file -> content.
    """
    results = pd.DataFrame(rows).sort_values(["kind", "key"], ignore_index=True)
    tables = {"results.parquet": results, "logs.parquet": stacked(logs)}
    tables |= {f"outcomes-{setting}.parquet": stacked(frames) for setting, frames in outcomes.items()}
    lines = [{"key": key, "file": name, "content": content} for key, files in sorted(studies.items()) for name, content in files.items()]
    tables["studies.parquet"] = pd.DataFrame(lines, columns=["key", "file", "content"])
    counts = {kind: int((results["kind"] == kind).sum()) for kind in ("networks", "outcomes", "diagnostics")}
    card = CARD.format(profile=profile, count=len(results), networks=counts["networks"], outcomes=counts["outcomes"],
                       studies=counts["diagnostics"])  # fmt: skip
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            replace_file(folder / name, lambda path, table=table: table.to_parquet(path, index=False, compression="zstd"))
        replace_file(folder / "README.md", lambda path: path.write_text(card))
        for path in folder.glob("*.parquet"):
            if path.name not in tables:
                path.unlink()
        names = sorted([*tables, "README.md"])
        replace_file(folder / SUMS, lambda path: path.write_text("".join(f"{sha256(folder / n)}  {n}\n" for n in names)))


def stacked(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Frames under each other, `key` first, in the order of their keys."""
    parts = [frame.assign(key=key)[["key", *frame.columns]] for key, frame in sorted(frames.items())]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"key": []})
