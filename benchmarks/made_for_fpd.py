"""What do the attacks made for FPD find that others do not? Each alone, at the median radius of a network's images.

    python benchmarks/made_for_fpd.py laptop 30 F F_FD+R      (needs their checkpoints: committed, or in the store)

For each network the images that stand after PGD on the logits before tanh, after each attack made for FPD, after AutoAttack, and
how many of those that AutoAttack leaves each of the others breaks. Writes results/<profile>/tables/made_for_fpd.{csv,md}.
"""

import sys
from dataclasses import replace

import pandas as pd

import fpdlib
from fpdlib import data, evaluation
from fpdlib.attacks.methods import PGD, AutoAttack, MadeForFPD
from fpdlib.attacks.spec import AttackSpec
from fpdlib.report import publish


def main(profile: str, images: str, *names: str) -> None:
    scale, lines = fpdlib.FPD.profiles[profile], []
    splits = data.load(scale.dataset, scale.network.image_size)
    for name in names:
        model = fpdlib.load_network(name, profile)
        spec = AttackSpec("radius", "sound", scale.scale.radius, (1.0,), images=int(images), batch_size=50)
        radii = evaluation.radii(evaluation.evaluate(model, splits, spec, 0)[0])
        eps = float(radii[radii > 0].median())
        methods = {"PGD": PGD(((100, eps / 10, 1),))}
        methods |= {f"through {part}": MadeForFPD(100, (part,)) for part in model.parts}
        methods |= {"momentum": MadeForFPD(100, ("pre-squeeze",)), "AutoAttack": AutoAttack()}
        left = {}
        for attack, method in methods.items():
            chosen = replace(spec, name="alone", method=method, eps=(eps,), iterates="any")
            left[attack] = evaluation.robust(evaluation.evaluate(model, splits, chosen, 0)[0]).iloc[:, -1]
        for attack, stands in left.items():
            found = int((left["AutoAttack"] & ~stands).sum())
            lines.append({"network": name, "n": len(radii), "eps": round(eps, 4), "attack": attack, "stand": int(stands.sum()),
                          "breaks of what AutoAttack leaves": found})  # fmt: skip
            print(lines[-1], flush=True)
    frame, words = pd.DataFrame(lines), f"Profile {profile}, seed 0, L-inf at the median radius; images that stand."
    publish.table(publish.results_folder(profile), "made_for_fpd", frame, frame, words)


if __name__ == "__main__":
    main(*sys.argv[1:])
