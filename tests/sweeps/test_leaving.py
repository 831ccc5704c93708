"""Whoever leaves a sweep is heard, and it ends as with Ctrl-C."""

import fcntl
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeConfig

from sparse_rl.records import results
from sparse_rl.runs import pack
from sparse_rl.runs.lockstep import Progress
from sparse_rl.runs.pack import prepare_pack
from sparse_rl.settings.schema import ConfigError
from sparse_rl.sweeps import run
from sparse_rl.sweeps.presets import CONF
from sparse_rl.sweeps.run import Launcher, Prepared
from sparse_rl.sweeps.tasks import Settings


@pytest.fixture
def prepared(make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep of one run that is ready to train."""
    config = make_config()
    ready = Prepared(
        [config], {}, [prepare_pack([config])], [], Settings(tmp_path / "study"), False, 10.0, None
    )
    monkeypatch.setattr(run, "prepare", lambda jobs: ready)
    return tmp_path / "study"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_sweep_as_ctrl_c_does(
    prepared: Path, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    def train(*_: Any) -> None:
        os.kill(os.getpid(), number)
        for _step in range(3000):  # another thread may get it: then it is heard between two steps here
            time.sleep(0.01)

    heard = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, heard)  # whoever runs the suite may ignore it
    try:
        assert run.sweep([], Launcher(train)).code == 130
        assert signal.getsignal(number) is heard
    finally:
        signal.signal(number, before)
    assert "interrupted: unfinished runs are marked preempted" in capsys.readouterr().out
    assert len(results.read_grid(prepared)) == 1


def test_with_nohup_a_closed_terminal_ends_nothing(prepared: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        ended = run.sweep([], Launcher(lambda *_: os.kill(os.getpid(), signal.SIGHUP)))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert ended.code == 1  # nobody trained the run


def test_a_file_system_without_locks_is_refused_before_anything_starts(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(ConfigError, match=r"knows no locks \(No locks available\)"):
        run.sweep([], Launcher(lambda *_: pytest.fail("it trains")))
    assert not (prepared / results.GRID).exists()


def test_ctrl_c_is_heard_while_a_log_point_takes_its_time(make_config: MakeConfig) -> None:
    told: list[Progress] = []
    (one,) = prepare_pack([make_config()]).runs
    pack._say_stopping(KeyboardInterrupt(), one, told.append)
    pack._say_stopping(MemoryError(), one, told.append)
    assert [progress.note for progress in told] == ["stopping: each run saves at its next log point"]

    def broken(progress: Progress) -> None:
        raise OSError(28, "No space left on device")

    pack._harmless(broken)(told[0])


def test_presets_lie_beside_the_code() -> None:
    """Whatever the working folder has of the same name."""
    assert Path(run.__file__).parents[1] / "conf" == CONF
