"""A thousand GPUs on paper: where a search of merges meets its first bottleneck.

    python -m benchmarks.simulate [--out benchmarks/results/simulate.json]

Discrete events (`benchmarks/_simulator.py`): nodes load base and experts from shared storage, then actors take
candidates from the broker, merge them in place (memory bandwidth), and score them; a search process proposes and
records, one candidate at a time. What the program itself costs was measured (`benchmarks/results/cluster.json`,
docs/search/figures.md); hardware is its data sheet; the rest are assumptions, and say so. GPUs were not measured.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from ._simulator import Clock, Process, Server

PER_ACTOR = 20
CLUSTER = Path(__file__).parent / "results" / "cluster.json"


class Constant(NamedTuple):
    """A number, its unit, and where it is from."""

    value: float
    unit: str
    source: str


def measured() -> dict[str, Constant]:
    """What this program costs, from its own benchmark."""
    at_8 = json.loads(CLUSTER.read_text())["dispatch"]["median"]["8"]
    source = "measured: cluster.json, dispatch, 8 actors, CPU time"
    return {
        "record_s": Constant(at_8["driver_cpu_ms"] / 1e3, "s", f"{source} (database, items, sampler `random`)"),
        "broker_s": Constant(at_8["broker_cpu_ms"] / 1e3, "s", source),
        "propose_s": Constant(0.43, "s", "measured: `auto`, 500 points, 24 dimensions, 2 objectives (docs/search.md)"),
    }


ASSUMED = {
    "pcie": Constant(50e9, "B/s", "PCIe 5.0 x16 is 63 GB/s by its data sheet; 80 % of it assumed"),
    "memory": Constant(400e9, "B/s", "2 sockets of 8 x DDR5-4800 are 614 GB/s by data sheet; 65 % assumed"),
    "flops": Constant(400e12, "1/s", "H100 SXM: 989 TFLOPS bf16 dense by data sheet; 40 % assumed"),
    "hbm": Constant(2.3e12, "B/s", "H100 SXM: 3.35 TB/s by data sheet; 70 % assumed"),
    "storage": Constant(40e9, "B/s", "assumed: a parallel file system of middle size, all nodes together"),
    "link": Constant(12.5e9, "B/s", "one node: 100 GbE by its name"),
    "start_s": Constant(60.0, "s", "assumed: process, imports, engine and CUDA graphs of an actor"),
    "batch": Constant(256, "sequences", "assumed: decoded together"),
    "items": Constant(1500, "items", "assumed: per candidate, as the demo has"),
    "prompt": Constant(200, "tokens", "assumed: of a prompt, none of it cached"),
    "response": Constant(64, "tokens", "assumed: of a response"),
    "experts": Constant(4, "models", "assumed: merged, beside the base"),
    "methods": Constant(5, "searches", "assumed: as many search processes as methods"),
}


@dataclass(frozen=True)
class Setting:
    """One plan.

    Attributes:
        parameters: of the model.
        gpus: in all; `per_actor` of them hold one model, `per_node` are in a node.
        sampler: `auto` proposes for `propose_s`, `random` for nothing.
        ship: experts come from the driver's node instead of storage.
    """

    parameters: float
    gpus: int
    per_actor: int
    sampler: str = "auto"
    ship: bool = False
    per_node: int = 8


def simulate(plan: Setting, c: dict[str, float]) -> dict[str, Any]:
    """When everything is loaded, then the steady pace, and how busy everything is at it."""
    actors = plan.gpus // plan.per_actor
    searches, broker = [Server("search") for _ in range(int(c["methods"]))], Server("broker")
    buses = [Server("memory") for _ in range(-(-plan.gpus // plan.per_node))]
    models = (c["experts"] + 1) * 2 * plan.parameters
    merge_s, bus_s = models / (c["pcie"] * plan.per_actor), models / c["memory"]
    whole_s = merge_s + evaluation_s(plan, c)
    propose_s = c["record_s"] + (c["propose_s"] if plan.sampler == "auto" else 0.0)
    clock, ends, left = Clock(), [], iter(range(actors * PER_ACTOR))

    def actor(index: int) -> Process:
        search, bus = searches[index % len(searches)], buses[index * plan.per_actor // plan.per_node]
        for _ in left:
            yield from clock.use(search, propose_s)
            yield from clock.use(broker, c["broker_s"])
            began = clock.now
            yield from clock.use(bus, bus_s)
            yield max(0.0, merge_s - (clock.now - began)) + whole_s - merge_s
            ends.append(clock.now)

    for index in range(actors):
        clock.start(actor(index), whole_s * index / actors)  # not all at once, as after a while of running
    clock.run()
    inner = ends[len(ends) // 4 : 3 * len(ends) // 4]
    rate = (len(inner) - 1) / (inner[-1] - inner[0])
    busiest = {
        "proposals": max(search.busy_s for search in searches),
        "broker": broker.busy_s,
        "memory of a node": max(bus.busy_s for bus in buses),
    }
    # Of the time that the candidates would take at the steady pace: start and end of the run are left out.
    used = {name: round(busy / (len(ends) / rate), 3) for name, busy in busiest.items()}
    return {
        **asdict(plan),
        "actors": actors,
        "candidate_s": round(whole_s, 1),
        "loaded_s": round(load_s(plan, models, c)),
        "node_gb": round(models / 1e9),
        "per_s": round(rate, 2),
        "of_ideal": round(min(1.0, rate * whole_s / actors), 3),
        "used": used,
    }


def load_s(plan: Setting, models: float, c: dict[str, float]) -> float:
    """Until the last node has read base and experts, each once, and its actors have started."""
    clock = Clock()
    # As many nodes read side by side as the source can serve at the speed of a node's link.
    source = Server("source", 1 if plan.ship else max(1, int(c["storage"] / c["link"])))

    def node() -> Process:
        yield from clock.use(source, models / c["link"])
        yield c["start_s"]

    for _ in range(-(-plan.gpus // plan.per_node)):
        clock.start(node())
    clock.run()
    return clock.now


def evaluation_s(plan: Setting, c: dict[str, float]) -> float:
    """Prompts at the speed of arithmetic, responses at that of the GPUs' memory."""
    prompts = c["items"] * c["prompt"] * 2 * plan.parameters / (c["flops"] * plan.per_actor)
    steps = c["items"] * c["response"] / c["batch"]
    return prompts + steps * 2 * plan.parameters / (c["hbm"] * plan.per_actor)


