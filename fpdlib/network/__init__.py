"""The FPD network: specifications, the backbone's stages, denoising layers, decoder and both passes, and what it answers.

May import: the ground (errors, files, runtime) and timm. `reference` has the CNNs whose robustness the literature knows.
"""

from fpdlib.network.fpd import FPD, DenoisingLayer, RestorationDecoder, build, cost, gaussian_non_local_mean, non_local_mean
from fpdlib.network.spec import NetworkSpec, released
