"""Makes one token directory of the parts of a job, with the bytes of a single run.

What is finished gets a second name where the file system can give one, and is copied elsewhere; every shard's
SHA-256 is worked out on the way. Until all of them are there the output is an unfinished job like any other.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pioxide.contract import FILE_NAME as CONTRACT_FILE
from pioxide.contract import load_contract
from pioxide.data import cores
from pioxide.data.faults import nothing_left
from pioxide.errors import FormatError, InputError, SettingsError
from pioxide.files import as_address, atomic_file, hard_link, locked, make_directory, sha256_of
from pioxide.shards.at_hand import tokens_at_hand
from pioxide.shards.beside import NORM_STATS, read_contract
from pioxide.shards.directory import (
    FAST,
    FAST_FILES,
    copy_file,
    refuse_foreign,
    remove_leftovers,
    reopen,
    said_once,
)
from pioxide.shards.job import Progress
from pioxide.shards.manifest import (
    FILE_NAME,
    SHARDS,
    Manifest,
    ShardRecord,
    agrees,
    load_record,
    remove_progress,
    save_record,
)
from pioxide.shards.parts import marks
from pioxide.shards.plan import ShardTask
from pioxide.shards.settings import contract_changes

log = logging.getLogger(__name__)

BLOCK = 1 << 20
# So many files are named in a message.
NAMED = 5

How = Literal["found", "linked", "copied"]


@dataclass(frozen=True)
class Merged:
    """What `merge` made.

    Attributes:
        path: The complete token directory.
        manifest: Its manifest.
        found: Shards that were there already.
        linked: Shards that got a second name, no byte copied.
        copied: Shards that were copied from another file system.
    """

    path: Path
    manifest: Manifest
    found: int
    linked: int
    copied: int


@dataclass(frozen=True)
class _Source:
    """A directory that holds some shards of the job."""

    path: Path
    manifest: Manifest

    def record(self, name: str) -> ShardRecord | None:
        """Returns what this directory says of a shard that lies in it whole, as far as its size tells."""
        listed = {one.file: one for one in self.manifest.shards}
        record = listed.get(name) or load_record(self.path, name)
        file = self.path / SHARDS / name
        there = record is not None and file.is_file() and file.stat().st_size == record.bytes
        return record if there else None


def merge(
    directories: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str] | None = None,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Merged:
    """Makes one complete token directory of the parts of a job.

    The result has the bytes of one uninterrupted run, whatever the number and the order of the directories.
    They stay as they are; what they and the result share on one file system takes no more space. A merge that
    was interrupted goes on when it is run again.

    Args:
        directories: What `pioxide tokenize --part` wrote: one that all parts share, or several; addresses,
            too, of which copies are brought to the cache.
        output: Where to; may be left out for one directory, which is then completed where it is.
        workers: Threads that read; one a core by default.
        progress: Told of bytes checked.

    Raises:
        FormatError: A directory is none of tokens, shards are missing (named with their parts) or damaged,
            or two directories hold one shard with different bytes. Nothing is declared complete then.
        SettingsError: The directories were made with different settings, from different datasets, or by
            different versions; or the output holds something else.
        OutputError: A part is still being made, or the output can't be written.
        InputError: No directory, or several and no output.
    """
    if output is not None and (address := as_address(output)):
        raise InputError(
            f"{address}: parts are merged into a directory here; at one address `pioxide tokenize` without "
            "--part completes them"
        )
    if output is None and any(map(as_address, directories)):
        raise InputError(
            "say with -o where the merged tokens are to be: a directory here. At the address itself `pioxide "
            "tokenize` without --part completes them"
        )
    given = [tokens_at_hand(one) for one in directories]
    if not given:
        raise InputError("nothing to merge: name the directories that `pioxide tokenize --part` wrote")
    if output is None and len({one.resolve() for one in given}) > 1:
        raise InputError("say with -o where the merged tokens are to be: several directories were given")
    target = Path(given[0] if output is None else output)
    sources = _sources(given)
    with ExitStack() as held:
        for path in dict.fromkeys(one.path.resolve() for one in sources):
            held.enter_context(locked(path))
        begun = _begun(sources)
        records = _records(sources, begun)
        make_directory(target)  # no sooner, so that what can't be merged leaves nothing behind
        if target.resolve() not in {one.path.resolve() for one in sources}:
            held.enter_context(locked(target))
        before = Manifest.load(target)
        if before is None:
            refuse_foreign(target)
        else:
            sources = _sources(list({one.resolve(): one for one in [*given, target]}.values()))
            begun = _begun(sources)
            records = _records(sources, begun)
        remove_leftovers(target)
        return _complete(target, before, begun, sources, records, workers or cores(), progress)


def _sources(directories: Sequence[Path]) -> list[_Source]:
    found = []
    for path in directories:
        manifest = Manifest.load(path)
        if manifest is None:
            raise FormatError(f"{path} has no {FILE_NAME}; it is not the output of pioxide tokenize")
        found.append(_Source(path, manifest))
    first = found[0]
    for other in found[1:]:
        one, two = load_contract(first.path), load_contract(other.path)
        words = [] if one is None or two is None else contract_changes(one, two)
        lines = said_once(words, first.manifest.changes(other.manifest))
        if lines:
            raise SettingsError(
                f"{other.path} (now) and {first.path} (there) are no parts of one job; make both with the "
                "same settings, dataset and version:\n  " + "\n  ".join(lines)
            )
    return found


def _begun(sources: Sequence[_Source]) -> Manifest:
    """The manifest that a single run begins with. Where the dataset lay is one machine's word of many."""
    dataset = min((one.manifest.dataset for one in sources), key=lambda one: (one["path"], one["name"]))
    return replace(sources[0].manifest, dataset=dataset, shards=(), complete=False)


