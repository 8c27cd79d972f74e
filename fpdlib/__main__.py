"""`python -m fpdlib`: train, evaluate, table, verify, status, pages, cost. Errors are one line on stderr and exit status 2;
a budget that ran out or Ctrl-C exits with 3, and the same command continues.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import pandas as pd

from fpdlib.errors import BudgetExhausted, FPDError, NotComputed
from fpdlib.files import project_folder
from fpdlib.paper import experiments, settings

TABLES = ("1", "2", "3", "4", "caltech", "all")


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
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--profile", default="smoke", help=", ".join(experiments.PROFILES))
    common.add_argument("--seeds", type=int, nargs="+", help="default: the profile's")
    common.add_argument("--device", default="auto", help="auto, cpu, cuda")
    common.add_argument("--store", default="", help="folder of results (default: FPD_STORE or store/)")
    common.add_argument("--budget", type=seconds, help="stop cleanly after this time, e.g. 540s; run again to continue")
    written = argparse.ArgumentParser(add_help=False, parents=[common])
    out = project_folder("results", "FPD_RESULTS")
    written.add_argument("--out", type=Path, default=out, help="results folder (default: FPD_RESULTS or results/)")
    for name, text in (
        ("train", "train the networks of a setting"),
        ("evaluate", "train and attack the networks of a setting"),
    ):
        command = commands.add_parser(name, help=text, parents=[common])
        command.add_argument("networks", nargs="*", help="names as in `python -m fpdlib status` (default: all)")
    work = commands.add_parser("work", help="compute everything that tables and notebooks read", parents=[common])
    work.add_argument(
        "--workers", type=int, help="processes (default: one a GPU, else one a processor as memory allows)"
    )
    work.add_argument("--quiet", action="store_true", help="no progress")
    planned = commands.add_parser(
        "plan", help="how much of every setting is there, and how much is missing", parents=[common]
    )
    for command in (work, planned):
        command.add_argument(
            "--settings", nargs="+", help=f"default: all that tables read; of {', '.join(settings.SETTINGS)}"
        )
    commands.add_parser("export", help="write what is there as evidence, a few Parquet files", parents=[written])
    table = commands.add_parser("table", help="compute a table, print it, write results/", parents=[written])
    table.add_argument("number", choices=TABLES, help="the paper's table; `all` ends with the verdicts")
    table.add_argument("--stored", action="store_true", help="compute nothing, use what is there")
    verify = commands.add_parser("verify", help="a verdict on every claim of the paper", parents=[written])
    verify.add_argument("--stored", action="store_true", help="compute nothing; claims without outcomes are not tested")
    status = commands.add_parser("status", help="what the store holds", parents=[common])
    for command in (commands.choices["train"], commands.choices["evaluate"], status):
        command.add_argument("--setting", default="table1", help=", ".join(settings.SETTINGS))
    pages = commands.add_parser("pages", help="refresh the tables that README shows from results/")
    pages.add_argument("files", nargs="*", type=Path, default=[Path("README.md")])
    cost = commands.add_parser("cost", help="parameters and multiply-accumulates of every network")
    cost.add_argument("--profile", default="smoke", help=", ".join(experiments.PROFILES))
    return main


def run(arguments: argparse.Namespace) -> None:
    from fpdlib.network.fpd import cost
    from fpdlib.report import measures, publish  # these import torch: not for --help
    from fpdlib.results.lab import Lab
    from fpdlib.runtime import Budget

    if arguments.command == "pages":
        for page in arguments.files:
            print(f"{page}: {'refreshed' if publish.include(page) else 'up to date'}")
        return
    profile = experiments.get_profile(arguments.profile)
    pd.set_option("display.width", 250, "display.max_columns", 30, "display.max_rows", 200, "display.max_colwidth", 90)
    if arguments.command == "cost":
        lines = {name: cost(experiments.VARIANTS[name].spec(profile)) for name in experiments.variants_of()}
        print(pd.DataFrame(lines).T.map(lambda value: f"{value:,.0f}").to_string())
        return
    seeds = dict.fromkeys(arguments.seeds or profile.seeds)
    if arguments.command == "export":  # it writes every file anew, so it takes every seed that there is
        seeds |= dict.fromkeys((*profile.seeds, *known_seeds(profile.name)))
    setting = getattr(arguments, "setting", "table1")
    stored = getattr(arguments, "stored", arguments.command == "status")
    budget = Budget(arguments.budget)  # one for all
    labs = [
        Lab(profile.name, seed, arguments.device, arguments.store, budget, setting=setting, stored_only=stored)
        for seed in seeds
    ]
    if arguments.command == "export":
        from fpdlib.results.export import export

        return print(f"Evidence: {export(labs, arguments.out)}")
    if arguments.command in ("work", "plan"):
        from fpdlib.results import plan

        chosen = arguments.settings or settings.SETTINGS
        if arguments.command == "plan":
            frame, words = plan.summary(plan.plan(labs, chosen))
            return print(f"{frame.to_string()}\n\n{words}")
        count = plan.workers(labs[0].device.type) if arguments.workers is None else arguments.workers
        if count < 1:
            raise FPDError(f"--workers is {count}; accepted: a number from 1.")
        return plan.check(plan.compute(labs, chosen, count, arguments.quiet))
    names = getattr(arguments, "networks", None) or labs[0].networks
    if arguments.command == "status":
        return status(labs, names)
    if arguments.command == "verify":
        return verify(labs, arguments.out, stored)
    if arguments.command == "table":
        if arguments.number != "all":
            return table(labs, arguments.number, arguments.out, stored)
        for number in TABLES[:-1]:
            try:
                table(labs, number, arguments.out, stored)
            except NotComputed as missing:  # only with --stored: the other tables can still be shown
                print(f"\nTable {number} is left out: {missing}")
        return verify(labs, arguments.out, stored)
    for lab in labs:
        if arguments.command == "train":
            for name in names:
                lab.train(name)
                print(f"{name} seed {lab.seed}: clean {lab.clean(name)}")
        else:
            lab.run(names)
    if arguments.command == "evaluate":
        for name in names:
            found = {attack: measures.measurement(labs, name, attack) for attack in labs[0].profile.attacks}
            print(f"{name}: " + "; ".join(f"{a} {m['value']:.1f} % (n={m['n']})" for a, m in found.items()))


def known_seeds(profile: str) -> list[int]:
    """The seeds of a profile's committed evidence."""
    from fpdlib.results.lab import committed

    return sorted(
        {int(seed) for seed in committed(profile, project_folder("results", "FPD_RESULTS")).results.get("seed", [])}
    )


