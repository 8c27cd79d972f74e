"""MNIST, SVHN and Caltech as uint8 tensors on the device: what they are, readers with checksums, splits, bundled stand-ins."""

from fpdlib.data.images import Images, NativeInput, Splits, as_network_input, augment, first, load
