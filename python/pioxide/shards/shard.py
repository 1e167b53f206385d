"""One shard task -> one Parquet file: the unit of work of a thread here, or of a worker elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pioxide.codec import TextTokenizer, load_codec
from pioxide.contract import Pipeline
from pioxide.data import Episode, LeRobotDataset
from pioxide.data.keeping import keep_frames
from pioxide.data.robot import check_robot
from pioxide.errors import OverflowingChunkError
from pioxide.files import HashingFile, atomic_file
from pioxide.shards.frames import BLOCK_FRAMES, FrameCutter
from pioxide.shards.manifest import SHARDS, ShardRecord, Skipped, save_record
from pioxide.shards.plan import ShardTask
from pioxide.shards.rows import Counts, Pi0FastRows, RowMaker, row_maker
from pioxide.shards.settings import JobSettings

# The least that a reader decodes to get at one row. Smaller ones are read faster in random order, and take
# more space: against 4,096 rows, 128 take 7 to 9% more, and a row is had in a thirtieth of the time.
ROW_GROUP_ROWS = 128
# A shard holds this many rows in memory, or few more.
PENDING_ROWS = 4096
# As small here as higher levels make it, and in less time.
COMPRESSION_LEVEL = 1

# Called with the number of frames just done; it raises to stop the work.
OnFrames = Callable[[int], None]


@dataclass(frozen=True)
class JobInputs:
    """Where a job reads from; with the settings, all that a worker elsewhere needs.

    Attributes:
        dataset: A LeRobot dataset, v2.0, v2.1 or v3.0.
        text_model: A SentencePiece model.
        fast: Directory of a FAST tokenizer, or of another action codec; for pi0_fast only.
    """

    dataset: Path
    text_model: Path
    fast: Path | None = None


@dataclass(frozen=True)
class ShardMaker:
    """Everything loaded that shards are made with; may be shared between threads.

    Attributes:
        dataset: Opened.
        pipeline: What the rows' numbers and prompts mean.
        cutter: How an episode becomes frames.
        maker: How frames become rows.
    """

    dataset: LeRobotDataset
    pipeline: Pipeline
    cutter: FrameCutter
    maker: RowMaker

    @classmethod
    def load(
        cls, inputs: JobInputs, settings: JobSettings, dataset: LeRobotDataset | None = None
    ) -> ShardMaker:
        """Reads the tokenizers, and checks that all of it fits together.

        Raises:
            ContractError: The dataset's numbers, the statistics or a tokenizer are not the contract's.
            InputError: Something else doesn't fit.
            FormatError: A file is not what it should be.
        """
        if dataset is None:
            opened = LeRobotDataset.open(inputs.dataset)
            dataset = keep_frames(opened.with_tasks(settings.tasks), settings.frames)
        codec = None if inputs.fast is None else load_codec(inputs.fast)
        pipeline = Pipeline(settings.contract, TextTokenizer.load(inputs.text_model), codec)
        robot = pipeline.numbers.robot
        check_robot(robot, dataset, settings.columns, f"the contract ({robot.name})")
        cutter = FrameCutter.of(settings.contract, settings.columns)
        return cls(dataset, pipeline, cutter, row_maker(pipeline, settings.on_overflow))

    def make(
        self, task: ShardTask, directory: Path, *, skip_bad: bool = False, on_frames: OnFrames | None = None
    ) -> ShardRecord:
        """Makes a shard under `directory/shards/`, atomically, then its record under `directory/.progress/`.

        Args:
            task: what it holds.
            directory: of the job; it and its `shards/` exist.
            skip_bad: leave out episodes that can't be read or written, and list them in the record.
            on_frames: told of progress, and may raise to stop.

        Raises:
            DatasetError: an episode can't be read, without `skip_bad`.
            OverflowingChunkError: a chunk has no tokens and overflow is an error, without `skip_bad`.
            OutputError: the shard can't be written.
        """
        with atomic_file(directory / SHARDS / task.name) as file:
            written = self.write(task, file, skip_bad=skip_bad, on_frames=on_frames)
        record = ShardRecord(
            file=task.name,
            rows=written.rows,
            episodes=written.episodes,
            bytes=file.size,
            sha256=file.sha256,
            skipped=tuple(written.skipped),
            **written.counts._asdict(),
        )
        save_record(directory, record)
        return record

    def write(
        self,
        task: ShardTask,
        file: HashingFile | BinaryIO,
        *,
        skip_bad: bool = False,
        on_frames: OnFrames | None = None,
    ) -> ShardContent:
        """Writes a shard's Parquet bytes; they depend on the task, the inputs and the settings alone."""
        written = ShardContent()
        writer = _parquet_writer(file, self.maker.schema)
        with writer:
            self._write_episodes(task, writer, written, skip_bad, on_frames)
        return written

    def _write_episodes(
        self,
        task: ShardTask,
        writer: pq.ParquetWriter,
        written: ShardContent,
        skip_bad: bool,
        on_frames: OnFrames | None,
    ) -> None:
        frames = {s.episode: s.frames for s in task.slices}

        def left_out(info, error) -> None:
            written.skipped.append(Skipped(info.index, str(error)))
            if on_frames is not None:
                on_frames(frames[info.index])

        pending: list[pa.RecordBatch] = []
        episodes = self.dataset.scan(
            self.cutter.columns.all, list(frames), on_bad=left_out if skip_bad else None
        )
        for episode in episodes:
            try:
                for batch, counts in self._rows(episode, frames[episode.index], skip_bad):
                    pending.append(batch)
                    written.rows += batch.num_rows
                    written.counts = written.counts.plus(counts)
                    if sum(b.num_rows for b in pending) >= PENDING_ROWS:
                        pending = _write_full(writer, pending)
                    if on_frames is not None:
                        on_frames(batch.num_rows)
            except OverflowingChunkError as error:
                if not skip_bad:
                    raise
                left_out(episode.info, error)
                continue
            written.episodes += 1
        if pending:
            writer.write_table(pa.Table.from_batches(pending), row_group_size=ROW_GROUP_ROWS)

    def _rows(self, episode: Episode, frames: int, whole: bool) -> Iterator[tuple[pa.RecordBatch, Counts]]:
        """An episode's rows, block by block; with `whole`, what can go wrong does so before the first."""
        tried = whole and frames > BLOCK_FRAMES and isinstance(self.maker, Pi0FastRows)
        for block in self.cutter.blocks(episode, frames) if tried else ():
            self.maker.rows(block)
        for block in self.cutter.blocks(episode, frames):
            yield self.maker.rows(block)


