"""A dora node in the place of a robot: a simulated arm of `pioxide.evaluate`, with camera, joints and motors.

Sends what it sees and where it is at each tick, and moves to each action. Ends when its task is done.
"""

import os

import numpy as np
import pyarrow as pa
from dora import Node

from pioxide.evaluate import find_task


def main() -> None:
    """Plays one episode."""
    adapter, node = find_task(os.environ.get("TASK", "reach")), Node()
    environment = adapter.make()
    moment = adapter.read(*environment.reset(seed=int(os.environ.get("SEED", "1000000"))))
    steps = 0
    for event in node:
        if event["type"] == "INPUT" and event["id"] == "tick":
            for camera in adapter.robot.cameras:
                if camera.key in moment.observation:
                    pixels = moment.observation[camera.key]
                    about = {"width": pixels.shape[1], "height": pixels.shape[0], "encoding": "rgb8"}
                    name = camera.key.replace("/", ".").split(".")[-1]
                    node.send_output(name, pa.array(pixels.ravel()), about)
            state = [np.ravel(moment.observation[part.key]) for part in adapter.robot.state]
            node.send_output("joints", pa.array(np.concatenate(state).astype(np.float64)))
        elif event["type"] == "INPUT" and event["id"] == "action":
            seen, _, ended, _, info = environment.step(adapter.write(event["value"].to_numpy()))
            moment, steps = adapter.read(seen, info), steps + 1
            if moment.success or ended or steps >= 150:
                print(f"{'done' if moment.success else 'not done'} after {steps} actions", flush=True)
                break
    environment.close()


if __name__ == "__main__":
    main()
