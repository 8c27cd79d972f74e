"""Algorithm 1 against a transcription of the paper's lines, exact resume, and what goes wrong."""

import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torchvision.transforms.v2 import functional as transforms

from fpdlib import data
from fpdlib.data.images import augment
from fpdlib.errors import BudgetExhausted, FPDError
from fpdlib.network.fpd import build
from fpdlib.network.spec import released
from fpdlib.paper.profiles import PROFILES, SMALL
from fpdlib.paper.variants import VARIANTS
from fpdlib.runtime import Budget, generator
from fpdlib.training import Recipe, algorithm1, paper_recipe, released_recipe, run, step, train
from fpdlib.training.recipe import OPTIMIZERS

TINY_RESNET = (("layers", (1, 1, 1, 1)), ("channels", (8, 8, 16, 16)), ("zero_init_last", False))
F_SPEC = replace(SMALL, inner=("stage1", "stage2"), restoration=True, classifier="back", activation="elu",
                 squeeze="tanh", backbone_args=TINY_RESNET, decoder_width=8)  # fmt: skip
PLAIN = replace(F_SPEC, restoration=False, classifier="front", inner=(), squeeze="none")
QUICK = Recipe(epochs=3, batch_size=100, lr=4e-3, schedule="one-cycle")


def batch(count=20):
    draws = torch.Generator().manual_seed(0)
    x = torch.rand(count, 3, 32, 32, generator=draws)
    noise = (torch.rand(x.shape, generator=draws) * 2 - 1) * 0.01
    return x, torch.arange(count) % 10, noise


def algorithm_1(model, x, y, noise, T, lr):
    """Lines 6-18 as printed, with plain gradient descent, a2 = 2 and x'(1) as a constant in the second phase."""

    def descend(loss, parameters):
        for p, g in zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
            if g is not None:
                p.data -= lr * g

    def forward(images):
        restored = model.decoder(model.trunk(images)[0])
        cleaned = model.clean(restored, images)
        return model.trunk.backbone.forward_head(model._back(cleaned)).tanh(), restored

    everything = list(model.parameters())
    head = {id(p) for p in model.trunk.backbone.get_classifier().parameters()}
    logits, restored = forward(x + noise)
    l2 = ((x - restored) ** 2).mean()
    if l2 > T:
        descend(2 * l2, [p for p in everything if id(p) not in head])
        return
    descend(F.cross_entropy(logits, y) + 2 * l2, everything)
    logits, again = forward(restored.detach())
    descend(F.cross_entropy(logits, y) + 2 * ((x - again) ** 2).mean(), everything)


@pytest.mark.parametrize("threshold", [3.0, 0.0])
def test_a_step_is_algorithm_1(threshold):
    x, y, noise = batch()
    recipe = replace(QUICK, threshold=threshold, alpha2=2.0, alpha2_second=2.0, clip=1e9)
    ours, paper = build(F_SPEC, 0).train(), build(F_SPEC, 0).train()
    result = step(ours, torch.optim.SGD(ours.parameters(), 1e-3), recipe, x, y, noise, latched=False)
    algorithm_1(paper, x, y, noise, threshold, 1e-3)
    assert bool(result.get("gated")) == (threshold == 0.0)
    start = dict(build(F_SPEC, 0).named_parameters())
    for (name, a), b in zip(ours.named_parameters(), paper.parameters(), strict=True):
        assert torch.allclose(a, b, atol=2e-6), name
        moved = not torch.equal(a, start[name])
        assert moved == (threshold == 3.0 or ".fc." not in name), name


@pytest.mark.parametrize("spec", [released(), VARIANTS["F"].spec(PROFILES["paper"])], ids=["release", "paper"])
def test_the_papers_network_starts_behind_its_gate(spec, sample):
    """Sec. 3.4, Alg. 1 lines 8-10: ResNet-101 on MNIST at 64 pixels restores badly before training, far above T = 3."""
    x = data.as_network_input(transforms.resize(sample.train.native[:10], [64, 64], antialias=True))
    y, recipe = sample.train.labels[:10], paper_recipe("mnist")
    noise = (torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1) * recipe.noise
    model = build(spec, 0).train()
    with torch.no_grad():
        front = model.front(x)
    assert 25 < F.mse_loss(front.restored, x) < 80
    before = {name: value.clone() for name, value in model.named_parameters()}
    result = step(model, OPTIMIZERS[recipe.optimizer](model.parameters(), recipe.lr), recipe, x, y, noise, False)
    assert result["gated"] and result["mse"] > 25
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    head = {name for name in before if ".fc." in name}
    assert head and moved == set(before) - head  # F_FD and F_R are everything but the classifier: F_BD shares F_FD's weights


