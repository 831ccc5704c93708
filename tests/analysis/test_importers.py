"""Other people's files: the published layout and what Weights & Biases exports."""

from pathlib import Path

import pandas as pd
import pytest

from sparse_rl.analysis import foreign, importers, load_all, scores
from sparse_rl.analysis.importers import read_published, read_wandb

PUBLISHED = Path(__file__).resolve().parents[1] / "data"
"""Part of the published files."""


def published(path: Path, name: str = "net_cwidth64", env: str = "dog_run", twice: bool = False) -> Path:
    rows = [(name, env, 1000, "avg_return", step, 10.0 * i) for i, step in enumerate((0.0, 5e4, 1e5))]
    rows += [(name, env, 1000, "avg_success", 1e5, 0.5)] * (2 if twice else 1)
    pd.DataFrame(rows, columns=importers.PUBLISHED).to_csv(path)
    return path


def test_the_published_layout(tmp_path: Path) -> None:
    other = published(tmp_path / "b.csv", "net_cwidth128_sparsity0.9", "dog-run")
    rows = read_published([published(tmp_path / "a.csv"), other])
    assert set(rows["env"]) == {"dog-run"}  # spelt two ways
    last = rows[rows["env_steps"] == 1e5].set_index("width")
    assert last["return_mean"].tolist() == [20.0, 20.0]
    assert last["avg_success"].tolist() == [0.5, 0.5]
    assert last["sparsity"].to_dict() == {64: 0.0, 128: 0.9}
    assert set(rows["status"]) == {"done"}
    assert len(scores.final_values(rows, "return_mean")) == 2


def test_a_file_that_is_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"x.csv lacks the columns exp_name, env_name"):
        read_published([path])
    with pytest.raises(ValueError, match=r"no width is found by .* in plain"):
        read_published([published(tmp_path / "p.csv", "plain")])
    with pytest.raises(ValueError, match="two values of avg_success"):
        read_published([published(tmp_path / "t.csv", twice=True)])


def test_damaged_published_files_are_named(tmp_path: Path) -> None:
    """Text for a number, an infinite one, no step, another coding of letters, nothing at all."""
    path = published(tmp_path / "a.csv")
    good = path.read_text()
    for old, new, said in (
        ("20.0\n", "n/a!\n", r"a\.csv, line 4: value is n/a!, which is no finite number"),
        ("20.0\n", "-inf\n", r"a\.csv, line 4: value is -inf"),
        ("50000.0", "", r"a\.csv, line 3: env_step is nan"),
    ):
        path.write_text(good.replace(old, new, 1))
        with pytest.raises(ValueError, match=said):
            foreign.read([path])
    path.write_text(good.replace("20.0\n", "\n", 1))  # a blank value is none
    assert foreign.read([path])["return_mean"].tolist()[:2] == [0.0, 10.0]
    path.write_bytes(good.replace("dog_run", "täsk").encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.csv cannot be read as CSV in UTF-8"):
        foreign.read([path])
    path.write_text(good + "1,2,3,4,5,6,7,8\n")
    with pytest.raises(ValueError, match=r"a\.csv cannot be read as CSV"):
        foreign.read([path])
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.csv cannot be read as CSV"):
        read_published([path])


def test_runs_that_end_early_are_told(tmp_path: Path) -> None:
    """One of two widths ends at half of the other's steps: its last value was final without a word."""
    whole, half = published(tmp_path / "a.csv"), tmp_path / "b.csv"
    half.write_text(
        published(tmp_path / "b.csv", "net_cwidth128").read_text().replace("100000.0", "60000.0")
    )
    assert foreign.ended_early(foreign.read([whole])) == ""
    for last, early in (("80000.0", True), ("80001.0", False)):  # of the last fifth is what lies beyond
        edge = published(tmp_path / "c.csv", "net_cwidth128")
        edge.write_text(edge.read_text().replace("100000.0", last))
        assert bool(foreign.ended_early(foreign.read([whole, edge]))) == early
    (problem,) = load_all(whole, half).problems
    assert problem.reason.startswith(
        "1 of 2 runs end earlier than others of their task, as net_cwidth128_dog-run_seed1000 at 60,000 "
        "of 100,000 env steps"
    )


def test_weights_and_biases_exports(tmp_path: Path) -> None:
    (tmp_path / "chart.csv").write_text(
        '"Step","run-a - return_mean","run-a - return_mean__MIN","run-a - return_mean__MAX",'
        '"run-b - return_mean"\n100,1,1,1,\n200,2,2,2,5\n'
    )
    (tmp_path / "loss.csv").write_text('"env_steps","run-a - loss/critic"\n200,0.25\n')
    (tmp_path / "runs.csv").write_text(
        '"Name","State","env.task","hidden","seed","sparsity"\n'
        "run-a,finished,dog-run,64,1,0.5\nrun-b,crashed,dog-run,64,2,0.5\n"
    )
    charts = [tmp_path / "chart.csv", tmp_path / "loss.csv"]
    rows = read_wandb(charts, tmp_path / "runs.csv", {"env.task": "env", "hidden": "width"})
    assert rows[["run_id", "env_steps", "return_mean"]].to_numpy().tolist() == [
        ["run-a", 100, 1.0], ["run-a", 200, 2.0], ["run-b", 200, 5.0],
    ]  # fmt: skip
    assert rows["loss/critic"].dropna().tolist() == [0.25]
    assert dict(zip(rows["run_id"], rows["status"], strict=True)) == {"run-a": "done", "run-b": "failed"}
    assert set(rows["sparsity"]) == {0.5}
    with pytest.raises(ValueError, match=r"runs.csv lacks env, width"):
        read_wandb(charts, tmp_path / "runs.csv")
    (tmp_path / "chart.csv").write_text("Step,run-c - return_mean\n1,1\n")
    with pytest.raises(ValueError, match=r"not in .*runs.csv: run-c"):
        read_wandb(charts[:1], tmp_path / "runs.csv", {"env.task": "env", "hidden": "width"})


TABLE = (
    '"Name","ID","State","env","width","seed","sparsity"\n'
    "twin,0101,finished,dog-run,64,1,0.30000000000000004\ntwin,2e5,finished,dog-run,128,2,0.3\n"
    "other,c3,finished,dog-run,256,3,0.3\n"
)


def exported(folder: Path, chart: str, table: str = TABLE) -> pd.DataFrame:
    (folder / "chart.csv").write_text(chart)
    (folder / "runs.csv").write_text(table)
    return read_wandb([folder / "chart.csv"], folder / "runs.csv")


def test_a_run_is_known_by_its_id(tmp_path: Path) -> None:
    """A chart names it by the id, or by a name that no other run has; ids are no numbers."""
    rows = exported(
        tmp_path,
        "Step,other - return_mean,0101 - return_mean,2e5 - return_mean\n100,3,1,2\n",
    )
    assert rows.set_index("run_id")["return_mean"].to_dict() == {"0101": 1.0, "2e5": 2.0, "c3": 3.0}
    assert rows.set_index("run_id")["width"].to_dict() == {"0101": 64, "2e5": 128, "c3": 256}
    assert set(rows["sparsity"]) == {0.3}


def test_runs_of_one_name_are_refused_and_not_mixed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"chart.csv: .*runs.csv has several runs 'twin'.*one name"):
        exported(tmp_path, "Step,twin - return_mean\n100,1\n")
    with pytest.raises(ValueError, match=r"chart.csv has two columns 'twin - return_mean'"):
        exported(tmp_path, "Step,twin - return_mean,twin - return_mean\n100,1,5\n")
    without_ids = "Name,State,env,width,seed\ntwin,finished,a,64,1\ntwin,finished,a,64,2\n"
    with pytest.raises(ValueError, match=r"runs.csv has two runs 'twin'"):
        exported(tmp_path, "Step,twin - return_mean\n100,1\n", without_ids)


