"""Every site of a family on this one machine, each with its own folder, keys, policy, trust and log."""

from __future__ import annotations

from pathlib import Path

from commonprior.errors import RecipeError, RunError
from commonprior.identity import Identity
from commonprior.recipe import Recipe
from commonprior.runfolder import RunFolder
from commonprior.site import Registry
from commonprior.site.agent import Agent
from commonprior.site.consent import Terms
from commonprior.site.laboratory import Laboratory
from commonprior.site.memory import SiteLog
from commonprior.site.policy import read_policy, write_policy
from commonprior.site.trust import read_trust, write_trust
from commonprior.task import TaskSpec
from commonprior.tasks import Family


def load_or_make_identity(path: Path) -> Identity:
    """Return the identity in a file; make one where there is none."""
    if not path.exists():
        Identity.generate().save(path)
    return Identity.load(path)


def check_scaling(recipe: Recipe, spec: TaskSpec) -> None:
    """Raise `RecipeError` where each task is to be protected, but one task's numbers would scale the others' inputs."""
    if recipe.mechanism.unit != "task" or recipe.mechanism.noise == 0:
        return
    own = [c.name for c in spec.columns if c.kind == "numeric" and (c.centre is None or c.spread is None)]
    if own:
        raise RecipeError(
            f'mechanism.per = "task" with columns that a site scales by all of its rows ({", ".join(own[:5])}'
            f"{', …' if len(own) > 5 else ''}): a task would be in the rows of all others; give these columns a public "
            f'centre and spread in tasks.columns, or set mechanism.per = "site"'
        )


def simulate_sites(
    recipe: Recipe, family: Family, run: RunFolder, coordinator: Identity, registry: Registry | None = None
) -> list[Agent]:
    """Return one agent a training site, in roster order (by name), as they were when the process last ended.

    `registry` is their view of the ledger: one process has one.
    """
    names = sorted(family.train)
    if len(names) < 2:
        raise RunError(f"{len(names)} training site: a secure sum needs at least 2; name a site column, or more files")
    identities = {name: load_or_make_identity(run.site(name) / "identity.json") for name in names}
    everyone = {name: identity.key for name, identity in identities.items()}
    schedule, agents = recipe.schedule, []
    for name in names:
        folder = run.site(name)
        if not (folder / "policy.toml").exists():
            write_policy(recipe.policy, folder / "policy.toml")
        if not (folder / "trust.json").exists():
            write_trust(everyone, folder / "trust.json")
        terms = Terms(
            recipe.hash(), recipe.learner, recipe.mechanism, recipe.sum, coordinator.key, schedule.tasks_per_site,
            schedule.seed, recipe.budget.epsilon, recipe.budget.delta, schedule.dropouts, schedule.colluders,
            recipe.ledger.kind, recipe.public, recipe.ledger.defence,
        )  # fmt: skip
        contributor = Laboratory(
            name, family.train[name], family.spec, recipe.learner, schedule.shots, schedule.queries
        )
        names = read_trust(folder / "trust.json")
        agents.append(Agent(
            name, identities[name], terms, read_policy(folder / "policy.toml"), frozenset(names.values()),
            contributor, SiteLog(folder), registry, names,
        ))  # fmt: skip
    return agents
