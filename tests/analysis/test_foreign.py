"""One way in for other people's files: exported charts, event files; else one clear line."""

from pathlib import Path

import pandas as pd
import pytest
from tensorboardX import SummaryWriter
from tensorboardX.proto.event_pb2 import Event

from sparse_rl import laws as command
from sparse_rl.analysis import event_files, foreign, importers, load_all, scores

TABLE = "Name,State,task,hidden,seed,sparsity,lr\n"


def exported(folder: Path, state: str = "finished", table: str | None = None) -> Path:
    """Three widths × two seeds as Weights & Biases exports them, with names of its own."""
    names = [(f"run{w}-{s}", w, s) for w in (8, 16, 32) for s in (1, 2)]
    lines = [f"{name},{state},dog-run,{w},{s},,{0.1 * w}" for name, w, s in names]
    (folder / "runs.csv").write_text(table or TABLE + "\n".join(lines) + "\n")
    header = ",".join(f"{name} - eval/reward" for name, _, _ in names)
    body = "\n".join(
        f"{step}," + ",".join(str(w + s + step / 1000) for _, w, s in names) for step in (100, 200)
    )
    (folder / "chart.csv").write_text(f"Step,{header}\n{body}\n")
    (folder / "columns.yaml").write_text(
        "hidden: width\ntask: env\neval/reward: return_mean\nlr: agent.rate\n"
    )
    return folder


def test_exports_of_weights_and_biases_are_read_as_a_study(tmp_path: Path) -> None:
    loaded = load_all(exported(tmp_path), by=["agent.rate"])
    assert loaded.problems == []
    assert loaded.rows.groupby("width")["seed"].nunique().to_dict() == {8: 2, 16: 2, 32: 2}
    final = scores.final_values(loaded.rows, "return_mean").set_index("run_id")["return_mean"]
    assert final["run16-2"] == 18.2
    assert set(loaded.rows["sparsity"]) == {0.0}  # blank is dense
    assert loaded.runs["status"].tolist() == ["done"] * 6
    assert loaded.rows["agent.rate"].max() == 3.2
    files = load_all(tmp_path / "chart.csv", tmp_path / "runs.csv")
    assert len(files.rows) == 12
    with pytest.raises(ValueError, match=r"these files have no column agent\.x; there are .*width"):
        load_all(tmp_path, by=["agent.x"])


def written(folder: Path, run: str, values: list[float], tag: str = "eval/reward") -> None:
    with SummaryWriter(str(folder / run)) as writer:
        for i, value in enumerate(values):
            writer.add_scalar(tag, value, 100 * (i + 1))


def boards(folder: Path) -> Path:
    lines = [f"w{w}/s{s},dog-run,{w},{s}" for w in (8, 16) for s in (1, 2)]
    (folder / "runs.csv").write_text("Name,env,width,seed\n" + "\n".join(lines) + "\n")
    (folder / "columns.yaml").write_text("eval/reward: return_mean\n")
    for w in (8, 16):
        for s in (1, 2):
            written(folder, f"w{w}/s{s}", [1.0, 2.0 * w, 3.0 * w + s])
    return folder


def test_event_files_are_read_as_a_study(tmp_path: Path) -> None:
    rows = load_all(boards(tmp_path)).rows
    assert rows[rows["run_id"] == "w16/s2"][["env_steps", "return_mean"]].to_numpy().tolist() == [
        [100, 1.0], [200, 32.0], [300, 50.0],
    ]  # fmt: skip
    assert set(rows["status"]) == {"done"}
    assert rows.groupby("width")["seed"].nunique().to_dict() == {8: 2, 16: 2}


def test_a_run_that_was_resumed_has_several_files_and_a_cut_one_is_read_to_there(tmp_path: Path) -> None:
    """The later file's value of a step counts; a record that is cut ends its file."""
    first = boards(tmp_path)
    again = tmp_path / "again"
    written(again, "x", [7.0] * 5)
    (late,) = (again / "x").glob(event_files.FILES)
    content = late.read_bytes()
    (first / "w8" / "s1" / "zz.tfevents.late").write_bytes(content[:-5])
    late.unlink()
    rows = load_all(first).rows
    assert rows[rows["run_id"] == "w8/s1"]["return_mean"].tolist() == [7.0] * 4


