"""Every attack against a linear model whose minimal perturbation is known, chains, and what counts as success."""

import math
import typing

import numpy as np
import pytest
import torch
from test_evaluation import Linear, images_for
from torch import nn

from fpdlib import evaluation
from fpdlib.attacks import adapters, views
from fpdlib.attacks.methods import ART, ART010, PGD, AutoAttack, Chain, Foolbox, MadeForFPD, TargetedMargin
from fpdlib.attacks.spec import AttackSpec
from fpdlib.attacks.views import View
from fpdlib.data.images import Images, Splits
from fpdlib.errors import FPDError
from fpdlib.evaluation.outcomes import evaluate
from fpdlib.paper.suites import PUBLISHED, SMOKE_SCALE, sound


class TenClasses(nn.Module):
    """Ten linear classes on 3 x 8 x 8 pixels; the smallest perturbation is min_j (u_y - u_j) / |w_y - w_j|, in the dual norm."""

    def __init__(self, scale=1.0, squeeze=False):
        super().__init__()
        self.layer = nn.Linear(192, 10)
        with torch.no_grad():
            draws = torch.Generator().manual_seed(0)
            self.layer.weight.copy_(torch.randn(10, 192, generator=draws) / 5 * scale)
            self.layer.bias.copy_(-self.layer.weight.sum(1) / 2)
        self.squeeze = squeeze
        self.spec = type("Spec", (), {"num_classes": 10, "image_size": 8})()

    def pre_squeeze(self, x):
        return self.layer(x.flatten(1))

    def forward(self, x):
        return self.pre_squeeze(x).tanh() if self.squeeze else self.pre_squeeze(x)

    def minimal(self, x, order):
        u = self.pre_squeeze(x)
        y = u.argmax(1)
        gap = u.gather(1, y[:, None]) - u
        dual = {2: 2, math.inf: 1}[order]
        size = (self.layer.weight[y][:, None] - self.layer.weight[None]).norm(dual, dim=2)
        return (gap / size.clamp(min=1e-12)).masked_fill(nn.functional.one_hot(y, 10).bool(), math.inf).amin(1).detach()


@pytest.fixture(scope="module")
def linear():
    model = TenClasses().eval().requires_grad_(False)
    x = torch.rand(30, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 0.8 + 0.1
    return model, x, model(x).argmax(1)


def run(method, model, x, y, eps=math.inf, protocol="current"):
    view = View(model, method.sees(protocol)).eval()
    adversarial = x
    for _, attempt in method.attempts(eps):
        standing = (model(adversarial).argmax(1) == y).nonzero().flatten()
        if not len(standing):
            break
        made = attempt(view, x[standing], y[standing], seed=0, classes=10)
        adversarial = adversarial.clone()
        adversarial[standing] = adapters.project(made, x[standing], eps, method.norm)
    return adversarial


@pytest.mark.parametrize(
    ("method", "order", "most"),
    [
        (Foolbox("l2-deepfool", "l2"), 2, 1.05),
        (Foolbox("linf-deepfool", "linf"), math.inf, 1.15),
        (Foolbox("l2-cw", "l2", (("binary_search_steps", 6), ("steps", 200))), 2, 1.1),
        (ART("l2-deepfool", "l2", (("epsilon", 0.02),)), 2, 1.05),
        (ART("l2-cw", "l2", (("max_iter", 20),)), 2, 3.0),
    ],
)
def test_minimal_norm_attacks_find_the_known_minimum(linear, method, order, most):
    """A ratio of 1 is the closed form; ART's C&W, with its few iterations, is known to stay above it."""
    model, x, y = linear
    made = run(method, model, x, y)
    broken = model(made).argmax(1) != y
    ratio = (made - x).flatten(1).norm(order, dim=1) / model.minimal(x, order)
    assert broken.float().mean() > 0.95
    assert ratio[broken].min() > 0.999 and ratio[broken].median() < most


def test_foolbox_is_at_least_as_strong_as_art(linear):
    model, x, y = linear
    ours = run(Foolbox("l2-cw", "l2", (("binary_search_steps", 5), ("steps", 100))), model, x, y)
    arts = run(ART("l2-cw", "l2"), model, x, y)
    sizes = [torch.where(model(made).argmax(1) != y, (made - x).flatten(1).norm(dim=1), torch.inf) for made in (ours, arts)]
    assert sizes[0].median() <= sizes[1].median() * 1.01


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["apgd-ce", "apgd-t", "fab-t"])
def test_autoattack_breaks_exactly_what_can_be_broken(linear, norm, name):
    model, x, y = linear
    minimal = model.minimal(x, {"linf": math.inf, "l2": 2}[norm])
    eps = float(minimal.median())
    made = run(AutoAttack((name,), norm), model, x, y, eps, "sound")
    broken = model(made).argmax(1) != y
    sure = (minimal < 0.97 * eps) | (minimal > 1.001 * eps)
    assert (broken[sure] == (minimal[sure] < eps)).float().mean() > 0.9
    assert (made - x).flatten(1).norm({"linf": math.inf, "l2": 2}[norm], dim=1).max() <= eps * 1.0001


