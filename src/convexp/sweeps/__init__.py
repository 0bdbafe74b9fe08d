"""Many runs by one command: each sweep is a run of its own, below which its jobs lie.

    callback.py    Hydra's side: a sweep's start, each job's, and the sweep's end
    job.py         what a job knows of itself and of its sweep
    doing.py       doing one: it is skipped, refused, or run; its failure stops no other
    parent.py      the sweep's own run: made or found again, ended, summed up
    summary.py     what came of the jobs: counts, table, means over seeds
    picture.py     the same as a figure; report.py, on the terminal
    names.py       short names, and the hashes by which a configuration or a sweep is found again
    launchers.py   what the launchers leave a job: threads, and whether on another machine

The jobs are joined by nothing but the store: each launcher, on this machine or on many, gives the
same record.
"""
