"""Say beforehand what fits: how many bytes a model will need, and which part takes them.

>>> import tensorstream as ts
>>> ts.estimate("Qwen/Qwen2.5-0.5B", seq_len=4096, profile="transformers", mode="generate")
Estimate('Qwen/Qwen2.5-0.5B', transformers, peak 1.2 GiB)

The formulas are C (csrc/estimate); here configurations are put together and results shown.
"""

from __future__ import annotations

from typing import Any

from tensorstream.estimator.config import EstimatorConfig
from tensorstream.estimator.fitting import Fit, fit
from tensorstream.estimator.frameworks import Profile
from tensorstream.estimator.loader import ConfigBuilder, as_config, load_config, validate_config
from tensorstream.estimator.models import Model
from tensorstream.estimator.plugins import Effect, Optimization, Registry
from tensorstream.estimator.result import Estimate

__all__ = [
    "ConfigBuilder",
    "Effect",
    "Estimate",
    "EstimatorConfig",
    "Fit",
    "Model",
    "Optimization",
    "Profile",
    "Registry",
    "estimate",
    "fit",
    "load_config",
    "validate_config",
]


def estimate(config: Any, **fields: Any) -> Estimate:
    """How much memory a run needs.

    Args:
        config: an EstimatorConfig, a dict of its fields, or what one takes as its model, with
            the other fields as keywords.

    Raises:
        ValueError: impossible or unknown values; the sentence names the field.
    """
    config = as_config(config, fields)
    return Estimate(config.to_model(), config.to_run(), config.to_profile(), config.effects())
