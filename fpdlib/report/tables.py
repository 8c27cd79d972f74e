"""The paper's tables: its numbers beside ours, in every protocol. Functions of evidence; what is not there is left out and named.

A number measured on a stand-in is never put beside one of the paper's: the paper's columns are then empty and the caption names the
stand-in. Accuracies are percent.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from fpdlib.errors import NotComputed
from fpdlib.paper import published
from fpdlib.paper.experiments import TABLE1, Profile
from fpdlib.paper.settings import TABLE2, TABLE4
from fpdlib.paper.suites import BACKBONES, NETWORKS
from fpdlib.report.measures import clean, measurement
from fpdlib.results.evidence import Evidence

# our columns -> the paper's
COLUMNS = {
    "linf-fgsm": "Linf-FGSM", "linf-pgd": "Linf-PGD", "linf-cw": "Linf-C&W", "l2-fgsm": "L2-FGSM", "l2-pgd": "L2-PGD",
    "l2-cw": "L2-C&W", "l2-deepfool": "L2-DeepFool",
}  # fmt: skip
PRINTED_BACKBONES = {"resnet101": "ResNet-101", "resnet50": "ResNet-50", "resnext50": "ResNeXt-50"}


def shown(lines: list[dict], evidence: Evidence) -> pd.DataFrame:
    """The lines of a table. Raises NotComputed if there are none."""
    if not lines:
        command = f"python -m fpdlib work --plan {evidence.setting} --profile {evidence.profile.name}"
        raise NotComputed(
            f"{evidence.setting}: nothing of it is in the store {evidence.store.root} or committed; `{command}` computes it."
        )
    return pd.DataFrame(lines)


def worst(attack: str) -> str:
    """The measure of an attack of a suite: of a sound one, the worst case over all of its norm."""
    return attack.replace("sound", "worst", 1) if attack.startswith("sound") else attack


def notes(profile: Profile) -> str:
    """What a reader has to know of a profile's networks and of outputs that are not numbers."""
    start = {"released": "", "pytorch": "Convolutions beside the backbone start from PyTorch's default, not as released. "}[
        getattr(profile.network, "initialisation", "released")]  # fmt: skip
    counted = {"confirmed": "counted as broken where float64 is wrong too on the same pixels",
               "broken": "counted as broken, not checked in float64"}[profile.overflow]  # fmt: skip
    return f"{start}NaN: share of the broken images that only an output which is not a number breaks ({counted})."


def caption(evidence: Evidence, cells: str = "") -> str:
    """What a reader has to know of a table's numbers, in one sentence."""
    profile, names = evidence.profile, evidence.names
    mark = "STAND-IN images, not comparable with the paper: " if profile.stand_in else ""
    per_network = [evidence.seeds(name) for name in names]
    seeds = ", ".join(str(seed) for seed in evidence.planned_seeds if any(seed in of for of in per_network))
    fewer = " (some networks fewer)" if len({len(of) for of in per_network if of}) > 1 else ""
    gone = f" Left out, since outcomes are missing: {', '.join(evidence.missing())}." if evidence.missing() else ""
    counts = sorted({spec.images for spec in profile.attacks.values()})
    return (
        f"{mark}profile {profile.name}, {profile.dataset}, {profile.network.backbone} family at {profile.network.image_size} "
        f"pixels, seeds {seeds or 'none'}{fewer}; accuracy in percent with Wilson 95 % intervals, n = {counts[0]} to {counts[-1]} "
        f"test images by attack (in the CSV){cells}; masked: the worst case on the same images is clearly lower. "
        f"{notes(profile)}{gone}"
    )


# ---------------------------------------------------------------------------------------------- Table 1


def table1(evidence: Evidence, rows=TABLE1) -> pd.DataFrame:
    """One line per row and reading: the paper's two numbers beside ours, tidy and unformatted (percent)."""
    lines = []
    for row in rows:
        for position, name in enumerate(row.variants):
            if not (seeds := evidence.seeds(name)):
                continue
            line = {
                "section": row.section, "row": row.name, "network": name,
                "reading": "main" if position == 0 else "other", "profile": evidence.profile.name, "seeds": len(seeds),
                "paper_white_box": published.value(1, row.name, "white-box", row.section),
                "paper_black_box": published.value(1, row.name, "black-box", row.section),
            }  # fmt: skip
            accuracy = clean(evidence, name)
            line |= {"clean": accuracy["value"], "clean_n": accuracy["n"], "undertrained": accuracy["undertrained"]}
            for attack in map(worst, evidence.profile.attacks):
                found = measurement(evidence, name, attack)
                keys = ("value", "n", "low", "high", "nan", "seed_min", "seed_max", "masked")
                line |= {f"{attack}_{key}".replace("_value", ""): found[key] for key in keys}
            lines.append(line)
    return shown(lines, evidence)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """`table1` for people: value [Wilson 95 %] (range over seeds), percent; rows of one section are indexed by row."""

    def cell(line: pd.Series, attack: str) -> str:
        text = f"{line[attack]:.1f} [{line[attack + '_low']:.0f}, {line[attack + '_high']:.0f}]"
        spread = f" ({line[attack + '_seed_min']:.1f}-{line[attack + '_seed_max']:.1f})"
        return text + spread * (line["seeds"] > 1) + " masked" * bool(line[attack + "_masked"])

    frame = pd.DataFrame([
        {
            "section": line["section"], "row": line["row"],
            "network": line["network"] + ("" if line["reading"] == "main" else " *"), "seeds": line["seeds"],
            "clean": f"{line['clean']:.1f}" + (" undertrained" if line["undertrained"] else ""),
            "white-box: paper": f"{line['paper_white_box']:.2f}", "ours": cell(line, "white-box"),
            "today's library": cell(line, "current"), "worst case": cell(line, "worst"),
            "of it by NaN alone": "-" if np.isnan(line["worst_nan"]) else f"{line['worst_nan']:.0f} %",
            "black-box: paper": f"{line['paper_black_box']:.2f}", "ours, transfer": cell(line, "transfer-oracle"),
            "curve area": f"{line['radius']:.1f}",
        }
        for _, line in table.iterrows()
    ])  # fmt: skip
    return frame if frame["section"].nunique() > 1 else frame.drop(columns="section").set_index("row")


