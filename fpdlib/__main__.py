"""`python -m fpdlib`: work, plan, status, table, verify, report, export, compare, again, judge, gc, pages, cost. Errors are one line
on stderr and exit status 2 (1: some results could not be computed, all others are there); a budget that ran out or Ctrl-C exits
with 3, and the same command continues.
"""

import argparse
import os
import shutil
import signal
import sys
from fractions import Fraction
from pathlib import Path

import pandas as pd

from fpdlib.errors import BudgetExhausted, FPDError, Incomplete, NotComputed, choose
from fpdlib.files import project_folder, replace_file


def fraction(text: str) -> float:
    """'0.3' or '8/255'."""
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r}; accepted: a number such as 0.3 or 8/255") from None


def seconds(text: str) -> float:
    """'540s', '9m', '1.5h' or plain seconds."""
    units = {"s": 1, "m": 60, "h": 3600}
    try:
        value = float(text[:-1]) * units[text[-1]] if text[-1:] in units else float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}; accepted: seconds or a number with s, m or h, such as 540s")
    return value


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(prog="python -m fpdlib", description="Feature Pyramid Decoder: paper versus ours")
    commands = main.add_subparsers(dest="command", required=True)
    scale = argparse.ArgumentParser(add_help=False)
    scale.add_argument("--profile", default="smoke", help="smoke, laptop, medium, paper-short, paper")
    common = argparse.ArgumentParser(add_help=False, parents=[scale])
    common.add_argument("--seeds", type=int, nargs="+", help="default: the profile's")
    common.add_argument("--store", default="", help="folder of results (default: FPD_STORE or store/)")
    planned = argparse.ArgumentParser(add_help=False, parents=[common])
    planned.add_argument("--plan", nargs="+", default=[], help="tables, settings, studies, claims by id (default: all)")
    planned.add_argument("--networks", nargs="+", default=[], help="only these; names as `plan` lists them")
    planned.add_argument("--only", choices=("networks", "outcomes", "studies"), help="only results of this kind, and what they need")
    work = commands.add_parser("work", help="compute what is missing of the plan", parents=[planned])
    work.add_argument("--device", default="auto", help="auto, cpu, cuda")
    work.add_argument("--budget", type=seconds, help="stop cleanly after this time, e.g. 540s; run again to continue")
    work.add_argument("--workers", type=int, help="processes (default: one a GPU, else one a processor as memory allows)")
    work.add_argument("--quiet", action="store_true", help="no progress")
    command = commands.add_parser("plan", aliases=["status"], parents=[planned],
                                  help="how much of every table is there, running, failed, missing, and for how long")  # fmt: skip
    command.add_argument("--csv", type=Path, help="write the plan, a row per number, to this file")
    table = commands.add_parser("table", help="show a table that a notebook published under results/", parents=[scale])
    table.add_argument("number", help="1, 2, 3, 4, caltech, known-answer, claims, answer, glance, scale, longer, f4ib, or all")
    commands.add_parser("report", help="one page of all that the notebooks published, and the notebooks as pages", parents=[scale])
    check = commands.add_parser("verify", help="a verdict on every claim, from what is there", parents=[common])
    check.add_argument("claims", nargs="*", help="claims by id (default: all)")
    out = commands.add_parser("export", help="write what is there as evidence, a few Parquet files", parents=[common])
    out.add_argument("--out", type=Path, default=project_folder("results", "FPD_RESULTS"), help="default: FPD_RESULTS or results/")
    commands.add_parser("compare", help="what the store computed itself beside the committed evidence", parents=[common])
    repeat = commands.add_parser("again", help="attack a few committed networks again, and compare image by image", parents=[common])
    repeat.add_argument("--cells", type=int, default=3, help="how many, drawn among those that took less than a minute")
    repeat.add_argument("--draw", type=int, help="which ones: the same number draws the same (default: others every time)")
    repeat.add_argument("--device", default="auto", help="auto, cpu, cuda")
    own = commands.add_parser("judge", help="judge a network of your own: protocols, worst case, radius, flags")
    own.add_argument("--model", action="append", required=True, help="package.module:build; twice to compare two")
    own.add_argument("--weights", action="append", default=[], help="safetensors file, one a model; - for none")
    own.add_argument(
        "--data", default="mnist-sample",
        help="mnist-sample (bundled, the default), mnist, svhn, caltech101, a folder with one folder a class (labels count the "
        "sorted names), or an .npz file with images (N, C, H, W) and labels",
    )  # fmt: skip
    own.add_argument("--images", type=int, help="how many test images (100, or all if there are fewer), in a fixed shuffled order")
    own.add_argument("--few", type=int, default=100, help="on how many of them the dear attacks and the worst case rest (100)")
    own.add_argument("--size", type=int, help="pixels to which data sets and folders are resized (32; .npz: as it is)")
    own.add_argument("--channels", type=int, choices=(1, 3), help="of data sets and folders: 3, or 1, their mean")
    own.add_argument("--norm", default="linf", help="linf (the default), l2")
    own.add_argument("--eps", type=fraction, help="in pixel units: 0.3 (the default of linf), 8/255")
    own.add_argument("--attack", default="", help="an attack of your own, package.module:attack, as (model, x, y, eps) -> images; "
                     "what leaves the ball is projected back")  # fmt: skip
    own.add_argument("--eot", type=int, default=1, help="runs of a random defence that are averaged")
    own.add_argument("--budget", type=seconds, help="stop after this time (behind 25 images under way) with an upper bound; "
                     "the same command continues")  # fmt: skip
    own.add_argument("--store", default="", help="folder of results (default: judgements/ in the store)")
    own.add_argument("--json", action="store_true", help="the numbers as JSON")
    collect = commands.add_parser("gc", help="what the store has and no profile's plan knows")
    collect.add_argument("--store", default="", help="folder of results (default: FPD_STORE or store/)")
    collect.add_argument("--delete", action="store_true", help="delete it")
    pages = commands.add_parser("pages", help="refresh the tables that README shows from results/")
    pages.add_argument("files", nargs="*", type=Path, default=[Path("README.md")])
    commands.add_parser("cost", help="parameters and multiply-accumulates of every network", parents=[scale])
    return main


