"""Is the radius search strong enough? Against AutoAttack at three radii, on trained networks.

    python benchmarks/radius_vs_autoattack.py laptop 40 Deep F X F_FD F_FD+R "longer/F (ten times as long)" ReLU ELU+Tanh

(of Table 1, or setting/network; needs their checkpoints: committed, or in the store).

For each network the radii of the first test images, then AutoAttack (APGD-CE, APGD-T, FAB-T, Square on the logits before tanh, judged
on the deployed output) at their quartiles: how many images stand in each. Writes
results/<profile>/tables/radius_vs_autoattack.{csv,md}.
"""

import sys
from dataclasses import replace

import numpy as np
import pandas as pd

import fpdlib
from fpdlib import data, evaluation
from fpdlib.attacks.methods import AutoAttack
from fpdlib.attacks.spec import AttackSpec
from fpdlib.report import publish


def main(profile: str, images: str, *names: str) -> None:
    scale, lines = fpdlib.FPD.profiles[profile], []
    splits = data.load(scale.dataset, scale.network.image_size)
    spec = AttackSpec("radius", "sound", scale.scale.radius, (1.0,), images=int(images), batch_size=50)
    for name in names:
        setting, _, variant = name.rpartition("/")
        model = fpdlib.load_network(variant, profile, setting=setting or "table1")
        frame, counts = evaluation.evaluate(model, splits, spec, 0)
        radii = evaluation.radii(frame)
        for eps in np.quantile(radii[radii > 0], (0.25, 0.5, 0.75)):
            strong = replace(spec, method=AutoAttack(), eps=(float(eps),))
            left = evaluation.robust(evaluation.evaluate(model, splits, strong, 0)[0]).iloc[:, -1]
            lines.append({"network": name, "n": len(radii), "eps": round(float(eps), 4), "stand: radius": int((radii > eps).sum()),
                          "stand: AutoAttack": int(left.sum()),
                          "passes an image": round(counts["backwards"] / len(radii))})  # fmt: skip
            print(lines[-1], flush=True)
    frame, words = pd.DataFrame(lines), f"Profile {profile}, seed 0, L-inf; images that stand beyond a radius."
    publish.table(publish.results_folder(profile), "radius_vs_autoattack", frame, frame, words)


if __name__ == "__main__":
    main(*sys.argv[1:])
