"""Every exception pioxide raises on purpose; Rust raises the codec's by import, so all pickle alike.

A message says what was given, what was expected, and what to do.
"""


class PioxideError(Exception):
    """Base of every error that pioxide raises on purpose."""


class InputError(PioxideError, ValueError):
    """A value that the caller passed is wrong: a shape, a dtype, a NaN, an unknown name."""


class OverflowingChunkError(InputError):
    """A coefficient of an action chunk has no token in this FAST vocabulary."""


class IncompleteChunkError(InputError):
    """Token ids do not decode to a whole action chunk."""


class FormatError(PioxideError, ValueError):
    """A file is not what its format says: a tokenizer, a SentencePiece model, statistics.

    Attributes:
        reason: the message without the file's name, where `pioxide.files` raised it; else "".
    """

    reason: str = ""


class DatasetError(PioxideError):
    """A dataset, or one of its episodes, can't be read as it says it should.

    Attributes:
        file: the file at fault, relative to the dataset, where there is one.
        episode: the episode's index, or None when the whole dataset is unusable.
    """

    file: str | None = None
    episode: int | None = None


class SettingsError(PioxideError):
    """An output directory was made with other settings, and going on would mix the two."""


class CheckpointError(PioxideError):
    """A checkpoint lacks tensors, has extra ones, or holds one of another shape; or its file is damaged.

    Attributes:
        missing: what the model needs and the checkpoint has not, one sentence a tensor.
        extra: what the checkpoint has and the model does not.
        shapes: tensors of another shape or dtype.
        values: tensors with NaN or infinite numbers.
    """

    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    values: tuple[str, ...] = ()


class OutputError(PioxideError):
    """A result can't be written: a full disk, a place that is not ours, another run writing there."""


class PolicyError(PioxideError):
    """What the network answered is no action chunk (NaN, infinity), so nothing is passed on to the robot."""


class TrainingError(PioxideError):
    """A run went wrong while it ran: a loss that is not finite, or explodes."""


class FetchError(PioxideError):
    """Something can't be brought from elsewhere: no network, no such file, not the promised bytes."""


class ContractError(PioxideError):
    """Two parts disagree about what numbers mean, or nobody says: dataset, tokens, checkpoint, robot.

    Attributes:
        fields: Names of the contract's fields in question.
    """

    fields: tuple[str, ...] = ()


class WireError(PioxideError, ValueError):
    """A message from the network is not what the protocol says, or passes a limit."""


class ServerError(PioxideError):
    """A policy server refused or failed, in its own words, or can't be reached.

    Attributes:
        code: The kind of refusal: "busy", "stale", "superseded", "late", "invalid", "failed", "closed".
    """

    code: str = "failed"
