"""A network of one's own: trained on the images that ship with the kit, and judged. From the kit's folder:

python examples/own.py
python -m fpdlib judge --model examples.own:build --weights own.safetensors --data mnist-sample --channels 1 --size 28
"""

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import cross_entropy

import fpdlib
from fpdlib import data


def build() -> nn.Module:
    """What `--model examples.own:build` calls. Images are (B, 1, 28, 28) in [0, 1]; a normalisation would belong here."""
    layers = (nn.Conv2d(1, 16, 5, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 5, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10))
    return nn.Sequential(*layers)


def grey(images: data.Images, index: torch.Tensor) -> torch.Tensor:
    return images.batch(index).mean(1, keepdim=True)  # the kit's images have three channels


if __name__ == "__main__":
    torch.manual_seed(0)
    mnist, model = data.load("mnist-sample", 28), build()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(5):
        for index in torch.randperm(len(mnist.train)).split(50):
            loss = cross_entropy(model(grey(mnist.train, index)), mnist.train.labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    save_file(model.state_dict(), "own.safetensors")

    first = torch.arange(30)
    found = fpdlib.judge(model.eval(), grey(mnist.test, first), mnist.test.labels[first], eps=0.1, title="own", say=print)
    print(found, found.page, sep="\n")
