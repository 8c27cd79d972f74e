"""A replication of *Enhancing Intrinsic Adversarial Robustness via Feature Pyramid Decoder* (CVPR 2020)."""

import warnings

__version__ = "0.1.0"

# A dependency looks for notebook widgets as it is imported and warns that there are none; our bars are plain text.
warnings.filterwarnings("ignore", message="IProgress not found")
