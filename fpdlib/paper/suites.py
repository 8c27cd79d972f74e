"""The attack suites of the paper's tables as data, in three protocols and at the scale that a profile affords.

Tables 2 and 4 name seven and five attacks, Table 3 transfers them; each in `published`, as the paper's ART 0.10 ran it, in
`current`, as today's ART does, and in `sound`, where one number per norm is the worst case over everything tried.
"""

import math
from dataclasses import dataclass, field, replace

from fpdlib.attacks.methods import ART, ART010, FGSM, FGSM_L2, PGD, AutoAttack, Chain, Foolbox, MadeForFPD, Method, TargetedMargin
from fpdlib.attacks.radius import Radius
from fpdlib.attacks.spec import AttackSpec

BACKBONES = ("resnet101", "resnet50", "resnext50")
EPS_SVHN = 8 / 256  # Sec. 4.2 'On SVHN'; the release has 8/255
L2_MNIST = 1.5  # Table 2, at the paper's 64 pixels
# Table 4 gives its L2 attacks no radius. 0.5 is common for 32 x 32 images; a pixel of SVHN is four at 64 x 64.
L2_SVHN = 1.0
L2_SIZE = 64  # an L2 radius grows with the side length of the image; at 32 pixels these radii would be twice as large per pixel


# The networks of Sec. 4.2 by the names of the paper's tables -> our variants; O, the original CNN, is Table 1's `ReLU`.
NETWORKS = {"O": "ReLU", "O_FGSM": "O_FGSM", "O_PGD": "O_PGD", "F": "F", "F_FGSM": "F_FGSM", "F_PGD": "F_PGD"}

LINF = ("linf-fgsm", "linf-pgd", "linf-cw")
UNBOUNDED = ("l2-cw", "l2-deepfool")  # no radius in the release: what they leave is failure of the attack (findings)
PGD_COARSE = PGD(((100, 0.1, 0),))  # Sec. 4.2 'On MNIST': 100 iterations, step 0.1, L-inf and L2
PGD_L2 = PGD(((100, 0.1, 0),), "l2")
PGD_SVHN = PGD(((40, 2 / 256, 0),))  # Sec. 4.2 'On SVHN'

# The attacks by the names of Table 2's columns. C&W and DeepFool with the defaults of ART.
PUBLISHED: dict[str, Method] = {
    "linf-fgsm": FGSM, "linf-pgd": PGD_COARSE, "linf-cw": ART010("linf-cw", "linf"), "l2-fgsm": ART010("l2-pgd", "l2", 1, 100.0),
    "l2-pgd": ART010("l2-pgd", "l2", 100, 0.1), "l2-cw": ART("l2-cw", "l2"), "l2-deepfool": ART010("l2-deepfool", "l2"),
}  # fmt: skip
CURRENT: dict[str, Method] = PUBLISHED | {
    "l2-fgsm": FGSM_L2, "l2-pgd": PGD_L2, "linf-cw": ART("linf-cw", "linf"), "l2-deepfool": ART("l2-deepfool", "l2"),
}  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """How many images and steps a profile affords: cheap attacks, ART's C&W-L2 and DeepFool, its C&W-Linf (image after image; 0
    leaves it out), sound (`few` in L2 and on native pixels), studies. hurry: attack of ART -> what smoke, where it only has to run,
    changes of its defaults. norms: those that Tables 2 and 4 are attacked in; with one alone, native pixels are left out too."""

    cheap: int
    costly: int
    costliest: int
    sound: int
    batch: int
    steps: int = 100
    restarts: int = 10
    queries: int = 5000
    iterations: int = 100
    study: int = 1000
    radius: Radius = field(default_factory=Radius)
    few: int = 100
    hurry: tuple[tuple[str, tuple[tuple[str, object], ...]], ...] = ()
    norms: tuple[str, ...] = ("linf", "l2")

    def afford(self, method: Method) -> Method:
        changed = dict(self.hurry).get(method.name) if isinstance(method, ART) else None
        return replace(method, parameters=changed) if changed else method


