"""Code of users: found by its name, told apart by its source. Nothing here is heavy.

A name is ``my_package:make_env``. In a run's configuration, and so in its id, a hash of the source
follows: ``my_package:make_env@1f3c9a2b4d5e``. So a run of other code is another run, and a finished
run is not opened with code that would make other numbers of it. The hash is of all Python files of the
package that the name begins with, or of the one file of a module; of nothing that they import.
"""

import functools
import hashlib
import importlib
import importlib.util
import re
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

SPELLED = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)(?:@([0-9a-f]{12}))?")
"""Module, name in it, and maybe the hash."""
ENVIRONMENTS = "sparse_rl.envs"
"""Group of entry points: ``env=<name>`` finds what an installed package offers under it."""


class CodeError(ValueError):
    """Code of a user that is not there, or is not what a run was made with."""


class _Spelled(type):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, str) and SPELLED.fullmatch(value) is not None


class OwnCode(str, metaclass=_Spelled):
    """Any text such as ``my_package:MyTrunk`` is one of these."""

    __slots__ = ()


def _parts(name: str) -> tuple[str, str, str | None]:
    found = SPELLED.fullmatch(name)
    if found is None:
        raise CodeError(f"{name!r} is not allowed; give my_package:name")
    module, attribute, digest = found.groups()
    return module, attribute, digest


def _files(module: str) -> dict[str, Path]:
    """Python files of the package that a module is in, by their places in it; or its one file."""
    top = module.partition(".")[0]
    try:
        found = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise CodeError(f"there is no module {top}; install it, or call from the folder that it lies in")
    folders = [Path(folder) for folder in found.submodule_search_locations or ()]
    files = {str(p.relative_to(folder)): p for folder in folders for p in folder.rglob("*.py")}
    if not folders and found.origin and Path(found.origin).suffix == ".py":
        files = {Path(found.origin).name: Path(found.origin)}
    if not files:
        raise CodeError(f"the source of {top} is not there, by which its runs are told apart")
    return files


@functools.lru_cache(maxsize=256)
def _digest(files: tuple[tuple[str, Path, int, int], ...]) -> str:
    whole = hashlib.sha256()
    for name, path, _, _ in files:
        content = path.read_bytes().replace(b"\r\n", b"\n")
        whole.update(f"{name}\0{len(content)}\0".encode() + content)
    return whole.hexdigest()[:12]


def digest_of(module: str) -> str:
    """The hash of a module's source, 12 hexadecimal digits; nothing is imported.

    Raises:
        CodeError: there is no such module, or its source is not there.
    """
    found = sorted(_files(module).items())
    stats = [(name, path, path.stat()) for name, path in found]
    return _digest(tuple((name, path, stat.st_mtime_ns, stat.st_size) for name, path, stat in stats))


def pinned(name: str) -> str:
    """A name with the hash of its source; one that has a hash keeps it.

    Raises:
        CodeError: there is no such module, or its source is not there.
    """
    module, _, digest = _parts(name)
    return name if digest else f"{name}@{digest_of(module)}"


_IMPORTED: dict[str, str] = {}
"""Package → hash of what this process imported of it."""


def load(name: str) -> Any:
    """What a pinned name names.

    Raises:
        CodeError: there is none, it cannot be imported, or its source is another than the name says.
    """
    module, attribute, digest = _parts(name)
    top, now = module.partition(".")[0], digest_of(module)
    imported = _IMPORTED.setdefault(top, now)
    if digest and now != digest:
        raise CodeError(
            f"{module}:{attribute} is other code now ({now}) than this run's ({digest}); bring that back"
        )
    if imported != now:
        raise CodeError(f"{top} has changed since it was imported here; start Python anew")
    try:
        return getattr(importlib.import_module(module), attribute)
    except AttributeError as error:
        raise CodeError(f"{module} has no {attribute}") from error
    except Exception as error:  # of any kind: it is a user's module
        raise CodeError(f"{module} cannot be imported: {type(error).__name__}: {error}") from error


def offered() -> dict[str, str]:
    """Names of environments that installed packages offer → what they name.

    Raises:
        CodeError: two packages offer the same name.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=ENVIRONMENTS):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise CodeError(f"env={point.name} is offered twice: {other.value} and {point.value}")
    return {name: point.value.replace(" ", "") for name, point in found.items()}