def planned(arguments: argparse.Namespace) -> tuple:
    """The rows of the plan that the arguments name, and the store."""
    from fpdlib.results import plan
    from fpdlib.results.worker import store_of

    rows = plan(*getattr(arguments, "plan", ()), profile=arguments.profile, seeds=arguments.seeds)
    chosen, kind = getattr(arguments, "networks", ()), getattr(arguments, "only", None)
    for name in chosen:
        choose("network", name, dict.fromkeys(rows["network"]))
    rows = rows[rows["network"].isin(chosen or rows["network"]) & rows["kind"].isin([kind] if kind else rows["kind"])]
    if (chosen or kind) and rows.empty:
        raise FPDError("nothing of the plan is both of these networks and of this kind; `plan` lists what there is.")
    return rows, store_of(rows, arguments.store)


def work(arguments: argparse.Namespace) -> None:
    from fpdlib.results import compute

    os.environ.pop("FPD_COMPUTE", None)  # it is for notebooks; this command is asked to compute
    compute(planned(arguments)[0], arguments.device, arguments.store, arguments.budget, arguments.workers, arguments.quiet)


def plan(arguments: argparse.Namespace) -> None:
    from fpdlib.results.hours import summary

    rows, store = planned(arguments)
    if arguments.csv:
        replace_file(arguments.csv, lambda path: rows.drop(columns=["experiment", "result"]).to_csv(path, index=False))
    frame, words = summary(rows, store)
    print(f"profile {arguments.profile}, store {store.root}\n{frame.to_string()}\n\n{words}")
    for path in sorted((store.root / "failed").glob("*.txt")):
        print(f"failed: {path}")


