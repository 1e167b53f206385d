"""A robot of LeRobot's protocol 1, as far as a test needs one: queries and publications over Zenoh."""

import json
import queue
import time
from typing import Any
from uuid import uuid4

import numpy as np
import zenoh

from pioxide.serve.lerobot.values import Envelope, Image, MessageType, decode, encode

PREFIX = "lerobot/inference/v1/deployments"


class Robot:
    """Finds a deployment, opens a session, asks, and goes."""

    def __init__(self, endpoint: str, deployment: str) -> None:
        config = zenoh.Config()
        for key, value in {
            "mode": "peer",
            "connect/endpoints": [endpoint],
            "scouting/multicast/enabled": False,
            "scouting/gossip/enabled": False,
        }.items():
            config.insert_json5(key, json.dumps(value))
        self.network = zenoh.open(config)
        self._prefix = f"{PREFIX}/{deployment}"
        self.described = self.query(f"{self._prefix}/describe", Envelope(MessageType.DESCRIBE, request="r1"))
        self.told: Any = self.described.body
        self.instance = f"{self._prefix}/instances/{self.told['instance_id']}"
        self.session = ""
        self.sequence = 0

    def query(self, key: str, message: Envelope | bytes, timeout: float = 10.0) -> Envelope:
        """Asks a queryable; the one answer."""
        payload = message if isinstance(message, bytes) else encode(message)
        with self.network.declare_querier(key) as querier:
            until = time.monotonic() + timeout
            while not querier.matching_status.matching and time.monotonic() < until:
                time.sleep(0.002)
            answers = [one.ok.payload.to_bytes() for one in querier.get(payload=payload) if one.ok]
        if not answers:
            raise TimeoutError(f"nobody answers {key}")
        return decode(answers[0])

    def opened(self, **changes: Any) -> Envelope:
        """What a client asks to be let in."""
        capabilities = self.told["capabilities"]
        body = {
            "expected_artifact": self.told["artifact_identity"],
            "features": capabilities["features"],
            "action_feature": capabilities["action_feature"],
            "semantics": self.told["semantics"],
            "action_interval": capabilities["action_interval"],
            "mode": "chunk",
            "encoding": "raw",
        }
        asked = Envelope(
            MessageType.OPEN, self.told["instance_id"], request=uuid4().hex, body={**body, **changes}
        )
        answer = self.query(f"{self.instance}/open", asked)
        if answer.kind is MessageType.ACCEPTED:
            self.session = answer.session
            self._answers: queue.Queue[bytes] = queue.Queue()
            self._words: queue.Queue[bytes] = queue.Queue()
            key = self.key
            self._held = [
                self.network.declare_subscriber(f"{key}/act", self._put(self._answers)),
                self.network.declare_subscriber(f"{key}/language/result", self._put(self._words)),
                self.network.liveliness().declare_token(f"{key}/alive"),
            ]
            self.control("reset", 0)
        return answer

    @property
    def key(self) -> str:
        return f"{self.instance}/sessions/{self.session}"

    def control(self, operation: str, generation: int, request: str = "") -> Envelope:
        """Changes the session."""
        asked = Envelope(
            MessageType.CONTROL,
            self.told["instance_id"],
            self.session,
            generation,
            request or uuid4().hex,
            {"operation": operation},
        )
        return self.query(f"{self.key}/control", asked)

    def body(self, value: float, **changes: Any) -> dict[str, Any]:
        """An observation whose answer is known."""
        self.sequence += 1
        made: dict[str, Any] = {}
        for one in self.told["capabilities"]["features"]:
            fill = 0 if one["kind"] == "rgb" else value
            array = np.full(one["shape"], fill, one["dtype"])
            made[one["name"]] = Image(array) if one["kind"] == "rgb" else array
        body = {
            "sequence": self.sequence,
            "artifact_identity": self.told["artifact_identity"],
            "observation_id": f"o{self.sequence}",
            "capture_time": time.monotonic(),
            "task": "lift it",
            "task_version": 0,
            "features": made,
            "delay": 0,
            "model_continuation": None,
            "canonical_continuation": None,
            "cursor": 0,
        }
        return {**body, **changes}

    def send(self, body: dict[str, Any], generation: int = 0) -> Envelope:
        """Publishes an observation, and waits for no answer."""
        kind, instance = MessageType.OBSERVATION, self.told["instance_id"]
        asked = Envelope(kind, instance, self.session, generation, uuid4().hex, body)
        self.network.put(f"{self.key}/obs", encode(asked))
        return asked

    def received(self, asked: Envelope, timeout: float = 10.0) -> Envelope:
        """Waits for the answer to a message."""
        answer = decode(self._answers.get(timeout=timeout))
        assert (answer.request, answer.session) == (asked.request, asked.session)
        return answer

    def ask(self, body: dict[str, Any], generation: int = 0) -> Envelope:
        """Sends an observation and waits for the answer."""
        return self.received(self.send(body, generation))

    def say(self) -> Envelope:
        """Asks a question in words."""
        kind, instance = MessageType.LANGUAGE_REQUEST, self.told["instance_id"]
        asked = Envelope(kind, instance, self.session, 0, uuid4().hex, self.body(0.0))
        self.network.put(f"{self.key}/language/request", encode(asked))
        return decode(self._words.get(timeout=10.0))

    def close(self) -> None:
        """Vanishes."""
        self.network.close()

    def __enter__(self) -> "Robot":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def _put(where: "queue.Queue[bytes]") -> Any:
        return lambda sample: where.put(sample.payload.to_bytes())