def test_the_small_network_starts_with_its_gate_open(sample):
    """One basic block a stage at 32 pixels starts at 0.9 to 1.4 even as released, below T = 3: no step is gated."""
    for seed in range(3):
        model, x = build(VARIANTS["F"].spec(PROFILES["smoke"]), seed).train(), sample.train.batch(slice(0, 50))
        with torch.no_grad():
            assert 0.8 < F.mse_loss(model.front(x).restored, x) < 1.5


def test_a_closed_step_leaves_the_classifier_alone_whatever_momentum_it_has():
    x, y, noise = batch()
    model = build(F_SPEC, 0).train()
    optimizer = torch.optim.Adamax(model.parameters(), 0.01, weight_decay=0.1)
    step(model, optimizer, replace(QUICK, gate="none"), x, y, noise, False)
    head = [p.clone() for p in model.trunk.backbone.get_classifier().parameters()]
    assert step(model, optimizer, replace(QUICK, threshold=0.0), x, y, noise, False)["gated"]
    for before, after in zip(head, model.trunk.backbone.get_classifier().parameters(), strict=True):
        assert torch.equal(before, after)


def test_a_threshold_relative_to_where_training_starts(sample, tmp_path):
    """T is a share of the first batch's error with untrained weights, also when the run continues; the model is left as it was."""
    model = build(VARIANTS["F"].spec(PROFILES["smoke"]), 0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    recipe = replace(QUICK, threshold_share=0.06)
    started = run.Run(model, recipe, sample, 0, tmp_path / "state")
    x = started.images.batch(slice(0, recipe.batch_size))
    error = float(F.mse_loss(build(model.spec, 0).train().front(x).restored, x))
    assert started.recipe.threshold == pytest.approx(0.06 * error, rel=1e-4) and 0.01 < started.recipe.threshold < 0.2
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    order = torch.arange(len(started.images))
    for _ in range(3):
        started.step(order)
    assert started.sums[1] > 0  # such a gate closes
    started.save()
    again = run.Run(build(model.spec, 0), recipe, sample, 0, tmp_path / "state")
    assert again.now["step"] == 3 and again.recipe.threshold == started.recipe.threshold


def test_gate_per_step_latched_and_off():
    x, y, noise = batch()
    gated = {}
    for gate, latched in (("step", False), ("latch", False), ("latch", True), ("none", False)):
        model = build(F_SPEC, 0).train()
        recipe = replace(QUICK, gate=gate, threshold=0.0)
        result = step(model, torch.optim.SGD(model.parameters(), 0.01), recipe, x, y, noise, latched)
        gated[gate, latched] = bool(result.get("gated"))
    assert gated == {("step", False): True, ("latch", False): True, ("latch", True): False, ("none", False): False}


def test_one_phase_is_the_first_update_only():
    x, y, noise = batch()
    updates = []
    for phases in (1, 2):
        model = build(F_SPEC, 0).train()
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        optimizer.register_step_post_hook(lambda *_, phases=phases: updates.append(phases))
        step(model, optimizer, replace(QUICK, phases=phases), x, y, noise, False)
    assert updates == [1, 2, 2]


def test_a_network_without_restoration_trains_on_cross_entropy(small):
    model = build(PLAIN, 0)
    log = train(model, replace(QUICK, epochs=12, batch_size=20), small, 0)
    assert log[-1]["train_accuracy"] > 0.8 and log[-1]["mse"] == 0 and log[-1]["gate_share"] == 0


def test_restoration_and_classification_improve(small):
    # drawn as the release's, the same network needs three times as many epochs
    model = build(replace(F_SPEC, initialisation="pytorch"), 0)
    log = train(model, replace(QUICK, epochs=8, batch_size=20), small, 0)
    assert log[-1]["held_out_mse"] < 0.9 * log[0]["mse"] and log[-1]["train_accuracy"] > 0.3
    assert tuple(log[0]) == run.LOG


def test_noise_stays_in_its_neighbourhood_and_comes_from_the_seed(small, monkeypatch):
    seen = []
    monkeypatch.setattr(run, "step", lambda m, o, r, x, y, noise, latched: seen.append(noise) or {"loss": 0.0})
    for seed in (0, 0, 1):
        train(build(PLAIN, 0), replace(QUICK, epochs=1, noise=0.05), small, seed)
    assert all(0.04 < n.abs().max() <= 0.05 for n in seen)
    assert torch.equal(seen[0], seen[4]) and not torch.equal(seen[0], seen[8])


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a) and a.keys() == b.keys()


