"""commonprior: one prior, learned in common; no data shared.

recipe = commonprior.read_recipe("recipe.toml")
prior = commonprior.train(recipe, "runs/first")
commonprior.FewShotRegressor(prior).fit(X, y).predict(X_new, return_std=True)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from commonprior.errors import CommonPriorError
    from commonprior.estimator import FewShotClassifier, FewShotRegressor
    from commonprior.ledger.audit import audit
    from commonprior.loading import load_run
    from commonprior.predictor import LearnedPrior
    from commonprior.recipe import Recipe, read_recipe
    from commonprior.training import train

__version__ = "0.1.0"

__all__ = [
    "CommonPriorError", "FewShotClassifier", "FewShotRegressor", "LearnedPrior", "Recipe", "audit", "load_run",
    "read_recipe", "train",
]  # fmt: skip

_HOMES = {
    "CommonPriorError": "errors", "FewShotClassifier": "estimator", "FewShotRegressor": "estimator",
    "LearnedPrior": "predictor", "Recipe": "recipe", "audit": "ledger.audit", "load_run": "loading",
    "read_recipe": "recipe", "train": "training",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: `import commonprior` alone costs no second."""
    if name not in _HOMES:
        raise AttributeError(f"module 'commonprior' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"commonprior.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
