"""`python -m bench [name...]`: measure, and print every figure beside its baseline and its goal."""

import argparse
import dataclasses
import json
import sys

from bench import durable, request, sse
from bench.harness import Figure, Options, allow_many_files, pin
from rich.console import Console
from rich.table import Table

BENCHMARKS = {"request": request.measure, "sse": sse.measure, "durable": durable.measure}
_MARKS = {True: "[green]met[/]", False: "[red]not met[/]", None: ""}


def main() -> None:
    """Run the benchmarks named, all by default."""
    asked = _arguments()
    pin(0, 1)
    allow_many_files()
    figures: list[Figure] = []
    progress = Console(stderr=True)
    with progress.status("measuring") as status:
        for name in asked.names or BENCHMARKS:
            options = Options(
                rounds=asked.rounds,
                round_s=asked.seconds,
                is_long=asked.long,
                say=lambda what, name=name: status.update(f"{name}: {what}"),
            )
            figures += BENCHMARKS[name](options)
    if asked.json:
        json.dump([dataclasses.asdict(figure) for figure in figures], sys.stdout, indent=2)
        print()
    else:
        Console(width=None if sys.stdout.isatty() else 140).print(_table(figures))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(BENCHMARKS))
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    parser.add_argument("--long", action="store_true", help="the large sizes too")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (default 5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one (default 1)")
    asked = parser.parse_args()
    unknown = [name for name in asked.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    return asked


def _table(figures: list[Figure]) -> Table:
    table = Table()
    for title in ("benchmark", "what", "value", "ratio", "to", "goal", ""):
        is_number = title in {"value", "ratio"}
        table.add_column(title, justify="right" if is_number else "left", no_wrap=True)
    for figure in figures:
        table.add_row(
            figure.benchmark,
            figure.what,
            f"{figure.value:,.3g} {figure.unit}"
            if figure.value < 1000
            else f"{figure.value:,.0f} {figure.unit}",
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
            figure.baseline,
            figure.goal,
            _MARKS[figure.is_met],
        )
    return table


if __name__ == "__main__":
    main()
