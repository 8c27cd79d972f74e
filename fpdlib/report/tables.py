"""Tables 2, 3 and 4 and the Caltech experiments: the paper's numbers beside ours, in every protocol.

Functions take a list of `Lab`s, one per seed, of a setting of `settings.SETTINGS`. A number measured on a stand-in is never
put beside one of the paper's: the paper's columns are then empty and the caption names the stand-in.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from fpdlib.errors import NotComputed
from fpdlib.paper import published
from fpdlib.paper.settings import TABLE2, TABLE4
from fpdlib.paper.suites import BACKBONES, NETWORKS
from fpdlib.report.explorations import notes
from fpdlib.report.measures import available, clean, measurement
from fpdlib.results.lab import Lab

# our columns -> the paper's
COLUMNS = {
    "linf-fgsm": "Linf-FGSM", "linf-pgd": "Linf-PGD", "linf-cw": "Linf-C&W", "l2-fgsm": "L2-FGSM", "l2-pgd": "L2-PGD",
    "l2-cw": "L2-C&W", "l2-deepfool": "L2-DeepFool",
}  # fmt: skip
PRINTED_BACKBONES = {"resnet101": "ResNet-101", "resnet50": "ResNet-50", "resnext50": "ResNeXt-50"}


def paper(
    table: int, network: str, column: str, section: str, metric: str = "accuracy", stand_in: bool = False
) -> float:
    """A printed number, nan beside a stand-in."""
    return float("nan") if stand_in else published.value(table, network, COLUMNS.get(column, column), section, metric)


def absent(labs: list[Lab], variant: str) -> bool:
    """Whether a network cannot be shown, because the labs only read and none has all of its outcomes."""
    return all(lab.stored_only and lab.missing([variant]) for lab in labs)


def shown(lines: list[dict], labs: list[Lab]) -> pd.DataFrame:
    """The lines of a table. Raises NotComputed if every network is absent."""
    if not lines:
        raise NotComputed(
            f"{labs[0].title}: nothing of it is in the store {labs[0].store.root}; run it without --stored."
        )
    return pd.DataFrame(lines)


def cost(lab: Lab, name: str, attack: str) -> dict:
    """Seconds per 100 images, and forward and backward passes per image, of an attack."""
    counts, images = lab.counts(name, attack), lab.profile.attacks[attack].images
    return {"seconds_per_100": 100 * counts["seconds"] / images, "forwards": counts["forwards"] / images,
            "backwards": counts["backwards"] / images}  # fmt: skip


def white_box(labs: list[Lab], table: int, names: tuple[str, ...], section: str, prefix: str = "") -> pd.DataFrame:
    """Tables 2 and 4, tidy: a line per network, column and protocol, then the `sound` worst case per norm (percent)."""
    lines, suite = [], labs[0].profile.attacks
    for name in names:
        variant, stand_in = NETWORKS[name], labs[0].profile.stand_in
        if absent(labs, variant):
            continue
        accuracy = clean(labs, variant)
        base = {"table": table, "section": section, "network": prefix + name, "clean": accuracy["value"],
                "undertrained": accuracy["undertrained"], "data": labs[0].profile.dataset}  # fmt: skip
        for attack in suite:
            protocol, _, column = attack.partition("/")
            key = attack.replace("sound", "worst", 1) if protocol.startswith("sound") else attack
            found = measurement(labs, variant, key)
            line = base | {"protocol": protocol, "column": column} | found
            line["eps"] = suite[attack].eps[-1]
            line["nan_own"] = found["nan"] if key == attack else measurement(labs, variant, attack)["nan"]
            line |= cost(available(labs, variant)[0], variant, attack)
            if column in COLUMNS:
                line["paper"] = paper(table, prefix + name, column, section, stand_in=stand_in)
                if table == 2:
                    line["paper_minutes"] = paper(table, name, column, section, "time_min", stand_in)
            lines.append(line)
    return shown(lines, labs)


def table2(labs: list[Lab]) -> pd.DataFrame:
    """Table 2 (MNIST, seven attacks), tidy; labs of the setting 'table2'."""
    return white_box(labs, 2, TABLE2, "MNIST")


def table4(labs: list[Lab]) -> pd.DataFrame:
    """Table 4 (SVHN, five attacks, three CNNs), tidy; any labs of the profile."""
    frames = []
    for backbone in BACKBONES:
        siblings = [lab.at(f"svhn-{backbone}") for lab in labs]
        if not all(absent(siblings, NETWORKS[name]) for name in TABLE4):
            frames.append(white_box(siblings, 4, TABLE4, "SVHN", PRINTED_BACKBONES[backbone] + "/"))
    return pd.concat(frames, ignore_index=True) if frames else shown([], siblings)


def _text(line: pd.Series) -> str:
    return f"{line['value']:.1f} [{line['low']:.0f}, {line['high']:.0f}]"


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Tables 2 and 4 for people: per network and attack `paper / published / current`, then the worst case per norm."""
    rows = []
    for network, group in table.groupby("network", sort=False):
        mark = " undertrained" if group["undertrained"].iloc[0] else ""
        line = {"network": network, "clean": f"{group['clean'].iloc[0]:.1f}{mark}"}
        by = group.set_index(["protocol", "column"])
        for column, title in COLUMNS.items():
            if ("published", column) in by.index:
                then, now = by.loc[("published", column)], by.loc[("current", column)]
                printed = "-" if np.isnan(then["paper"]) else f"{then['paper']:g}"
                line[title] = f"{printed} / {_text(then)} / {_text(now)}"
        for protocol, words in (("sound", "sound"), ("sound-native", "sound, native")):
            for norm in ("linf", "l2"):
                if (protocol, norm) in by.index:
                    found = by.loc[(protocol, norm)]
                    line[f"{words} {norm}, eps {found['eps']:.3g}"] = _text(found)
        shares = []
        for (protocol, column), row in group[group["nan_own"] >= 0.5].set_index(["protocol", "column"]).iterrows():
            alone = f" ({row['nan']:.0f} % in no other attack)" if protocol.startswith("sound") else ""
            shares.append(f"{protocol} {column} {row['nan_own']:.0f} %{alone}")
        line["broken by NaN alone"] = ", ".join(shares) or "-"
        rows.append(line)
    return pd.DataFrame(rows)


