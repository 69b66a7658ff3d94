"""Integrated gradients: what each voxel adds to the score on the way from the reference to the image.

Source: Sundararajan, Taly and Yan, Axiomatic attribution for deep networks, ICML 2017, section 3.
"""

from __future__ import annotations

from torch import Tensor

from .looking import Decision, in_use

STEPS = 20  # of Gauss and Legendre; the sum is off by about 1 %


def integrated_gradients(decision: Decision) -> Tensor:
    """Signed shares; their sum over an image is score(image) - score(reference). The shape of `decision.image`."""
    from captum.attr import IntegratedGradients

    with in_use(decision.network):
        method = IntegratedGradients(decision)
        found = method.attribute(
            decision.image,
            decision.reference,
            n_steps=STEPS,
            internal_batch_size=len(decision.image),  # one step at a time: memory as for one pass
            additional_forward_args=decision.conditions or None,
        )
    return found.detach()
