"""Run the notebooks from 1 to n and save them:  python tools/notebooks.py [--check] [NAME ...]

Each notebooks/NAME.ipynb is paired with notebooks/NAME.py, the same cells as plain text (jupytext's percent format),
which makes diffs readable. If the two differ, the one saved last replaces the other. A notebook that fails, or prints
to stderr (a warning, for example), is not saved, and the exit code is 1.

--check runs copies, writes nothing, and exits with 1 if one fails, takes too long, prints to stderr, or differs from
its pair.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
LANGUAGE = {"name": "python", "file_extension": ".py", "mimetype": "text/x-python", "pygments_lexer": "ipython3"}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": LANGUAGE,
}
# How a cell with this tag is folded: by nbformat's older key and by JupyterLab's own. The web site reads the tag.
FOLDS = {
    "hide-output": {"collapsed": True, "jupyter": {"outputs_hidden": True}},
    "hide-input": {"jupyter": {"source_hidden": True}},
}
WIDGET = "application/vnd.jupyter.widget-view+json"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, and fail as described above")
    limit = "time limit per notebook (default 300, for two cores); all together may take four times as long"
    parser.add_argument("--budget", type=int, default=300, metavar="SECONDS", help=limit)
    jobs = "notebooks at a time, 1 to 8 (default 1)"
    parser.add_argument("--jobs", type=int, default=1, choices=range(1, 9), metavar="N", help=jobs)
    parser.add_argument("names", nargs="*", metavar="NAME", help="beginning of a notebook's name (default: all)")
    arguments = parser.parse_args(argv)
    found = names()
    chosen = [name for name in found if not arguments.names or name.startswith(tuple(arguments.names))]
    if not chosen:
        parser.error(f"no notebook's name starts like this; there are {', '.join(found) or 'none'}")
    prepare()
    complaints, total = [], 0.0

    def work(name):
        notebook, before = load(name), saved_at(name)
        return (name, notebook, before, *run(notebook, arguments.budget))

    pool = ThreadPoolExecutor(arguments.jobs)
    for name, notebook, before, seconds, faults in pool.map(work, chosen):
        if arguments.check and not same_cells(name):
            complaints.append(f"{name}: {name}.ipynb and {name}.py differ; run `make notebooks`")
        total += seconds
        said = faults + [f"took {seconds:.0f} s, more than {arguments.budget}"] * (seconds > arguments.budget)
        remarks = "; ".join(line.splitlines()[0] for line in said)
        print(f"{name:45} {seconds:6.1f} s   {remarks}".rstrip(), flush=True)
        if not arguments.check:
            if faults:
                said.append("not saved")
            elif saved_at(name) != before:
                said.append("not saved, because it was changed while it ran; run it again")
            else:
                save(notebook, name)
        complaints += [f"{name}: {complaint}" for complaint in said]
    print(f"{'all':45} {total:6.1f} s")
    if total > 4 * arguments.budget:
        complaints.append(f"all together took {total:.0f} s, more than {4 * arguments.budget}")
    sys.stderr.writelines(f"{complaint}\n" for complaint in complaints)
    return 1 if complaints else 0


def prepare():
    """Compile the native path first, so that no cell prints a message about it."""
    code = "from gluon_bn.norm import status; print('fused_batch_norm', status())"
    subprocess.run([sys.executable, "-c", code], check=True)


def names():
    """Return the notebooks' names in reading order: all that exist as .ipynb or as .py."""
    return sorted({path.stem for path in FOLDER.iterdir() if path.suffix in (".ipynb", ".py")})


def cells(notebook):
    """Return (kind, source, tags) of each cell."""
    return [(cell.cell_type, cell.source.strip(), cell.metadata.get("tags", [])) for cell in notebook.cells]


def metadata(tags):
    """Return a cell's metadata: its tags, and the folding that they ask for."""
    found = {"tags": tags} if tags else {}
    for tag in tags:
        found.update(FOLDS[tag])
    return nbformat.from_dict(found)


def pair(name):
    return FOLDER / f"{name}.ipynb", FOLDER / f"{name}.py"


def same_cells(name):
    return all(file.exists() for file in pair(name)) and len({str(cells(jupytext.read(f))) for f in pair(name)}) == 1


def saved_at(name):
    """Return {file: time of its last change} for the existing files of a pair."""
    return {file: file.stat().st_mtime for file in pair(name) if file.exists()}


def load(name):
    """Return the cells of the pair's file that was saved last, without outputs, and with stable ids."""
    times = saved_at(name)
    written = jupytext.read(max(times, key=times.get))
    notebook = nbformat.v4.new_notebook(metadata=METADATA)
    for number, (kind, source, tags) in enumerate(cells(written), 1):
        new = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
        notebook.cells.append(new(source, id=f"cell-{number}", metadata=metadata(tags)))
    return notebook


def run(notebook, budget):
    """Run a notebook in a new kernel, in place, and return the seconds and a list of faults."""
    start = time.perf_counter()
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": FOLDER}},
        timeout_func=lambda cell: max(1, int(start + budget - time.perf_counter())),
    )
    faults = []
    try:
        asyncio.run(client.async_execute(env={**os.environ, "SOURCE_DATE_EPOCH": "0"}))  # no dates inside the figures
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        faults.append(f"stopped: {error}")
    seconds = time.perf_counter() - start
    notebook.metadata = nbformat.from_dict(METADATA)
    for number, cell in enumerate(code_cells(notebook), 1):
        noise = "".join(output.text for output in cell.outputs if output.get("name") == "stderr")
        if noise:
            faults.append(f"code cell {number} prints to stderr: {noise.strip()}")
        # Without a kernel, a widget shows only an error message.
        cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
        cell.metadata = metadata(cell.metadata.get("tags", []))
    return seconds, faults


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def save(notebook, name):
    """Write both files of the pair."""
    nbformat.write(notebook, str(FOLDER / f"{name}.ipynb"))
    only_cells = {"notebook_metadata_filter": "-all", "cell_metadata_filter": "tags,-all"}  # without a header
    plain = nbformat.v4.new_notebook(cells=notebook.cells, metadata={"jupytext": only_cells})
    jupytext.write(plain, str(FOLDER / f"{name}.py"), fmt="py:percent")


if __name__ == "__main__":
    sys.exit(main())
