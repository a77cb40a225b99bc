"""The lists of MRSynth/CMakeLists.txt against the folder: what is not listed there is not packaged.

python MRSynthExtension/MRSynth/Testing/Python/cmake_lists.py           # the lines that are missing or too many
python MRSynthExtension/MRSynth/Testing/Python/cmake_lists.py --write   # put them right
"""

from __future__ import annotations

import difflib
import re
import sys
from pathlib import Path

MODULE = Path(__file__).resolve().parents[2]
LISTS = ("MODULE_PYTHON_SCRIPTS", "MODULE_PYTHON_RESOURCES")


def expected(module: Path = MODULE) -> dict[str, list[str]]:
    """What has to be packaged, by list: paths relative to the module's folder, sorted."""
    scripts = [module / f"{module.name}.py", *(module / f"{module.name}Lib").rglob("*.py")]
    resources = [path for path in (module / "Resources").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {
        name: sorted(path.relative_to(module).as_posix() for path in paths)
        for name, paths in zip(LISTS, (scripts, resources), strict=True)
    }


def corrected(text: str, wanted: dict[str, list[str]], name: str = MODULE.name) -> str:
    """The text of a CMakeLists.txt with its lists as they should be."""
    own = re.compile(rf"^{name}(?=Lib/|\.)|(?<=/){name}(?=\.)")
    for variable, paths in wanted.items():
        lines = "".join(f"  {own.sub('${MODULE_NAME}', path)}\n" for path in paths)
        text, found = re.subn(
            rf"(?<=set\({variable}\n).*?(?=  \)\n)", lambda _, lines=lines: lines, text, flags=re.DOTALL
        )
        if not found:
            raise ValueError(f"there is no list {variable}")
    return text


def difference(module: Path = MODULE) -> str:
    """Lines to add (+) and to remove (-) in the module's CMakeLists.txt; empty where it is right."""
    text = (module / "CMakeLists.txt").read_text(encoding="utf-8")
    lines = difflib.ndiff(text.splitlines(), corrected(text, expected(module)).splitlines())
    return "\n".join(line for line in lines if line[0] in "+-")


def main(arguments: list[str]) -> int:
    path = MODULE / "CMakeLists.txt"
    wrong = difference()
    if not wrong:
        print(f"{path} is right")
        return 0
    print(wrong)
    if "--write" not in arguments:
        return 1
    path.write_text(corrected(path.read_text(encoding="utf-8"), expected()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