class Stops(Budget):
    """Runs out at the n-th look."""

    def __init__(self, n):
        self.left = n

    def expired(self):
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize(("schedule", "epochs", "parts"), [("one-cycle", 4, 1), ("plateau", 4, 1), ("one-cycle", 4, 2)])
def test_a_stopped_run_continues_bit_identically(small, tmp_path, schedule, epochs, parts):
    recipe = replace(QUICK, schedule=schedule, plateau=1, epochs=epochs, parts=parts)
    whole = build(F_SPEC, 0)
    log = train(whole, recipe, small, 5)
    stops = 0
    for after in (2, 1, 5, 100):
        model = build(F_SPEC, 0)
        try:
            resumed = train(model, recipe, small, 5, tmp_path / "state.safetensors", Stops(after))
        except BudgetExhausted:
            stops += 1
    assert stops == 3
    assert same(whole.state_dict(), model.state_dict())
    timeless = [{k: v for k, v in row.items() if k != "seconds"} for row in log]
    assert str(timeless) == str([{k: v for k, v in row.items() if k != "seconds"} for row in resumed])  # nan != nan


def test_an_epoch_in_parts_is_the_same_epoch_measured_more_often(small, monkeypatch):
    seen, step = [], run.step
    monkeypatch.setattr(
        run, "step", lambda model, optimizer, recipe, x, *rest: seen.append(x) or step(model, optimizer, recipe, x, *rest)
    )
    recipe = replace(QUICK, epochs=2, batch_size=50)
    whole = train(build(F_SPEC, 0), recipe, small, 5)
    images = torch.cat(seen)
    seen.clear()
    log = train(build(F_SPEC, 0), replace(recipe, parts=4), small, 5)
    assert (len(whole), len(log)) == (2, 8) and [row["epoch"] for row in log] == list(range(8))
    assert torch.equal(torch.cat(seen), images)  # every image of an epoch once, in the same order
    with pytest.raises(FPDError, match="parts is 9; accepted: up to 8"):
        train(build(F_SPEC, 0), replace(recipe, parts=9), small, 5)


