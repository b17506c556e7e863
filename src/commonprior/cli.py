"""The command line: parses, calls the library, prints. Bad input is one sentence on stderr and exit code 2."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from commonprior.errors import CommonPriorError, InputError
from commonprior.printing import print_pairs

app = typer.Typer(
    help="One prior, learned in common; no data shared.", no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
keys = typer.Typer(help="Make identities, show them, and say whom a site trusts.", no_args_is_help=True)
app.add_typer(keys, name="keys")
console = Console(highlight=False, soft_wrap=True)

DataOption = Annotated[Path | None, typer.Option("--data", envvar="COMMONPRIOR_DATA", help="Folder with the data.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file too.")]
RunArgument = Annotated[Path, typer.Argument(help="A run folder, runs/NAME.")]


def main() -> None:
    """Run the command line; whatever is refused on purpose becomes one sentence and exit code 2."""
    _cache_compilations()
    try:
        app(standalone_mode=False)
    except CommonPriorError as error:
        _stop(f"error: {error}")
    except OSError as error:
        _stop(f"error: {error.filename or 'disk'}: {error.strerror}; nothing written before is lost")
    except typer.Exit as stop:
        raise SystemExit(stop.exit_code) from None
    except (typer.Abort, KeyboardInterrupt):
        _stop("stopped; the same command goes on from the last finished round", 130)
    except Exception as error:
        format_message = getattr(error, "format_message", None)  # click's usage errors
        if format_message is None:
            raise
        _stop(f"error: {format_message()}")


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe (.toml), or a table of your own (.csv, .parquet).")],
    data: DataOption = None,
    name: Annotated[str, typer.Option(help="Name of the run; by default the recipe file's.")] = "",
    runs: Annotated[Path, typer.Option(help="Where run folders lie.")] = Path("runs"),
    task: Annotated[str, typer.Option(help="For a table: the column that names a row's task.")] = "",
    site: Annotated[str, typer.Option(help="For a table: the column that names a row's site.")] = "",
    target: Annotated[str, typer.Option(help="For a table: the column to predict.")] = "",
    rounds: Annotated[int, typer.Option(help="For a table: how many rounds.")] = 60,
    json_file: JsonOption = None,
) -> None:
    """Learn a prior together. The same command goes on after a kill."""
    from commonprior import commands

    commands.train(recipe, data, runs / (name or recipe.stem), commands.TableFlags(task, site, target, rounds),
                   console, json_file)  # fmt: skip


@app.command()
def adapt(
    run: RunArgument,
    support: Annotated[Path, typer.Option(help="The few labelled samples of a new task.")],
    predict: Annotated[Path, typer.Option(help="The samples to predict.")],
    output: Annotated[Path | None, typer.Option(help="Where to write the predictions (.csv or .parquet).")] = None,
    json_file: JsonOption = None,
) -> None:
    """Adapt a run's prior to a new task from a few samples, and predict."""
    from commonprior import commands

    commands.adapt(run, support, predict, output, console, json_file)


@app.command()
def explain(
    run: RunArgument,
    support: Annotated[Path, typer.Option(help="The few labelled samples of a task.")],
    query: Annotated[Path, typer.Option(help="The samples whose predictions are to be explained.")],
    html: Annotated[Path | None, typer.Option(help="Write pictures to this file.")] = None,
    json_file: JsonOption = None,
) -> None:
    """Say which support samples and which features a prediction rests on, and how adapting led there."""
    from commonprior import commands

    commands.explain(run, support, query, html, console, json_file)


@app.command()
def suggest(
    run: RunArgument,
    support: Annotated[Path, typer.Option(help="The few labelled samples of a task.")],
    candidates: Annotated[Path, typer.Option(help="The samples that could be measured next.")],
    by: Annotated[str, typer.Option(help="improvement (the best label) or information (certainty).")] = "",
    minimise: Annotated[bool, typer.Option("--minimise", help="The best label is the smallest.")] = False,
    count: Annotated[int, typer.Option(help="How many to measure together.")] = 5,
    json_file: JsonOption = None,
) -> None:
    """Say which candidates to measure next for a task, and what each promises."""
    from commonprior import commands

    commands.suggest(run, support, candidates, by, minimise, count, console, json_file)


