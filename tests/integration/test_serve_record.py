"""What a server records is played again to the last bit, survives a crash, and becomes a dataset."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest

from pioxide.cli import main
from pioxide.errors import ContractError, FormatError, InputError
from pioxide.serve import BatchConfig, Client, ServeConfig
from pioxide.serve.record import Recorder, Recording
from pioxide.serve.replay import compare, to_dataset
from pioxide.transforms import Stats
from support.servers import DIM, HORIZON, ROBOT, Echo, echo_contract, seen, serving


def recorded(folder, policy=None, robots=2, answers=4):
    """A recording of some robots, each with two episodes."""
    config = ServeConfig(port=0, record=folder, batch=BatchConfig(size=2, wait=0.2))

    def robot(number, server):
        with Client(f"ws://127.0.0.1:{server.port}") as client:
            for episode in range(2):
                for i in range(answers):
                    image = np.full((16, 24, 3), 20 * i, np.uint8)
                    client(seen(10.0 * number + episode + i / 10, image=image))
                client.reset()

    with serving(policy or Echo(), config) as server:
        threads = [threading.Thread(target=robot, args=(n, server)) for n in range(1, robots + 1)]
        for one in threads:
            one.start()
        for one in threads:
            one.join(60)
    return Recording(folder)


def test_every_answer_is_recorded_and_the_same_policy_gives_it_again(tmp_path):
    recording = recorded(tmp_path / "REC")
    entries = list(recording.entries())
    assert len(entries) == 16
    assert {entry.generation for entry in entries} == {0, 1}
    assert max(entry.rows for entry in entries) == 2
    assert all(entry.actions.shape == (HORIZON, DIM) for entry in entries)
    found = compare(recording, Echo())
    assert (found.answers, found.same, found.first) == (16, 16, None)


def test_another_policy_is_told_apart_by_joint(tmp_path):
    recording = recorded(tmp_path / "REC")
    found = compare(recording, Echo(offset=0.5))
    assert (found.same, found.first) == (0, 0)
    assert found.furthest == pytest.approx([0.5] * DIM)
    assert json.loads(json.dumps(found.as_json()))["typical"] == pytest.approx([0.5] * DIM)


def test_a_checkpoint_of_other_statistics_is_compared_and_one_of_another_robot_refused(tmp_path):
    one, other = Echo(), Echo()
    one.contract, other.contract = (
        echo_contract(norm_stats={"state": Stats(np.zeros(DIM), np.full(DIM, std))}) for std in (1.0, 2.0)
    )
    recording = recorded(tmp_path / "REC", one, robots=1, answers=1)
    assert compare(recording, other).answers == 2
    turned = replace(ROBOT, joint_names=("turn", "lift", "grip"), signs=(1, -1, 1))
    other.contract = replace(other.contract, robot=turned)
    with pytest.raises(ContractError, match=r"robot\.joint_names.*the recording(.|\n)*robot\.signs"):
        compare(recording, other)


def test_a_log_that_a_crash_cut_keeps_what_was_whole(tmp_path):
    recording = recorded(tmp_path / "REC")
    (log,) = recording.directory.glob("log-*.bin")
    whole = log.read_bytes()
    for cut in (len(whole) - 1, len(whole) - 40):
        log.write_bytes(whole[:cut])
        assert len(list(recording.entries())) == 15
        assert recording.damaged == 1
    second = 12 + int.from_bytes(whole[:4], "little")
    for place in (0, 4, 100, second, second + 3):
        damaged = bytearray(whole)
        damaged[place] ^= 0x40
        log.write_bytes(damaged)
        with pytest.raises(FormatError, match="damaged"):
            list(recording.entries())


def test_a_server_goes_on_recording_where_one_ended_and_refuses_another_policys(tmp_path):
    recorded(tmp_path / "REC", robots=1, answers=1)
    recording = recorded(tmp_path / "REC", robots=1, answers=1)
    assert len(list(recording.entries())) == 4
    other = Echo()
    other.contract = echo_contract(play_steps=2)
    with pytest.raises(ContractError, match="another policy"):
        recorded(tmp_path / "REC", other)
    with pytest.raises(FormatError, match=r"recording\.json"):
        Recording(tmp_path)


def test_what_a_disk_cannot_take_is_left_out_and_counted(tmp_path):
    (entry, *_) = recorded(tmp_path / "REC", robots=1, answers=1).entries()
    recorder = Recorder(tmp_path / "SMALL", Echo(), limit=2000)
    for _ in range(100):
        recorder.take(entry)
    recorder.close()
    assert recorder.written + recorder.dropped == 100
    assert recorder.written >= 1
    assert sum(file.stat().st_size for file in (tmp_path / "SMALL").glob("log-*")) <= 2000
    assert len(list(Recording(tmp_path / "SMALL").entries())) == recorder.written


def test_a_recording_becomes_a_dataset_with_video(tmp_path):
    pytest.importorskip("av")
    from pioxide.data import LeRobotDataset

    recording = recorded(tmp_path / "REC")
    dataset = LeRobotDataset.open(to_dataset(recording, tmp_path / "DATA", fps=5))
    assert dataset.total_frames == 16
    starts = set()
    for index in range(4):
        episode = dataset.read(index, ["observation.state", "action"])
        states, actions = episode.stack(["observation.state"]), episode.stack(["action"])
        assert len(states) == 4
        assert np.allclose(states, actions)
        assert np.allclose(np.diff(states[:, 0]), 0.1, atol=1e-5)
        starts.add(round(float(states[0, 0])))
    assert starts == {10, 11, 20, 21}
    info = json.loads((tmp_path / "DATA" / "meta" / "info.json").read_text())
    assert info["features"]["observation.images.image"]["shape"] == [16, 24, 3]
    assert info["features"]["action"]["names"] == ["lift", "turn", "grip"]


def test_an_empty_recording_is_no_dataset(tmp_path):
    with serving(Echo(), ServeConfig(port=0, record=tmp_path / "REC")):
        pass
    recording = Recording(tmp_path / "REC")
    with pytest.raises(InputError, match="no episode"):
        to_dataset(recording, tmp_path / "DATA")
    with pytest.raises(InputError, match="nothing was recorded"):
        compare(recording, Echo())


def test_the_command_asks_what_to_do(tmp_path, capsys):
    recorded(tmp_path / "REC", robots=1, answers=2)
    assert main.main(["replay", str(tmp_path / "REC")]) == 2
    assert "--against" in capsys.readouterr().err
    assert main.main(["replay", str(tmp_path / "REC"), "--dataset", str(tmp_path / "DATA")]) == 0
    assert (tmp_path / "DATA" / "meta" / "info.json").exists()