def _records(sources: Sequence[_Source], begun: Manifest) -> dict[str, list[tuple[_Source, ShardRecord]]]:
    """Which directories hold each shard of the job, with the same bytes."""
    found: dict[str, list[tuple[_Source, ShardRecord]]] = {}
    missing: list[int] = []
    for number in range(begun.plan["shards"]):
        name = ShardTask(number, ()).name
        here = [(one, record) for one in sources if (record := one.record(name)) is not None]
        # A part that could read an episode counts for more than one that left it out.
        fewest = min((len(record.skipped) for _, record in here), default=0)
        found[name] = [(one, record) for one, record in here if len(record.skipped) == fewest]
        if not here:
            missing.append(number)
        elif len({record.sha256 for _, record in found[name]}) > 1:
            places = " and ".join(str(one.path / SHARDS / name) for one, _ in found[name])
            raise FormatError(
                f"{places} are the same shard of the same job with different bytes; nobody knows which is "
                "right: remove one, after a look at the machines that made them"
            )
    if missing:
        raise FormatError(_missing(missing, sources, begun.plan["shards"]))
    return found


def _missing(missing: Sequence[int], sources: Sequence[_Source], shards: int) -> str:
    where = ", ".join(str(one.path) for one in sources)
    begun = [part for one in sources for part in marks(one.path)]
    said = f"{len(missing)} of {shards} shards are missing in {where}"
    counts = {part.of for part in begun}
    if len(counts) != 1:
        names = ", ".join(ShardTask(number, ()).name for number in missing[:NAMED])
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        return f"{said}: {names}{more}; make the parts that hold them, or tokenize without --part there"
    of = counts.pop()
    parts = sorted({number % of + 1 for number in missing})
    names = ", ".join(f"{number}/{of}" for number in parts[: 4 * NAMED])
    more = f" and {len(parts) - 4 * NAMED} more" if len(parts) > 4 * NAMED else ""
    return f"{said}; run `pioxide tokenize` with --part for what is not finished: {names}{more}"


