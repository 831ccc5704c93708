"""The command, run as a user runs it."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sparse_rl.analysis import load, load_runs
from sparse_rl.records import results
from sparse_rl.settings.schema import ConfigError
from sparse_rl.sweeps.arguments import check_arguments
from sparse_rl.sweeps.run import study_folder

SMALL = (
    "env_steps=200", "log_every=100", "eval_every=100", "agent.batch_size=32", "env.eval_episodes=2",
)  # fmt: skip
CHEAP = (
    "agent=dqn", "agent.num_envs=10", "env=probe/cue", "env.delay=3", "env_steps=200", "log_every=100",
    "eval_every=100", "env.eval_episodes=2",
)  # fmt: skip
"""What is compiled in a quarter of the time."""


def command(
    module: str, *arguments: str, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"sparse_rl.{module}", *arguments],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_grid_trains_resumes_and_reports(tmp_path: Path) -> None:
    where = "hydra/launcher=inprocess"
    asked = "question='does it pay, in width?'"
    grid = (where, "+width=8,16", "sparsity=0,0.5", "+seed=0,1", "agent=sac_mlp", asked, *SMALL)
    first = command("sweep", *grid, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "8 runs in 4 packs" in first.stdout
    assert "8 done" in first.stdout
    assert "env steps/s" in first.stdout
    assert "\x1b" not in first.stdout  # readable in a log file
    study = tmp_path / "results" / "demo"
    folders = sorted(path.name for path in study.iterdir() if path.is_dir())
    assert folders == sorted(load_runs(study)["run_id"])
    typed = [word.removeprefix("+") for word in grid]  # which says nothing more
    assert list(results.read_words(study / results.COMMANDS)) == [
        f"python -m sparse_rl.sweep {shlex.join(typed)}"
    ]
    (when,) = results.read_words(study / results.QUESTIONS).values()
    assert list(results.read_words(study / results.QUESTIONS)) == ["does it pay, in width?"]
    assert when <= min(load_runs(study)["started_at"])

    stamps = {p: p.stat().st_mtime_ns for p in study.rglob("*.*")}
    again = command("sweep", *grid, cwd=tmp_path)
    assert again.returncode == 0
    assert "8 of 8 runs are finished" in again.stdout
    assert stamps == {p: p.stat().st_mtime_ns for p in study.rglob("*.*")}

    rows = load(study)
    assert set(rows["width"]) == {8, 16}
    assert set(rows["sparsity"]) == {0.0, 0.5}
    assert set(rows["status"]) == {"done"}
    assert len(rows) == 16
    page = command("report", str(study), cwd=tmp_path)
    assert page.returncode == 0, page.stderr
    assert (study / "report.html").stat().st_size > 50_000
    assert (study / "scaling_gymnax_Pendulum-v1.png").read_bytes()[:4] == b"\x89PNG"


def test_a_failed_run_is_trained_again_and_a_done_one_is_not(tmp_path: Path) -> None:
    one = ("width=8", "sparsity=0", "seed=0,1", *CHEAP)
    assert command("sweep", *one, cwd=tmp_path).returncode == 0
    study = tmp_path / "results" / "demo"
    failed, done = sorted(results.run_dirs(study))
    record = results.read_run(failed) or {}
    results.write_run(failed, record | {"status": "failed", "reason": "killed"})
    stamp = (done / "run.json").stat().st_mtime_ns
    assert command("sweep", *one, cwd=tmp_path).returncode == 1
    again = command("sweep", *one, "retry_failed=true", cwd=tmp_path)
    assert again.returncode == 0
    assert "1 of 2 runs are finished" in again.stdout
    repaired = results.read_run(failed)
    assert repaired is not None
    assert repaired["status"] == "done"
    assert (done / "run.json").stat().st_mtime_ns == stamp


def test_exit_status_tells_that_a_run_diverged(tmp_path: Path) -> None:
    bad = command(
        "sweep", "width=8", "sparsity=0", "seed=0", "agent.learning_rate=1e30", *CHEAP, cwd=tmp_path
    )
    assert bad.returncode == 1
    assert "1 diverged" in bad.stdout
    assert "at env_steps=" in bad.stdout


def test_plan_prints_costs_and_trains_nothing(tmp_path: Path) -> None:
    plan = command("sweep", "+width=4096", "+sparsity=0.9", "plan=true", cwd=tmp_path)
    assert plan.returncode == 0, plan.stderr
    for word in ("4096", "0.9", "parameters", "surviving", "FLOPs/update", "bytes/update", "277M"):
        assert word in plan.stdout
    assert not (tmp_path / "results").exists()


def test_what_is_compiled_is_kept_between_commands(tmp_path: Path) -> None:
    """The command imports jax before it says where; a plan compiles little, here all of it is kept."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    env |= {"XDG_CACHE_HOME": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    plan = command("sweep", "width=8", "sparsity=0.5", "seed=0", "plan=true", cwd=tmp_path, env=env)
    assert plan.returncode == 0, plan.stderr
    kept = tmp_path / "sparse_rl" / "programs"
    assert list(kept.glob("jit_*"))
    assert len(list(kept.glob("*-cache"))) == len(list(kept.glob("*-atime")))  # or nothing more is kept


