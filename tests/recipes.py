"""The package and the presets of docs/add_your_own.md, as a reader of that page has them."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "add_your_own.md"


def write(folder: Path) -> None:
    """Lay out ``my_package``, as if it were installed in this folder, and ``my_conf``."""
    blocks = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (preset,) = (text for kind, text in blocks if kind == "yaml")
    (points,) = (text for kind, text in blocks if kind == "toml")
    package, info = folder / "my_package", folder / "my_package-1.0.dist-info"
    for made in (package, info, folder / "my_conf" / "agent"):
        made.mkdir(parents=True)
    python = "\n\n".join(text for kind, text in blocks if kind == "python")
    (package / "__init__.py").write_text(python)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_package\nVersion: 1.0\n")
    ini = points.replace('[project.entry-points."', "[").replace('"]', "]").replace('"', "")
    (info / "entry_points.txt").write_text(ini)
    (folder / "my_conf" / "agent" / "ppo_mine.yaml").write_text(preset)