# ---------------------------------------------------------------------------------------------- Tables 2 and 4


def paper(table: int, network: str, column: str, section: str, metric: str = "accuracy", stand_in: bool = False) -> float:
    """A printed number, nan beside a stand-in."""
    return float("nan") if stand_in else published.value(table, network, COLUMNS.get(column, column), section, metric)


def cost(evidence: Evidence, name: str, attack: str) -> dict:
    """Seconds per 100 images, and forward and backward passes per image, of an attack."""
    counts = evidence.meta(name, attack, evidence.complete(name, attacks=(attack,))[0])["counts"]
    images = evidence.profile.attacks[attack].images
    return {"seconds_per_100": 100 * counts["seconds"] / images, "forwards": counts["forwards"] / images,
            "backwards": counts["backwards"] / images}  # fmt: skip


def white_box(evidence: Evidence, table: int, names: tuple[str, ...], section: str, prefix: str = "") -> list[dict]:
    """Tables 2 and 4, tidy: a line per network, column and protocol, then the `sound` worst case per norm (percent)."""
    lines, suite, stand_in = [], evidence.profile.attacks, evidence.profile.stand_in
    for name in names:
        variant = NETWORKS[name]
        if not evidence.seeds(variant):
            continue
        accuracy = clean(evidence, variant)
        base = {"table": table, "section": section, "network": prefix + name, "clean": accuracy["value"],
                "undertrained": accuracy["undertrained"], "data": evidence.profile.dataset}  # fmt: skip
        for attack in suite:
            protocol, _, column = attack.partition("/")
            found = measurement(evidence, variant, worst(attack))
            line = base | {"protocol": protocol, "column": column} | found
            line["eps"] = suite[attack].eps[-1]
            line["nan_own"] = found["nan"] if worst(attack) == attack else measurement(evidence, variant, attack)["nan"]
            line |= cost(evidence, variant, attack)
            if column in COLUMNS:
                line["paper"] = paper(table, prefix + name, column, section, stand_in=stand_in)
                if table == 2:
                    line["paper_minutes"] = paper(table, name, column, section, "time_min", stand_in)
            lines.append(line)
    return lines


def table2(evidence: Evidence) -> pd.DataFrame:
    """Table 2 (MNIST, seven attacks), tidy; evidence of the setting 'table2'."""
    return shown(white_box(evidence, 2, TABLE2, "MNIST"), evidence)


def table4(evidence: Evidence) -> pd.DataFrame:
    """Table 4 (SVHN, five attacks, three CNNs), tidy."""
    lines = []
    for backbone in BACKBONES:
        lines += white_box(evidence.at(f"svhn-{backbone}"), 4, TABLE4, "SVHN", PRINTED_BACKBONES[backbone] + "/")
    return shown(lines, evidence.at("svhn-resnet101"))


def readable_attacks(table: pd.DataFrame) -> pd.DataFrame:
    """Tables 2 and 4 for people: per network and attack `paper / published / current`, then the worst case per norm."""

    def text(line: pd.Series) -> str:
        return f"{line['value']:.1f} [{line['low']:.0f}, {line['high']:.0f}]" + " masked" * bool(line["masked"])

    rows = []
    for network, group in table.groupby("network", sort=False):
        mark = " undertrained" if group["undertrained"].iloc[0] else ""
        line = {"network": network, "clean": f"{group['clean'].iloc[0]:.1f}{mark}"}
        by = group.set_index(["protocol", "column"])
        for column, title in COLUMNS.items():
            if ("published", column) in by.index:
                then, now = by.loc[("published", column)], by.loc[("current", column)]
                printed = "-" if np.isnan(then["paper"]) else f"{then['paper']:g}"
                line[title] = f"{printed} / {text(then)} / {text(now)}"
        for protocol, words in (("sound", "sound"), ("sound-native", "sound, native")):
            for norm in ("linf", "l2"):
                if (protocol, norm) in by.index:
                    found = by.loc[(protocol, norm)]
                    line[f"{words} {norm}, eps {found['eps']:.3g}"] = text(found)
        shares = []
        for (protocol, column), row in group[group["nan_own"] >= 0.5].set_index(["protocol", "column"]).iterrows():
            alone = f" ({row['nan']:.0f} % in no other attack)" if protocol.startswith("sound") else ""
            shares.append(f"{protocol} {column} {row['nan_own']:.0f} %{alone}")
        line["broken by NaN alone"] = ", ".join(shares) or "-"
        rows.append(line)
    return pd.DataFrame(rows)