def first(row: dict[str, Any]) -> str:
    """What holds the run up."""
    if row["of_ideal"] >= 0.9:
        return "nothing: the GPUs are busy"
    name, used = max(row["used"].items(), key=lambda pair: pair[1])
    return f"{name} ({used:.0%} busy)"


def settings() -> Iterator[Setting]:
    """Both sizes over numbers of GPUs, then what relieves the first bottleneck, then files from the driver."""
    small, large = Setting(8e9, 0, 1), Setting(70e9, 0, 4)
    for model in (small, large):
        for gpus in (8, 64, 256, 1000):
            yield replace(model, gpus=gpus)
    for model in (small, large):
        yield replace(model, gpus=1000, sampler="random")
        yield replace(model, gpus=4000, sampler="random")
        yield replace(model, gpus=1000, ship=True)


def table(rows: list[dict[str, Any]]) -> str:
    """For docs/cluster.md."""
    lines = [
        "| model | GPUs (actors) | sampler, files | one candidate | loaded after | per second | of ideal | held up by |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in rows:
        files = "driver" if row["ship"] else "storage"
        cells = [f"{row['parameters'] / 1e9:.0f} B", f"{row['gpus']} ({row['actors']})", f"{row['sampler']}, {files}"]
        cells += [f"{row['candidate_s']:.1f} s", f"{row['loaded_s']:.0f} s", f"{row['per_s']:g}"]
        cells += [f"{row['of_ideal']:.0%}", first(row)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    constants = measured() | ASSUMED
    values = {name: constant.value for name, constant in constants.items()}
    rows = [simulate(setting, values) for setting in settings()]
    print(table(rows))
    print()
    for name, (value, unit, source) in constants.items():
        print(f"| `{name}` | {value:g} {unit} | {source} |")
    if given.out is not None:
        found = {"constants": {name: constant._asdict() for name, constant in constants.items()}, "rows": rows}
        given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
