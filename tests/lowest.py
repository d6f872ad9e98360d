"""Print the lowest versions that pyproject.toml declares, one requirement a line.

What has no such build is named with the reason. ``make test-lowest`` installs what this prints.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

INSTEAD = {
    # Older builds for this kind of machine bring CUDA.
    "torch": "torch==2.13.0",
    # The CPU build, which writes the same folder.
    "xgboost": "xgboost-cpu=={}",
}
WANTED = ("torch", "boosting", "examples")
SKIPPED = ("fairtrain",)


def lowest(requirement: str) -> str | None:
    """Pin a requirement to its lowest version."""
    match = re.match(r"([\w.-]+)(?:\[[^\]]*\])?>=([\w.]+)$", requirement)
    if match is None or match[1] in SKIPPED:
        return None
    return INSTEAD.get(match[1], f"{match[1]}=={{}}").format(match[2])


def main() -> None:
    """Read pyproject.toml beside this folder."""
    text = Path(__file__).parents[1].joinpath("pyproject.toml").read_text(encoding="utf-8")
    content = tomllib.loads(text)
    project = content["project"]
    asked = list(project["dependencies"]) + content["dependency-groups"]["test"]
    for extra in WANTED:
        asked += project["optional-dependencies"][extra]
    pins = [pin for item in asked if (pin := lowest(item))]
    sys.stdout.write("\n".join(pins) + "\n")


if __name__ == "__main__":
    main()
