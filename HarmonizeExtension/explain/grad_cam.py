"""Grad-CAM: where the features of a layer speak for a score.

Source: Selvaraju et al., Grad-CAM: visual explanations from deep networks via gradient-based localization, ICCV 2017,
section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .looking import Score, in_use, mean_output


def grad_cam(network: nn.Module, layer: nn.Module, *inputs: Tensor, score: Score = mean_output) -> Tensor:
    """Where `layer` speaks for a high score: (batch, y, x) or (batch, z, y, x), from 0 to 1 for each image.

    network: takes the inputs, each (batch, channels, y, x) or (batch, channels, z, y, x), the images independent of
    each other. layer: a part of it whose output is (batch, channels) on a coarser or equal grid. score: from the
    network's output to (batch,); the mean of the output by default. Its negative asks what speaks against it.

    The map is brought linearly to the grid of the first input. It is 0 throughout where nothing speaks for the score.
    Gradients of the network's parameters are left alone.
    """
    from captum.attr import LayerGradCam

    with in_use(network), torch.enable_grad():
        method = LayerGradCam(lambda *seen: score(network(*seen)), layer)
        coarse = method.attribute(inputs, relu_attributions=True).detach()
    linear = "trilinear" if coarse.ndim == 5 else "bilinear"
    fine = functional.interpolate(coarse, inputs[0].shape[2:], mode=linear, align_corners=False)[:, 0]
    highest = fine.flatten(1).amax(dim=1).clamp_min(torch.finfo(fine.dtype).tiny)
    return fine / highest.reshape(-1, *[1] * (fine.ndim - 1))
