"""What the process happens to have set changes no number: put aside, refused by name, or recorded."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import library_numbers
import numpy as np
import pytest
from conftest import MakeConfig

from sparse_rl.kernels import flags
from sparse_rl.kernels.keys import key_of, threefry
from sparse_rl.pruning import random_masks
from sparse_rl.runs.pack import prepare_pack
from sparse_rl.settings.schema import ConfigError

PACKAGE = Path(flags.__file__).parents[1]
EVERYTHING = {
    "JAX_ENABLE_X64": "1",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_RANDOM_SEED_OFFSET": "0",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_DEBUG_NANS": "1",
    "JAX_DEBUG_INFS": "1",
    "JAX_DEFAULT_MATMUL_PRECISION": "highest",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_ENABLE_CUSTOM_PRNG": "1",
}


def words(key: Any) -> list[int]:
    return [int(word) for word in jax.random.key_data(key)]


def same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Digests to the bit, sums to the order of their terms."""
    assert ours.keys() == theirs.keys()
    for name, (bits, *sums) in ours.items():
        assert theirs[name][0] == bits, name
        np.testing.assert_allclose(theirs[name][1:], sums, rtol=1e-4)


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    """Under the test's own flags, which are jax's."""
    return library_numbers.numbers(jax.random.key(3))


def test_the_library_is_the_same_in_a_process_with_everything_set(expected: dict[str, Any]) -> None:
    """Its key is one of rbg, from a seed of 64 bits; masks of torch modules too."""
    program = [sys.executable, library_numbers.__file__]
    run = subprocess.run(
        program, env=os.environ | EVERYTHING, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    told = json.loads(run.stdout)
    same(expected, told["numbers"])
    if told["torch"]:
        assert told["torch"] == library_numbers.torch_masks()


def test_the_library_is_the_same_without_jit(expected: dict[str, Any]) -> None:
    with jax.disable_jit(True):
        same(expected, library_numbers.numbers(jax.random.key(3)))


SHAPES = {"layer": {"kernel": jax.ShapeDtypeStruct((6, 5), jnp.float32)}}


def test_inside_jit_masks_are_the_same_or_refused() -> None:
    """How threefry counts is read when the outermost program is compiled."""

    def draw(key: Any) -> Any:
        return random_masks(key, SHAPES, 0.5)

    outside = draw(key_of(1))
    with jax.enable_x64(True):
        np.testing.assert_array_equal(
            jax.jit(draw)(key_of(1))["layer"]["kernel"], outside["layer"]["kernel"]
        )
    with jax.threefry_partitionable(False):
        np.testing.assert_array_equal(draw(key_of(1))["layer"]["kernel"], outside["layer"]["kernel"])
        with pytest.raises(ValueError, match="JAX_THREEFRY_PARTITIONABLE"):
            jax.jit(draw)(key_of(1))


def test_keys_are_jaxs_own_where_nothing_is_set() -> None:
    for seed in (0, 7, 2**31, 2**32 - 1, np.uint32(2**32 - 1)):
        assert words(key_of(seed)) == words(jax.random.key(seed)) == [0, int(seed)]
    traced = jax.jit(lambda seed: jax.random.key_data(key_of(seed)))(np.uint32(3_000_000_000))
    assert traced.tolist() == [0, 3_000_000_000]
    with jax.default_prng_impl("rbg"), jax.enable_x64(True):
        assert words(key_of(5)) == [0, 5]
        assert words(key_of(2**32 + 5)) == [0, 5]


def test_keys_of_other_implementations_become_threefrys() -> None:
    def third_child(key: Any) -> Any:
        return jax.random.split(jax.random.fold_in(key, 9), 3)[2]

    plain = third_child(jax.random.key(5))
    assert words(threefry(plain)) == words(plain)
    assert words(threefry(jax.random.key_data(plain))) == words(plain)
    rbg = third_child(jax.random.key(5, impl="rbg"))
    assert words(threefry(rbg)) == words(threefry(jax.random.key_data(rbg))) == words(plain)
    other = [threefry(np.array([0, 0, 0, i], np.uint32)) for i in (1, 2)]
    assert words(other[0]) != words(other[1])
    for wrong in (3, jnp.int32(3), np.zeros(2), jax.random.split(plain, 2), "seed"):
        with pytest.raises(TypeError, match="is no random key"):
            threefry(wrong)


def test_no_other_keys_are_made() -> None:
    made = re.compile(r"random\.(key|PRNGKey|wrap_key_data)\(")
    for file in PACKAGE.rglob("*.py"):
        if file.name != "keys.py":
            assert not made.search(file.read_text()), file


def test_a_run_is_refused_by_name_where_its_numbers_would_change(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for aside, name in (
        (jax.enable_x64(True), "jax_enable_x64=True"),
        (jax.disable_jit(True), "jax_disable_jit=True"),
        (jax.debug_nans(True), "jax_debug_nans=True"),
        (jax.debug_infs(True), "jax_debug_infs=True"),
        (jax.threefry_partitionable(False), "jax_threefry_partitionable=False"),
        (jax.numpy_rank_promotion("raise"), "jax_numpy_rank_promotion=raise"),
        (jax.numpy_dtype_promotion("strict"), "jax_numpy_dtype_promotion=strict"),
        (jax.default_matmul_precision("highest"), "jax_default_matmul_precision=highest"),
    ):
        with aside, pytest.raises(ConfigError, match=f"^{name}: .*unset"):
            prepare_pack([make_config()])
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true --xla_dump_to=x")
    with pytest.raises(ConfigError, match=r"^XLA_FLAGS=--xla_cpu_enable_fast_math=true: "):
        prepare_pack([make_config()])
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    assert flags.unfit() == []
    with jax.default_prng_impl("rbg"), jax.default_matmul_precision("default"):
        assert flags.unfit() == []


def test_the_command_says_so_before_anything_starts(tmp_path: Path) -> None:
    arguments = ["width=8", "sparsity=0", "seed=0", "env_steps=200", "log_every=100"]
    run = subprocess.run(
        [sys.executable, "-m", "sparse_rl.sweep", *arguments],
        env=os.environ | {"JAX_ENABLE_X64": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert run.stderr.startswith("sparse_rl.sweep: JAX_ENABLE_X64=1: ")
    assert run.stderr.count("\n") == 1
    assert not list(tmp_path.glob("results/*/*"))


def test_what_may_move_numbers_a_little_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("JAX_", "XLA_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_max_isa=AVX2")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/tmp/x")
    monkeypatch.setenv("JAX_DEFAULT_PRNG_IMPL", "rbg")
    monkeypatch.setenv("SPARSE_RL_KERNELS", "0")
    assert flags.recorded() == {
        "JAX_DEFAULT_PRNG_IMPL": "rbg",
        "SPARSE_RL_KERNELS": "0",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    }