@dataclass
class ShardContent:
    """What went into a shard so far."""

    rows: int = 0
    episodes: int = 0
    counts: Counts = field(default_factory=Counts)
    skipped: list[Skipped] = field(default_factory=list)


def _parquet_writer(file: HashingFile | BinaryIO, schema: pa.Schema) -> pq.ParquetWriter:
    """Returns a writer that stores each kind of column as measured best (docs/benchmarks.md).

    Token ids have their bytes sorted by place: the upper two hardly change from one id to the next. Numbers
    stay whole, because overlapping windows repeat one another byte for byte. One integer a row is stored as
    differences, which leaves nothing to compress.
    """
    encodings, codecs = {}, {}
    for column in schema:
        if pa.types.is_list(column.type):
            path, encoding, codec = f"{column.name}.list.element", "BYTE_STREAM_SPLIT", "zstd"
        elif pa.types.is_fixed_size_list(column.type):
            path, encoding, codec = f"{column.name}.list.element", "PLAIN", "zstd"
        else:
            path, encoding, codec = column.name, "DELTA_BINARY_PACKED", "none"
        encodings[path], codecs[path] = encoding, codec
    levels = {path: COMPRESSION_LEVEL for path, codec in codecs.items() if codec == "zstd"}
    return pq.ParquetWriter(
        pa.PythonFile(file, mode="w"),
        schema,
        compression=codecs,  # type: ignore[arg-type]  # the stub knows one codec for all columns
        compression_level=levels,
        use_dictionary=False,
        column_encoding=encodings,
        write_page_checksum=True,
    )


def _write_full(writer: pq.ParquetWriter, pending: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """Writes the pending rows that fill row groups; returns the others."""
    table = pa.Table.from_batches(pending)
    full = table.num_rows - table.num_rows % ROW_GROUP_ROWS
    writer.write_table(table.slice(0, full), row_group_size=ROW_GROUP_ROWS)
    return table.slice(full).to_batches()
