"""The image, as far as it can be told without building it: what goes into it, its Python, who it runs as."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from tests.cluster.manifests import CLUSTER, ROOT, all_documents, documents, pod_templates

DOCKERFILE = (CLUSTER / "Dockerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    """(name, what follows), continued lines joined and comments left out."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line.strip()]


def context() -> list[Path]:
    """Files that `docker build .` is given: .dockerignore leaves out all, lets a few back in, and drops caches."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    kept = [line.removeprefix("!") for line in lines if line.startswith("!")]
    dropped = [line.removeprefix("**/") for line in lines[1:] if not line.startswith("!")]
    listed = subprocess.run(["git", "ls-files", "--", *kept], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [Path(line) for line in listed.stdout.splitlines()]
    assert all(any(file == Path(one) or Path(one) in file.parents for file in files) for one in kept)
    return [file for file in files if not any(part.endswith(dropped[0]) for part in file.parts)]


def test_every_file_that_is_copied_is_in_the_context() -> None:
    files = context()
    for name, rest in instructions():
        if name == "COPY" and "--from" not in rest:
            *sources, _ = rest.split()
            for source in sources:
                assert any(file == Path(source) or Path(source) in file.parents for file in files), source


def test_the_context_is_small_and_holds_no_tests() -> None:
    files = context()
    assert sum((ROOT / file).stat().st_size for file in files) < 30_000_000
    assert {file.parts[0] for file in files} <= {
        "pyproject.toml",
        "constraints.txt",
        "README.md",
        "LICENSE",
        "src",
        "jobs",
        "cluster",
    }
    assert [file for file in files if file.parts[0] == "cluster"] == [Path("cluster/copy_weights.py")]


def test_its_python_is_one_that_the_project_takes() -> None:
    pythons = set(re.findall(r"python(3\.\d+)", DOCKERFILE))
    assert len(pythons) == 1
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert pythons.pop() in SpecifierSet(project["requires-python"])


def test_cloud_build_builds_this_file() -> None:
    [build] = documents(CLUSTER / "cloudbuild.yaml")
    [step] = build["steps"]
    assert step["args"] == ["build", "--file", "cluster/Dockerfile", "--tag", "$_IMAGE", "."]
    assert build["images"] == ["$_IMAGE"]


def test_the_base_is_a_cuda_of_one_version() -> None:
    [base] = [rest for name, rest in instructions() if name == "ARG" and rest.startswith("BASE=")]
    assert re.fullmatch(r"BASE=nvidia/cuda:\d+\.\d+\.\d+-base-ubuntu24\.04", base)
    assert [rest for name, rest in instructions() if name == "FROM"] == ["${BASE} AS build", "${BASE}"]


def test_it_runs_as_the_user_that_the_manifests_name() -> None:
    [user] = [rest for name, rest in instructions() if name == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    uid, gid = map(int, user.split(":"))
    assert [name for name, _ in instructions()][-2:] == ["USER", "RUN"]  # nothing is done as root after it
    seen = 0
    for _, one in all_documents(build=False):
        for template in pod_templates(one).values():
            security = template["spec"]["securityContext"]
            assert (security["runAsUser"], security["runAsGroup"]) == (uid, gid)
            seen += 1
    assert seen == 4
    [group] = documents(CLUSTER / "components" / "gpu" / "group.yaml")
    security = group[0]["value"]["template"]["spec"]["securityContext"]
    assert (security["runAsUser"], security["runAsGroup"]) == (uid, gid)


def test_it_installs_pinned_packages_alone() -> None:
    installs = [one for name, rest in instructions() if name == "RUN" for one in re.findall(r"pip install[^&;]*", rest)]
    assert len(installs) == 3
    assert all('--constraint "${CONSTRAINTS}"' in one for one in installs)
    pinned = {
        line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[\[>=<]", one)[0].lower().replace("_", "-") for one in project["dependencies"]}
    assert wanted <= {one.replace("_", "-") for one in pinned}


@pytest.mark.slow
def test_what_is_in_the_context_makes_the_package(tmp_path: Path) -> None:
    """The build's own step: a wheel from these files alone, with the models, pages and prices that come along."""
    for file in context():
        (tmp_path / "here" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / "here" / file)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path / "made"), "."]
    made = subprocess.run(command, cwd=tmp_path / "here", capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stderr
    [wheel] = (tmp_path / "made").glob("seewhy-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    data = (".html", ".css", ".js", ".json", ".yaml", ".safetensors", ".py")
    there = {str(file.relative_to("src")) for file in context() if file.parts[0] == "src" and file.suffix in data}
    assert there <= names
    assert any(one.endswith(".safetensors") for one in there)


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="no hadolint")
def test_hadolint_has_nothing_to_say() -> None:
    said = subprocess.run(["hadolint", str(CLUSTER / "Dockerfile")], capture_output=True, text=True, timeout=60)
    assert (said.returncode, said.stdout) == (0, "")