def test_tensors_of_one_number_are_scalars_too(tmp_path: Path) -> None:
    event = Event(step=30)
    value = event.summary.value.add(tag="eval/reward")
    value.tensor.dtype = 1
    value.tensor.float_val.append(2.5)
    other = Event(step=40)
    packed = other.summary.value.add(tag="eval/reward")
    packed.tensor.dtype, packed.tensor.tensor_content = 1, b"\x00\x00\x40\x40"
    record = b"".join(
        len(e.SerializeToString()).to_bytes(8, "little") + b"crc_" + e.SerializeToString() + b"crc_"
        for e in (event, other)
    )
    (tmp_path / "a.tfevents").write_bytes(record)
    assert event_files.scalars(tmp_path / "a.tfevents")["value"].tolist() == [2.5, 3.0]
    (tmp_path / "b.tfevents").write_bytes((3).to_bytes(8, "little") + b"crc_\xff\xff\xffcrc_")
    with pytest.raises(ValueError, match=r"b\.tfevents is no TensorBoard event file"):
        event_files.scalars(tmp_path / "b.tfevents")


HEAD = "Name,State,task,hidden,seed\n"


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (HEAD + "run8-1,finished,dog-run,8,\n", r"runs\.csv does not say the seed of run8-1"),
        (HEAD + "run8-1,finished,dog-run,,1\n", r"runs\.csv does not say the width of run8-1"),
        (HEAD.replace(",seed", ""), r"runs\.csv lacks seed"),
        (
            HEAD + "run8-1,finished,dog-run,8,1\n" * 2,
            r"runs\.csv has two runs 'run8-1': its runs have one",
        ),
        ("a,b\n", r"runs\.csv is no published file .*, no chart of Weights .* and no table of runs"),
    ],
)
def test_what_a_table_lacks_is_named(tmp_path: Path, table: str, reason: str) -> None:
    exported(tmp_path, table=table)
    (tmp_path / "chart.csv").write_text("Step,run8-1 - eval/reward\n100,1\n200,2\n")
    with pytest.raises(ValueError, match=reason):
        foreign.read([tmp_path])


def test_kinds_are_not_mixed_and_nothing_is_guessed(tmp_path: Path) -> None:
    folder = exported(tmp_path)
    (folder / "columns.yaml").write_text("hidden: width\ntask: env\n")
    with pytest.raises(ValueError, match=r"no metric is the return; .*\(there are eval/reward\)"):
        foreign.read([folder])
    (folder / "columns.yaml").write_text("- hidden\n")
    with pytest.raises(ValueError, match=r"columns\.yaml must map their names to ours"):
        foreign.read([folder])
    exported(folder)
    written(folder, "run8-1", [1.0])
    with pytest.raises(ValueError, match="charts and event files are read apart"):
        foreign.read([folder])
    (folder / "chart.csv").unlink()
    (folder / "more").mkdir()
    written(folder, "stranger", [1.0])
    with pytest.raises(ValueError, match=r"not in .*runs\.csv: stranger"):
        foreign.read([folder])
    (folder / "runs.csv").unlink()
    with pytest.raises(ValueError, match=r"give one table of runs as CSV, there is none"):
        foreign.read([folder])
    (folder / "published.csv").write_text(",".join(importers.PUBLISHED) + "\n")
    with pytest.raises(ValueError, match="published files and other kinds of files are read apart"):
        foreign.read([folder])
    with pytest.raises(ValueError, match="give studies or other people's files, not both"):
        load_all(folder, tmp_path / "study")


def test_runs_that_crashed_are_no_points(tmp_path: Path) -> None:
    loaded = load_all(exported(tmp_path, state="crashed"))
    assert set(loaded.runs["status"]) == {"failed"}
    assert scores.final_values(loaded.rows, "return_mean").empty


def test_laws_of_an_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.main([str(exported(tmp_path)), "--seeds", "1", "2", "--tasks", "dog-*"])
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    assert ["32", "33.7"] in [line[:2] for line in lines]
    assert pd.read_csv(tmp_path / "runs.csv")["seed"].nunique() == 2
