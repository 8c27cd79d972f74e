"""The fixed network on which ART 0.10's own outcomes are kept (`data/art010.safetensors`): 14 x 14 digits, tanh logits."""

from torch import nn


class Fixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 8, 4, 2), nn.ELU(), nn.Flatten(), nn.Linear(8 * 36, 10))
        self.spec = type("Spec", (), {"num_classes": 10, "image_size": 14})()

    def pre_squeeze(self, x):
        return self.layers(x)

    def forward(self, x):
        return self.pre_squeeze(x).tanh()
