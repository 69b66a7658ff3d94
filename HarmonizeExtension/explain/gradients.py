"""Maps from the gradient of a score with respect to the voxels: SmoothGrad and guided backpropagation.

Sources: Smilkov et al., SmoothGrad: removing noise by adding noise, 2017 (arXiv 1706.03825); Springenberg et al.,
Striving for simplicity: the all convolutional net, ICLR 2015 workshop, section 3.4.
"""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError
from .looking import Decision, in_use

NOISE = 0.1  # of the image's range; Smilkov et al. find 10 to 20 % to be good
SAMPLES = 16


def smooth_grad(decision: Decision, rng: np.random.Generator) -> Tensor:
    """How much the score moves with each voxel, mean over noisy copies of the images; the shape of `decision.image`."""
    from captum.attr import NoiseTunnel, Saliency

    with in_use(decision.network), torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))  # captum draws from torch's own generator
        image = decision.image
        method = NoiseTunnel(Saliency(decision))
        found = method.attribute(
            image,
            nt_type="smoothgrad",
            nt_samples=SAMPLES,
            nt_samples_batch_size=1,
            stdevs=NOISE * float(image.max() - image.min()),
            abs=False,  # signs of noise cancel in the mean, those of evidence stay
            additional_forward_args=decision.conditions or None,
        )
    return found.detach().abs()


def guided_backpropagation(decision: Decision) -> Tensor:
    """The gradient without what any ReLU would pass on as a negative one, its size; the shape of `decision.image`.

    A leaky ReLU, as critics have, is taken for one: what it passes on may not be negative either. captum hooks plain
    ones alone. Raises InputError for a network without any, where it would be the plain gradient.
    """
    rectifiers = [module for module in decision.network.modules() if isinstance(module, nn.ReLU | nn.LeakyReLU)]
    if not rectifiers:
        raise InputError("guided backpropagation needs a network with ReLUs, and this one has none; choose SmoothGrad")
    image = decision.image.detach().clone().requires_grad_()
    with in_use(decision.network), torch.enable_grad(), contextlib.ExitStack() as hooks:
        for module in rectifiers:
            hooks.callback(module.register_full_backward_hook(_without_negative).remove)
        (found,) = torch.autograd.grad(decision(image, *decision.conditions).sum(), image)
    return found.abs()


def _without_negative(_module: nn.Module, passed_on: tuple[Tensor, ...], _received: tuple) -> tuple[Tensor, ...]:
    return tuple(gradient.clamp(min=0) for gradient in passed_on)