@app.command()
def evaluate(
    run: RunArgument,
    data: DataOption = None,
    shots: Annotated[str, typer.Option(help="Numbers of samples to adapt on, such as 5,16.")] = "",
    supports: Annotated[int, typer.Option(help="Supports drawn for each task.")] = 10,
    queries: Annotated[int, typer.Option(help="Most samples a task is judged by.")] = 200,
    split: Annotated[str, typer.Option(help="valid or test.")] = "test",
    baselines: Annotated[str, typer.Option(help="all, none, or names such as random_forest,pooled.")] = "all",
    json_file: JsonOption = None,
) -> None:
    """Compare a run's prior with what one would do otherwise, on tasks that nobody trained on."""
    from commonprior import commands

    commands.evaluate(run, data, shots, supports, queries, split, baselines, console, json_file)


@app.command()
def survey(run: RunArgument, data: DataOption = None, json_file: JsonOption = None) -> None:
    """Ask a run's sites, in secret, how diverse their tasks are and what their samples are like."""
    from commonprior import surveying

    surveying.survey(run, data, console, json_file)


@app.command()
def novelty(
    run: RunArgument,
    samples: Annotated[Path, typer.Option(help="Samples to judge (.csv or .parquet); labels are not looked at.")],
    rate: Annotated[float, typer.Option(help="The share of false alarms to allow.")] = 0.05,
    json_file: JsonOption = None,
) -> None:
    """Say which samples are unlike everything that a run's sites learned on (after `commonprior survey`)."""
    from commonprior import surveying

    surveying.novelty(run, samples, rate, console, json_file)


@app.command()
def tune(
    recipe: Annotated[Path, typer.Argument(help="The recipe to begin with (.toml).")],
    space: Annotated[Path, typer.Option(help="Which fields may change, and how far (.toml).")],
    data: DataOption = None,
    trials: Annotated[int, typer.Option(help="Runs to try, those of earlier calls included.")] = 20,
    metric: Annotated[str, typer.Option(help="nll, rmse, r2, spearman, accuracy or delta_auprc.")] = "nll",
    earlier: Annotated[list[Path] | None, typer.Option(help="Folders of earlier searches to learn from.")] = None,
    name: Annotated[str, typer.Option(help="Name of the search; by default the recipe's, and -tune.")] = "",
    runs: Annotated[Path, typer.Option(help="Where run folders lie.")] = Path("runs"),
    json_file: JsonOption = None,
) -> None:
    """Find better settings of a recipe on its validation tasks. The same command goes on after a kill."""
    from commonprior import commands

    commands.tune(recipe, space, data, trials, metric, earlier or [], runs / (name or f"{recipe.stem}-tune"), console,
                  json_file)  # fmt: skip


@app.command()
def audit(
    run: Annotated[Path | None, typer.Argument(help="A run folder, or a bundle of one (.zip).")] = None,
    trust: Annotated[list[str] | None, typer.Option(help="A site's key (hex) that must be in the roster.")] = None,
    expect_head: Annotated[str, typer.Option(help="The head (hex) that the record must end with.")] = "",
    chain: Annotated[int, typer.Option(help="Without a run: the chain id of the node in COMMONPRIOR_RPC.")] = 0,
    contracts: Annotated[str, typer.Option(help="Without a run: the six addresses, with commas.")] = "",
    opening: Annotated[str, typer.Option(help="Without a run: the hash (hex) of its opening record.")] = "",
    json_file: JsonOption = None,
) -> None:
    """Verify a run's record and ledger from their first byte; name the first entry that does not hold."""
    from commonprior import auditing

    keys = [_hex(key, "--trust") for key in trust or []]
    if run is not None:
        head = _hex(expect_head, "--expect-head") if expect_head else None
        auditing.audit(run, keys, head, console, json_file)
    else:
        places = [_hex(a.removeprefix("0x"), "--contracts") for a in contracts.split(",") if a]
        auditing.audit_node(chain, places, _hex(opening.removeprefix("0x"), "--opening"), keys, console, json_file)


@app.command()
def bundle(
    run: RunArgument,
    output: Annotated[Path, typer.Argument(help="The file to write (.zip).")],
    sealed: Annotated[
        bool,
        typer.Option("--sealed", help="With every round's sealed bytes and opened seeds: what the sums came from."),
    ] = False,
) -> None:
    """Pack what an auditor needs of a run into one file: nothing that a site keeps to itself."""
    from commonprior import auditing

    auditing.bundle(run, output, sealed, console)