SCRIPT = """
    import sys, torch
    sys.path.insert(0, "tests")
    from pathlib import Path
    from test_training import F_SPEC, QUICK, replace
    from fpdlib import data
    from fpdlib.network import build
    from fpdlib.training import run
    from safetensors.torch import save_file
    torch.set_num_threads(1)
    run.SAVE_EVERY = 0.05
    sample = data.load("mnist-sample", 32)
    first = torch.arange(400)
    small = data.Splits("s", sample.train.subset(first), sample.held_out.subset(first), sample.test.subset(first))
    model = build(F_SPEC, 0)
    state = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    run.train(model, replace(QUICK, epochs=4, batch_size=50), small, 3, state)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, sys.argv[2] if state else "/dev/stdout")
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_continues_bit_identically(tmp_path, number):
    script = textwrap.dedent(SCRIPT)
    state, result, whole = tmp_path / "state.safetensors", tmp_path / "killed", tmp_path / "whole"
    root = str(Path(algorithm1.__file__).parents[2])
    subprocess.run([sys.executable, "-c", script, tmp_path / "other", whole], check=True, cwd=root, capture_output=True)
    kills, saved = 0, None
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", script, state, result], cwd=root, stderr=subprocess.DEVNULL)
        while process.poll() is None and (not state.exists() or state.stat().st_mtime_ns == saved):
            time.sleep(0.01)
        time.sleep(0.3)  # between two savings
        process.send_signal(number)
        process.wait(60)
        saved = state.stat().st_mtime_ns
        kills += process.returncode != 0
    assert kills == 2 and state.exists() and not result.exists(), "the run ended before it was killed"
    subprocess.run([sys.executable, "-c", script, state, result], check=True, cwd=root, capture_output=True)
    assert same(load_file(whole), load_file(result))


def test_best_epoch_on_held_out_images_is_kept_and_patience_stops(small, monkeypatch):
    accuracies = iter([0.1, 0.7, 0.3, 0.2, 0.9])
    states = []

    def measured(model, images, batch_size=500):
        states.append({k: v.clone() for k, v in model.state_dict().items()})
        assert images is small.held_out
        return next(accuracies), 1.0, 0.0

    monkeypatch.setattr(run, "measure", measured)
    model = build(PLAIN, 0)
    log = train(model, replace(QUICK, epochs=5, patience=2), small, 0)
    assert len(log) == 4 and same(states[1], model.state_dict())


def test_selection_on_the_test_set_is_marked_and_off_by_default(small, monkeypatch):
    assert paper_recipe().selection == "held-out" and released_recipe().selection == "test"
    looked = []
    monkeypatch.setattr(run, "measure", lambda m, images, b=500: looked.append(images) or (0.5, 1.0, 0.0))
    train(build(PLAIN, 0), replace(QUICK, epochs=1, selection="test"), small, 0)
    assert looked == [small.test]


def test_a_nonfinite_loss_is_an_error_and_the_saved_state_survives(small, tmp_path):
    state = tmp_path / "state.safetensors"
    recipe = replace(QUICK, epochs=3)
    with pytest.raises(BudgetExhausted):
        train(build(F_SPEC, 0), recipe, small, 0, state, Stops(3))
    saved = state.read_bytes()
    with pytest.raises(FPDError, match=r"loss became (nan|inf).*Lower lr") as error:
        train(build(F_SPEC, 0), replace(recipe, lr=1e30, optimizer="sgd"), small, 0)
    assert "1e+30" in str(error.value) and state.read_bytes() == saved


def test_saving_takes_a_small_share_of_the_time(small, tmp_path, monkeypatch):
    """A state of a large network takes seconds to write: the next one waits accordingly."""
    monkeypatch.setattr(run, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(run, "save_state", lambda *_: time.sleep(0.1))
    slow = run.Run(build(F_SPEC, 0), QUICK, small, 0, tmp_path / "state.safetensors")
    slow.save()
    assert 0.09 / run.SAVE_SHARE < slow.next_save - time.monotonic() < 1 / run.SAVE_SHARE
    monkeypatch.setattr(run, "SAVE_EVERY", 1000.0)
    slow.save()
    assert slow.next_save - time.monotonic() > 990


def test_a_damaged_state_is_named(small, tmp_path):
    state = tmp_path / "state.safetensors"
    state.write_bytes(b"not a state")
    with pytest.raises(FPDError, match=r"is damaged.*Delete it"):
        train(build(F_SPEC, 0), QUICK, small, 0, state)


def test_bfloat16_trains(small):
    log = train(build(F_SPEC, 0), replace(QUICK, epochs=1, precision="bfloat16"), small, 0)
    assert log[0]["loss"] > 0


def test_augmentation_turns_each_image_by_its_own_angle():
    x = torch.zeros(50, 3, 32, 32)
    x[:, :, 4:28, 15:17] = 0.5  # an upright bar
    y = augment(x, torch.Generator().manual_seed(0))
    assert y.shape == x.shape and y.min() >= 0 and y.max() <= 1
    assert torch.equal(y, augment(x, torch.Generator().manual_seed(0)))
    assert torch.allclose(augment(x, torch.Generator(), degrees=0, brightness=0), x, atol=1e-5)
    columns = torch.arange(32.0)
    top, bottom = ((y[:, 0, r] * columns).sum(1) / y[:, 0, r].sum(1) for r in (8, 24))
    tilt = torch.rad2deg(torch.atan2(top - bottom, torch.tensor(16.0)))
    assert tilt.abs().max() < 16 and tilt.std() > 4  # +-15 degrees, not one angle for all


def test_recipes_per_dataset_and_their_errors():
    assert paper_recipe("mnist-sample").optimizer == "adamax" and paper_recipe("svhn").lr == 1e-4
    assert paper_recipe("caltech101").alpha2_second == 0.1 and paper_recipe("caltech101").threshold == 1.0
    assert not paper_recipe("mnist").augment and released_recipe("mnist").augment
    for change in ({"gate": "often"}, {"lr": 0}, {"phases": 3}, {"epochs": -1}, {"parts": 0}, {"measured": 0}):
        with pytest.raises(FPDError, match="accepted"):
            Recipe(**change)


def test_random_draws_depend_on_the_numbers_alone():
    a, b, c = (torch.rand(3, generator=generator("cpu", *n)) for n in ((1, 2), (1, 2), (2, 1)))
    assert torch.equal(a, b) and not torch.equal(a, c)


@pytest.mark.parametrize("change", [{"recipe": replace(QUICK, lr=0.1)}, {"seed": 6}])
def test_the_state_of_another_run_is_not_continued(small, tmp_path, change):
    state, run_of = tmp_path / "state.safetensors", {"recipe": QUICK, "seed": 5}
    with pytest.raises(BudgetExhausted):
        train(build(F_SPEC, 0), splits=small, state=state, budget=Stops(1), **run_of)
    with pytest.raises(FPDError, match="is of another recipe or seed"):
        train(build(F_SPEC, 0), splits=small, state=state, **(run_of | change))
    assert train(build(F_SPEC, 0), splits=small, state=state, **run_of)


@pytest.mark.parametrize("change", [{"images": 0}, {"images": -5}, {"batch_size": 2.5}, {"epochs": 1.5}, {"lr": "0.1"}])
def test_numbers_of_a_recipe_are_checked(change):
    with pytest.raises(FPDError, match=rf"{next(iter(change))} is .*; accepted: "):
        replace(QUICK, **change)
