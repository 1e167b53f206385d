"""A worker of Ray that stops in the middle of the shards that a test wants held, and says where it is."""

import os
import time
from pathlib import Path

from pioxide.errors import PioxideError
from pioxide.shards import crew_on_ray, on_ray
from pioxide.shards.manifest import ShardRecord
from pioxide.shards.place import Here
from pioxide.shards.plan import ShardTask
from pioxide.shards.shard import ShardMaker

real_write, real_make, real_read = ShardMaker.write, on_ray._make, crew_on_ray._do


def hold(directory: Path, *shards: int) -> None:
    """Lets the workers of a job that writes to `directory` stop half-way in these shards."""
    for number in shards:
        (directory.parent / f"hold-{number}").touch()


def held(directory: Path, number: int) -> tuple[int, str]:
    """The process and the node that hold a shard, or a portion; waits for them."""
    file = directory.parent / f"held-{number}"
    until = time.monotonic() + 300
    while not file.is_file() or " " not in file.read_text():
        assert time.monotonic() < until, f"no worker got as far as {number}"
        time.sleep(0.05)
    process, node = file.read_text().split()
    return int(process), node


def let_go(directory: Path) -> None:
    for file in directory.parent.glob("hold-*"):
        file.unlink()


def make(order: on_ray._Order, task: ShardTask) -> ShardRecord | PioxideError:
    """In place of `on_ray._make`."""
    if not isinstance(order.place, Here):
        return real_make(order, task)
    place = order.place.path.parent

    def write(self, task, file, **options):
        def wait(frames: int) -> None:
            import ray

            if (place / f"hold-{task.number}").exists():
                where = f"{os.getpid()} {ray.get_runtime_context().get_node_id()}"
                (place / f"held-{task.number}").write_text(where)
            while (place / f"hold-{task.number}").exists():
                time.sleep(0.05)

        return real_write(self, task, file, **(options | {"on_frames": wait}))

    ShardMaker.write = write
    return real_make(order, task)


def read(order, work, portion):
    """In place of `crew_on_ray._do`: holds portions that begin with an episode named beside the dataset."""
    import ray

    place = Path(order.members[portion.source].path).parent
    hold, held_by = place / f"hold-{portion.episodes[0]}", place / f"held-{portion.episodes[0]}"
    if hold.exists():
        held_by.write_text(f"{os.getpid()} {ray.get_runtime_context().get_node_id()}")
    while hold.exists():
        time.sleep(0.05)
    return real_read(order, work, portion)


def command() -> None:
    """`pioxide` with such workers."""
    from pioxide.cli.main import main

    on_ray._make = make
    raise SystemExit(main())
