"""A plan as a person reads it: tables of at most 80 columns, and sentences."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from commonprior.planning.forecast import Forecast
from commonprior.planning.plan import Plan
from commonprior.planning.privacy import Promise

FLOAT_BYTES = 4
"""What a number takes where float32 is averaged in the open."""

_COMMITTEE_ROWS = 8
_CLOCK = ((120, 1, "s"), (7200, 60, "min"), (float("inf"), 3600, "h"))


def show(plan: Plan) -> Group:
    """Return everything there is to say about a plan."""
    return Group(*_parts(plan))


def _parts(plan: Plan) -> Iterator[RenderableType]:
    net = plan.network
    yield Text(
        f"{plan.sites:,} sites, {plan.dropouts} may drop out, {plan.colluders} may collude. {_travelling(plan)} "
        f"Network {net.name}: {_bits(net.up)} up, {_bits(net.down)} down, {_seconds(net.round_trip)} round trip.\n"
    )
    yield _protocols(plan)
    yield Text(
        "* the recipe's. time: over the network, nobody drops out, learning not counted; here: everyone in one "
        "process; a site, up, down: computing and bytes of the busiest site, prior and record included. Computing is "
        "on one core of this machine.\n",
        style="dim",
    )
    yield _advice(plan)
    yield from _refusals(plan)
    yield _trust(plan)
    yield _committee(plan)
    yield _privacy(plan)
    yield Text(_signal(plan) + "\n")
    yield Text(
        "\n".join(["Sources of the network's figures:", *(f"- {source}" for source in net.sources)]), style="dim"
    )


def _travelling(plan: Plan) -> str:
    share = f" ({100 * plan.width / plan.parameters:.3g}%)" if plan.width != plan.parameters else ""
    return (
        f"Of {plan.parameters:,} numbers of an update {plan.width:,} travel{share}, {plan.word} bytes each: "
        f"{_bytes(plan.width * plan.word)}; averaging float32 would send {_bytes(FLOAT_BYTES * plan.parameters)}."
    )


def _protocols(plan: Plan) -> Table:
    table = _table("A round", "sum", "time", "here", "a site", "up", "down", "trips")
    for one in plan.protocols:
        if one.work is None:
            continue
        advised = plan.advice is not None and one.name == plan.advice.name
        name = f"{one.name} *" if one.name == plan.own else one.name
        table.add_row(
            name, _seconds(one.seconds), _seconds(one.here), _seconds(one.site),
            _bytes(one.up), _bytes(one.down), str(one.round_trips),
            style="bold green" if advised else "red" if one.sum.insecure else "",
        )  # fmt: skip
    return table


def _advice(plan: Plan) -> Text:
    if plan.advice is None:
        return Text(f"Advice: {plan.reason}.\n", style="bold red")
    own = "" if plan.advice.name == plan.own else f" The recipe has {plan.own}."
    return Text(f"Advice: {plan.advice.name}: {plan.reason}.{own}\n", style="bold green")


def _refusals(plan: Plan) -> Iterator[RenderableType]:
    for one in plan.protocols:
        if one.work is None:
            yield Text(f"Does not fit: {one.name}: {one.refusal}.\n")


def _trust(plan: Plan) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    named: dict[str, list[Forecast]] = {}
    for one in plan.protocols:
        if one.work is not None:
            named.setdefault(one.sum.trust, []).append(one)
    for trust, same in named.items():
        grid.add_row("\n".join(one.name for one in same), trust, style="red" if same[0].sum.insecure else "")
    gone = f"Any {plan.dropouts} sites may be gone in a round" if plan.dropouts else "No site may be gone in a round"
    keyed = any(one.work and one.work.reader.startswith("the key holder") for one in plan.protocols)
    said = Text(f"{gone}{', but never the key holder' * bool(keyed and plan.dropouts)}.\n", style="dim")
    return Group(Text("Whom a site trusts", style="bold"), grid, said)


def _committee(plan: Plan) -> RenderableType:
    terms, rows = plan.committee.terms, plan.committee.rows
    if terms is None:
        return Text(f"No committee of all sites: {plan.committee.refusal}.\n")
    title = f"A committee of {len(terms.seats)}: any {terms.degree} together learn nothing"
    table = _table(title, "gone", "liars named, sum right",
                   "liars noticed")  # fmt: skip
    every = 1 + len(rows) // _COMMITTEE_ROWS
    for at, row in enumerate(rows):
        if at % every == 0 or row.dropouts in (plan.dropouts, len(rows) - 1):
            table.add_row(f"{row.dropouts:,}", f"{row.named:,}", f"{row.detected:,}")
    return table


def _privacy(plan: Plan) -> RenderableType:
    promise = plan.promise
    wanted = Text(_wanted(promise))
    if promise.a_run is None or promise.a_round is None or promise.a_record is None:
        none = Text("No differential privacy (no noise): the sum and the prior may give tasks away.", style="yellow")
        return Group(none, wanted)
    runs = f"{promise.rounds} rounds"
    table = _table(f"Privacy at δ = {promise.delta:g}", "unit", "a round", runs, "what it means", wide=True)
    table.add_row(promise.unit, f"ε {promise.a_round:.3g}", f"ε {promise.a_run:.3g}",
                  "its row is there or is replaced by zeros", style="bold")  # fmt: skip
    if promise.unit == "site":
        table.add_row("task", "", "", "covered by its site's")
    else:
        table.add_row("site", "", "", "no promise: as many tasks as it has, together")
    table.add_row("record", "", f"ε {promise.a_record:.3g}",
                  f"no unit of its own: changed or taken out within one {promise.unit}")  # fmt: skip
    budget = f"Budget ε {promise.budget:g}: enough for {promise.affordable:g} rounds. " if promise.budget else ""
    said = f"{budget}One attempt a round; each further one costs a round more. No amplification by sampling is "
    return Group(table, wanted, Text(f"{said}claimed: rosters are public."))


def _wanted(promise: Promise) -> str:
    parts = [
        f"ε {need.epsilon:g} takes noise {need.noise:.3g}" if need.noise is not None
        else f"ε {need.epsilon:g} does not come about ({need.refusal})"
        for need in promise.needed
    ]  # fmt: skip
    return f"Over {promise.rounds} rounds {', '.join(parts)}; the recipe has {promise.noise:g}."


def _signal(plan: Plan) -> str:
    promise = plan.promise
    if not promise.noise:
        return "Without noise nothing drowns the mean."
    enough = f"from {promise.enough:,} sites on" if promise.enough else "with no number of sites up to 16 million"
    now = "so it works here" if promise.ratio <= 1 else "so a single round is mostly noise here"
    return (
        f"With each {promise.unit} protected by noise {promise.noise:g} it works {enough}: there the noise in one "
        f"round's mean is no longer than the clip, the longest that the mean can be. With {plan.sites:,} sites it is "
        f"{promise.ratio:.3g} times the clip (L2 norms over {promise.width:,} numbers), {now}."
    )


def _table(title: str, *columns: str, wide: bool = False) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0)
    )
    table.add_column(columns[0], no_wrap=True)
    for name in columns[1:-1] if wide else columns[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    if wide:
        table.add_column(columns[-1], overflow="fold")
    return table


def _seconds(value: float) -> str:
    if value < 0.9995:
        return f"{1e3 * value:.3g} ms"
    return next(f"{value / size:.3g} {unit}" for most, size, unit in _CLOCK if value < most)


def _bytes(value: float) -> str:
    return f"{value / 1e6:.3g} MB" if value >= 1e6 else f"{value / 1e3:.3g} kB"


def _bits(value: float) -> str:
    return f"{value / 1e6:g} Mbit/s"