def test_targeted_margins_break_what_one_class_reaches(linear):
    model, x, y = linear
    minimal = model.minimal(x, math.inf)
    eps = float(minimal.median())
    made = run(TargetedMargin(40), model, x, y, eps, "sound")
    broken = model(made).argmax(1) != y
    assert (broken == (minimal < eps)).float().mean() > 0.9


def test_square_finds_without_gradients_what_is_wide_open(linear):
    model, x, y = linear
    eps = float(3 * model.minimal(x, math.inf).max())
    assert (model(run(AutoAttack(("square",), queries=300), model, x, y, eps, "sound")).argmax(1) != y).float().mean() > 0.9


def test_what_lies_outside_the_ball_does_not_count():
    """An unbounded attack breaks everything; the same attack held to a small radius breaks what that radius reaches."""
    model = Linear()
    splits, _ = images_for(model)
    deepfool = ART010("l2-deepfool", "l2")
    free, _ = evaluate(model, splits, AttackSpec("a", "published", deepfool, (math.inf,), images=40), 0)
    x = splits.test.batch(slice(None))
    minimal = (model.pre_squeeze(x)[:, 0].abs() / model.weight.norm()).detach()[evaluation.test_order(100)[:40]]
    radius = float(minimal.median())
    bounded, _ = evaluate(model, splits, AttackSpec("a", "sound", Foolbox("l2-deepfool", "l2"), (radius,), images=40), 0)
    hits = evaluation.robust(bounded).iloc[:, 0].loc[evaluation.test_order(100)[:40].numpy()].to_numpy()
    assert (hits == (minimal > radius).numpy()).mean() > 0.9 and 0.2 < hits.mean() < 0.8
    assert (bounded["l2"] <= radius * 1.0001).all() and (free["l2"] < 10).all()


def test_a_chain_attacks_survivors_and_says_who_broke_what(linear):
    model, x, _ = linear
    splits = _splits(model, x)
    minimal = model.minimal(splits.test.batch(slice(None)), math.inf)
    eps = float(minimal.median())
    chain = Chain((PGD(((1, None, 0),)), PGD(((30, None, 2),)), AutoAttack(("apgd-t",))))
    frame, counts = evaluate(model, splits, AttackSpec("c", "sound", chain, (eps,), images=30, batch_size=30), 0)
    alone, _ = evaluate(model, splits, AttackSpec("c", "sound", PGD(((1, None, 0),)), (eps,), images=30, batch_size=30), 0)
    assert set(counts["broken"]) == {"pgd", "apgd-t"}
    assert sum(counts["broken"].values()) == int((~evaluation.robust(frame)).sum().iloc[0])
    assert evaluation.robust(frame).mean().item() < evaluation.robust(alone).mean().item()


def _splits(model, x):
    from fpdlib.data.images import Images, Splits

    pixels = (x * 255).round().to(torch.uint8)
    test = Images(pixels, model(pixels.float() / 255).argmax(1), pixels)
    return Splits("t", test, test, test)


def test_views_of_the_protocols():
    assert [PGD(((1, None, 0),)).sees(p) for p in ("published", "current", "sound")] == [
        "softmax", "deployed", "pre-squeeze"]  # fmt: skip
    for method in (PUBLISHED["linf-cw"], PUBLISHED["l2-cw"], PUBLISHED["l2-deepfool"], AutoAttack()):
        assert [method.sees(p) for p in ("published", "current", "sound")] == ["deployed", "deployed", "logits"]


def test_saturated_logits_keep_published_accuracy_and_lose_under_sound():
    """Known answer: tanh of logits beyond 9.011 has no gradient; at least 90 % under published, below 25 % under sound."""
    model = TenClasses(scale=2000.0, squeeze=True).eval().requires_grad_(False)
    x = torch.rand(60, 3, 8, 8, generator=torch.Generator().manual_seed(2)) * 0.8 + 0.1
    kept = model.pre_squeeze(x).topk(2).values.diff().abs().flatten() > 20
    splits = _splits(TenClasses(), x[kept])
    eps = float(4 * TenClasses().minimal(x, math.inf).max())
    count = min(int(kept.sum()), 25)
    one = {"eps": (eps,), "images": count, "batch_size": 25}
    agree = model(splits.test.batch(slice(None))).argmax(1) == splits.test.labels
    splits.test = splits.test.subset(agree.nonzero().flatten())
    one["images"] = min(count, len(splits.test))
    assert one["images"] >= 10
    told, _ = evaluate(model, splits, AttackSpec("p", "published", PGD(((40, 0.01, 0),)), **one), 0)
    strong, counts = evaluate(model, splits, AttackSpec("s", "sound", sound("linf", eps, SMOKE_SCALE), **one), 0)
    assert evaluation.robust(told).mean().item() >= 0.9 > 0.25 > evaluation.robust(strong).mean().item()
    assert counts["broken"]["pgd"] > 0


