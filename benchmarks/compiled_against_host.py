"""The same settings on the same task, compiled (MJX) and on the host (dm_control): what is learned, and
how fast.

    make compiled-against-host
    python benchmarks/compiled_against_host.py results/compiled_against_host

A run's value is the mean return over the last fifth of its training; a group's the interquartile mean
over seeds with a 95 % interval (t below ten seeds), as has the difference.
"""

import argparse
import re

import pandas as pd
from patterns import difference, estimate, with_interval

from sparse_rl.analysis import final_values, load

FORMS = {"playground": "compiled", "dm_control": "host"}


def task_of(env: str) -> str:
    """``playground/CartpoleSwingup`` → ``cartpole_swingup``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", env.split("/")[1]).lower()


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per task and width: returns in both forms, their difference, and env steps per second."""
    final = final_values(rows, "return_mean")
    final["form"] = final["env"].str.split("/").str[0].map(FORMS)
    final["task"] = final["env"].map(task_of)
    found = []
    for (task, width), group in final.groupby(["task", "width"]):
        by_form = {name: part["return_mean"].to_numpy() for name, part in group.groupby("form")}
        row = {"task": task, "width": width}
        for form, values in by_form.items():
            row[f"{form!s} ({len(values)} seeds)"] = with_interval(".0f", *estimate(values)[:3])
        if len(by_form) == len(FORMS):
            apart = difference(by_form["host"], by_form["compiled"])
            row["host − compiled"] = with_interval("+.0f", *apart)
        found.append(row)
    return pd.DataFrame(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study", help="results/compiled_against_host")
    rows = load(parser.parse_args().study)
    print(table(rows).to_string(index=False), end="\n\n")
    rates = rows.groupby("env")["env_steps_per_second"].median()
    print(rates.rename("env steps per second of a run, median").round(0).to_string())


if __name__ == "__main__":
    main()