def _complete(
    target: Path,
    before: Manifest | None,
    begun: Manifest,
    sources: Sequence[_Source],
    records: dict[str, list[tuple[_Source, ShardRecord]]],
    workers: int,
    progress: Progress | None,
) -> Merged:
    shards = tuple(places[0][1] for places in records.values())
    manifest = replace(begun, shards=shards, complete=True)
    if not manifest.totals["rows"]:
        raise nothing_left([s.reason for s in manifest.skipped])
    if before is None:
        begun.save_new(target)
    elif before.complete and before != manifest:
        reopen(before, {one.file: one for one in before.shards}, target)
    _bring_beside(sources, begun, target)
    make_directory(target / SHARDS)
    if progress is not None:
        progress.begin(manifest.totals["bytes"], 0)

    def bring(name: str) -> How:
        how = _bring(records[name], target)
        log.info("%s: %s", name, how)
        if progress is not None:
            progress.advance(records[name][0][1].bytes)
        return how

    with ThreadPoolExecutor(workers, thread_name_prefix="merge") as pool:
        futures = [pool.submit(bring, name) for name in records]
        try:
            how = [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    if manifest != before:
        manifest.save(target)
    remove_progress(target)
    return Merged(target, manifest, how.count("found"), how.count("linked"), how.count("copied"))


def _bring(places: Sequence[tuple[_Source, ShardRecord]], target: Path) -> How:
    """Brings one shard to the output from the first directory where it is whole.

    Raises:
        FormatError: It is damaged in all of them.
    """
    record = places[0][1]
    file = target / SHARDS / record.file
    if agrees(file, record):
        return "found"
    for source, _ in places:
        origin = source.path / SHARDS / record.file
        if origin.resolve() == file.resolve():
            continue
        near = os.stat(origin).st_dev == os.stat(file.parent).st_dev
        if near and agrees(origin, record) and hard_link(origin.resolve(), file):
            save_record(target, record)
            return "linked"
        if _copied(origin, file, record):
            save_record(target, record)
            return "copied"
    damaged = ", ".join(str(source.path / SHARDS / record.file) for source, _ in places)
    raise FormatError(f"{damaged}: damaged; run the `pioxide tokenize` that made it again to repair it")


class _Other(Exception):
    """The bytes that were copied are not those of the record."""


def _copied(origin: Path, file: Path, record: ShardRecord) -> bool:
    """Copies a shard, unless its bytes turn out to be others."""
    try:
        with open(origin, "rb") as content, atomic_file(file) as made:
            while block := content.read(BLOCK):
                made.write(block)
            if made.sha256 != record.sha256:
                raise _Other
    except _Other:
        return False
    return True


def _bring_beside(sources: Sequence[_Source], begun: Manifest, target: Path) -> None:
    """Brings what lies beside the shards, from directories whose files are those of the manifest.

    Raises:
        FormatError: It is so in none; says what is wrong in the first.
    """
    faults = [_fault_beside(source.path, begun) for source in sources]
    good = [source.path for source, fault in zip(sources, faults, strict=True) if not fault]
    if not good:
        raise FormatError(f"{faults[0]}; run the `pioxide tokenize` that made it again")
    for name in (CONTRACT_FILE, NORM_STATS, *(f"{FAST}/{one}" for one in FAST_FILES)):
        # One that was killed early may lack what no digest is known of.
        for path in good:
            if (path / name).is_file():
                make_directory((target / name).parent)
                copy_file(path / name, target / name)
                break


def _fault_beside(directory: Path, begun: Manifest) -> str:
    digests = {CONTRACT_FILE: begun.contract["sha256"]}
    digests |= {name: digest for name, digest in begun.inputs.items() if name.startswith(f"{FAST}/")}
    for name, digest in digests.items():
        try:
            if sha256_of(directory / name) == digest:
                continue
        except OSError as error:
            return f"{directory / name} can't be read ({error.strerror or error})"
        return f"{directory / name} is not the one that the tokens were made with"
    read_contract(directory)  # the statistics beside it are the contract's
    return ""