def table(arguments: argparse.Namespace) -> None:
    from fpdlib.paper import FPD
    from fpdlib.report import publish

    choose("profile", arguments.profile, FPD.profiles)
    asked = choose("table", arguments.number, [*publish.TABLES, "all"])
    names = list(publish.TABLES) if asked == "all" else [asked]
    for name in names:
        try:
            print(f"\n{publish.read(arguments.profile, name)}")
        except NotComputed as absent:  # the others can still be shown
            if len(names) == 1:
                raise
            print(f"\n{name} is left out: {absent}")
    print(f"\nTables and figures: {publish.results_folder(arguments.profile)}")


def verify(arguments: argparse.Namespace) -> None:
    from fpdlib.report import claims
    from fpdlib.results import Evidence

    frame = claims.verify(Evidence(*planned(arguments)), tuple(arguments.claims))
    for (_, claim, place), group in frame.groupby(["id", "claim", "place"], sort=False):
        print(f"{claim}  [{place}]")
        for _, line in group.iterrows():
            print(f"    {line['protocol']:9} {claims.spoken(line).replace('**', '')}")
    print("\n" + ", ".join(f"{number} {verdict}" for verdict, number in frame["verdict"].value_counts().items()))


def report(arguments: argparse.Namespace) -> None:
    from fpdlib.paper import FPD
    from fpdlib.report import page

    print(f"Report: {page.write(choose('profile', arguments.profile, FPD.profiles))}")


def export(arguments: argparse.Namespace) -> None:
    from fpdlib.paper import FPD
    from fpdlib.results.committed import export as write
    from fpdlib.results.committed import keep_checkpoints

    rows, store = planned(arguments)  # every file is written anew, so it takes every seed that there is
    arguments.seeds = sorted({*rows["seed"], *(line["seed"] for line in store.committed.results.values())})
    (rows, store), target = planned(arguments), arguments.out / arguments.profile
    first = rows[(rows["kind"] == "networks") & (rows["seed"] == rows["seed"].min())]
    chosen = pd.Index(zip(first["setting"], first["network"], strict=True)).isin(FPD.profiles[arguments.profile].checkpoints)
    kept = keep_checkpoints(first[chosen], store, target / "checkpoints")
    print(f"Evidence: {write(rows, store, target / 'evidence')}; {len(kept)} checkpoints")


def compare(arguments: argparse.Namespace) -> None:
    from fpdlib.report.reproduced import reproduced, spoken

    print(spoken(reproduced(*planned(arguments))))


