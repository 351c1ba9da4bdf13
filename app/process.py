"""What makes a process fit for serving: small, and quick to let go of the cores.

`prepare` comes before anything else is imported: libraries read their variables when they are
loaded, and glibc makes an arena with each thread.
"""

import ctypes
import gc
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo"
_M_ARENA_MAX = -8
"""mallopt(3): how many arenas, the areas that glibc allocates from, there may be."""

_ARENA_VARIABLES = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")
_SPIN_VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
_SPINS = 10_000
"""A quarter of a millisecond, longer than from one operator to the next."""

_YOUNG_OBJECTS = 20_000
"""How many objects are made before the garbage collector looks at them; a request with a thousand
labels makes two thousand, and leaves nothing for it."""


def prepare() -> None:
    """Set the process up, and import open_clip.

    What the environment says of these matters already stays as it is.
    """
    _share_one_arena()
    _spin_briefly()
    import_open_clip()


def import_open_clip() -> None:
    """Import open_clip without torch's compiler, 140 MB that serving with torch never calls.

    torchvision looks it up for one operator, and timm marks functions that it is not to compile;
    both do so while they are imported. Whoever calls the compiler later on imports it as usual.
    """
    try:
        with _compiler_stood_in_for():
            importlib.import_module("open_clip")
    except _CompilerNeededError:
        importlib.import_module("open_clip")


def settle() -> None:
    """Once everything is loaded: what is there stays, and what was freed goes back to the system.

    The garbage collector no longer looks through all that was loaded; that took it 170 ms each
    time, in which nothing else ran.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])
    give_memory_back()


def give_memory_back() -> None:
    """Let the system have what was freed and glibc keeps for later; takes a few milliseconds."""
    trim = _allocator("malloc_trim")
    if trim is not None:
        trim(0)


def _spin_briefly() -> None:
    """Let torch's threads sleep soon after a pass.

    Those of GNU's OpenMP go on spinning for several milliseconds, on the core that the event loop
    or the next request needs.
    """
    if not _any_is_set(_SPIN_VARIABLES):
        os.environ["GOMP_SPINCOUNT"] = str(_SPINS)


def _share_one_arena() -> None:
    """Let all threads allocate from one arena, so that what one frees another can use.

    Else glibc gives each thread of a pool an arena of its own, and each keeps what it once needed.
    """
    mallopt = _allocator("mallopt")
    if mallopt is not None and not _any_is_set(_ARENA_VARIABLES):
        mallopt(_M_ARENA_MAX, 1)


def _any_is_set(variables: Sequence[str]) -> bool:
    return any(os.environ.get(name) for name in variables)


def _allocator(function: str) -> Any | None:
    """A function of glibc's allocator, or None where there is none."""
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None), function, None)


class _CompilerNeededError(Exception):
    """Something asked for more of the compiler than its stand-in has.

    No ImportError: those who import it can do without some packages, and would take it for that.
    """


class _StandIn(ModuleType):
    """A module with nothing but what it is given."""

    def __init__(self, name: str, **attributes: object) -> None:
        super().__init__(name)
        vars(self).update(attributes)

    def __getattr__(self, name: str) -> Any:
        # What any module may be asked for; but a package's `__path__` is where Python would look
        # for what it holds.
        if name.startswith("__") and (self.__name__, name) != (_COMPILER, "__path__"):
            raise AttributeError(name)
        raise _CompilerNeededError(f"{self.__name__}.{name}")


@contextmanager
def _compiler_stood_in_for() -> Iterator[None]:
    if _COMPILER in sys.modules:
        yield
        return
    # Whatever torch itself wants of its compiler, it gets.
    importlib.import_module("torch")
    utilities = f"{_COMPILER}.utils"
    sys.modules |= {
        _COMPILER: _StandIn(_COMPILER, disable=_leave_as_it_is),
        utilities: _StandIn(utilities, is_compile_supported=_is_compile_supported),
    }
    try:
        yield
    finally:
        for name in (_COMPILER, utilities):
            del sys.modules[name]


def _leave_as_it_is(
    function: Callable[..., Any] | None = None, *_: object, **__: object
) -> Callable[..., Any]:
    """In place of `torch._dynamo.disable`, a decorator."""
    return function or _leave_as_it_is


def _is_compile_supported(device_type: str) -> bool:
    """In place of the compiler's function of this name; asks that, since it is called later."""
    from torch._dynamo.utils import is_compile_supported

    return bool(is_compile_supported(device_type))
