"""What a server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from pioxide.policy import Prediction

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.35, 0.5, 1, 2, 5, 10)


class Metrics:
    """A server's counters, under `pioxide_`."""

    def __init__(
        self, *, waiting: Callable[[], int], connections: Callable[[], int], compiled: Callable[[], int]
    ) -> None:
        """Makes them.

        Args:
            waiting: How many robots wait for a batch.
            connections: How many are connected.
            compiled: How many programs the policy has.
        """
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("pioxide_requests", "Requests by outcome", ["outcome"], registry=registry)
        self.latency = Histogram(
            "pioxide_latency_seconds", "A request by stage", ["stage"], buckets=_SECONDS, registry=registry
        )
        self.age = Histogram(
            "pioxide_observation_age_seconds",
            "An observation's age when its answer is sent",
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch = Histogram(
            "pioxide_batch_size", "Robots in a batch", buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry
        )
        self.out_of_range = Counter(
            "pioxide_states_out_of_range", "States with a number outside its statistics", registry=registry
        )
        self.truncated = Counter("pioxide_prompts_truncated", "Prompts whose end was cut", registry=registry)
        self.swaps = Counter(
            "pioxide_swaps",
            "Checkpoints read again while serving, by outcome",
            ["outcome"],
            registry=registry,
        )
        self.generation = Gauge(
            "pioxide_policy_generation",
            "Number of the policy that answers, one more with each swap",
            registry=registry,
        )
        self.generation.set(1)
        Gauge("pioxide_robots_waiting", "Robots that wait for a batch", registry=registry).set_function(
            waiting
        )
        self.limits = Counter(
            "pioxide_limits_bitten",
            "Actions that a robot's safety filter changed, by limit, as robots tell",
            ["limit"],
            registry=registry,
        )
        Gauge(
            "pioxide_compiled_programs",
            "Programs of the policy that answers; one more while robots ask made them wait for a compiler",
            registry=registry,
        ).set_function(compiled)
        Gauge("pioxide_connections", "Open connections", registry=registry).set_function(connections)

    def answered(self, prediction: Prediction, waited: float, total: float, age: float) -> None:
        """Counts one answer; times in seconds."""
        self.requests.labels("answered").inc()
        for stage, seconds in prediction.timing._asdict().items():
            self.latency.labels(stage).observe(seconds)
        self.latency.labels("waited").observe(waited)
        self.latency.labels("total").observe(total)
        self.age.observe(age)
        if prediction.out_of_range:
            self.out_of_range.inc()
        if prediction.truncated:
            self.truncated.inc()

    def bitten(self, limits: Mapping[str, int]) -> None:
        """Counts actions that a robot's safety filter changed, by limit."""
        for limit, count in limits.items():
            self.limits.labels(limit).inc(count)

    def swapped(self, number: int) -> None:
        """Counts one swap, to the policy of a number."""
        self.swaps.labels("swapped").inc()
        self.generation.set(number)

    def refused(self, code: str) -> None:
        """Counts one refusal by its code."""
        self.requests.labels(code).inc()

    def text(self) -> bytes:
        """Returns everything in Prometheus' text format."""
        return generate_latest(self.registry)