def test_outputs_that_are_not_numbers_are_wrong():
    class Overflows(nn.Module):
        def forward(self, x):
            logits = torch.zeros(len(x), 3)
            logits[:, 0] = torch.where(x.flatten(1).sum(1) > 1, torch.nan, 1.0)
            return logits

    x = torch.stack([torch.zeros(3, 2, 2), torch.ones(3, 2, 2)])
    assert evaluation.predict(Overflows(), x).tolist() == [0, -1]
    assert not adapters.project(torch.full((1, 3, 2, 2), math.nan), x[:1], 0.1, "linf").isnan().any()


def test_the_accepted_names_are_those_that_there_are():
    parts = typing.get_args(typing.get_args(typing.get_type_hints(MadeForFPD)["parts"])[0])
    assert set(parts) == {*views.PARTS, "pre-squeeze"}
    assert set(typing.get_args(typing.get_type_hints(ART)["name"])) == set(adapters.ART_ATTACKS)
    assert set(typing.get_args(typing.get_type_hints(PGD)["norm"])) == set(adapters.NORMS)


def test_projections():
    x = torch.full((2, 3, 4, 4), 0.5)
    far = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    assert (adapters.project(far, x, 0.1, "linf") - x).abs().max() <= 0.1 + 1e-6
    assert (adapters.project(far, x, 0.7, "l2") - x).flatten(1).norm(dim=1).max() <= 0.7 + 1e-5
    near = x + 0.01
    assert torch.allclose(adapters.project(near, x, 0.7, "l2"), near)
    assert torch.equal(adapters.project(far, x, math.inf, "l2"), far.clamp(0, 1))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: ART("fgsm", "linf"), "name is 'fgsm'"),
        (lambda: ART010("jsma", "l2"), "name is 'jsma'"),
        (lambda: Foolbox("pgd", "linf"), "name is 'pgd'"),
        (lambda: AutoAttack(("pgd",)), "attacks is 'pgd'"),
        (lambda: Chain((PGD(((1, None, 0),)), ART("l2-cw", "l2"))), "methods of one norm"),
        (lambda: AttackSpec("a", "published", PGD(((1, None, 0),)), eps=(1.5,)), "0 to 1 for linf"),
        (lambda: AttackSpec("a", "published", PGD(((1, None, 0),)), order="random"), "order is 'random'"),
    ],
)
def test_bad_methods_are_named(build, words):
    with pytest.raises(FPDError, match=words):
        build()


def test_wilson_of_nothing_broken_is_not_zero():
    assert evaluation.rate(np.zeros(100, bool)).high > 0.03


def test_square_survives_outputs_that_are_not_numbers():
    class Nothing(torch.nn.Module):
        def forward(self, images):
            return images.flatten(1)[:, :4] * math.nan

    x, y = torch.rand(3, 3, 8, 8), torch.zeros(3, dtype=torch.long)
    for norm in ("linf", "l2"):
        for _, attempt in AutoAttack(("square",), norm=norm, queries=5).attempts(0.3):
            assert attempt(Nothing(), x, y, seed=0, classes=4).shape == x.shape


def test_any_iterate_counts_where_the_specification_says_so():
    """A made-up attack passes the adversarial image through the network and returns the clean one."""

    model, pixels = TenClasses().eval(), torch.randint(108, 148, (40, 3, 8, 8), dtype=torch.uint8)
    test = Images(pixels, model(pixels / 255).argmax(1), pixels)
    splits = Splits("test", test, test, test)

    class Passing:
        norm, version = "linf", 1

        def __init__(self, size):
            self.size = size

        def sees(self, protocol):
            return "logits"

        def attempts(self, eps):
            def attempt(view, x, y, seed, classes):
                pushed = x.clone().requires_grad_()
                (gradient,) = torch.autograd.grad(-nn.functional.cross_entropy(model(pushed), y), pushed)
                with torch.no_grad():
                    view((x - self.size * gradient.sign()).clamp(0, 1))
                return x

            yield "passing", attempt

    def left(**how):
        spec = AttackSpec("a", "sound", Passing(how.pop("size", 0.3)), (0.3,), images=40, batch_size=20, **how)
        return evaluation.robust(evaluate(model, splits, spec, 0)[0]).to_numpy().mean()

    assert left() == 1.0 and left(iterates="any") < 0.5
    assert left(iterates="any", size=0.6) > left(iterates="any")  # beyond epsilon it does not count


