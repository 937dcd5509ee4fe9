"""The command line: `seewhy run | plan | status | report | compare | app | ...`. Thin: the steps do the work."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as Grid

from seewhy import logs, storage, urls
from seewhy.failure import Fatal
from seewhy.hiding import shown
from seewhy.progress import Reporter
from seewhy.study import Study, load_study, read_changes

app = typer.Typer(
    help="See why images score as they do.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)

StudyPath = Annotated[str, typer.Argument(metavar="STUDY", help="the study's YAML file, at any fsspec URL")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="print errors only")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="a setting in place of the study's own; repeatable"),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="only the first so many rows of the manifest")]


@app.command()
def run(
    path: StudyPath,
    until: Annotated[str | None, typer.Option("--until", metavar="STAGE", help="stop after this stage")] = None,
    only: Annotated[str | None, typer.Option("--only", metavar="STAGE", help="run this stage alone")] = None,
    changes: Changes = None,
    limit: Limit = None,
    quiet: Quiet = False,
) -> None:
    """Run a study. What is there already is not done again; what was killed goes on where it was."""
    from seewhy.steps.order import run_study

    study = load_study(path, limit=limit, changed=read_changes(changes or []))
    logs.begin(study=study.title, workspace=shown(study.workspace))
    run_study(study, Reporter(quiet=quiet), until=until, only=only)


@app.command()
def plan(
    path: StudyPath,
    pilot: Annotated[
        int | None,
        typer.Option("--pilot", min=2, metavar="ROWS", help="ask the models about so many random rows and forecast"),
    ] = None,
    limit: Limit = None,
    quiet: Quiet = False,
) -> None:
    """Show what `run` would do, and how many rows are new to each stage.

    With --pilot 50 also what captions and descriptions will take: calls, tokens, money and time, by 50 rows at random.
    """
    from seewhy.steps.order import holding, plans

    if pilot is not None:
        from seewhy.steps import pilot as step

        study, reporter = load_study(path, limit=limit), Reporter(quiet=quiet)
        with holding(study, reporter) as lease:
            lease.at("pilot")
            found = step.run(study, pilot, reporter)
        for forecast in found:
            for line in step.told(forecast):
                print(line)
        return
    grid = Grid("stage", "rows", "new", "note", box=None, pad_edge=False)
    for one in plans(load_study(path, limit=limit)):
        shown = [("?" if n is None else f"{n:,}") for n in (one.rows, one.new)]
        grid.add_row(one.step, *shown, one.note)
    Console(width=None if sys.stdout.isatty() else 160).print(grid)


@app.command()
def status(
    path: StudyPath,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a table, a line each")] = False,
    limit: Limit = None,
) -> None:
    """Show each table of the workspace: rows in, ok, rejected, failed by kind, what it was made with, its size."""
    from seewhy.steps.order import tables

    console = Console(width=None if sys.stdout.isatty() else 200)
    for one in tables(load_study(path, limit=limit)):
        if as_json:
            print(json.dumps(one, ensure_ascii=False))
            continue
        counts = ", ".join(f"{name} {value:,}" for name, value in one["counts"].items())
        mark = "" if one["current"] else "  (another configuration)"
        console.print(f"{one['table']}{mark}", markup=False, highlight=False)
        console.print(f"  {counts}; {one['size_bytes']:,} bytes", markup=False, highlight=False)
        console.print(f"  {json.dumps(one['config'], ensure_ascii=False)}", markup=False, highlight=False)


@app.command()
def report(path: StudyPath, limit: Limit = None, quiet: Quiet = False) -> None:
    """Write the report anew from what the earlier stages made."""
    from seewhy.steps import report as step
    from seewhy.steps.order import holding

    study, reporter = load_study(path, limit=limit), Reporter(quiet=quiet)
    with holding(study, reporter) as lease:
        lease.at("report")
        step.run(study, reporter, anew=True)


@app.command()
def explain(
    path: StudyPath,
    item: Annotated[str, typer.Argument(metavar="ITEM", help="id of a text, or its first digits: the page's name")],
    plot: Annotated[str | None, typer.Option("--plot", help="write shap's text plot to this HTML file")] = None,
    limit: Limit = None,
) -> None:
    """Look at one text closely: its sentences' values, how they act together, and shap's own plot."""
    from seewhy.steps.closer import look

    found = look(load_study(path, limit=limit), item)
    print(f"item {found.item}, explained by the model of fold {found.fold}, which did not see it")
    for number, sentence in enumerate(found.sentences, start=1):
        print(f"  {number}  {sentence}")
    for name, matrix in found.interactions.items():
        print(f"{name}: each sentence's own value on the diagonal, beside it what two add or take away together")
        for number, row in enumerate(matrix, start=1):
            print(f"  {number}  " + " ".join(f"{value:+8.3f}" for value in row))
    if plot:
        storage.write_whole(plot, found.plot.encode())
        print(f"written to {plot}")


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="STUDY_A", help="a study's YAML file, at any fsspec URL")],
    second: Annotated[str | None, typer.Argument(metavar="[STUDY_B]", help="the other one's")] = None,
    changes: Changes = None,
    out: Annotated[str | None, typer.Option("--out", help="folder of the page; compare/ in A's workspace")] = None,
    json_copy: Annotated[str | None, typer.Option("--json", help="write the numbers to this file too")] = None,
    limit: Limit = None,
) -> None:
    """Hold two studies against each other, or one against itself with a setting changed, from what is there already.

    Scores on the same rows, words that both find, answers and their cost. With --set and one study the other is the
    same study with that setting; with two, B has it.
    """
    from seewhy.report.comparison_lines import comparison_lines
    from seewhy.steps import compare as step

    if second is None and not changes:
        raise Fatal("name a second study, or a setting to change: --set caption.prompt='What stands out?'")
    studies = [load_study(first, limit=limit)]
    studies.append(load_study(second or first, limit=limit, changed=read_changes(changes or [])))
    told = " ".join([second or first, *(f"with {one}" for one in changes or [])])
    found = step.compare(*studies, names=(first, told))
    page = step.write(found, out or urls.join(studies[0].workspace, "compare"), json_copy=json_copy)
    print("\n".join(comparison_lines(found.comparison)))
    print(f"\npage: {page}")


@app.command(name="app")
def by_hand(
    path: StudyPath,
    host: Annotated[
        str, typer.Option("--host", help="address to listen on; other machines reach 0.0.0.0")
    ] = "127.0.0.1",
    port: Annotated[int | None, typer.Option("--port", min=1, max=65535, help="8501 or the next that is free")] = None,
    limit: Limit = None,
) -> None:
    """Try texts, questions and prompts on pictures, and look up what was found of each, in a browser."""
    from seewhy.app.launch import launch

    launch(load_study(path, limit=limit), path, host=host, port=port, limit=limit)


_ENOUGH = 600
"""Pictures of which what was planted must come back."""


@app.command()
def demo(
    folder: Annotated[str, typer.Option("--folder", help="where pictures, results and reports go")] = "demo",
    workspace: Annotated[
        str | None, typer.Option("--workspace", help="another place for results and reports, such as gs://bucket/demo")
    ] = None,
    posters: Annotated[int, typer.Option("--posters", min=0, help="how many posters to draw; 0: no posters")] = _ENOUGH,
    photos: Annotated[int, typer.Option("--photos", min=0, help="how many photos to draw; 0: no photos")] = _ENOUGH,
    seed: Annotated[int, typer.Option("--seed", help="of all that is drawn")] = 0,
    quiet: Quiet = False,
) -> None:
    """Draw posters and photos with planted truth, run a whole study over each, and show what came back.

    The exit code is 1 where it did not come back from as many pictures as are drawn by default, or more.
    """
    from seewhy.demo.run import run_photos, run_posters

    missed = []
    shared: dict[str, Any] = {"seed": seed, "reporter": Reporter(quiet=quiet), "workspace": workspace}
    if posters and not run_posters(folder, posters=posters, **shared).passed:
        missed.append(posters)
    if photos and not run_photos(folder, photos=photos, **shared).passed:
        missed.append(photos)
    if any(count >= _ENOUGH for count in missed):
        sys.exit(1)


@contextmanager
def stop_on_fatal() -> Iterator[None]:
    """Ends the process with a Fatal's message and exit code 1, without a traceback."""
    try:
        yield
    except Fatal as error:
        print(f"seewhy: {error}", file=sys.stdout if logs.structured() else sys.stderr, flush=True)
        if logs.structured():
            logs.log("error", str(error), None)
        sys.exit(1)


def run_job(about: str | None, step: Callable[[Study, Reporter], None]) -> None:
    """What every file of jobs/ does: reads the study that its one argument names and runs a step of it."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", metavar="STUDY", help="the study's YAML file, at any fsspec URL")
    parser.add_argument("--limit", type=int, help="only the first so many rows of the manifest")
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    given = parser.parse_args()
    with stop_on_fatal():
        study = load_study(given.study, limit=given.limit)
        if "/_ray_pkg_" in study.workspace:
            raise Fatal(
                f"the workspace {shown(study.workspace)} lies in the job's own copy of the working directory and would "
                "be lost with it: give an absolute path or a URL that all nodes reach"
            )
        logs.begin(study=study.title, workspace=shown(study.workspace))
        step(study, Reporter(quiet=given.quiet))


def main() -> None:
    """Entry point of the command `seewhy`."""
    with stop_on_fatal():
        app()


if __name__ == "__main__":
    main()
