"""The plan: one data frame, a row per number of a table or claim, with the result that gives it. Everything else filters it.

`table` is 'table1' ... 'text', 'known-answer', 'studies' or 'claims'; `row` and `column` are the printed row, or the claim's id, and
what is measured; `kind` and `key` are the result's; `experiment` (the setting at its scale) and `result` are the values themselves.
"""

import functools
import itertools
from collections.abc import Iterable

import pandas as pd

from fpdlib.errors import FPDError, choose
from fpdlib.paper import FPD, Paper
from fpdlib.paper.profiles import Profile
from fpdlib.results.store import Store
from fpdlib.results.values import MEANS, Crafted, Network, Outcome, Result, Study, closure, named_network

COLUMNS = ["table", "row", "column", "protocol", "setting", "network", "attack", "seed", "kind", "key", "experiment", "result"]


def plan(*what: str, profile: str | Profile = "smoke", seeds: Iterable[int] | None = None, paper: Paper = FPD) -> pd.DataFrame:
    """What a part of the paper's numbers rests on.

    what: tables, settings, 'studies', claims by id, or nothing for all. profile: a scale by name, or a `Profile` of one's own.
    seeds: of every network; the profile's own, the default, stand for as many of them as each network needs (`Paper.seeds`). Raises
    FPDError for any other.
    """
    scale = profile if isinstance(profile, Profile) else paper.profiles[choose("profile", profile, paper.profiles)]
    if seeds is not None and not isinstance(seeds, Iterable):
        raise FPDError(f"seeds is {seeds!r}; accepted: several integers from 0, such as [0].")
    seeds = None if seeds is None else tuple(dict.fromkeys(seeds))
    for seed in seeds or ():
        if type(seed) is not int or seed < 0:
            raise FPDError(f"seed is {seed!r}; accepted: integers from 0.")
    whole = everything(paper, scale, None if seeds == scale.seeds else seeds)
    if not what:
        return whole
    known = (*paper.tables, *paper.settings, "studies", "claims", *paper.claims()["id"])
    settings: set[str] = set()
    for one in what:
        settings |= set(paper.tables.get(choose("what", one, dict.fromkeys(known)), (one,)))
    beside = whole["table"].isin(["studies", "claims"])
    of_claims = (whole["table"] == "claims") & whole["row"].isin(what)
    chosen = (~beside & whole["setting"].isin(settings)) | of_claims | (beside & whole["table"].isin(what))
    return whole[chosen].reset_index(drop=True)


def everything(paper: Paper, profile: Profile, asked: tuple[int, ...] | None) -> pd.DataFrame:
    """The rows of all that a paper plans at a scale, each result made once. asked: seeds of every network and attack; None: as many
    as each needs."""
    here_of = functools.cache(lambda setting: paper.setting(profile, setting))

    @functools.cache
    def network(setting: str, name: str, seed: int) -> Network:
        here, variant = here_of(setting), paper.variants[choose("network", name, paper.variants)]
        recipe = variant.recipe(here)
        begin = network(setting, recipe.begin, seed) if recipe.begin else None
        return Network(name, variant.spec(here), recipe, here.dataset, seed, begin)

    @functools.cache
    def outcome(setting: str, name: str, attack: str, seed: int) -> Outcome:
        spec = here_of(setting).attacks[attack]
        source = named_network(spec)
        return Outcome(network(setting, name, seed), spec, Crafted(network(*source, seed), spec) if source else None)

    tables = {setting: table for table, settings in paper.tables.items() for setting in settings}
    lines, of, first = [], {}, (asked or profile.seeds)[0]
    for seed in profile.seeds if asked is None else asked:
        for setting in paper.settings:
            here = here_of(setting)
            of_each = {name: paper.seeds(here, name) for name in paper.networks(setting)}
            names = [name for name, seeds in of_each.items() if (seed in seeds if asked is None else seeds)]
            for name in names:
                numbers = [("clean", "", "", network(setting, name, seed))]
                numbers += [(attack.rpartition("/")[2], spec.protocol, attack, outcome(setting, name, attack, seed))
                            for attack, spec in here.attacks.items() if attack not in here.once or seed == first]  # fmt: skip
                for number in numbers:
                    of.setdefault((setting, name), []).append((*number, seed))
                    lines += [(tables[setting], row, setting, name, *number, seed) for row in paper.rows(setting, name)]
            for spec, name, others in paper.studies(here):
                if name in names and (asked is not None or spec.several or seed == profile.seeds[0]):
                    study = Study(network(setting, name, seed), spec, tuple(network(setting, other, seed) for other in others))
                    of.setdefault((setting, name), []).append((spec.what, "", "", study, seed))
                    lines.append(("studies", name, setting, name, spec.what, "", "", study, seed))
    for _, claim in paper.claims().iterrows():
        settings, names, study = paper.read(claim)
        for setting, name in itertools.product(settings, names):
            for column, *rest in of.get((setting, name), ()):
                if column == study if study else not isinstance(rest[2], Study):
                    lines.append(("claims", claim["id"], setting, name, column, *rest))
    frame = pd.DataFrame(lines, columns=["table", "row", "setting", "network", "column", "protocol", "attack", "result", "seed"])
    frame["kind"] = [result.kind for result in frame["result"]]
    frame["key"] = [result.key for result in frame["result"]]
    frame["experiment"] = [here_of(setting) for setting in frame["setting"]]
    return frame[COLUMNS]


def results(rows: pd.DataFrame) -> dict[str, Result]:
    """All that a plan's rows need, by key, each after what it needs."""
    return closure(rows.drop_duplicates("key")["result"])


def missing(known: dict[str, Result], asked: set[str], store: Store) -> list[Result]:
    """What has to be computed for the keys that are asked for: what they need only if something missing needs it (evidence has no
    checkpoints and no crafted images)."""
    absent = {key for key in asked if not store.has(known[key])}
    wanted = {need.key for key in absent for need in known[key].needs}
    for key in reversed(known):  # what a result needs comes before it
        if key in wanted and not store.here(known[key]):
            wanted |= {need.key for need in known[key].needs}
            absent.add(key)
    return sorted((r for key, r in known.items() if key in absent), key=lambda r: not isinstance(r, MEANS))
