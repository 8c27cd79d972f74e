"""Algorithm 1's step as CUDA graphs does what the step does: the gate, both phases, a stop and its resume."""

import importlib
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from test_training import F_SPEC, PLAIN, QUICK, Stops, batch, same
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fpdlib import data
from fpdlib.errors import BudgetExhausted, FPDError
from fpdlib.network.fpd import build
from fpdlib.network.reference import AnchorSpec
from fpdlib.training import algorithm1, train
from fpdlib.training.graphs import WARM, Captured
from fpdlib.training.run import prepare

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
CLOSES = (True, False, False, False, False, True, False, True, True, False)  # what the gate does in ten steps


class Operations(TorchDispatchMode):
    """Every tensor operation with its operands and results, in order; one that gives a number to Python cannot be captured."""

    def __init__(self):
        super().__init__()
        self.list = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert "_local_scalar_dense" not in str(function), "a captured step must not read a number"
        self.list.append((function, args, kwargs or {}, function(*args, **kwargs or {})))
        return self.list[-1][-1]


class Recorded(Captured):
    """Graphs on a CPU: a function's operations are recorded while weights and statistics stay as they were; a replay does the same
    operations on the same tensors."""

    aside = staticmethod(nullcontext)

    def record(self, function):
        state = [*self.model.state_dict().values(), *tree_leaves([dict(s) for s in self.optimizer.state.values()])]
        before = [tensor.clone() for tensor in state]
        with Operations() as operations:
            made = function()
        with torch.no_grad(), torch.autograd._unsafe_preserve_version_counter(tuple(state)):
            for tensor, value in zip(state, before, strict=True):
                tensor.copy_(value)
        return lambda: self.again(operations.list) or made, made

    @torch.no_grad()
    def again(self, operations):
        for function, args, kwargs, results in operations:
            for new, old in zip(tree_leaves(function(*args, **kwargs)), tree_leaves(results), strict=True):
                if isinstance(new, torch.Tensor) and new.data_ptr() != old.data_ptr():
                    old.detach().copy_(new)


class Eager(Captured):
    """The same without graphs."""

    aside = staticmethod(nullcontext)

    def replay(self, *given):
        return self.eager(*given)


def other_images(spec):
    """A batch of the size that a network takes."""
    x, y, noise = batch()
    return x[..., : spec.image_size, : spec.image_size], y, noise[..., : spec.image_size, : spec.image_size]


def trained(spec, recipe, kind, device="cpu", optimizer=torch.optim.Adamax, dtype=torch.float32):
    """Losses and weights of ten steps on changing images with a falling learning rate, the gate as in CLOSES."""
    model = build(spec, 0).to(device, dtype).train()
    optimizer = optimizer(
        model.parameters(), torch.tensor(recipe.lr, device=device), weight_decay=1e-5, capturable=True, foreach=True
    )
    advance, losses = kind(model, optimizer, recipe), []
    for number, closes in enumerate(CLOSES):
        x, y, noise = other_images(spec)
        x, y, noise = x.to(device, dtype), y.to(device), noise.to(device, dtype)
        advance.recipe = replace(recipe, threshold=0.0 if closes else 1e9)
        optimizer.param_groups[0]["lr"].fill_(recipe.lr * (1 - number / len(CLOSES)))
        result = advance(x.roll(number, 0), y.roll(number), noise, False)
        losses.append({name: float(torch.as_tensor(value).detach()) for name, value in result.items()})
    assert (advance.batch != []) == (kind is not Eager)
    return losses, model.state_dict()


@pytest.fixture
def capturable(monkeypatch):
    """Optimizers whose step count and learning rate are tensors, on a CPU; a loss is not looked at while it is recorded."""
    for name in ("adamax", "adam"):
        module = importlib.import_module(f"torch.optim.{name}")
        monkeypatch.setattr(module, "_get_capturable_supported_devices", lambda supports_xla=True: ["cpu"])
    monkeypatch.setattr(algorithm1, "finite", lambda recipe, loss: None)


@pytest.mark.parametrize("recipe", [QUICK, replace(QUICK, phases=1), replace(QUICK, precision="bfloat16", alpha2_second=0.1)],
                         ids=["two phases", "one phase", "bfloat16"])  # fmt: skip
@pytest.mark.parametrize("spec", [F_SPEC, replace(F_SPEC, statistics="shared"), PLAIN, AnchorSpec()], ids=["F", "shared", "O", "CNN"])
def test_replayed_steps_are_the_steps(spec, recipe, capturable):
    """To the bit: which graph runs, on which batch, with which learning rate, and what a recording leaves alone."""
    ours, weights = trained(spec, recipe, Recorded)
    theirs, expected = trained(spec, recipe, Eager)
    assert ours == theirs and same(weights, expected)
    assert [bool(line.get("gated")) for line in ours] == [closes and spec not in (PLAIN, AnchorSpec()) for closes in CLOSES]


def test_adam_is_replayed_too(capturable):
    ours, weights = trained(F_SPEC, QUICK, Recorded, optimizer=torch.optim.Adam)
    theirs, expected = trained(F_SPEC, QUICK, Eager, optimizer=torch.optim.Adam)
    assert ours == theirs and same(weights, expected)


def test_a_loss_that_is_not_a_number_ends_a_replayed_run(capturable):
    x, y, noise = batch()
    model = build(F_SPEC, 0).train()
    optimizer = torch.optim.Adamax(model.parameters(), torch.tensor(1e-3), capturable=True, foreach=True)
    advance = Recorded(model, optimizer, replace(QUICK, gate="none"))
    for _ in range(WARM + 1):
        advance(x, y, noise, False)
    with pytest.raises(FPDError, match=r"loss became nan.*saved state is from before"):
        advance(x * float("nan"), y, noise, False)


