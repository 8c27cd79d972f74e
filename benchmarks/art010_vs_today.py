"""The paper's attacks as ART 0.10 had them, as this kit has them, and as today's ART has them, on one fixed network.

    python benchmarks/art010_vs_today.py

Reads tests/data/art010.safetensors (a network, 60 images, ART 0.10's own adversarial images); writes results/art010.md. Minutes.
"""

import sys
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file

from fpdlib.attacks.views import View
from fpdlib.evaluation.outcomes import rate
from fpdlib.paper import suites

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
# column -> radius in pixel units, as when ART 0.10 made its images
RADII = {"linf-fgsm": 0.3, "linf-pgd": 0.3, "linf-cw": 0.3, "l2-fgsm": 1.0, "l2-pgd": 1.0, "l2-cw": None, "l2-deepfool": None}


def main() -> None:
    from fixed import Fixed

    stored = load_file(ROOT / "tests" / "data" / "art010.safetensors")
    network, x, y = Fixed(), stored["x"], stored["y"]
    network.load_state_dict({k.removeprefix("weights/"): v for k, v in stored.items() if k.startswith("weights/")})
    network.eval().requires_grad_(False)

    def right(images):
        return (network(images).argmax(1) == y).numpy()

    lines = []
    for column, eps in RADII.items():
        theirs = stored["art010/" + ("linf-pgd-coarse" if column == "linf-pgd" else column)]
        line = {"attack": column, "eps": "none" if eps is None else f"{eps:g}", "ART 0.10": str(rate(right(theirs)))}
        for protocol, method in (("published", suites.PUBLISHED[column]), ("current", suites.CURRENT[column])):
            ((_, attempt),) = method.attempts(eps or float("inf"))
            images = attempt(View(network, method.sees(protocol)), x, y, seed=0, classes=10)
            line["ours, published" if protocol == "published" else "today's ART"] = str(rate(right(images)))
            if protocol == "published":
                same = (images - theirs).abs().flatten(1).amax(1) < 1e-3
                line["same images"] = f"{100 * same.float().mean():.0f} %"
        lines.append(line)
        print(line, flush=True)
    words = (
        f"Accuracy left on one fixed network (clean {rate(right(x))}), Wilson 95 % intervals; same images: equal to 1e-3 in every "
        "pixel."
    )
    (ROOT / "results" / "art010.md").write_text(f"{words}\n\n{pd.DataFrame(lines).to_markdown(index=False)}\n")


if __name__ == "__main__":
    main()