def times(table: pd.DataFrame) -> pd.DataFrame:
    """Attack time and passes per network and published attack: the paper's minutes beside ours (Table 2's T columns)."""
    chosen = table[table["protocol"].isin(("published", "sound"))].copy()
    keep = ["network", "protocol", "column", "seconds_per_100", "forwards", "backwards"]
    return chosen[keep + (["paper_minutes"] if "paper_minutes" in chosen else [])].reset_index(drop=True)


def caption(labs: list[Lab]) -> str:
    """What a reader has to know of the numbers, in one sentence."""
    profile = labs[0].profile
    mark = "STAND-IN images, not comparable with the paper: " if profile.stand_in else ""
    gone = [name for name in labs[0].networks if absent(labs, name)]
    left_out = f" Left out, since outcomes are missing: {', '.join(gone)}." if gone else ""
    there = [lab for lab in labs if any(not lab.missing([name]) for name in lab.networks)] or labs
    counts = sorted({spec.images for spec in profile.attacks.values()})
    return (
        f"{mark}profile {profile.name}, {profile.dataset}, {profile.network.backbone} family at {profile.network.image_size} "
        f"pixels, seeds {', '.join(str(lab.seed) for lab in there)}; accuracy in percent with Wilson 95 % intervals, n = "
        f"{counts[0]} to {counts[-1]} test images by cost of the attack (in the CSV); cells are paper / published / "
        f"current. {notes(profile)}{left_out}"
    )


def first_hundred(table: pd.DataFrame) -> pd.DataFrame:
    """The published gradient attacks on the first 100 test images in file order beside the seeded sample (findings A)."""
    by = table[table["protocol"].isin(("first-100", "published"))]
    wide = by.pivot_table(index=["network", "column"], columns="protocol", values=["value", "n"], sort=False).dropna()
    wide.columns = [f"{protocol} {value}" for value, protocol in wide.columns]
    return wide.reset_index()


# ---------------------------------------------------------------------------------------------- Table 3


