"""The FPD network: specifications, the backbone's stages, denoising layers, decoder and both passes, and what it answers."""

from fpdlib.network.fpd import FPD, DenoisingLayer, RestorationDecoder, build, cost, gaussian_non_local_mean, non_local_mean
from fpdlib.network.spec import NetworkSpec, released
