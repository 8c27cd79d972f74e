"""One network, judged: what the paper's way of attacking leaves, what everything leaves, the radius of each image, and flags."""

import hashlib
import json
import numbers
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from fpdlib import evaluation, statistics
from fpdlib.attacks import adapters
from fpdlib.attacks.methods import PGD, AutoAttack, Chain, Foolbox, TargetedMargin
from fpdlib.attacks.radius import Radius
from fpdlib.attacks.spec import AttackSpec
from fpdlib.attacks.views import View, loss_gradient
from fpdlib.data import Images
from fpdlib.errors import BudgetExhausted, FPDError, choose, positive, said
from fpdlib.evaluation.outcomes import Rate, read_outcome
from fpdlib.files import project_folder, replace_file
from fpdlib.judgement.subject import Own, Squeezed, Subject, described, fingerprint, images_of, source, subject_of
from fpdlib.keys import plain
from fpdlib.network.answers import attacked, in_float64
from fpdlib.runtime import Budget, undisturbed

BATCH = 25  # images: a budget ends, and a killed judgement goes on, behind one
CHEAP, WORST = ("published", "current"), ("gradients", "square", "own")
UNBOUNDED = "eps 1"  # where every image is within reach


@dataclass
class Judgement:
    """outcomes: per attack, a row an attacked image (see `evaluation.COLUMNS`). flags: what makes the numbers doubtful, in words.
    complete: False if the budget ended first, in the attack `cut_in`; what is left is then an upper bound. title: of what model on
    which images. settings: what was asked for. notes: what is no flag. names: what each image is called. compared, comparison: with
    another network on the same images, in words and in numbers (shares)."""

    norm: str
    eps: float
    outcomes: dict[str, pd.DataFrame]
    counts: dict[str, dict]
    flags: dict[str, str] = field(default_factory=dict)
    complete: bool = True
    cut_in: str = ""
    page: Path | None = None
    title: str = ""
    settings: dict[str, int | str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    names: Sequence | None = None
    compared: str = ""
    comparison: dict[str, float | int] = field(default_factory=dict)

    def stands(self, *attacks: str) -> pd.Series:
        """Per image whether it is right and stands under all of these attacks (those that were made), of the images that all saw."""
        made = [self.outcomes[name] for name in attacks if name in self.outcomes]
        frames = [~frame.set_index("index")["broken"] for frame in made]
        return pd.concat(frames, axis=1, join="inner").all(axis=1) if frames else pd.Series(dtype=bool)

    @property
    def clean(self) -> Rate:
        first = next(iter(self.outcomes.values()))
        return evaluation.rate(first["clean_prediction"] == first["label"])

    @property
    def left(self) -> pd.Series:
        """Per image whether it stands in the worst case: no attack broke it, and no radius within epsilon was found of it."""
        stands, radius = self.stands(*CHEAP, *WORST), self.radius
        return stands[radius.index] & (radius > self.eps * (1 + 1e-5)) if len(radius) and self.norm == "linf" else stands

    @property
    def worst(self) -> Rate:
        """Accuracy in the worst case over everything that was made within epsilon, on the images that all of it saw."""
        return evaluation.rate(self.left)

    @property
    def blind(self) -> pd.Series:
        """Per image that is right whether the published attack's loss has no gradient there."""
        first = next(iter(self.outcomes.values())).set_index("index")
        return first.loc[first["clean_prediction"] == first["label"], "gradient_is_zero"].astype(bool)

    @property
    def stuck(self) -> bool:
        """Whether the search for radii found nothing on some of these images (for L2: the gradients of every loss did not)."""
        if "radius" in self.outcomes:
            stands = evaluation.radii(self.outcomes["radius"]) >= 1
        else:
            stands = self.stands("gradients")
        both = self.blind.index.intersection(stands.index)
        return bool((self.blind[both] & stands[both]).any())

    @property
    def searchable(self) -> bool:
        """Whether gradients led somewhere; if not, radii are what a few attacks at one epsilon happened to find."""
        lost = UNBOUNDED in self.flags and self.stands("gradients").mean() >= self.stands(UNBOUNDED).mean()
        return not (lost or {"no gradient", "black box"} & set(self.flags) or ("zero gradients" in self.flags and self.stuck))

    @property
    def fell_first(self) -> list[tuple[str, float]]:
        """The ten images with the smallest radii, as they are called."""
        smallest = self.radius[(self.radius > 0) & (self.radius < 1)].nsmallest(10)
        return [(str(index if self.names is None else self.names[index]), float(radius)) for index, radius in smallest.items()]

    @property
    def radius(self) -> pd.Series:
        """The smallest L-inf perturbation that was found of each image: 0 if misclassified, 1 if none. Empty for L2."""
        if "radius" not in self.outcomes:
            return pd.Series(dtype=float)
        found = [evaluation.radii(frame) for frame in self.outcomes.values()]
        return pd.concat(found, axis=1, join="inner").min(axis=1).clip(upper=1)

    def summary(self) -> dict:
        """The numbers as plain values, for machines."""
        rates = {name: evaluation.rate(self.stands(name)) for name in self.outcomes if name != "radius"}
        rates = {"clean": self.clean} | rates | {"worst case": self.worst}
        seconds = sum(count["seconds"] for count in self.counts.values())
        passes = sum(count["backwards"] for count in self.counts.values())
        median = float(self.radius.median()) if len(self.radius) else None
        plain = {name: {key: getattr(rate, key) for key in ("value", "low", "high", "n")} for name, rate in rates.items()}
        return {
            "title": self.title, "norm": self.norm, "eps": self.eps, "complete": self.complete, "flags": self.flags,
            "settings": self.settings, "notes": self.notes, "compared": self.compared, "comparison": self.comparison,
            "broken by": {name: count.get("broken", {}) for name, count in self.counts.items()}, "fell first": self.fell_first,
            "median radius": median, "seconds": round(seconds, 1), "backward passes": int(passes),
            "images": len(next(iter(self.outcomes.values()))), "accuracy": plain, "page": str(self.page or ""),
        }  # fmt: skip

    def __str__(self) -> str:
        told = self.summary()
        head = ["NOT ROBUSTNESS, flagged: " + ", ".join(self.flags)] if self.flags else []
        head += [] if self.complete else [f"the budget ended first, in {self.cut_in}: the worst case is an upper bound"]
        rates = told["accuracy"] if self.complete else told["accuracy"] | {"at most": told["accuracy"]["worst case"]}
        rows = [f"{name:12} {100 * r['value']:5.1f} % [{100 * r['low']:.1f}, {100 * r['high']:.1f}], n = {r['n']}"
                for name, r in rates.items() if self.complete or name != "worst case"]  # fmt: skip
        if told["median radius"] is not None:
            bound = " (an upper bound: gradients lead nowhere)" * (not self.searchable)
            half = f"half of {len(self.radius)} images"
            fall = f"{half} fall to a perturbation of at most {told['median radius']:.3f}{bound}"
            rows.append(fall if told["median radius"] < 1 else f"of {half} no attack found where they fall")
        notes = [*(f"{flag}: {words}" for flag, words in self.flags.items()), *self.notes]
        cost = f"{self.norm} eps {self.eps:g}; {told['seconds']:.0f} s, {told['backward passes']} backward passes"
        return "\n".join([*head, *rows, *notes, cost])


def suite(norm: str, eps: float, images: int, few: int, steps: int, queries: int, attack: Callable | None) -> dict[str, AttackSpec]:
    """The attacks of a judgement, cheap ones first, on the same images (Square and the radius, the dearest, on the first `few`)."""
    step = {"linf": eps / 30, "l2": eps / 10}[norm]  # the paper's 0.01 for 0.3
    batch = min(images, BATCH)
    published = AttackSpec("published", "published", PGD(((40, step, 0),), norm), (eps,), images=images, batch_size=batch)
    gradient = Chain((
        PGD(((10, None, 1), (steps, eps / 10, 5)), norm), TargetedMargin(steps, norm=norm),
        AutoAttack(("apgd-ce", "apgd-t", "fab-t"), norm=norm, iterations=steps),
        Foolbox(f"{norm}-deepfool", norm, (("steps", steps),)),
    ))  # fmt: skip
    worst = replace(published, name="gradients", protocol="sound", method=gradient, iterates="any")
    specs = {"published": published, "current": replace(published, name="current", protocol="current"), "gradients": worst,
             "square": replace(worst, name="square", method=AutoAttack(("square",), norm=norm, queries=queries), images=few,
                               batch_size=min(few, BATCH)),
             UNBOUNDED: replace(published, name=UNBOUNDED, protocol="sound", images=few, batch_size=min(few, BATCH), eps=(1.0,),
                                   method=PGD(((steps, 0.1, 1),)))}  # fmt: skip
    if attack is not None:
        specs["own"] = replace(worst, name="own", method=Own(attack, norm), protocol="current")
    if norm == "linf":
        half = max(steps // 2, 1)
        search = Radius(half, ((0.9, half), (0.97, steps)))  # the default, with 100 steps
        specs["radius"] = replace(worst, name="radius", method=search, eps=(1.0,), images=few, batch_size=min(few, BATCH))
    return specs


@undisturbed()
def judge(model: nn.Module, images: Tensor, labels: Tensor, norm: str = "linf", eps: float | None = None, *,
          attack: Callable | None = None, eot: int = 1, title: str = "", budget: float | None = None, few: int = 100,
          steps: int = 100, queries: int = 1000, names: Sequence | None = None,
          store: str | Path = "", say: Callable[[str], None] | None = None) -> Judgement:  # fmt: skip
    """Judge a network under attack.

    model: any nn.Module in evaluation mode, (B, C, H, W) float32 in [0, 1] -> logits (B, classes); normalisation belongs into it. Its
    method `pre_squeeze(x)`, if it has one, gives the logits before a squeezing function. images, labels: (N, C, H, W) in [0, 1] (or
    uint8) and (N,). norm: 'linf' or 'l2'; eps in pixel units (of linf 0.3 by default). attack: one of your own, `attack(model, x, y,
    eps)` -> images, with the model as it was given; what leaves the ball is projected. eot: runs of a random defence that are
    averaged. title: of the page. budget: seconds; when they are spent, and the batch of 25 images under way is done, the result is an
    upper bound, and the same call goes on (an attack of your own is always made again). few: images of the dear attacks (Square, the
    radius, the unbounded one), on which the worst case then rests. steps, queries: of each gradient attack, of Square. names: what
    the images are called (default: their position). store: folder (default: judgements/ in the store). say: told what is done. Raises
    FPDError for what cannot be judged.
    """
    choose("norm", norm, ("linf", "l2"))
    if not isinstance(store, (str, os.PathLike)) or not isinstance(names, Iterable | None):
        raise FPDError(f"store is {store!r}, names {names!r}; accepted: a folder, and one name an image (or None).")
    for name, value in (("attack", attack), ("say", say)):
        if value is not None and not callable(value):
            raise FPDError(f"{name} is {value!r}; accepted: a function (attack: (model, x, y, eps) -> images).")
    if eps is None and norm == "l2":
        side = getattr(images, "shape", (0,))[-1]
        raise FPDError(f"eps is not given; for l2 name one: the paper's 1.5 at 64 pixels is {1.5 * side / 64:.2g} at your {side}.")
    eps = 0.3 if eps is None else eps
    positive("eps", eps, hint=", such as 8/255")
    if budget is not None:
        positive("budget", budget, hint=" of seconds")
    for name, value in (("few", few), ("steps", steps), ("queries", queries), ("eot", eot)):
        positive(name, value, numbers.Integral)
    if norm == "linf" and eps > 1:
        raise FPDError(f"eps is {eps!r}; accepted for linf: up to 1, in pixel units (is it {eps:g}/255?).")
    steps, queries, eot = int(steps), int(queries), int(eot)
    device = next((p.device for p in model.parameters()), "cpu") if isinstance(model, nn.Module) else "cpu"
    splits = images_of(images, labels, device)
    names = None if names is None else list(names)
    if names is not None and len(names) != len(splits.test):
        raise FPDError(f"{len(names)} names for {len(splits.test)} images; accepted: one an image.")
    subject, flags = subject_of(model, splits.test, eot)
    notes = [f"the model is random: {eot} runs are averaged"] if subject.random and eot > 1 else []
    if eot > 1 and not subject.random:
        notes.append(f"the model answered the same twice: averaging {eot} runs changes nothing (--eot)")
    if attack is not None:  # its mistakes show now, not after the other attacks
        x, y = splits.test.batch(slice(0, 2)), splits.test.labels[:2]
        tried = next(Own(attack, norm).attempts(eps))[1](View(subject, "deployed"), x, y, seed=0, classes=subject.spec.num_classes)
        far = (tried - x).flatten(1).norm(p={"linf": float("inf"), "l2": 2}[norm], dim=1).max()
        if far > eps * (1 + 1e-4) or tried.min() < 0 or tried.max() > 1:
            notes.append(
                f"own: its images leave the ball or [0, 1] (by up to {far:.3g} of eps {eps:g} allowed); they are projected back"
            )
    few = min(int(few), len(splits.test))
    specs = suite(norm, float(eps), len(splits.test), few, steps, queries, attack)
    called = getattr(attack, "__name__", type(attack).__name__) if attack is not None else ""
    own = hashlib.sha256((source(attack) + described(attack)).encode()).hexdigest()[:6] if attack is not None else ""
    name = fingerprint(subject, splits.test, eot, repr(plain({key: spec for key, spec in specs.items() if key != "own"})))
    folder = (Path(store).expanduser() if store else project_folder("store", "FPD_STORE") / "judgements") / name
    paths = {key: folder / (f"own-{own}" if key == "own" else key) for key in specs}
    settings = {"eot": eot, "few": few, "steps": steps, "queries": queries, "attack": called}
    found = Judgement(norm, float(eps), {}, {}, flags, title=str(title), settings=settings, notes=notes, names=names)
    for path in folder.glob(f"own-{own}.*"):  # what it imports may have changed
        if path.suffix != ".partial":
            path.unlink(missing_ok=True)
    limit, say = Budget(budget), say or (lambda words: None)
    missing = [key for key in specs if not paths[key].with_suffix(".json").exists()]
    if missing:
        seconds = cost(subject, splits.test, specs, missing)
        told = f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"
        say(f"at most about {told}, by the time of a few steps; less where images fall early")
    for key, spec in specs.items():
        say(f"{key}: {spec.images} images" + ", from the store" * (key not in missing))
        try:
            found.outcomes[key], found.counts[key] = outcome(subject, splits, spec, paths[key], limit)
        except BudgetExhausted:
            found.complete, found.cut_in = False, key
            break
    if not found.outcomes:
        raise BudgetExhausted("not even the first attack was finished")
    found.flags |= dict(doubts(subject, found))
    if "zero gradients" in found.flags and subject.double_precision:
        found.flags["zero gradients"] += rounded(subject, splits.test, found.blind)
    found.page = folder / ("-".join(["judgement", *re.findall(r"\w+", called), *([own] if own else [])]) + ".html")
    write(found)
    return found


@attacked
def cost(subject: Subject, test, specs: dict[str, AttackSpec], missing: Iterable[str]) -> float:
    """Seconds of the missing attacks if no image fell before the end: passes of each, timed in a few steps of PGD on a batch."""
    x, y, classes = test.batch(slice(0, BATCH)).clone(), test.labels[:BATCH], subject.spec.num_classes
    for _ in range(2):  # the first is warming up
        started = time.monotonic()
        adapters.pgd(View(subject, "deployed"), x, y, 0.1, 4, None, True, 0, classes)
        once = (time.monotonic() - started) / 4 / len(x)
    steps = specs[UNBOUNDED].method.stages[0][0]
    search = specs["radius"].method if "radius" in specs else Radius()
    rounds = (1 + search.targets) * sum(number for _, number in search.rounds)
    passes = {"published": 40, "current": 40, "gradients": (5 + min(classes, 10) + 19) * steps, UNBOUNDED: steps, "own": steps,
              "square": specs["square"].method.queries / 3, "radius": search.fmn_steps + rounds}  # fmt: skip
    return sum(passes[name] * specs[name].images * once for name in missing)


def outcome(subject: Subject, splits, spec: AttackSpec, path: Path, budget: Budget) -> tuple[pd.DataFrame, dict]:
    """One attack, from the store if it is there; a part of it is kept when the budget ends."""
    whole, counts = path.with_suffix(".parquet"), path.with_suffix(".json")
    if not (whole.exists() and counts.exists()):
        budget.check()
        frame, told = evaluation.evaluate(subject, splits, spec, 0, partial=path.with_suffix(".partial"), budget=budget)
        replace_file(whole, lambda target: frame.to_parquet(target, index=False))
        replace_file(counts, lambda target: target.write_text(json.dumps(told)))
        path.with_suffix(".partial").unlink(missing_ok=True)
    try:
        found, told = read_outcome(whole), json.loads(counts.read_text())
        _ = told["seconds"], told["backwards"], told["broken"]
    except (ValueError, KeyError, TypeError) as error:
        raise FPDError(f"{counts} is damaged ({said(error)}). Delete the folder {path.parent} to judge anew.") from error
    return found, told


def doubts(subject: Subject, found: Judgement) -> Iterator[tuple[str, str]]:
    """What the outcomes say against themselves: (flag, words)."""
    first = next(iter(found.outcomes.values()))
    right = first["clean_prediction"] == first["label"]
    chance = 1 / subject.spec.num_classes
    answers = first["clean_prediction"].unique()
    alone = len(answers) == 1 and first["label"].nunique() > 1
    if alone or (evaluation.rate(right).low <= chance and right.mean() < (1 + chance) / 2):
        words = f"every image gets class {answers[0]}, {100 * right.mean():.0f} %" if alone else f"{100 * right.mean():.0f} %"
        yield "chance", (f"{words} of clean images right: are the weights not loaded (--weights), the images normalised twice or "
                         "expected in [0, 255], the labels others?")  # fmt: skip
    if statistics.masked(found.blind.to_numpy()):
        hint = "" if isinstance(subject, Squeezed) else "; other losses have" if not found.stuck else (
            ". If a squeezing function such as tanh or a scale takes it, give the model a method `pre_squeeze(x)` with the logits "
            "before; if a part cannot be differentiated, write an attack of your own (--attack)")  # fmt: skip
        yield "zero gradients", f"the published attack's loss has no gradient on {100 * found.blind.mean():.0f} % of the images{hint}"
    overflowing = max((frame["adversarial_prediction"] == -1).mean() for frame in found.outcomes.values())
    if overflowing > 0:
        yield "overflow", f"outputs are not numbers on up to {100 * overflowing:.0f} % of the attacked images"
    gradients, square = (found.stands(*names) for names in ((*CHEAP, "gradients"), ("square",)))
    both = gradients.index.intersection(square.index)
    if len(both) and statistics.masked((gradients[both] & ~square[both]).to_numpy()) and gradients[both].mean() > square[both].mean():
        words = f"Square leaves {100 * square[both].mean():.0f} %, gradients {100 * gradients[both].mean():.0f} % of the same images"
        yield "black box", words
    if UNBOUNDED in found.outcomes and (left := evaluation.rate(found.stands(UNBOUNDED))).low > chance:
        yield UNBOUNDED, f"{100 * left.value:.0f} % stand where every image is within reach"
    worst = found.left
    seen = CHEAP if isinstance(subject, Squeezed) else (*CHEAP, "gradients")  # what no more than the output was needed for
    told = found.stands(*seen)[worst.index]
    if statistics.masked((told & ~worst).to_numpy()):
        kept = f"{100 * told.mean():.0f} %, all attacks together {100 * worst.mean():.0f} %"
        yield "masked", f"gradients of the deployed output leave {kept} of the same images"


def rounded(subject: Subject, test: Images, blind: pd.Series) -> str:
    """On how many of the images without gradient (the first hundred) the published attack's loss has one in float64, in words."""
    index = torch.tensor(blind.index[blind].to_list()[:100], device=test.labels.device)
    view = View(in_float64(subject), "softmax").eval()
    _, gradient = loss_gradient(view, test.batch(index).double(), test.labels[index])
    there = int((gradient != 0).flatten(1).any(1).sum())
    return f". In float64 it has one on {there} of {len(index)} of them: it is rounded away" if there else ""


def against(first: Judgement, second: Judgement) -> str:
    """Two networks on the same images, in words: the difference in the worst case over the attacks that both have, with its paired
    95 % interval. Both pages say it."""
    for what, one, other in (("norm", first.norm, second.norm), ("eps", first.eps, second.eps)):
        if one != other:
            raise FPDError(f"the first was judged with {what} {one}, the second with {other}; accepted: judgements of the same.")
    labels = [next(iter(one.outcomes.values())).set_index("index")["label"].sort_index() for one in (first, second)]
    if not labels[0].equals(labels[1]):
        raise FPDError("the two networks were judged on other images; accepted: judgements of the same images and labels.")
    made = [name for name in (*CHEAP, *WORST) if name in first.outcomes and name in second.outcomes]
    whole = first.complete and second.complete
    both = pd.concat([one.left if whole else one.stands(*made) for one in (first, second)], axis=1, join="inner").astype(float)
    if len(both) < 2:
        raise FPDError(f"{len(both)} image that both networks were attacked on; accepted: two or more (--images, --few).")
    found = statistics.compare(both[0].to_numpy(), both[1].to_numpy())
    words = f"{100 * found.effect:+.1f} points [{100 * found.low:.1f}, {100 * found.high:.1f}], n = {found.n}; of these two networks"
    words += "; nothing is left of either" * (not both.to_numpy().any())
    words += "" if whole else f"; a budget ended first, so over {', '.join(made)} alone: no worst case"
    values = {key: getattr(found, key) for key in ("effect", "low", "high", "n")}
    doubtful = [word for word, one in zip(("the first", "the second"), (first, second), strict=True) if one.flags]
    words += f"; {' and '.join(doubtful)} flagged: not robustness" if doubtful else ""
    for one in (first, second):
        one.compared = f"{first.title or 'the first'} against {second.title or 'the second'}, in the worst case: {words}"
        one.comparison = values
        if one.page:
            write(one)
    return words


def write(found: Judgement) -> None:
    """The page, and beside it the same as JSON."""
    template = jinja2.Template(Path(__file__).with_name("judgement.html").read_text(), autoescape=True)
    eps = np.linspace(0, found.eps, 61)
    # a find on the border of the ball lies within it up to float32's last bit
    curve = [(float(e), float((found.radius > e * (1 + 1e-5)).mean())) for e in eps] if found.searchable else []
    page = template.render(judgement=found, summary=found.summary(), curve=curve,
                           made=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()))  # fmt: skip
    replace_file(found.page.with_suffix(".json"), lambda path: path.write_text(json.dumps(found.summary(), indent=1)))
    replace_file(found.page, lambda path: path.write_text(page))