def again(arguments: argparse.Namespace) -> None:
    import tempfile

    from fpdlib.report.reproduced import again as repeat
    from fpdlib.report.reproduced import otherwise

    if arguments.cells < 1:
        raise FPDError(f"cells is {arguments.cells}; accepted: an integer from 1.")
    rows, store = planned(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = repeat(rows, store.committed, Path(folder), arguments.cells, arguments.device, arguments.draw)
    print("Attacked again, with the committed weights, beside what is committed (images that stood):")
    print(found.to_string(index=False))
    lines = otherwise(found).itertuples()
    if said := "; ".join(f"{line.different} of {line.n} images of {line.network} under {line.attack}" for line in lines):
        raise FPDError(f"{said} came out otherwise than committed; accepted: 1 % or one image.")


def judge(arguments: argparse.Namespace) -> None:
    import contextlib
    import json
    import time

    from fpdlib.judgement import against, loading
    from fpdlib.judgement import judge as judged
    from fpdlib.judgement.subject import images_of, subject_of

    if len(arguments.weights) not in (0, len(arguments.model)) or len(arguments.model) > 2:
        raise FPDError(
            f"{len(arguments.model)} models and {len(arguments.weights)} weights; accepted: one or two, none or one each (-: none)."
        )
    if arguments.data.endswith(".npz") and (arguments.size or arguments.channels):
        raise FPDError(f"--size and --channels are for data sets and folders; {arguments.data} is taken as it is.")
    size, channels = 32 if arguments.size is None else arguments.size, arguments.channels or 3
    images, labels, names = loading.read(arguments.data, arguments.images, size, channels)
    attack, found = loading.named(arguments.attack, "attack") if arguments.attack else None, []
    weights = [None if path == "-" else Path(path) for path in arguments.weights or ["-"] * len(arguments.model)]
    began = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr) if arguments.json else contextlib.nullcontext():  # a model may print
        models = [loading.model_of(place, path) for place, path in zip(arguments.model, weights, strict=True)]
        for model in models[1:]:  # a mistake in the second shows before the first is judged
            subject_of(model, images_of(images, labels, next((p.device for p in model.parameters()), "cpu")).test, 1)
        for place, path, model in zip(arguments.model, weights, models, strict=True):
            title = f"{place}{f' ({path})' if path else ''} on {len(images)} images of {arguments.data}"
            say = None if arguments.json else lambda words, place=place: print(f"{place}: {words}", flush=True)
            left = None if arguments.budget is None else max(arguments.budget - (time.monotonic() - began), 0.1)
            try:
                found.append(judged(model, images, labels, arguments.norm, arguments.eps, attack=attack, eot=arguments.eot,
                                    title=title, budget=left, few=arguments.few, names=names, store=arguments.store,
                                    say=say))  # fmt: skip
            except BudgetExhausted:
                break
    try:
        if len(found) == 2:
            against(*found)
    finally:  # each is told, also where they cannot be compared
        if arguments.json:
            print(json.dumps([one.summary() for one in found], indent=1))
        else:
            print(*(f"\n{one.title}\n{one}\n{one.page}" for one in found), sep="\n")
            print(*(f"\n{one.compared}" for one in found[1:] if one.compared))
    if len(found) < len(models) or not all(one.complete for one in found):
        raise BudgetExhausted


def collect(arguments: argparse.Namespace) -> None:
    from fpdlib.paper import FPD
    from fpdlib.results import plan
    from fpdlib.results.plan import results
    from fpdlib.results.store import Store

    store = Store(arguments.store or None)
    plans = [plan(profile=profile, seeds=seeds) for profile in FPD.profiles for seeds in (None, store.seeds() or None)]
    for path in store.unknown({key for rows in plans for key in results(rows)}):
        print(f"{'deleted' if arguments.delete else 'unknown'}: {path}")
        if arguments.delete:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def pages(arguments: argparse.Namespace) -> None:
    from fpdlib.report import publish

    for page in arguments.files:
        print(f"{page}: {'refreshed' if publish.include(page) else 'up to date'}")


def cost(arguments: argparse.Namespace) -> None:
    from fpdlib.network import cost as count
    from fpdlib.paper import FPD

    profile = FPD.profiles[choose("profile", arguments.profile, FPD.profiles)]
    lines = {name: count(FPD.variants[name].spec(profile)) for name in FPD.networks("table1")}
    print(pd.DataFrame(lines).T.map(lambda value: f"{value:,.0f}").to_string())


COMMANDS = {
    "work": work, "plan": plan, "status": plan, "table": table, "verify": verify, "report": report, "export": export,
    "compare": compare, "again": again, "judge": judge, "gc": collect, "pages": pages, "cost": cost,
}  # fmt: skip


def main() -> int:
    arguments = parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    pd.set_option("display.width", 250, "display.max_columns", 30, "display.max_rows", 200, "display.max_colwidth", 90)
    try:
        COMMANDS[arguments.command](arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # a reader such as `head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except FPDError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, Incomplete) else 2
    except BudgetExhausted as stop:
        print(f"stopped: {stop}; run the same command to continue.", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("interrupted: all finished work is saved; run the same command to continue.", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
