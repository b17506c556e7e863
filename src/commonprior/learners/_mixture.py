"""One prediction from several, equally believed (Lakshminarayanan et al., "Deep ensembles", 2017, section 2.4)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from commonprior.task import Categorical, Gaussian, Prediction


def mix(predictions: Prediction) -> Prediction:
    """Return the mixture of predictions with leaves [p, n, ...]: its own mean and variance, or mean probabilities."""
    if isinstance(predictions, Categorical):
        each = jax.nn.log_softmax(predictions.logits)
        return Categorical(jax.scipy.special.logsumexp(each, axis=0) - jnp.log(len(each)))
    mean = predictions.mean.mean(0)
    return Gaussian(mean, predictions.variance.mean(0) + ((predictions.mean - mean) ** 2).mean(0))
