"""What a serving process imports and keeps, tried in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

needs_glibc = pytest.mark.skipif(
    "CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="another C library than glibc"
)


def told(code: str, **environment: str) -> list[str]:
    """What Python code prints that begins with setting the process up, line by line."""
    done = subprocess.run(  # noqa: S603 - this interpreter, our own arguments
        [sys.executable, "-c", f"import sys\nfrom app import process\n{code}"],
        env=os.environ | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


COMPILER_IS_THERE = 'print("torch._dynamo" in sys.modules)\n'


def test_an_image_is_classified_without_torchs_compiler() -> None:
    lines = told(
        "process.prepare()\n"
        "import io\n"
        "import app.main\n"
        "from PIL import Image\n"
        "from app.engine import Engine, ImageFile, Question\n"
        "from app.settings import Settings\n"
        "png = io.BytesIO()\n"
        'Image.new("RGB", (64, 64), "red").save(png, "png")\n'
        "engine = Engine.load(Settings())\n"
        'answer = engine.classify([ImageFile("a", png.getvalue())], Question(["a", "b"]))\n'
        "print(len(answer.results[0].captions))\n" + COMPILER_IS_THERE
    )
    assert lines == ["16", "False"]


def test_who_calls_the_compiler_later_gets_it() -> None:
    lines = told(
        "process.prepare()\n"
        "import torch, torchvision\n"
        'compiled = torch.compile(lambda x: x + 1, backend="eager")\n'
        "print(compiled(torch.ones(1)).item())\n"
        "boxes = [torch.tensor([[0.0, 0.0, 4.0, 4.0]])]\n"
        "pooled = torchvision.ops.roi_align(torch.ones(1, 1, 8, 8), boxes, 1)\n"
        "print(pooled.item())\n" + COMPILER_IS_THERE
    )
    assert lines == ["2.0", "1.0", "True"]


def test_where_an_import_needs_more_of_the_compiler_it_gets_all_of_it() -> None:
    lines = told(
        "from types import ModuleType\n"
        "process._StandIn.__init__ = lambda self, name, **_: ModuleType.__init__(self, name)\n"
        "process.prepare()\n"
        "import open_clip, timm\n"
        "print(open_clip.timm_model.timm is timm)\n" + COMPILER_IS_THERE
    )
    assert lines == ["True", "True"]


SPINS = 'import os; process.prepare(); print(os.environ.get("GOMP_SPINCOUNT"))'


@pytest.mark.parametrize(
    ("environment", "spins"),
    [
        ({"GOMP_SPINCOUNT": "", "OMP_WAIT_POLICY": ""}, "10000"),
        ({"GOMP_SPINCOUNT": "7", "OMP_WAIT_POLICY": ""}, "7"),
        ({"GOMP_SPINCOUNT": "", "OMP_WAIT_POLICY": "active"}, ""),
    ],
)
def test_what_the_environment_says_of_waiting_stays(
    environment: dict[str, str], spins: str
) -> None:
    assert told(SPINS, **environment) == [spins]


ARENAS = """
import ctypes, threading
process.prepare()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(4)
def allocate():
    together.wait()
    libc.malloc(100_000)
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


@needs_glibc
@pytest.mark.parametrize(("limit", "only_one"), [("", True), ("4", False)])
def test_threads_share_one_arena_unless_the_environment_says_otherwise(
    limit: str, only_one: bool
) -> None:
    lines = told(ARENAS, MALLOC_ARENA_MAX=limit, GLIBC_TUNABLES="")
    assert (sum("<heap nr=" in line for line in lines) == 1) == only_one


FREED = """
import gc
def resident(): return int(open("/proc/self/statm").read().split()[1])
blocks = [bytearray(60_000) for _ in range(2000)]
last = bytearray(60_000)
del blocks
before = resident()
process.settle()
print(before - resident() > 20_000, gc.get_freeze_count() > 1000, gc.get_threshold()[0] > 5000)
"""


@needs_glibc
def test_what_loading_has_freed_goes_back_and_the_rest_is_settled() -> None:
    assert told(FREED) == ["True True True"]