def test_a_step_that_cannot_be_recorded_says_how_to_train_without(capturable, monkeypatch):
    def fails(*_):
        raise RuntimeError("operation not permitted when stream is capturing")

    x, y, noise = batch()
    model = build(F_SPEC, 0).train()
    optimizer = torch.optim.Adamax(model.parameters(), torch.tensor(1e-3), capturable=True, foreach=True)
    advance = Recorded(model, optimizer, replace(QUICK, gate="none"))
    for _ in range(WARM):
        advance(x, y, noise, False)
    monkeypatch.setattr(Recorded, "record", fails)
    with pytest.raises(FPDError, match=r"this FPD cannot be recorded.*not permitted.*FPD_GRAPHS=0"):
        advance(x, y, noise, False)


def test_graphs_are_for_gpus_and_can_be_forbidden(monkeypatch):
    model = build(F_SPEC, 0)
    optimizer, advance = prepare(model, QUICK, torch.device("cpu"))
    assert not isinstance(advance, Captured) and optimizer.param_groups[0]["lr"] == QUICK.lr
    monkeypatch.setattr(torch, "tensor", lambda value, device: value)  # no GPU here
    monkeypatch.setattr(torch.optim.Optimizer, "add_param_group", lambda self, group: self.param_groups.append(group))
    assert isinstance(prepare(model, QUICK, torch.device("cuda"))[1], Captured)
    assert not isinstance(prepare(model, replace(QUICK, optimizer="sgd"), torch.device("cuda"))[1], Captured)
    monkeypatch.setenv("FPD_GRAPHS", "0")
    assert not isinstance(prepare(model, QUICK, torch.device("cuda"))[1], Captured)


@needs_gpu
@pytest.mark.parametrize("spec", [F_SPEC, replace(F_SPEC, statistics="shared"), PLAIN, AnchorSpec()], ids=["F", "shared", "O", "CNN"])
def test_on_a_gpu_graphs_train_what_the_steps_train(spec):
    """In float64: a GPU adds in another order each time, and ten steps make so much of that difference that in float32 images get
    another class (`test_ten_steps_in_float64_keep_a_difference_small`)."""
    ours, weights = trained(spec, replace(QUICK, lr=1e-3), Captured, "cuda", dtype=torch.float64)
    theirs, expected = trained(spec, replace(QUICK, lr=1e-3), Eager, "cuda", dtype=torch.float64)
    close(ours, weights, theirs, expected)


@needs_gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_a_gpu_the_first_replayed_step_is_the_step(precision):
    """In the precisions that networks train in, before differences grow."""
    recipe = replace(QUICK, lr=1e-3, precision=precision)
    ours, theirs = (trained(F_SPEC, recipe, kind, "cuda")[0] for kind in (Captured, Eager))
    first = [number for number, closes in enumerate(CLOSES) if not closes][WARM]
    for mine, other in zip(ours[: first + 1], theirs[: first + 1], strict=True):
        assert mine | {"correct": 0} == pytest.approx(other | {"correct": 0}, rel=0.1, abs=0.01)


def close(ours, weights, theirs, expected):
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(other, rel=1e-5, abs=1e-8)
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("spec", [F_SPEC, replace(F_SPEC, statistics="shared"), PLAIN, AnchorSpec()], ids=["F", "shared", "O", "CNN"])
def test_ten_steps_in_float64_keep_a_difference_small(spec, capturable, monkeypatch):
    """What the comparison on a GPU rests on: weights that differ in their last digit train alike, and others do not."""
    recipe = replace(QUICK, lr=1e-3)
    one, plain = trained(spec, recipe, Eager, dtype=torch.float64), build

    def other(size):
        def made(spec, seed):
            model, draws = plain(spec, seed).double(), torch.Generator().manual_seed(3)
            with torch.no_grad():
                for weight in model.parameters():
                    weight.mul_(1 + size * torch.randn(weight.shape, dtype=weight.dtype, generator=draws))
            return model

        monkeypatch.setitem(globals(), "build", made)
        return trained(spec, recipe, Eager, dtype=torch.float64)

    close(*other(1e-15), *one)
    with pytest.raises(AssertionError):
        close(*other(1e-3), *one)


@needs_gpu
@pytest.mark.parametrize("schedule", ["one-cycle", "plateau"])
@pytest.mark.parametrize("spec", [F_SPEC, replace(F_SPEC, dropout=0.5)], ids=["F", "dropout"])
def test_on_a_gpu_a_stopped_run_with_graphs_goes_on(spec, tmp_path, schedule):
    splits = data.load("mnist-sample", 32, torch.device("cuda"))
    splits = replace(splits, train=splits.train.subset(torch.arange(1000, device="cuda")))
    recipe = replace(QUICK, schedule=schedule, plateau=1, epochs=3)
    whole = train(build(spec, 0), recipe, splits, 0)
    for after in (2, 8, 5, 1000):
        try:
            resumed = train(build(spec, 0), recipe, splits, 0, tmp_path / "state.safetensors", Stops(after))
        except BudgetExhausted:
            continue
    assert [row["lr"] for row in whole] == pytest.approx([row["lr"] for row in resumed])
    assert resumed[-1]["loss"] == pytest.approx(whole[-1]["loss"], rel=0.1)