def test_what_is_seen_of_a_part_of_the_batch_is_left_to_the_library():
    model, x = TenClasses(), torch.rand(6, 3, 8, 8)
    y = model(x).argmax(1)
    view = View(model, "logits")
    with view.watching(x, y, "linf") as seen:
        view(torch.rand(4, 3, 8, 8))
        assert seen.size.isinf().all()
        view(torch.full((6, 3, 8, 8), torch.nan))
        view(torch.full((6, 3, 8, 8), 2.0))  # no image
        assert seen.size.isinf().all()
        view((x + 0.5).clamp(0, 1))
        first = seen.size.clone()
        view(torch.rand(6, 3, 8, 8))
    assert view.seen is None and (seen.size <= first).all()
    found = seen.size.isfinite()
    assert found.any() and (model(seen.images[found]).argmax(1) != y[found]).all()
    assert torch.allclose((seen.images - x).flatten(1).abs().amax(1)[found], seen.size[found])


def test_attacks_made_for_fpd_go_through_its_parts_and_leave_it_as_it_was():
    from fpdlib.network.fpd import build
    from fpdlib.paper.profiles import PROFILES
    from fpdlib.paper.variants import VARIANTS

    smoke = PROFILES["smoke"]
    networks = {name: build(VARIANTS[name].spec(smoke), 0).eval().requires_grad_(False) for name in ("F", "F_FD", "ReLU", "F_FD+R")}
    assert {name: network.parts for name, network in networks.items()} == {
        "F": ("front", "bare", "replaced", "restored"), "F_FD": ("bare", "replaced"), "ReLU": (),
        "F_FD+R": ("bare", "replaced", "restored")}  # fmt: skip
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.2
    for network in networks.values():  # else the cubic layers overflow before any training
        for parameter in network.parameters():
            parameter.mul_(0.5)
    model = networks["F"]
    y, before = model(x).argmax(1), model(x)
    bare = View(model, "bare")(x)
    with model.without_denoising():
        assert torch.allclose(bare.argmax(1), model(x).argmax(1)) and not torch.allclose(model(x), before)
    assert torch.equal(model(x), before)
    z = x.clone().requires_grad_()
    same = View(model, "replaced")(z)  # forward through the network, backward as if its means were constants
    through, around = (torch.autograd.grad(View(model, view)(z).sum(), z)[0] for view in ("pre-squeeze", "replaced"))
    assert torch.equal(same, View(model, "pre-squeeze")(z)) and not torch.allclose(through, around, atol=0)
    assert torch.equal(torch.autograd.grad(View(model, "pre-squeeze")(z).sum(), z)[0], through)  # and as it was afterwards
    assert torch.allclose(View(model, "front")(x).argmax(1), model.trunk.backbone.forward_head(model.front(x).last).argmax(1))
    assert View(model, "restored")(x).shape == (4, 10 + 3 * 32 * 32)
    for name, attempt in MadeForFPD(3).attempts(0.1):
        images = attempt(View(model, "pre-squeeze").eval(), x, y, seed=0, classes=10)
        assert (images - x).abs().max() <= 0.1 + 1e-6 and not torch.equal(images, x), name
        same = attempt(View(networks["ReLU"], "pre-squeeze").eval(), x, y, seed=0, classes=10)
        assert torch.equal(same, x) == (name != "momentum")  # it has no such part
    with pytest.raises(FPDError, match="parts is 'tail'"):
        MadeForFPD(3, ("tail",))


def test_restoration_error_and_margin_count_alike_whatever_the_errors_scale():
    loss, y = adapters.RestorationLoss(3), torch.tensor([0, 1])
    outputs = torch.cat([torch.tensor([[2.0, 0, 0], [0, 1.0, 0]]), torch.full((2, 5), 0.1)], 1)
    larger = outputs.clone()
    larger[:, 3:] *= 2
    assert float(loss(larger, y) - loss(outputs, y)) == pytest.approx(math.log(4), abs=1e-4)
    evading = adapters.RestorationLoss(3, -1.0)  # the same for the margin, the opposite for the error
    assert float(evading(larger, y) - evading(outputs, y)) == pytest.approx(-math.log(4), abs=1e-4)
    surer = outputs.clone()
    surer[:, :3] *= 2
    assert float(evading(surer, y) - evading(outputs, y)) == pytest.approx(float(loss(surer, y) - loss(outputs, y)), abs=1e-5) != 0
    assert float(loss(outputs, torch.eye(3)[y])) == pytest.approx(float(loss(outputs, y)))
