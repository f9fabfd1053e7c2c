"""The plain net of 20 layers on CIFAR-10: `cifar10_resnet20`'s recipe without shortcuts.

Source: He et al. 2015 (arXiv:1512.03385), section 4.2 and figure 6: the deeper plain net is the worse one, in training
too.

Published only; 2 of 182 epochs were run here: docs/results.md.
Command: jaxtrain train cifar10_plain20 --data-dir DIR
"""

from jaxtrain.config import Config, load_config


def get_config() -> Config:
    """The recipe."""
    return load_config("cifar10_resnet20").replace(model="plain20")
