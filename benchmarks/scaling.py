"""Weak scaling on paper: what the exchange of gradients leaves of 8 and of 64 GPUs. A model, no measurement.

    python -m benchmarks.scaling

An all-reduce moves 2 (n - 1) / n times the gradients through each of n GPUs (ring: reduce-scatter, then all-gather).
Between machines of 8 each GPU has an eighth of that to exchange with its peers. Bytes come from
benchmarks/results/memory.json, rates from the makers' data sheets, one direction. Left out: latencies, stragglers,
data loading, and that libraries reach some 80 to 90 % of such rates.
"""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
GPUS = 8  # of a machine
# Within a machine and between machines, bytes a second for each GPU and direction.
MACHINES = {
    "H100: NVLink 4 (900 GB/s both ways), InfiniBand NDR (400 Gbit/s a GPU)": (450e9, 50e9),
    "A100: NVLink 3 (600 GB/s both ways), InfiniBand HDR (200 Gbit/s a GPU)": (300e9, 25e9),
    "PCIe 4.0 x16 (64 GB/s both ways), Ethernet of 100 Gbit/s a machine": (32e9, 12.5e9 / GPUS),
}
STEPS = (0.02, 0.05, 0.1, 0.2)  # seconds of a GPU's own work


def exchange_seconds(size: int, machines: int, within: float, between: float) -> float:
    """Of ``size`` bytes of gradients among all GPUs of some machines."""
    ring = 2 * (GPUS - 1) / GPUS * size / within
    return ring + 2 * (machines - 1) / machines * size / GPUS / between


def main() -> None:
    size = json.loads((RESULTS / "memory.json").read_text(encoding="utf-8"))["rows"][0]["gradient bytes"]
    print(f"{size / 1e6:.1f} MB of gradients, float32\n")
    steps = " | ".join(f"step of {1000 * step:.0f} ms" for step in STEPS)
    print(f"| interconnect | GPUs | exchange, ms | {steps} |\n|---|---|---|{'---|' * len(STEPS)}")
    for name, rates in MACHINES.items():
        for machines in (1, 8):
            seconds = exchange_seconds(size, machines, *rates)
            shares = " | ".join(f"{step / (step + seconds):.0%}" for step in STEPS)
            print(f"| {name} | {machines * GPUS} | {1000 * seconds:.2f} | {shares} |")


if __name__ == "__main__":
    main()