QUICK = Radius(10, ((0.9, 5),), 1)
FEW_STEPS = (("max_iter", 2),)
COARSE = (*FEW_STEPS, ("decrease_factor", 0.5), ("const_factor", 100.0))  # it goes through every constant for every radius
SMOKE_SCALE = Scale(10, 10, 10, 10, 10, steps=5, restarts=1, queries=50, iterations=3, study=50, radius=QUICK, few=10,
                    hurry=(("linf-cw", COARSE), ("l2-cw", FEW_STEPS), ("l2-deepfool", FEW_STEPS)))  # fmt: skip
LAPTOP_SCALE = Scale(100, 50, 20, 100, 100, study=500, few=20)
MEDIUM_SCALE = Scale(100, 50, 20, 50, 50, study=200, few=20, norms=("linf",))
SHORT_SCALE = Scale(500, 20, 0, 100, 100, study=500, few=20, norms=("linf",))
PAPER_SCALE = Scale(10_000, 1000, 1000, 1000, 500, study=10_000, few=500)


def sound(norm: str, eps: float, scale: Scale, made_for_fpd: bool = True) -> Chain:
    """The `sound` protocol for one norm: cheap attacks first, each on what still stands; the worst case per example.

    PGD on the logits before tanh from random starts, the attacks made for FPD, the targeted margin of every class, AutoAttack's
    four attacks, and foolbox's DeepFool and C&W, which count only within epsilon. Transfers are evaluated beside it.
    """
    minimal: tuple[Method, ...] = (Foolbox(f"{norm}-deepfool", norm, (("steps", scale.steps),)),)
    if norm == "l2":
        minimal += (Foolbox("l2-cw", norm, (("binary_search_steps", 5), ("steps", scale.steps))),)
    return Chain((
        PGD(((10, None, 1), (scale.steps, eps / 10, scale.restarts)), norm),
        *((MadeForFPD(scale.steps, norm=norm),) if made_for_fpd else ()),
        TargetedMargin(scale.steps, norm=norm), AutoAttack(norm=norm, iterations=scale.iterations, queries=scale.queries), *minimal,
    ))  # fmt: skip


TABLE1_PGD = PGD(stages=((40, 0.01, 0),))  # Sec. 4.1: eps 0.3, 40 steps of 0.01


def table1_suite(images: int, sound_images: int, batch_size: int, scale: Scale, **surrogate) -> dict[str, AttackSpec]:
    """Table 1's two columns in `published`, its white-box point in the other two protocols, and the radius of each image."""
    published = AttackSpec("white-box", "published", TABLE1_PGD, images=images, batch_size=batch_size)
    worst = replace(published, name="sound", protocol="sound", method=sound("linf", 0.3, scale), images=sound_images,
                    batch_size=min(batch_size, 100), iterates="any")  # fmt: skip
    return {
        "white-box": published,
        "transfer-oracle": replace(published, name="transfer-oracle", surrogate="oracle", **surrogate),
        "transfer-true": replace(published, name="transfer-true", surrogate="true", **surrogate),
        "current": replace(published, name="current", protocol="current"),
        "sound": worst,
        "radius": replace(worst, name="radius", method=scale.radius, eps=(1.0,)),
    }


