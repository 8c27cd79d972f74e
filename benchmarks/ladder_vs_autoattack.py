"""Is the ladder of attacks behind the curves strong enough? Against AutoAttack's APGD, on trained networks.

    python benchmarks/ladder_vs_autoattack.py laptop Deep F ReLU      (needs their checkpoints: a store that ran them)

APGD-CE and targeted APGD (100 iterations, 9 targets, pyautoattack) on the logits before tanh, judged on the deployed
output, on the first 60 attacked images. Writes results/<profile>/tables/ladder_vs_autoattack.md.
"""

import sys
from pathlib import Path

import pandas as pd
import torch
from pyautoattack import AutoAttack

import fpdlib
from fpdlib import data, evaluation
from fpdlib.attacks.views import View

IMAGES, RADII = 60, (0.03, 0.05)


def write(profile: str, lines: list[dict]) -> None:
    target = Path("results") / profile / "tables" / "ladder_vs_autoattack.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    text = f"Profile {profile}, seed 0, L-inf, Wilson 95 % intervals.\n\n{pd.DataFrame(lines).to_markdown(index=False)}\n"
    target.write_text(text)


def main(profile: str, *names: str) -> None:
    evidence = fpdlib.load(fpdlib.plan("table1", profile=profile, seeds=[0]))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    test = data.load(evidence.profile.dataset, evidence.profile.network.image_size, device).test
    index = evaluation.test_order(len(test))[:IMAGES]
    x, y = test.batch(index), test.labels[index]
    lines = []
    for name in names:
        ladder = evaluation.robust(evidence.outcome(name, "curve", 0)).loc[index.numpy()]
        ladder.columns = ladder.columns.astype(float).round(4)
        model = fpdlib.load_network(name, profile).requires_grad_(False)
        for eps in RADII:
            attack = AutoAttack(View(model, "pre-squeeze").eval(), norm="Linf", eps=eps, version="custom",
                                attacks=["apgd-ce", "apgd-t"], seed=0, device=device)  # fmt: skip
            adversarial = attack.run_standard_evaluation(x, y, batch_size=IMAGES)[0]
            hits = (evaluation.predict(model, adversarial) == y).cpu().numpy()
            line = {"network": name, "eps": eps, "ladder": str(evaluation.rate(ladder[eps])),
                    "APGD-CE + APGD-T": str(evaluation.rate(hits))}  # fmt: skip
            lines.append(line)
            print(line, flush=True)
            write(profile, lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
