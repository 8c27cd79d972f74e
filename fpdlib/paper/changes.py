"""A profile with something of it changed: what a notebook's parameters ask for beside it. An override is just another plan."""

from collections.abc import Callable
from dataclasses import replace

from fpdlib.attacks.spec import AttackSpec
from fpdlib.errors import FPDError, choose
from fpdlib.network import FPD
from fpdlib.paper.profiles import Profile
from fpdlib.paper.suites import sound
from fpdlib.paper.variants import PLACEMENTS, VARIANTS


def backbone(profile: Profile, name: str) -> Profile:
    """Another CNN of timm's in place of the profile's, at its own depth and width."""
    arguments = (("zero_init_last", False),) if name.startswith("res") else ()  # a ResNet starts as the release's
    return replace(profile, network=replace(profile.network, backbone=name, backbone_args=arguments))


def recipe(field: str) -> Callable[[Profile, object], Profile]:
    return lambda profile, value: replace(profile, recipe=profile.recipe | {field: value})


def network(field: str) -> Callable[[Profile, object], Profile]:
    return lambda profile, value: replace(profile, network=replace(profile.network, **{field: value}))


def images(profile: Profile, count: int) -> Profile:
    """At most so many test images for every attack of Table 1's suite."""
    fewer = {key: replace(spec, images=min(spec.images, count), batch_size=min(spec.batch_size, count))
             for key, spec in profile.attacks.items()}  # fmt: skip
    return replace(profile, attacks=fewer)


def epsilon(profile: Profile, eps: float) -> Profile:
    """Table 1's attacks at another L-inf radius; the paper's step of 0.01 stays, as does the search for radii."""

    def at(spec: AttackSpec) -> AttackSpec:
        if spec.name == "radius":
            return spec
        return replace(spec, eps=(eps,), method=sound("linf", eps, profile.scale) if spec.name == "sound" else spec.method)

    return replace(profile, attacks={key: at(spec) for key, spec in profile.attacks.items()})


# Parameter -> (types, accepted, what it changes).
CHANGES: dict[str, tuple[tuple[type, ...], str, Callable[[Profile, object], Profile]]] = {
    "backbone": ((str,), "a block-based CNN of timm's that takes act_layer", backbone),
    "image_size": ((int,), "a multiple of 32", network("image_size")),
    "epochs": ((int,), "an integer from 1", recipe("epochs")),
    "train_images": ((int,), "an integer from 1", recipe("images")),
    "attack_images": ((int,), "an integer from 2, as comparisons need two", images),
    "epsilon": ((float, int), "a number above 0, up to 1", epsilon),
    "threshold": ((float, int), "a number from 0 (Alg. 1 line 9)", recipe("threshold")),
    "placement": ((str,), f"one of {', '.join(PLACEMENTS)}", lambda profile, name: replace(profile, placement=name)),
    "middle": ((str,), "'restored' or 'raw'", network("middle")),
    "statistics": ((str,), "'per_pass' or 'shared'", network("statistics")),
}


def changed(profile: Profile, **changes: object) -> Profile:
    """A profile with these changes; None leaves what it has. `changes` of the profile says what differs. FPDError for a value that is
    of the wrong type or not accepted."""
    said = []
    for name, value in changes.items():
        types, accepted, change = CHANGES[choose("change", name, CHANGES)]
        if value is None:
            continue
        numeric = isinstance(value, int | float)
        outside = numeric and (
            value < (2 if name == "attack_images" else 0) or (value == 0 and name != "threshold") or (value > 1 and name == "epsilon")
        )
        if type(value) not in types or outside:
            raise FPDError(f"{name} is {value!r} ({type(value).__name__}); accepted: {accepted}, or None for the profile's.")
        if name == "placement":
            choose("placement", value, PLACEMENTS)
        profile = change(profile, value)
        said.append(f"{name} {value}")
    if changes.get("backbone") or changes.get("image_size"):
        FPD(VARIANTS["F"].spec(profile))  # says what it cannot be built around
    return replace(profile, changes=", ".join(said))
