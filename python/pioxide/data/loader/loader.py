"""`Loader`: batches of one or several datasets, mixed, in an order that the seed alone decides.

Rows are drawn and gathered into batches before any worker sees them, so the order depends neither on how many
workers there are nor on how fast they are, and the loader's whole state is the number of the next batch.
"""

from __future__ import annotations

import gc
import hashlib
import os
import warnings
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pioxide.codec import ActionCodec, TextTokenizer
from pioxide.contract import AdvantageStyle, Contract, make_subtask_prompts, refuse_other_models
from pioxide.data.images import Fit
from pioxide.data.loader.assemble import Assembler
from pioxide.data.loader.batch import Batch
from pioxide.data.loader.cache import CacheSettings
from pioxide.data.loader.handover import Shared
from pioxide.data.loader.reading import open_source
from pioxide.data.loader.rows import Saying
from pioxide.data.loader.source import Source
from pioxide.data.loader.workers import DieWithParent
from pioxide.errors import ContractError, InputError

try:
    import grain
    from absl import flags
except ImportError:  # pragma: no cover - the extra is not installed
    raise InputError('training batches need grain: pip install "pioxide[train]"') from None


@dataclass(frozen=True)
class LoaderSettings:
    """How batches are drawn and made. `batch_size`, `seed`, `shuffle` and `repeat` decide what they hold.

    Attributes:
        batch_size: B, rows of a batch over all hosts.
        seed: Of the order.
        shuffle: Whether rows are drawn in a random order, anew in each pass; else one source after another.
        repeat: Whether batches go on for ever; else every row comes once, and weights are not used.
        drop_last: Whether a last batch that is not full is left out, where `repeat` is False; several hosts
            always leave it out.
        host: Which of the hosts this is, from 0: it gets its slice of each batch.
        hosts: How many there are.
        workers: Processes that make batches; 0 for threads of this one.
        prefetch: Batches that each worker, or thread, makes ahead.
        exact_images: Whether images are resized to the bit as a policy does; see `Fit`.
        answer_len: π0 and π0.5: ids that the actions take as tokens, for a language model that learns them
            too; longer ones are cut. 0 for none.
        subtask_share: π0.5: the share of rows that teach the language model to say the subtask, which all
            sources then need; the others act by it. 0 for none: where sources have subtasks, rows only act.
        advantage_dropout: The share of rows that act whose prompts leave their advantage out, which the
            contract's `advantage_style` has to say; a row's place in the order decides, and the seed.
    """

    batch_size: int
    seed: int = 0
    shuffle: bool = True
    repeat: bool = True
    drop_last: bool = True
    host: int = 0
    hosts: int = 1
    workers: int = 0
    prefetch: int = 2
    exact_images: bool = False
    answer_len: int = 0
    subtask_share: float = 0.0
    advantage_dropout: float = 0.0

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            InputError: A number out of its range, or a batch that hosts can't share alike.
        """
        for name, least in (
            ("batch_size", 1),
            ("hosts", 1),
            ("workers", 0),
            ("prefetch", 1),
            ("seed", 0),
            ("answer_len", 0),
        ):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}, expected at least {least}")
        for name in ("subtask_share", "advantage_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}, expected 0 to below 1")
        if not 0 <= self.host < self.hosts:
            raise InputError(f"host is {self.host}, expected 0 to {self.hosts - 1}")
        if self.batch_size % self.hosts:
            raise InputError(f"a batch of {self.batch_size} can't be shared alike by {self.hosts} hosts")


class Loader:
    """Makes training batches. Opening it reads all numbers, and no image unless there is a cache to fill.

    Use it in a `with`, or close it.

    Attributes:
        contracts: By source, in the order of `Batch.source`.
        settings: How batches are drawn and made.
        names: What the sources are called.
        cut: Rows so far whose text fills all L tokens, or whose answer all A: the end is probably cut.
    """

    def __init__(
        self,
        sources: Sequence[Source] | Source,
        settings: LoaderSettings,
        tokenizer: TextTokenizer,
        codec: ActionCodec | None = None,
        *,
        cache: CacheSettings | None = None,
    ) -> None:
        """Opens the sources.

        Args:
            sources: What batches are made of.
            settings: How.
            tokenizer: Of texts.
            codec: Of actions, for π0-FAST and answers.
            cache: Where pictures are kept at the model's size: made of what is missing, before this returns.
                None decodes the recording each time.

        Raises:
            ContractError: A contract lacks what is needed or is another robot's, or two models are meant.
            DatasetError: An episode or a video can't be read.
            InputError: No sources, or weights of some only.
            SettingsError: The cache was made in another way.
            OutputError: The cache can't be written.
        """
        several = [sources] if isinstance(sources, Source) else list(sources)
        _check(several)
        _check_advantages(several, settings)
        self.settings, self._tokenizer = settings, tokenizer
        self.contracts = tuple(source.contract for source in several)
        self.names = tuple(source.name for source in several)
        exact, length, saying = settings.exact_images, settings.answer_len, None
        if settings.subtask_share:
            saying = _saying(several, tokenizer, length)
            length = saying.length if length else 0
        opened = [
            open_source(s, tokenizer, codec, exact=exact, answer_len=length, saying=saying, cache=cache)
            for s in several
        ]
        fit = Fit.of(self.contract, exact=settings.exact_images)
        self._assembler = Assembler.of(opened, fit)
        self._shared = Shared(self._assembler)
        self.cut = 0
        self._weights = [source.weight for source in several]
        self._running: dict[object, grain.DatasetIterator] = {}
        # A loader that nobody closes ends its workers before the interpreter has forgotten how.
        weakref.finalize(self, _end, self._running, self._shared)
        if settings.repeat is False and settings.drop_last and self.rows < settings.batch_size:
            raise InputError(f"{self.rows} rows make no batch of {settings.batch_size}")

    @property
    def contract(self) -> Contract:
        """Returns the first source's contract: what is the model's is the same in all."""
        return self.contracts[0]

    @property
    def rows(self) -> int:
        """Returns how many rows all sources have."""
        return int(self._assembler.starts[-1])

    @property
    def slots(self) -> tuple[str, ...]:
        """Returns the image slots of a batch, in the model's order."""
        return self._assembler.slots

    def __len__(self) -> int:
        """Returns the number of batches, where `repeat` is False.

        Raises:
            InputError: They go on for ever.
        """
        if self.settings.repeat:
            raise InputError("batches of a loader that repeats go on for ever; they have no number")
        return len(self._drawn())

    def batches(self, start_step: int = 0) -> Iterator[Batch]:
        """Yields batches from number `start_step` on: the same as if those before it had been asked for.

        Raises:
            DatasetError: An image can't be read; names file and episode.
            OverflowingChunkError: π0-FAST: a coefficient has no token.
        """
        if start_step < 0:
            raise InputError(f"start_step is {start_step}, expected at least 0")
        return self._batches(start_step)

    def at(self, step: int) -> Batch:
        """Returns batch number `step`, made here and now."""
        numbers = cast("Any", self._drawn()[step])
        return self._assembler.as_batch(self._assembler(numbers))

    def texts(self, batch: Batch) -> list[str]:
        """Returns the prompt of each row as text, without π0-FAST's answer, for a person to look at."""
        mask = batch.token_mask if batch.loss_mask is None else batch.token_mask & ~batch.loss_mask
        return [self._tokenizer.decode(ids[there]) for ids, there in zip(batch.tokens, mask, strict=True)]

    def close(self) -> None:
        """Ends all workers. Iterators that were handed out end, too."""
        _end(self._running, self._shared)

    def __enter__(self) -> Loader:
        """Returns the loader."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()

    def _drawn(self) -> grain.MapDataset[NDArray[np.int64]]:
        """Row numbers of every batch of this host."""
        settings, starts = self.settings, self._assembler.starts.tolist()
        ranges = [grain.MapDataset.range(a, b) for a, b in pairwise(starts)]
        weights = [w or float(len(one)) for w, one in zip(self._weights, ranges, strict=True)]
        every = self.rows
        if share := settings.subtask_share:
            # The same rows once more, numbered on: those that ask for their subtask.
            ranges += [grain.MapDataset.range(a + every, b + every) for a, b in pairwise(starts)]
            weights = [w * part for part in (1 - share, share) for w in weights]
            every *= 2
        if settings.repeat:
            drawn = [self._shuffled(one, i).repeat() for i, one in enumerate(ranges)]
            rows = drawn[0] if len(drawn) == 1 else grain.MapDataset.mix(drawn, weights)
        else:
            rows = self._shuffled(grain.MapDataset.range(0, every), 0)
        if settings.advantage_dropout:
            rows = rows.map_with_index(_Dropout(settings.seed, settings.advantage_dropout, self.rows))
        size = settings.batch_size // settings.hosts
        # The rows of a batch stand side by side, and each host takes its part of them.
        batched = rows.batch(size, drop_remainder=settings.drop_last or settings.hosts > 1)
        if settings.hosts == 1:
            return batched
        # All hosts get as many batches, or they would wait for one another for ever.
        return batched[: len(batched) // settings.hosts * settings.hosts][settings.host :: settings.hosts]

    def _shuffled(self, rows: grain.MapDataset[int], source: int) -> grain.MapDataset[int]:
        if not self.settings.shuffle:
            return rows
        return rows.seed((self.settings.seed * 1009 + source) % (1 << 32)).shuffle()

    def _batches(self, start_step: int) -> Iterator[Batch]:
        settings = self.settings
        ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=settings.prefetch)
        made = self._drawn()[start_step:].map(self._shared).to_iter_dataset(ahead)
        if settings.workers:
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()  # grain asks absl's flags, which nobody parses here
            options = grain.MultiprocessingOptions(settings.workers, per_worker_buffer_size=settings.prefetch)
            made = made.mp_prefetch(options, worker_init_fn=DieWithParent(os.getpid()))
        # What runs is kept here alone, so that `close` can end it by letting it go: grain's own close leaves
        # shared memory behind.
        key = object()
        self._running[key] = iter(made)
        try:
            while (running := self._running.get(key)) is not None:
                try:
                    arrays = cast("Any", next(running))
                except StopIteration:
                    return
                del running
                if settings.workers:
                    # Whoever keeps a batch would keep a worker's shared memory, past the end of the process.
                    arrays = {name: np.array(array) for name, array in arrays.items()}
                batch = self._assembler.as_batch(arrays)
                self._look_for_cuts(batch)
                yield batch
        finally:
            running = None
            if self._running.pop(key, None) is not None:  # else `close` has done it
                gc.collect()

    def _look_for_cuts(self, batch: Batch) -> None:
        """Says, once, that texts fill all that there is for them: what is longer was cut without a trace."""
        full = batch.token_mask.all(axis=1)
        lost = "" if batch.loss_mask is None else ", and with it the last of the actions"
        what, length, setting = f"text is probably cut{lost}", batch.tokens.shape[1], "text_len"
        if batch.answer_mask is not None and not full.any():
            full = batch.answer_mask.all(axis=1)
            what, length, setting = (
                "answer is probably cut",
                batch.answer_mask.shape[1],
                "answer_len",
            )
        if not full.any():
            return
        if self.cut == 0:
            warnings.warn(
                f"{self.names[int(batch.source[int(np.argmax(full))])]}: {np.count_nonzero(full)} of "
                f"{len(batch)} rows fill all {length} tokens, so the end of their {what}; a larger {setting} "
                "keeps it",
                stacklevel=3,
            )
        self.cut += int(np.count_nonzero(full))


def _end(running: dict[object, grain.DatasetIterator], shared: Shared) -> None:
    running.clear()
    gc.collect()
    shared.close()


def _check(sources: Sequence[Source]) -> None:
    if not sources:
        raise InputError("a loader needs at least one source")
    refuse_other_models([source.contract for source in sources], [source.name for source in sources])
    weights = [source.weight is None for source in sources]
    if any(weights) and not all(weights):
        raise InputError("some sources have a weight and some have none; give all of them one, or none")


def _check_advantages(sources: Sequence[Source], settings: LoaderSettings) -> None:
    """Refuses rows whose prompts would not be what the contract says of them."""
    for source in sources:
        style, where = source.contract.advantage_style, source.contract.source or "the contract"
        if style and source.advantages is None:
            raise ContractError(
                f"advantage_style: {where} says that prompts hold an advantage, and {source.name} has none; "
                "say which frames are good (Source.advantages, --data.advantage)"
            )
        if source.advantages is not None and not style:
            raise ContractError(
                f"advantage_style: {source.name} says which frames are good, and {where} that prompts don't "
                'hold it; say Contract(advantage_style="text_or_none")'
            )
        if settings.advantage_dropout and style is not AdvantageStyle.TEXT_OR_NONE:
            raise ContractError(
                f"advantage_style: {settings.advantage_dropout:.0%} of the prompts are to leave their "
                f"advantage out, and {where} does not say text_or_none"
            )


class _Dropout:
    """Leaves the advantage out of some rows that act; the same ones whoever asks, and whenever."""

    def __init__(self, seed: int, share: float, rows: int) -> None:
        self._seed, self._share, self._rows = seed, share, rows

    def __call__(self, place: int, row: int) -> int:
        drawn = hashlib.blake2b(f"{self._seed} {place}".encode(), digest_size=4).digest()
        dropped = row < self._rows and int.from_bytes(drawn) < self._share * (1 << 32)
        return row + 2 * self._rows if dropped else row


def _saying(sources: Sequence[Source], tokenizer: TextTokenizer, answer_len: int) -> Saying:
    """How all sources' subtasks are asked for; a row holds the longest of them, and one id more."""
    texts: set[str] = set()
    for source in sources:
        if source.subtasks is None:
            raise InputError(f"{source.name}: subtask_share asks for subtasks, and the source has none")
        texts.update(source.subtasks.texts)
    prompts = make_subtask_prompts(sources[0].contract, tokenizer)
    return Saying(prompts, max(answer_len, 1 + max(len(prompts.answer(text)) for text in texts)))
