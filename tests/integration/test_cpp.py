"""The library for C and C++, installed: what it exports, and that it gives the numbers that Python gives."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pioxide import demo
from pioxide.codec import (
    FastCodec,
    Pi0FastPrompts,
    Pi0Prompts,
    Pi05Prompts,
    SubtaskPrompts,
    TextTokenizer,
    state_bins,
)
from pioxide.contract import Numbers, load_contract, make_prompts
from pioxide.control import ActionQueue, Limits, OnEmpty, SafetyFilter

ROOT = Path(__file__).resolve().parents[2]
COMPILERS = [name for name in ("g++", "clang++") if shutil.which(name)]
TEXT_MODEL = demo.text_model_path()
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# Bytes of the stripped shared library: 30 % above what it was when this was written.
LARGEST = 1_900_000

HERE = bool(COMPILERS and shutil.which("cargo"))
# A person's machine may lack them. One that says for others whether C++ works may not pass by skipping.
if os.environ.get("CI") and not HERE:
    raise RuntimeError("CI must have cargo and g++ or clang++: without them no test of libpioxide runs")
pytestmark = pytest.mark.skipif(
    not HERE, reason="NOTHING OF libpioxide IS TESTED: needs cargo and g++ or clang++, which are not here"
)


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns where library, headers and packages are installed."""
    place = tmp_path_factory.mktemp("prefix")
    run("cargo", "build", "--release", "--locked", "--quiet", "--package", "pioxide-capi")
    run("rust/capi/install", place)
    return place


def flags(prefix: Path) -> list[str]:
    """Returns what a program is compiled with: what the pkg-config file says, and where the library is."""
    if shutil.which("pkg-config"):
        said = run(
            "pkg-config", "--cflags", "--libs", "pioxide", PKG_CONFIG_PATH=str(prefix / "lib/pkgconfig")
        )
        given = said.split()
    else:
        given = [f"-I{prefix}/include", f"-L{prefix}/lib", "-lpioxide"]
    return [*given, f"-Wl,-rpath,{prefix}/lib"]


def declared(prefix: Path) -> list[str]:
    """Returns the functions of the header."""
    header = (prefix / "include/pioxide.h").read_text(encoding="utf-8")
    return re.findall(r"^[^ *].*\b(pioxide_\w+)\(", header, re.MULTILINE)


def test_the_library_exports_the_functions_of_the_header_alone_and_is_small(prefix):
    library = prefix / "lib/libpioxide.so.1"
    symbols = run("nm", "--dynamic", "--defined-only", "--format=posix", library).splitlines()
    assert sorted(line.split()[0] for line in symbols) == sorted(declared(prefix))
    assert "[libpioxide.so.1]" in run("readelf", "--dynamic", library)
    assert library.stat().st_size < LARGEST


def test_the_header_is_plain_c(prefix, tmp_path):
    source = tmp_path / "plain.c"
    source.write_text("#include <pioxide.h>\nint main(void) { return pioxide_abi_version() != 1; }\n")
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("needs gcc or clang, which are not here")
    strict = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    run(compiler, *strict, source, *flags(prefix), "-o", tmp_path / "plain")
    run(tmp_path / "plain")


