import importlib.metadata
import subprocess
import sys

import commonprior

PINNED = [
    "CommonPriorError", "FewShotClassifier", "FewShotRegressor", "LearnedPrior", "Recipe", "audit", "load_run",
    "read_recipe", "train",
]  # fmt: skip


def test_the_public_names_are_these_and_each_is_there():
    assert commonprior.__all__ == PINNED
    for name in PINNED:
        assert callable(getattr(commonprior, name)), name
        assert getattr(commonprior, name).__doc__, name


def test_a_name_is_the_thing_and_not_its_module():
    """`commonprior.train` is a function whatever was imported before."""
    code = "import commonprior.training, commonprior; print(callable(commonprior.train))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "True"


def test_importing_the_package_imports_no_framework():
    code = "import sys, commonprior; print(sorted({'jax', 'pandas', 'sklearn'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_version_is_the_installed_one():
    assert importlib.metadata.version("commonprior") == commonprior.__version__