def table3(labs: list[Lab]) -> pd.DataFrame:
    """Table 3 (transfer on SVHN), tidy: a line per target, substitute, attack and protocol; `clean` beside (percent)."""
    lines = []
    for backbone in BACKBONES:
        siblings = [lab.at(f"transfer-{backbone}") for lab in labs]
        for name in ("O_PGD", "F_PGD"):
            target, stand_in = f"{PRINTED_BACKBONES[backbone]}/{name}", siblings[0].profile.stand_in
            if absent(siblings, name):
                continue
            accuracy = clean(siblings, name)
            for attack in siblings[0].profile.attacks:
                protocol, source, substitute, column = attack.split("/")
                printed = f"{PRINTED_BACKBONES[source]}/{substitute}/{COLUMNS[column].removeprefix('Linf-')}"
                found = measurement(siblings, name, attack)
                lines.append(
                    {"target": target, "substitute": f"{PRINTED_BACKBONES[source]}/{substitute}", "column": column,
                     "protocol": protocol, "data": siblings[0].profile.dataset, "clean": accuracy["value"],
                     "undertrained": accuracy["undertrained"],
                     "paper": paper(3, target, printed, "SVHN", stand_in=stand_in or protocol == "sound"), **found}
                )  # fmt: skip
    return shown(lines, labs)


def matrix(table: pd.DataFrame, protocol: str, value: str = "value") -> pd.DataFrame:
    """Table 3 as the paper lays it out: targets down, substitutes and attacks across."""
    chosen = table[table["protocol"] == protocol]
    wide = chosen.pivot_table(index=["target", "clean"], columns=["substitute", "column"], values=value, sort=False)
    wide[("average", "")] = wide.mean(axis=1)
    return wide.round(1)


def plot_matrix(table: pd.DataFrame, protocol: str) -> plt.Figure:
    """Table 3 as a heat map: accuracy of each target on each substitute's adversarial images."""
    wide = matrix(table, protocol).drop(columns="average", level=0)
    figure, axes = plt.subplots(figsize=(10, 3.6), layout="constrained")
    image = axes.imshow(wide.to_numpy(), vmin=0, vmax=100, cmap="viridis", aspect="auto")
    axes.set_xticks(range(wide.shape[1]), [f"{s} {c.removeprefix('linf-')}" for s, c in wide.columns], rotation=60, ha="right",
                    fontsize=8)  # fmt: skip
    axes.set_yticks(range(len(wide)), [f"{t} (clean {c:.0f})" for t, c in wide.index], fontsize=8)
    for (row, column), number in np.ndenumerate(wide.to_numpy()):
        axes.text(
            column,
            row,
            f"{number:.0f}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if number < 60 else "black",
        )
    figure.colorbar(image, label="accuracy (%)")
    return figure


# ---------------------------------------------------------------------------------------------- Caltech


def caltech(labs: list[Lab]) -> pd.DataFrame:
    """The text's numbers on Caltech-101 and Caltech-256 beside ours, a line per data set, network and attack (percent)."""
    sections = {"caltech101": "CALTECH-101", "caltech256": "CALTECH-256"}
    numbers = published.load("text").set_index(["section", "network"])["value"]
    lines = []
    for setting, section in sections.items():
        siblings = [lab.at(setting) for lab in labs]
        stand_in = siblings[0].profile.stand_in
        by_name = numbers[section].astype(float)
        paper_values = {"F": by_name["F"], "O": by_name["O"] if "O" in by_name else by_name["F"] - by_name["F - O"]}
        for name in ("O", "F"):
            if absent(siblings, NETWORKS[name]):
                continue
            accuracy = clean(siblings, NETWORKS[name])
            for attack in siblings[0].profile.attacks:
                key = attack.replace("sound", "worst", 1) if attack.startswith("sound") else attack
                lines.append(
                    {"section": section, "network": name, "data": siblings[0].profile.dataset, "stand_in": stand_in,
                     "clean": accuracy["value"], "undertrained": accuracy["undertrained"], "attack": attack,
                     "paper": paper_values[name] if "linf-pgd" in attack and not stand_in else float("nan"),
                     **measurement(siblings, NETWORKS[name], key)}
                )  # fmt: skip
    return shown(lines, labs)