def written(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    return np.fromfile(path, np.float64).reshape(shape)


def skip_without_sanitizers(compiler: str, tmp_path: Path) -> None:
    (tmp_path / "empty.cpp").write_text("int main() {}\n")
    command = [compiler, *SANITIZERS, "empty.cpp", "-o", "empty"]
    if subprocess.run(command, cwd=tmp_path, capture_output=True).returncode != 0:
        pytest.skip(f"{compiler} has no sanitizers here")


@pytest.mark.parametrize("checked", [False, True], ids=["plain", "sanitized"])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_cpp_gives_what_python_gives(prefix, tmp_path, compiler, checked):
    if checked:
        skip_without_sanitizers(compiler, tmp_path)
    recorded = json.loads((ROOT / "tests/golden/fast/g1_h16_v1024.json").read_text())
    (horizon, dim), grid = recorded["shape"], recorded["grid"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(recorded["tokenizer"]))
    (tmp_path / "processor_config.json").write_text(json.dumps(recorded["processor_config"]))
    chunks = (
        np.array([case["chunk"] for case in recorded["cases"]], np.float64).reshape(-1, horizon, dim) / grid
    )
    chunks.tofile(tmp_path / "chunks.f64")
    task, state = "pick up the red cube, 世界", np.array([0.5, -0.25, 1.5, -1.0])
    (tmp_path / "task.txt").write_text(task)
    state.tofile(tmp_path / "state.f64")

    cases = json.loads((ROOT / "tests/golden/contract/contract.json").read_text())["cases"]
    case = next(case for case in cases if case["document"]["family"] == "pi05")
    (tmp_path / "contract.json").write_text(json.dumps(case["document"]))
    contract, call = load_contract(tmp_path), case["numbers"]["calls"][1]
    robot_state = np.array(call["state"])
    robot_state.tofile(tmp_path / "robot_state.f64")
    np.array(call["answer"]).tofile(tmp_path / "answer.f64")

    strict = ["-std=c++20", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror"]
    program = tmp_path / "golden"
    sanitizers = SANITIZERS if checked else []
    source = ROOT / "tests/integration/cpp/golden.cpp"
    run(compiler, *strict, *sanitizers, source, *flags(prefix), "-o", program)
    lines = run(program, tmp_path, TEXT_MODEL, str(horizon), str(dim)).splitlines()
    said: dict[str, list[list[int]]] = {}
    for line in lines[:-1]:
        name, *ids = line.split()
        said.setdefault(name, []).append([int(id_) if id_.isdecimal() else id_ for id_ in ids])

    codec = FastCodec.load(tmp_path)
    encoded = [codec.encode(chunk, on_overflow="clip") for chunk in chunks]
    assert said["ids"] == [one.ids.tolist() for one in encoded]
    truth = [
        (case["ids"], ids)
        for case, ids in zip(recorded["cases"], said["ids"], strict=True)
        if case["round_trips"]
    ]
    assert len(truth) > 20
    assert all(recorded_ids == ids for recorded_ids, ids in truth)
    single = [codec.encode(chunk.astype(np.float32), on_overflow="clip").ids.tolist() for chunk in chunks]
    assert said["single"] == single
    decoded = [codec.decode(one.ids, horizon=horizon, dim=dim).actions for one in encoded]
    np.testing.assert_array_equal(written(tmp_path / "decoded.f64", chunks.shape), decoded)

    text = TextTokenizer(TEXT_MODEL.read_bytes())
    assert said["text"] == [text.encode(task).tolist()]
    assert said["bins"] == [state_bins(state).tolist()]
    prompts = [
        Pi0Prompts(text).encode(task),
        Pi05Prompts(text).encode(task, state),
        Pi0FastPrompts(text, None).encode(task, state),
    ]
    assert said["prompt"] == [prompt.tokens[: prompt.length].tolist() for prompt in prompts]

    subtasks = [SubtaskPrompts(text, reads_state=reads) for reads in (True, False)]
    assert said["question"] == [one.encode(task, state)[0].tolist() for one in subtasks]
    assert said["answer"] == [subtasks[0].answer(task).tolist()] * 2
    assert "did not learn" in " ".join(map(str, said["subtasks"][0]))

    numbers, robot = Numbers.of(contract), contract.robot
    assert said["contract"] == [[robot.state_dim, robot.action_dim, contract.text_len, int(robot.hz)]]
    assert said["joint"] == [[robot.joint_names[5]]]
    actions = np.array(call["robot_actions"]).reshape(contract.action_horizon, robot.action_dim)
    normalised = numbers.apply_state(robot_state)
    expected = [normalised, actions.ravel(), numbers.apply_actions(actions, robot_state).ravel()]
    np.testing.assert_array_equal(written(tmp_path / "contract.f64", (-1,)), np.concatenate(expected))
    stated = make_prompts(contract, text, None)
    assert said["batch"] == [
        (row := stated.encode(one, normalised)).tokens[: row.length].tolist()
        for one in ("fold", "hand over", "fold")
    ]

    queue = ActionQueue(OnEmpty.SLOW, 5)
    queue.put(chunks[0], 0.0)
    limits = Limits(low=-0.5, high=0.6, velocity=2.0, acceleration=30.0)
    safety = SafetyFilter(limits, dim, 50.0)
    safety.reset(np.zeros(dim))
    played = np.array([queue.take().action for _ in range(horizon + 8)])
    np.testing.assert_array_equal(written(tmp_path / "played.f64", played.shape), played)
    given = np.array([safety(action) for action in played])
    np.testing.assert_array_equal(written(tmp_path / "given.f64", played.shape), given)
    assert lines[-1].startswith("thrown 12 /no/such")


def test_no_function_of_the_header_is_left_out_of_the_program_that_calls_them_all(prefix):
    source = (ROOT / "tests/integration/cpp/every.cpp").read_text(encoding="utf-8")
    called = set(re.findall(r"\b(pioxide_\w+)\(", source))
    assert len(called) > 55
    assert called == set(declared(prefix))


@pytest.mark.parametrize("checker", ["sanitizers", "valgrind"])
def test_every_call_stays_in_its_buffers_and_nothing_is_left_unfreed(prefix, tmp_path, checker):
    recorded = json.loads((ROOT / "tests/golden/fast/g1_h16_v1024.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(recorded["tokenizer"]))
    (tmp_path / "processor_config.json").write_text(json.dumps(recorded["processor_config"]))
    cases = json.loads((ROOT / "tests/golden/contract/contract.json").read_text())["cases"]
    document = next(
        case["document"]
        for case in cases
        if case["document"]["family"] == "pi05" and case["document"].get("state_in_text")
    )
    document |= {"subtask_style": "instead", "text_len": 60}
    (tmp_path / "contract.json").write_text(json.dumps(document))
    if checker == "sanitizers":
        skip_without_sanitizers(COMPILERS[0], tmp_path)
    elif not shutil.which("valgrind"):
        pytest.skip("NO CALL OF libpioxide IS WATCHED BY VALGRIND: it is not here")
    options = SANITIZERS if checker == "sanitizers" else ["-g"]
    strict = ["-std=c++20", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror"]
    program, source = tmp_path / "every", ROOT / "tests/integration/cpp/every.cpp"
    run(COMPILERS[0], *strict, *options, source, *flags(prefix), "-o", program)
    watched = ["valgrind", "--quiet", "--error-exitcode=9", "--leak-check=full", "--show-leak-kinds=all"]
    before = watched if checker == "valgrind" else []
    assert "every call ended as it is to" in run(*before, program, tmp_path, TEXT_MODEL)


def test_the_example_runs_by_its_cmake_package(prefix, tmp_path):
    if not shutil.which("cmake"):
        pytest.skip("needs cmake, which is not here; the same headers are compiled without it above")
    run("cmake", "-S", ROOT / "examples/cpp", "-B", tmp_path, f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", tmp_path)
    assert "refused: state: joint 3 is NaN" in run(tmp_path / "loop", TEXT_MODEL, "0.1")