def test_presets_of_on_policy_agents_fit_presets_of_discrete_environments(tmp_path: Path) -> None:
    for agents, tasks in (
        ("ppo,paac,dqn", "cartpole,acrobot"),
        ("ppo_minatar,paac_minatar,dqn_minatar", "breakout,space_invaders,asterix,freeway"),
    ):
        environments = ",".join(f"gymnax/{task}" for task in tasks.split(","))
        asked = (f"agent={agents}", f"env={environments}", "env_steps=1000000")
        arguments = ("study=single", *asked, "plan=true")
        plan = command("sweep", *arguments, cwd=tmp_path)
        assert plan.returncode == 0, plan.stderr
        assert "rollouts of 32 × 5 interactions, 1 updates on 160 samples after each" in plan.stdout
        rounded = 1_003_520 if "cartpole" in tasks else 1_024_000  # log points every 10,240 and 40,960
        assert f"interactions × env.action_repeat (= 160): env_steps=1000000 is {rounded}" in (
            plan.stdout.replace("agent.num_envs × agent.num_steps", "interactions")
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("+widht=4096",), "unknown key 'widht'. Did you mean width"),
        (("widht=4096",), "unknown key 'widht'. Did you mean width"),
        (("agent.lr=1",), "unknown key 'agent.lr'"),
        (("sparsity=0,1.5",), "sparsity=1.5 is out of range; allowed: 0 <= value < 1"),
        (("agent=foo",), "sac_mlp"),
        (
            ("env=dm_control/dog_trod",),
            "unknown env 'dm_control/dog_trod'. Did you mean dm_control/dog_trot",
        ),
        (("name=../elsewhere",), "name='../elsewhere' is not allowed"),
        (("logging=tensorbord",), "choose one of none, wandb, tensorboard"),
        (("question=' '",), "question=' ' is not allowed; give null or what the study asks"),
        (("name=a,b",), "name holds for the whole sweep; give one of a, b"),
        (("env.task=Pong",), "Pendulum-v1"),
        (("env=gymnax/cartpole",), "agent=sac needs continuous actions"),
        (("agent=ppo", "env=gymnax/cartpole", "agent.minibatches=3"), "of agent.minibatches (= 3)"),
    ],
)
def test_bad_input_stops_before_anything_starts(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = command("sweep", *arguments, cwd=tmp_path)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())


def test_help_and_the_composed_configuration_are_readable(tmp_path: Path) -> None:
    text = command("sweep", "--help", cwd=tmp_path)
    assert text.returncode == 0
    for word in ("+width=4096", "playground: ", "sparsity", "results_dir", "Exit status"):
        assert word in text.stdout
    composed = command("sweep", "--cfg", "job", "+width=64", cwd=tmp_path)
    assert composed.returncode == 0
    assert "width: 64" in composed.stdout
    assert "learning_rate: 0.001" in composed.stdout


def test_plus_is_optional_for_every_known_key() -> None:
    given = ["+width=64,128", "+agent=sac", "+env_steps=100", "--cfg", "job", "hydra/launcher=inprocess"]
    expected = ["width=64,128", "agent=sac", "env_steps=100", "--cfg", "job", "hydra/launcher=inprocess"]
    assert check_arguments(given) == expected
    with pytest.raises(ConfigError, match="cannot be deleted"):
        check_arguments(["~width"])


def test_a_name_of_digits_is_a_name() -> None:
    asked = ["name=2024", "+name=1e3", "name=007", "results_dir=7", "name=a,b", "name=null"]
    kept = ["name='2024'", "name='1e3'", "name=007", "results_dir='7'", "name=a,b", "name=null"]
    assert check_arguments(asked) == kept
    assert study_folder("results", 2024) == Path("results/2024")  # of a preset in YAML
    for name in (True, None, 1.5):
        with pytest.raises(ConfigError, match="is not allowed"):
            study_folder("results", name)


def test_presets_of_dm_control_go_by_its_own_names_too() -> None:
    given = ["+env=dm_control/humanoid-run,dm_control/dog_trot", "agent=sac,ddpg", "study=dmc_hard"]
    expected = ["env=dm_control/humanoid_run,dm_control/dog_trot", "agent=sac,ddpg", "study=dmc_hard"]
    assert check_arguments(given) == expected
    with pytest.raises(ConfigError, match=r"unknown agent 'sax'\. Did you mean sac"):
        check_arguments(["agent=ddpg,sax"])
    assert check_arguments(["study=null"]) == ["study=null"]
    assert check_arguments(["--config-dir=mine", "agent=sax"])[1] == "agent=sax"


def test_report_without_runs_says_so(tmp_path: Path) -> None:
    result = command("report", "results/none", cwd=tmp_path)
    assert result.returncode == 2
    assert "no runs in results/none" in result.stderr
    assert "Traceback" not in result.stderr