def times(table: pd.DataFrame) -> pd.DataFrame:
    """Attack time and passes per network and published attack: the paper's minutes beside ours (Table 2's T columns)."""
    chosen = table[table["protocol"].isin(("published", "sound"))]
    keep = ["network", "protocol", "column", "seconds_per_100", "forwards", "backwards", "paper_minutes"]
    return chosen[keep].reset_index(drop=True)


# ---------------------------------------------------------------------------------------------- Table 3, Caltech, the known answer


def table3(evidence: Evidence) -> pd.DataFrame:
    """Table 3 (transfer on SVHN), tidy: a line per target, substitute, attack and protocol; `clean` beside (percent)."""
    lines = []
    for backbone in BACKBONES:
        here = evidence.at(f"transfer-{backbone}")
        for name in (name for name in ("O_PGD", "F_PGD") if here.seeds(name)):
            target, stand_in, accuracy = (f"{PRINTED_BACKBONES[backbone]}/{name}", here.profile.stand_in, clean(here, name))
            for attack in here.profile.attacks:
                protocol, source, substitute, column = attack.split("/")
                printed = f"{PRINTED_BACKBONES[source]}/{substitute}/{COLUMNS[column].removeprefix('Linf-')}"
                lines.append(
                    {"target": target, "substitute": f"{PRINTED_BACKBONES[source]}/{substitute}", "column": column,
                     "protocol": protocol, "data": here.profile.dataset, "clean": accuracy["value"],
                     "undertrained": accuracy["undertrained"],
                     "paper": paper(3, target, printed, "SVHN", stand_in=stand_in or protocol == "sound"),
                     **measurement(here, name, attack)}
                )  # fmt: skip
    return shown(lines, evidence.at("transfer-resnet101"))


def matrix(table: pd.DataFrame, protocol: str, value: str = "value") -> pd.DataFrame:
    """Table 3 as the paper lays it out: targets down, substitutes and attacks across."""
    chosen = table[table["protocol"] == protocol]
    wide = chosen.pivot_table(index=["target", "clean"], columns=["substitute", "column"], values=value, sort=False)
    wide[("average", "")] = wide.mean(axis=1)
    return wide.round(1)


def caltech(evidence: Evidence) -> pd.DataFrame:
    """The text's numbers on Caltech-101 and Caltech-256 beside ours, a line per data set, network and attack (percent)."""
    sections = {"caltech101": "CALTECH-101", "caltech256": "CALTECH-256"}
    numbers = published.load("text").set_index(["section", "network"])["value"]
    lines = []
    for setting, section in sections.items():
        here = evidence.at(setting)
        profile, by_name = here.profile, numbers[section].astype(float)
        printed = {"F": by_name["F"], "O": by_name["O"] if "O" in by_name else by_name["F"] - by_name["F - O"]}
        for name in (name for name in ("O", "F") if here.seeds(NETWORKS[name])):
            accuracy = clean(here, NETWORKS[name])
            for attack in profile.attacks:
                lines.append(
                    {"section": section, "network": name, "data": profile.dataset, "stand_in": profile.stand_in,
                     "clean": accuracy["value"], "undertrained": accuracy["undertrained"], "attack": attack,
                     "paper": printed[name] if "linf-pgd" in attack and not profile.stand_in else float("nan"),
                     **measurement(here, NETWORKS[name], worst(attack))}
                )  # fmt: skip
    return shown(lines, evidence.at("caltech101"))


def known_answer(evidence: Evidence) -> pd.DataFrame:
    """Two small CNNs whose robustness others have published, a line per network, seed and attack; evidence of 'anchor' (percent)."""
    lines = []
    for name in evidence.names:
        for seed in evidence.seeds(name):
            for attack in evidence.profile.attacks:
                broken = evidence.meta(name, attack, seed)["counts"]["broken"]
                line = {"network": name, "seed": seed, "attack": attack, "clean": 100 * evidence.clean(name, seed).value}
                line |= measurement(evidence, name, attack, [seed])
                lines.append(line | {"broken by": ", ".join(f"{part} {count}" for part, count in broken.items() if count)})
    return shown(lines, evidence).drop(columns=["seeds", "seed_min", "seed_max"])
