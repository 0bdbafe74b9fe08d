"""Sweeps by SLURM, whose programs are stand-ins: its jobs are processes of this machine."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.sweeps.launched import SWEEP, assert_finished, assert_goes_on
from tests.test_cli import convexp

pytestmark = pytest.mark.slow

SBATCH = """#!{python}
import os, re, subprocess, sys
script = sys.argv[-1]
array = re.search(r"#SBATCH --array=0-(\\d+)%", open(script).read())
for index in range(int(array[1]) + 1 if array else 1):
    job = {{"SLURM_JOB_ID": str(7 + index), "SLURM_NTASKS": "1", "SLURM_PROCID": "0",
           "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_JOB_NUM_NODES": "1",
           "SLURM_JOB_NODELIST": "here", "STAND_IN_SCRIPT": script}}
    if array:
        job |= {{"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(index)}}
    with open(os.devnull, "w") as null:
        subprocess.Popen(["bash", script], env=os.environ | job, stdout=null, stderr=null)
print("Submitted batch job 7")
"""
SCONTROL = """#!{python}
import os, subprocess, sys
assert sys.argv[1:] == ["requeue", "7"]
with open(os.devnull, "w") as null:
    script = 'while kill -0 "$0"; do sleep 0.1; done; exec bash "$STAND_IN_SCRIPT"'
    words = ["bash", "-c", script, str(os.getppid())]
    subprocess.Popen(words, stdin=null, stdout=null, stderr=null, start_new_session=True)
"""
SRUN = """#!{python}
import os, sys
words = sys.argv[1:]
while words[0].startswith("-"):  # its own options, each with a value but one
    del words[: 1 if words[0] == "--unbuffered" else 2]
os.execvp(words[0], words)
"""
SACCT = """#!{python}
print("JobID|State|NodeList")
"""
PROGRAMS = {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT, "scontrol": SCONTROL}
"""SLURM's programs as submitit uses them; the jobs are processes of this machine."""


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment in which there are SLURM's programs."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, code in PROGRAMS.items():
        (programs / name).write_text(code.format(python=sys.executable))
        (programs / name).chmod(0o755)
    return {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}


def test_a_sweep_by_slurm(server: str, tmp_path: Path, slurm: dict[str, str]) -> None:
    tracking = [f"tracking.uri={server}", "tracking.experiment=slurm"]
    done = convexp(tmp_path, "-m", "hydra/launcher=slurm", *tracking, *SWEEP, **slurm)
    assert done.returncode == 0, done.stderr
    (script,) = tmp_path.glob("multirun/*/*/.submitit/7/7_submission.sh")
    asked = set(script.read_text().splitlines())
    wanted = ["--array=0-1%2", "--cpus-per-task=4", "--mem=8GB", "--time=240"]
    assert {f"#SBATCH {option}" for option in wanted} <= asked
    assert_finished(server, "slurm", threads=4)


def test_a_job_that_has_to_give_way_goes_on_from_its_checkpoint(
    server: str, tmp_path: Path, slurm: dict[str, str]
) -> None:
    # Before a job is ended for one that is more urgent, SLURM sends it this signal.
    environment = slurm | {"MLFLOW_TRACKING_URI": server}
    assert_goes_on("slurm", tmp_path, server, environment, signal.SIGUSR2, 1)
