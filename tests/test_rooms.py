"""Arrows between the rooms point down, and only a few rooms know Ray. Read from the imports, so it cannot rot."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "seewhy"

# Lower may not import higher. Rooms on one line may not import one another.
LAYERS = [
    ["failure", "schema", "logs", "memory", "metrics", "intervals", "near_duplicates", "heat", "hiding"],
    ["forecast", "chance", "ray_cluster", "parquet", "urls"],
    ["attempts"],
    ["storage", "images", "hub", "overlay", "cam_layers", "prices", "progress", "plain_yaml"],
    ["table", "lease", "cam", "faithfulness", "rates", "videos", "folder_swap", "manifest_files"],
    ["vlm.base", "vlm.pace", "fetch", "manifest", "poison", "tasks"],
    ["vlm", "run", "sections"],
    ["caption", "quota", "study", "train", "shapley", "siglip"],
    ["compare"],
    ["comparison"],
    ["report", "words", "fold_models", "describe", "score", "ask", "caption_video"],
    ["explain", "explain_images"],
    ["steps"],
    ["demo", "app"],
    ["cli"],
]
BELOW_ALL = {"__init__"}
MAY_IMPORT_RAY = {
    "ray_cluster.py",
    "run.py",
    "tasks.py",
    "metrics.py",
    "quota/client.py",
    "quota/line.py",
    "quota/desk.py",
    "quota/purse.py",
    "train/loop.py",
}


def imported(path: Path) -> set[str]:
    """Modules that a file imports anywhere, functions included; `from a import b` counts as a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path} imports relatively"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(dotted: str) -> str | None:
    """The longest listed room that a dotted path below `seewhy` lies in."""
    names = [name for layer in LAYERS for name in layer]
    fitting = [name for name in names if dotted == name or dotted.startswith(name + ".")]
    return max(fitting, key=len) if fitting else None


def test_every_file_has_a_room() -> None:
    lost = [str(f.relative_to(PACKAGE)) for f in files() if room(dotted(f)) is None and dotted(f) not in BELOW_ALL]
    assert lost == []


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__") or "__init__"


def test_arrows_point_down() -> None:
    height = {name: level for level, layer in enumerate(LAYERS) for name in layer}
    wrong = []
    for path in files():
        here = room(dotted(path))
        for module in imported(path):
            there = room(module.removeprefix("seewhy.")) if module.startswith("seewhy.") else None
            if here is None or there is None or here == there:
                continue
            if height[there] >= height[here]:
                wrong.append(f"{path.relative_to(PACKAGE)} ({here}) imports {module} ({there})")
    assert sorted(wrong) == []


def test_only_a_few_rooms_import_ray() -> None:
    wrong = [
        str(path.relative_to(PACKAGE))
        for path in files()
        if any(m == "ray" or m.startswith("ray.") for m in imported(path))
        and str(path.relative_to(PACKAGE)) not in MAY_IMPORT_RAY
    ]
    assert wrong == []


def test_the_rules_can_fail(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("def f():\n    import ray.data\n    from seewhy import run\n")
    assert imported(tmp_path / "x.py") == {"ray.data", "seewhy", "seewhy.run"}
    assert room("train.loop") == "train"
    assert room("vlm.base") == "vlm.base"
    assert room("vlm.hf") == "vlm"
