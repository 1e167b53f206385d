"""Wrote the dataset beside it with TensorFlow Datasets 4.9.10; `features.json` was made one line after.

It has to lie in a package to run: `pkg/__init__.py`, `pkg/tiny_dataset_builder.py`.
"""

import numpy as np
import tensorflow_datasets as tfds

F = tfds.features


def images(seed, t):
    y, x = np.mgrid[0:18, 0:32]
    blue = np.full_like(x, (seed * 60) % 256)
    return np.stack([(x * 7 + seed * 40 + t * 9) % 256, (y * 13 + t * 5) % 256, blue], -1).astype(np.uint8)


def image(encoding):
    return F.Image(shape=(18, 32, 3), dtype=np.uint8, encoding_format=encoding)


def vector(size, dtype=np.float64):
    return F.Tensor(shape=(size,), dtype=dtype)


class TinyDroid(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "x"}  # noqa: RUF012 - as TFDS has it

    def _info(self):
        observation = {
            "exterior_image_1_left": image("jpeg"),
            "exterior_image_2_left": image("jpeg"),
            "wrist_image_left": image("png"),
            "joint_position": vector(7),
            "gripper_position": vector(1),
        }
        actions = {"joint_velocity": 7, "joint_position": 7, "gripper_position": 1}
        steps = {
            "observation": F.FeaturesDict(observation),
            "action": vector(8, np.float32),
            "action_dict": F.FeaturesDict({name: vector(size) for name, size in actions.items()}),
            "discount": F.Scalar(dtype=np.float32),
            "reward": F.Scalar(dtype=np.float32),
            "is_first": F.Scalar(dtype=np.bool_),
            "is_last": F.Scalar(dtype=np.bool_),
            "count": F.Scalar(dtype=np.int32),
            "zipped": F.Tensor(shape=(3,), dtype=np.float32, encoding="zlib"),
            "raw": F.Tensor(shape=(3,), dtype=np.float64, encoding="bytes"),
            "language_instruction": F.Text(),
            "language_instruction_2": F.Text(),
            "language_instruction_3": F.Text(),
        }
        episode = {
            "file_path": F.Text(),
            "recording_folderpath": F.Text(),
            "success": F.Scalar(dtype=np.bool_),
        }
        features = {"steps": F.Dataset(steps), "episode_metadata": F.FeaturesDict(episode)}
        return self.dataset_info_from_configs(features=F.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for e in range(4):
            length = 3 + e
            steps = [self._step(e, t, length) for t in range(length)]
            outcome = "success" if e % 2 else "failure"
            said = {
                "file_path": f"/r2d2/{outcome}/{e}/trajectory.h5",
                "recording_folderpath": f"/r2d2/{e}/recordings/MP4",
                "success": bool(e % 2),
            }
            yield f"{e}", {"steps": steps, "episode_metadata": said}

    def _step(self, e, t, length):
        grip = np.array([t / (length - 1)])
        joints = np.arange(7) * 0.1 + t * 0.01 + e
        return {
            "observation": {
                "exterior_image_1_left": images(e, t),
                "exterior_image_2_left": images(e + 1, t),
                "wrist_image_left": images(e + 2, t),
                "joint_position": joints,
                "gripper_position": grip,
            },
            "action": np.arange(8, dtype=np.float32),
            "action_dict": {
                "joint_velocity": np.arange(7) * 0.2 - t * 0.02 - e,
                "joint_position": joints + 0.5,
                "gripper_position": 1 - grip,
            },
            "discount": 1.0,
            "reward": 0.0,
            "is_first": t == 0,
            "is_last": t == length - 1,
            "count": t - 2,
            "zipped": np.ones(3, np.float32) * t,
            "raw": np.ones(3) * t,
            "language_instruction": f"task {e}",
            "language_instruction_2": f"zwei {e}" if e else "",
            "language_instruction_3": "",
        }


if __name__ == "__main__":
    config = tfds.download.DownloadConfig(num_shards=2)
    TinyDroid(data_dir="OUT", file_format="tfrecord").download_and_prepare(download_config=config)