def table(labs: list, number: str, out: Path, stored: bool) -> None:
    """Compute a table (unless `stored`), print it and write it."""
    from fpdlib import report
    from fpdlib.report import publish

    if not stored:
        for lab in labs:
            for name in publish.COMPARED.get(number, ("table1", "protocols")):
                lab.at(name).run()
    if number == "1":
        folder = publish.publish(labs, out)
        print(report.caption(labs))
        print(report.readable(report.table1(labs)).to_string(index=False))
        print()
        print(report.verdict_table(labs).drop(columns="claim").to_string(index=False))
    else:
        folder, shown, words = publish.publish_comparison(labs, number, out)
        print(f"\nTable {number}: {words}\n{shown.to_string(index=False)}")
    print(f"\nTables and figures: {folder}")


def verify(labs: list, out: Path, stored: bool) -> None:
    """A verdict on every claim; with `stored`, claims whose outcomes are missing are not tested."""
    from fpdlib.report import claims, publish

    if not stored:
        for lab in labs:
            for name in claims.needed():
                lab.at(name).run()
    folder, frame = publish.publish_claims(labs, out)
    for _, line in claims.readable(frame).iterrows():
        print(f"{line['claim']}  [{line['place']}]")
        for protocol in claims.PROTOCOLS:
            if line[protocol]:
                print(f"    {protocol:9} {line[protocol].replace('**', '')}")
    print(f"\nVerdicts: {folder / 'tables' / 'claims.md'}")


def status(labs: list, names) -> None:
    """What the store holds of a setting."""
    for lab in labs:
        print(f"{lab.title}, store {lab.store.root}")
        minutes = {"training": 0.0, "attacks": 0.0}
        for name in names:
            missing = [attack for _, attack in lab.missing([name])]
            trained = lab.store.has("networks", lab.network_key(name))
            state = f"clean {lab.clean(name)}" if trained else "not trained"
            print(f"  {name:14s} {state:34s} missing: {', '.join(missing) or '-'}")
            minutes["training"] += lab.facts(name)["seconds"] / 60 if trained else 0
            done = [attack for attack in lab.profile.attacks if attack not in missing]
            minutes["attacks"] += sum(lab.counts(name, attack)["seconds"] / 60 for attack in done)
        print("  computed in " + ", ".join(f"{value:.1f} min of {what}" for what, value in minutes.items()))


def main() -> int:
    arguments = parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    try:
        run(arguments)
    except FPDError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BudgetExhausted as stop:
        print(f"stopped: {stop}; run the same command to continue.", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("interrupted: all finished work is saved; run the same command to continue.", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