@app.command()
def rewards(
    run: RunArgument,
    fund: Annotated[float, typer.Option(help="Credits to put into the run's pot, from the account of --site.")] = 0.0,
    per_round: Annotated[float, typer.Option(help="With --fund: how many credits a round pays at most.")] = 0.0,
    claim: Annotated[bool, typer.Option("--claim", help="Fetch what was earned: of --site, or of all here.")] = False,
    site: Annotated[list[str] | None, typer.Option(help="A site whose keys lie in the run folder.")] = None,
    json_file: JsonOption = None,
) -> None:
    """Show what a run's ledger owes to each site and has paid; fund its pot, or claim from it."""
    from commonprior import rewarding

    if fund and (claim or len(site or []) != 1):
        raise InputError("--fund goes with one --site, whose credits they are, and without --claim")
    if per_round and not fund:
        raise InputError("--per-round goes with --fund")
    if fund:
        rewarding.fund_run(run, (site or [""])[0], fund, per_round, console)
    if claim:
        rewarding.claim(run, site or [], console)
    rewarding.show_rewards(run, console, json_file)


@app.command()
def plan(
    recipe: Annotated[Path, typer.Argument(help="A recipe (.toml).")],
    data: DataOption = None,
    sites: Annotated[int, typer.Option(help="How many sites; by default as many as the tasks have.")] = 0,
    parameters: Annotated[int, typer.Option(help="How many numbers an update has; by default the learner's.")] = 0,
    network: Annotated[str, typer.Option(help="lan, wan or lte.")] = "wan",
    json_file: JsonOption = None,
) -> None:
    """Say what a round will cost under each secure sum, which one fits, and what the recipe promises."""
    from commonprior.planning.plan import as_table, make_plan
    from commonprior.planning.show import show
    from commonprior.recipe import read_recipe

    made = make_plan(read_recipe(recipe), data, sites, parameters, network)
    console.print(show(made), soft_wrap=False)
    _write_json(json_file, as_table(made))


@app.command()
def doctor(json_file: JsonOption = None) -> None:
    """Say what this installation can do, what it left out, and what each secure sum trusts."""
    from commonprior import commands

    commands.doctor(console, json_file)


@keys.command("new")
def keys_new(path: Annotated[Path, typer.Argument(help="File for the identity; only you can read it.")]) -> None:
    """Make an identity: an Ed25519 key for messages and a secp256k1 key for the ledger, each signing the other."""
    from commonprior.identity import Identity

    identity = Identity.generate()
    identity.save(path)
    console.print(f"{path}: {identity.key.hex()}")


@keys.command("show")
def keys_show(path: Annotated[Path, typer.Argument(help="An identity file.")]) -> None:
    """Show the public half of an identity, to give to others."""
    from commonprior.identity import Identity

    public = Identity.load(path).public()
    print_pairs(console, {"key": public.key.hex(), "account": public.account.hex(),
                  "key signs account": public.key_signs_account.hex(),
                  "account signs key": public.account_signs_key.hex()})  # fmt: skip


@keys.command("trust")
def keys_trust(
    path: Annotated[Path, typer.Argument(help="A site's trust list (JSON).")],
    name: Annotated[str, typer.Argument(help="Whom; nobody shows the list.")] = "",
    key: Annotated[str, typer.Argument(help="Their key, 64 hex digits.")] = "",
) -> None:
    """Show whom a site trusts, or trust one more."""
    from commonprior.site.trust import read_trust, write_trust

    trusted = read_trust(path)
    if name:
        added = _hex(key, "KEY")
        if len(added) != 32:
            raise InputError(f"KEY: a key has 64 hex digits, got {len(key)}; `commonprior keys show` prints it")
        trusted[name] = added
        write_trust(trusted, path)
    print_pairs(console, {who: known.hex() for who, known in trusted.items()} or {"nobody": f"{path} is empty"})


def _hex(text: str, where: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise InputError(f"{where}: {text!r} is not hexadecimal") from None


def _write_json(path: Path | None, value: Any) -> None:
    if path is not None:
        path.write_text(json.dumps(value, indent=1))


def _cache_compilations() -> None:
    """Keep compiled programs between commands: most of what a short command does would be compiling."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "commonprior" / "jax"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def _stop(sentence: str, code: int = 2) -> None:
    sys.stderr.write(sentence + "\n")
    raise SystemExit(code)
