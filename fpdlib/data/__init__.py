"""MNIST, SVHN and Caltech as uint8 tensors on the device: readers with checksums, splits, bundled samples and stand-ins.

May import: the ground and torchvision.
"""

from fpdlib.data.images import Images, NativeInput, Splits, as_network_input, augment, first, load

__all__ = ["Images", "NativeInput", "Splits", "as_network_input", "augment", "first", "load"]
