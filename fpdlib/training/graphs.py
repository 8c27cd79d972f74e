"""Algorithm 1's step as CUDA graphs: on a GPU, a deep network at 64 pixels waits for its launches, not for arithmetic."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from fpdlib.errors import FPDError
from fpdlib.network.fpd import FPD
from fpdlib.training.algorithm1 import begin, closed, finite, learn, restore, step
from fpdlib.training.recipe import Recipe

WARM = 3  # steps behind the open gate, so that the optimizer's state and the libraries' workspaces exist


class Captured:
    """Called like `algorithm1.step`, after a few steps of it: three graphs (front pass, line 10, lines 12-17), replayed.

    The gate is read between them, so a closed step moves F_FD and F_R alone, as without graphs. The optimizer has to be capturable,
    its learning rate a tensor. One batch size and image size for the life of the object.
    """

    def __init__(self, model: FPD, optimizer, recipe: Recipe):
        self.model, self.optimizer, self.recipe = model, optimizer, recipe
        self.opened, self.stream, self.pool = 0, None, None
        self.batch: list[Tensor] = []

    def __call__(self, x: Tensor, y: Tensor, noise: Tensor, latched: bool) -> dict:
        with self.aside():
            return self.eager(x, y, noise, latched) if self.opened < WARM else self.replay(x, y, noise, latched)

    def eager(self, x: Tensor, y: Tensor, noise: Tensor, latched: bool) -> dict:
        result = step(self.model, self.optimizer, self.recipe, x, y, noise, latched)
        self.opened += not result.get("gated")
        return result

    def replay(self, x: Tensor, y: Tensor, noise: Tensor, latched: bool) -> dict:
        if not self.batch:
            try:
                self.capture(x, y, noise)
            except RuntimeError as error:  # an operation that reads a number, or needs another stream; ending the capture hides it
                why = error.__context__ or error
                raise FPDError(
                    f"a training step of this {type(self.model).__name__} cannot be recorded as CUDA graphs ({why}). Set "
                    "FPD_GRAPHS=0 in the environment to train without them; the saved state, if there is one, is from before."
                ) from error
        for mine, given in zip(self.batch, (x, y, noise), strict=True):
            mine.copy_(given)
        self.front, self.l2 = self.begin()
        result = self.restore() if closed(self.recipe, self.front, self.l2, latched) else self.learn()
        finite(self.recipe, sum((result[name] for name in ("ce_second", "mse_second") if name in result), result["loss"]))
        return result

    def capture(self, x: Tensor, y: Tensor, noise: Tensor) -> None:
        """Record the three graphs; nothing runs meanwhile, so neither weights nor running statistics move."""
        x, y, noise = batch = [t.clone() for t in (x, y, noise)]
        model, optimizer, recipe = self.model, self.optimizer, self.recipe
        self.begin, (self.front, self.l2) = self.record(lambda: begin(model, recipe, x, noise))
        if self.front.restored is not None:
            # its update is recorded and does not run: line 12's loss may still be differentiated
            with torch.autograd._unsafe_preserve_version_counter(tuple(model.parameters())):
                self.restore, _ = self.record(lambda: restore(model, optimizer, recipe, self.l2, again=True))
        self.learn, _ = self.record(lambda: learn(model, optimizer, recipe, self.front, self.l2, x, y))
        self.batch = batch

    def record(self, function: Callable) -> tuple[Callable, object]:
        """What runs this function's kernels again, into the same tensors, and those tensors."""
        graph, self.pool = torch.cuda.CUDAGraph(), self.pool or torch.cuda.graph_pool_handle()
        with torch.cuda.graph(graph, self.pool, self.stream):
            made = function()

        def play():
            graph.replay()
            return made

        return play, made

    @contextmanager
    def aside(self) -> Iterator[None]:
        """On a stream of its own, in order with the current one, on the network's GPU: what a capture needs."""
        with torch.cuda.device(next(self.model.parameters()).device):
            self.stream, current = self.stream or torch.cuda.Stream(), torch.cuda.current_stream()
            self.stream.wait_stream(current)
            with torch.cuda.stream(self.stream):
                yield
            current.wait_stream(self.stream)
