"""A replication of *Enhancing Intrinsic Adversarial Robustness via Feature Pyramid Decoder* (CVPR 2020)."""

__version__ = "0.1.0"
