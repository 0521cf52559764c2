"""Ways of doing one thing, compared: the floor program run with each set of flags in turn, many rounds.

    python3 bench/floor/compare.py FLOOR --rootfs DIR --state DIR [--rounds N] [--spacing MS] NAME=FLAGS ...

Prints the median of each step's end (µs since the start) and the ratio of the totals to the first variant.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys


def run(floor: str, arguments: list[str]) -> dict[str, list[int]]:
    """One batch; the ends of the steps in nanoseconds, a list per step."""
    done = subprocess.run([floor, *arguments], capture_output=True, text=True, check=False)
    if done.returncode or done.stderr:
        sys.exit(f"{shlex.join(arguments)}: {done.stderr}")
    steps: dict[str, list[int]] = json.loads(done.stdout.splitlines()[-1])["steps_ns"]
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("floor")
    parser.add_argument("variants", nargs="+")
    parser.add_argument("--rootfs", required=True)
    parser.add_argument("--state", required=True)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=15)
    parser.add_argument("--spacing", type=int, default=0)
    parser.add_argument("--steps", action="store_true")
    options = parser.parse_args()
    variants = dict(v.split("=", 1) for v in options.variants)
    seen: dict[str, dict[str, list[int]]] = {name: {} for name in variants}
    ratios: dict[str, list[float]] = {name: [] for name in variants}  # one per round: drift falls out
    for _ in range(options.rounds):
        base = 0.0
        for name, flags in variants.items():
            steps = run(
                options.floor,
                [
                    "--rootfs",
                    options.rootfs,
                    "--state",
                    options.state,
                    "--iterations",
                    str(options.iterations),
                    "--spacing",
                    str(options.spacing),
                    *shlex.split(flags),
                ],
            )
            for step, values in steps.items():
                seen[name].setdefault(step, []).extend(values)
            middle = statistics.median(steps["namespace_closed"])
            base = base or middle
            ratios[name].append(middle / base)
    print(
        f"{'variant':24}{'to exec':>9}{'exited':>9}{'total':>9}{'p90':>9}   ratio (quartiles)   times in µs"
    )
    for name, steps in seen.items():

        def mid(step: str, steps: dict[str, list[int]] = steps) -> float:
            return statistics.median(steps[step]) / 1000

        total = steps["namespace_closed"]
        p90 = statistics.quantiles(total, n=10)[8] / 1000
        low, half, high = statistics.quantiles(ratios[name], n=4) if options.rounds > 1 else ratios[name] * 3
        print(
            f"{name:24}{mid('exec'):9.0f}{mid('exited'):9.0f}{mid('namespace_closed'):9.0f}{p90:9.0f}"
            f"   {half:.3f} ({low:.3f}..{high:.3f})"
        )
        if options.steps:
            order = sorted(steps, key=lambda s: statistics.median(steps[s]))
            previous = 0.0
            for step in order:
                values = [v for v in steps[step] if v >= 0]
                if values:
                    m = statistics.median(values) / 1000
                    tail = statistics.quantiles(values, n=10)[8] / 1000
                    print(f"    {step:20}{m:9.1f}  +{m - previous:7.1f}   p90 {tail:8.1f}")
                    previous = m


if __name__ == "__main__":
    main()