def test_published_files_are_read_whole() -> None:
    rows = read_published(sorted(PUBLISHED.glob("simba_cwidth*.csv")))
    hard = rows[rows["env"].str.match("dog-|humanoid-") & (rows["env_steps"] == 1_000_000)]
    shared = hard[hard["seed"].isin(range(0, 5000, 1000))]
    assert shared.groupby("width")["run_id"].nunique().to_dict() == {128: 35, 256: 35, 512: 35, 1024: 35}
    # SYSTEMS.md: mean return of the dense runs of width 512 over all their seeds
    means = hard[hard["width"] == 512].groupby("env")["return_mean"].mean().round()
    assert means[["humanoid-stand", "humanoid-walk", "humanoid-run"]].tolist() == [846, 668, 182]
    assert means[["dog-stand", "dog-walk", "dog-trot", "dog-run"]].tolist() == [960, 917, 825, 545]
    assert set(rows["sparsity"]) == {0.0}
    curve = rows[(rows["width"] == 512) & (rows["env"] == "humanoid-run") & (rows["seed"] == 0)]
    assert curve["env_steps"].tolist() == [50_000.0 * i for i in range(21)]
    final = scores.final_values(curve, "return_mean")["return_mean"].iloc[0]
    assert final == pytest.approx(curve["return_mean"].iloc[-4:].mean())  # 850,000 to 1,000,000


def test_a_blank_sparsity_is_dense_and_time_is_no_step(tmp_path: Path) -> None:
    table = "Name,State,env,width,seed,sparsity\na,finished,x,8,1,\nb,finished,x,8,2,0.5\n"
    rows = exported(tmp_path, "Step,a - return_mean,b - return_mean\n100,1,2\n", table)
    assert rows.set_index("run_id")["sparsity"].to_dict() == {"a": 0.0, "b": 0.5}
    with pytest.raises(ValueError, match=r"chart.csv is drawn over 'Relative Time \(Wall\)'; export it"):
        exported(tmp_path, "Relative Time (Wall),a - return_mean\n3600,1\n", table)
    with pytest.raises(ValueError, match=r"charts are a list of files, got 'chart.csv'"):
        read_wandb("chart.csv", tmp_path / "runs.csv")


def test_states_and_names_of_others_are_ours(tmp_path: Path) -> None:
    header = "Name,State,env,width,seed\n"
    states = ("finished", "running", "failed", "crashed", "killed", "who knows")
    lines = "".join(f"run{i},{state},dog-run,{8 * i},{i}\n" for i, state in enumerate(states, 1))
    chart = "Step," + ",".join(f"run{i} - eval/avg_return" for i in range(1, 7)) + "\n100,1,2,3,4,5,6\n"
    rows = exported(tmp_path, chart, header + lines)
    assert rows["status"].tolist() == ["done", "running", "failed", "failed", "preempted", "failed"]
    assert rows["return_mean"].tolist() == [1, 2, 3, 4, 5, 6]
    assert rows["width"].tolist() == [8, 16, 24, 32, 40, 48]
    assert rows["seed"].tolist() == [1, 2, 3, 4, 5, 6]
    assert set(rows["sparsity"]) == {0.0}
