"""How much memory `bench run` takes on a folder of large images, above a process that only imported it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

SIDE = 224
SUITE = """
suite: large
version: 1
dataset: "imagefolder:{root}@224"
grid:
  source: [{{real: {{batch: 32}}}}]
  target: ["timm:{network}"]
  compressor: [rtn]
  bits: [W4A4]
images: 32
seeds: [0]
"""

IMPORTS = """
import importlib, pkgutil
import timm, torchvision
import bench.cli.app, bench.cli.board, bench.run
for found in pkgutil.walk_packages(bench.run.__path__, "bench.run."):
    importlib.import_module(found.name)
from bench.spec.registry import Registry
for kind in ("sources", "compressors"):
    [Registry(kind).get(name) for name in Registry(kind).names()]
"""

RUN = """
import sys
from bench.cli.app import main
sys.argv = ["bench", "run", *{arguments}]
try:
    main()
except SystemExit as left:
    assert not left.code, left.code
"""

BRING = """
from pathlib import Path
import torch
from bench.zoo.bring import Own, bring
from bench.zoo.libraries import create
torch.save(create({name!r}, 10).state_dict(), {file!r})
bring({name!r}, Path({file!r}), own=Own(10))
"""

PEAK = """
import resource
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def make_folder(root: Path, count: int) -> None:
    """``count`` test and 40 training images of ten classes, no two alike, as JPEG and PNG in turn."""
    gradient = Image.linear_gradient("L").resize((SIDE, SIDE))
    for split, images in (("train", 40), ("test", count)):
        for i in range(images):
            folder = root / split / f"class{i % 10}"
            folder.mkdir(parents=True, exist_ok=True)
            flat = Image.new("L", (SIDE, SIDE), i % 256)
            image = Image.merge("RGB", (gradient.rotate(90 * (i % 4)), flat, Image.new("L", flat.size, i // 256)))
            image.save(folder / (f"{i:05d}.jpg" if i % 2 else f"{i:05d}.png"))


def peak_above_imports(folder: Path, count: int, network: str) -> float:
    """Peak resident memory of `bench run` (MB) on ``count`` new images below ``folder``, less that of the imports."""
    make_folder(folder / "images", count)
    suite = folder / "large.yaml"
    suite.write_text(SUITE.format(root=folder / "images", network=network))
    arguments = [str(suite), "--tracker", "none", "--workers", "0", "--store", str(folder / "store")]
    environment = {**os.environ, "BENCH_DATA": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    name, file = f"timm:{network}", str(folder / "weights.pth")
    _peak(BRING.format(name=name, file=file), environment)  # a head of ten classes
    return _peak(RUN.format(arguments=arguments), environment) - _peak(IMPORTS, environment)


def _peak(code: str, environment: dict[str, str]) -> float:
    done = subprocess.run(
        [sys.executable, "-c", code + PEAK], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return int(done.stdout.split()[-1]) * 1024 / 1e6  # Linux counts in KiB