def suite(columns: tuple[str, ...], linf: float, l2: float, scale: Scale, pgd: Method | None = None,
          natives: bool = True, surrogates: tuple[str, ...] = (), parts: bool = False) -> dict[str, AttackSpec]:  # fmt: skip
    """The attacks of a table: its columns under `published` (also on the first 100 images) and `current`, and `sound`.

    C&W-L2 and DeepFool have no radius in either of the first two, as in the release. surrogates: networks whose adversarial
    examples are transferred, 'setting/network'. parts: each attack made for FPD also alone, to see what it finds.
    """
    attacks, bounds, batch = {}, {"linf": linf, "l2": l2}, min(scale.batch, 100)
    counts = {"linf-cw": scale.costly, "l2-cw": scale.costly, "l2-deepfool": scale.costly}
    for protocol, methods, images in (("published", PUBLISHED, counts), ("current", CURRENT, counts | {"linf-cw": scale.costliest})):
        for column in (column for column in columns if methods[column].norm in scale.norms):
            method = pgd if pgd is not None and column == "linf-pgd" else scale.afford(methods[column])
            same = method == scale.afford(PUBLISHED[column]) and method.sees("current") == method.sees("published")
            if protocol == "current" and same:
                attacks[f"{protocol}/{column}"] = attacks[f"published/{column}"]  # the same attack: computed once
            elif count := images.get(column, scale.cheap):
                eps = math.inf if column in UNBOUNDED else bounds[method.norm]
                spec = attacks[f"{protocol}/{column}"] = AttackSpec(column, protocol, method, (eps,), images=count, batch_size=batch)
                if protocol == "published" and column in ("linf-fgsm", "linf-pgd", "l2-fgsm", "l2-pgd"):
                    attacks[f"first-100/{column}"] = replace(spec, images=min(scale.cheap, 100), order="file")
    for norm in scale.norms:
        spec = AttackSpec(f"sound-{norm}", "sound", sound(norm, bounds[norm], scale), (bounds[norm],), images=scale.sound,
                          batch_size=batch, iterates="any")  # fmt: skip
        few = replace(spec, images=scale.few)  # most images stand in L2 and on native pixels: the dearest of all
        attacks[f"sound/{norm}"] = few if norm == "l2" else spec
        if natives and len(scale.norms) > 1:
            attacks[f"sound-native/{norm}"] = replace(few, name=f"sound-native-{norm}", space="native")
    for source in surrogates:
        attacks[f"transfer/{source}"] = AttackSpec(
            f"from-{source.replace('/', '-')}", "sound", PGD(((scale.steps, linf / 10, 1),)), (linf,), surrogate=source,
            images=scale.sound, batch_size=batch,
        )  # fmt: skip
    for part in MadeForFPD().parts if parts else ():
        attacks[f"made/{part}"] = replace(attacks["sound/linf"], name=f"made-{part}", method=MadeForFPD(scale.steps, (part,)))
    return attacks


def transfer_suite(scale: Scale) -> dict[str, AttackSpec]:
    """Table 3: every substitute's FGSM, PGD and (O only) C&W examples, in `published` and `current`; PGD in `sound`."""
    attacks = {}
    for protocol, methods in (("published", PUBLISHED), ("current", CURRENT), ("sound", CURRENT)):
        for backbone in BACKBONES:
            for name in ("O", "F"):
                columns = LINF if name == "O" else LINF[:2]
                for column in columns if protocol != "sound" else ("linf-pgd",):
                    method = PGD_SVHN if column == "linf-pgd" else scale.afford(methods[column])
                    count = scale.costliest if (protocol, column) == ("current", "linf-cw") else scale.costly
                    if count:
                        attacks[f"{protocol}/{backbone}/{name}/{column}"] = AttackSpec(
                            f"{protocol}-{backbone}-{name}-{column}", protocol, method, (EPS_SVHN,),
                            surrogate=f"svhn-{backbone}/{NETWORKS[name]}", images=count, batch_size=min(scale.batch, 100),
                        )  # fmt: skip
    return attacks


def caltech_suite(scale: Scale, first_24: bool) -> dict[str, AttackSpec]:
    """Sec. 4.2 'On CALTECH-101 & CALTECH-256': L-inf PGD, eps 8/256, 40 steps of 2/256; the worst case, and the radius.

    first_24: the release's loop over the first 24 images, which its folder of Caltech-256 alone has.
    """
    published = AttackSpec("linf-pgd", "published", PGD_SVHN, (EPS_SVHN,), images=scale.cheap, batch_size=min(scale.batch, 100))
    worst = AttackSpec("sound-linf", "sound", sound("linf", EPS_SVHN, scale), (EPS_SVHN,), images=scale.sound,
                       batch_size=min(scale.batch, 50), iterates="any")  # fmt: skip
    attacks = {"published/linf-pgd": published, "current/linf-pgd": replace(published, protocol="current"), "sound/linf": worst,
               "radius/linf": replace(worst, name="radius", method=scale.radius, eps=(1.0,))}  # fmt: skip
    return attacks | ({"first-24/linf-pgd": replace(published, images=24, batch_size=24, order="file")} if first_24 else {})
