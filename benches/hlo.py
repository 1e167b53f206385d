"""Counts what a compiled XLA program makes a GPU do: each kernel, the bytes it touches and its operations.

`parse` reads the text of an optimised HLO module and `Counter` walks it from its entry: fusions, library
calls and copies, those in a loop as often as the loop runs, and what devices exchange. `h100.py` and
`scale.py` print the sums.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

# Instructions that start no kernel: they name memory that is there already.
_NO_KERNEL = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier"),
    *("partition-id", "replica-id"),
}
_COLLECTIVES = {"all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute"}
_BITS = {"pred": 8, "s4": 4, "u4": 4, "bf16": 16, "c64": 64, "c128": 128}
_ARRAY = re.compile(r"\b(pred|bf16|f8\w+|[fsuc]\d+)\[([\d,]*)\]")
_HEAD = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_LINE = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = (.*)")


class Shape(NamedTuple):
    """One array: its element type and dimensions."""

    dtype: str
    dimensions: tuple[int, ...]

    @property
    def itemsize(self) -> float:
        digits = re.search(r"\d+", self.dtype)
        assert self.dtype in _BITS or digits is not None
        return _BITS.get(self.dtype, int(digits[0]) if digits else 0) / 8

    @property
    def size(self) -> int:
        return math.prod(self.dimensions)

    @property
    def bytes(self) -> float:
        return self.size * self.itemsize


@dataclass(frozen=True)
class Instruction:
    """One line of HLO. `operands` are names; of a parameter, its number."""

    name: str
    shapes: tuple[Shape, ...]
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    root: bool

    @property
    def bytes(self) -> float:
        return sum(shape.bytes for shape in self.shapes)

    def attribute(self, name: str) -> str:
        """The word behind `name=`, or nothing."""
        found = re.search(rf"\b{name}=%?([\w.\-]+)", self.attributes)
        return found[1] if found else ""

    def axes(self, name: str) -> list[int]:
        """The numbers behind `name={...}`, or in the JSON of a library call behind `"name":[...]`."""
        found = re.search(rf'\b{name}=\{{([\d,]*)\}}|"{name}":\[([\d,"]*)\]', self.attributes)
        return [int(digits) for digits in re.findall(r"\d+", found[0])] if found else []


Computation = Mapping[str, Instruction]


class Module(NamedTuple):
    """Computations by name, each its instructions by name in order; the entry's name."""

    computations: Mapping[str, Computation]
    entry: str


@dataclass(frozen=True)
class Kernel:
    """One place of a program where a kernel is started.

    Attributes:
        name: The instruction's.
        kind: What kind of kernel: the opcode, a fusion's kind, or a library call's target.
        place: Where in the source, as JAX named it.
        loop: Whether it is inside a loop.
        times: How often it runs.
        arguments: Bytes that it reads of the program's arguments, weights above all.
        near: Bytes it reads or writes of values that the program makes and that fit into the L2 cache.
        far: All other bytes that it reads or writes, its arguments included.
        operations: Of products, two for each multiplication.
        itemsize: Bytes of a factor of its products, the widest; 0 without a product.
    """

    name: str
    kind: str
    place: str
    loop: bool
    times: int
    arguments: float
    near: float
    far: float
    operations: float
    itemsize: float


class Collective(NamedTuple):
    """One place of a program where devices exchange data.

    Attributes:
        kind: The opcode, without "-start".
        place: Where in the source, as JAX named it.
        times: How often it runs.
        shapes: What is exchanged: results of a gather, otherwise operands.
    """

    kind: str
    place: str
    times: int
    shapes: tuple[Shape, ...]

    @property
    def bytes(self) -> float:
        """Of one run, on one device."""
        return sum(shape.bytes for shape in self.shapes)


class Loop(NamedTuple):
    """A loop; `trips` is None where the compiler doesn't know them, and the host reads a flag after each."""

    name: str
    trips: int | None


def parse(text: str) -> Module:
    """Reads the text of an HLO module.

    Raises:
        ValueError: The text has no entry.
    """
    computations: dict[str, dict[str, Instruction]] = {}
    entry, current = "", {}
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = computations[head[2]] = {}
            entry = head[2] if head[1] else entry
        elif found := _LINE.match(line):
            current[found[2]] = _instruction(found[2], found[3], root=bool(found[1]))
    if not entry:
        raise ValueError("no HLO module: there is no line that begins with ENTRY")
    return Module(computations, entry)


def _instruction(name: str, text: str, *, root: bool) -> Instruction:
    end = _closing(text, 0) + 1 if text[0] == "(" else text.index(" ")
    shapes = tuple(
        Shape(dtype, tuple(map(int, filter(None, sizes.split(",")))))
        for dtype, sizes in _ARRAY.findall(text[:end])
    )
    rest = text[end + 1 :]
    begin = rest.index("(")
    stop = _closing(rest, begin)
    opcode, inside = rest[:begin], rest[begin + 1 : stop]
    operands = (inside,) if opcode == "parameter" else tuple(re.findall(r"%([\w.\-]+)", inside))
    return Instruction(name, shapes, opcode, operands, rest[stop + 1 :], root)


def _closing(text: str, at: int) -> int:
    depth = 0
    for index in range(at, len(text)):
        depth += (text[index] in "({[") - (text[index] in ")}]")
        if not depth:
            return index
    raise ValueError(f"brackets never close: {text[at : at + 80]}")


class Counter:
    """Kernels and loops of a module, in the order in which they are started.

    Attributes:
        kernels: One for each place.
        loops: All that are entered.
        collectives: One for each place.
    """

    def __init__(self, module: Module, *, cache: int = 20 << 20) -> None:
        """Walks the module.

        Args:
            module: What was parsed.
            cache: The most bytes of a value that stays in the L2 cache until it is read.
        """
        self.kernels: list[Kernel] = []
        self.loops: list[Loop] = []
        self.collectives: list[Collective] = []
        self._computations, self._cache = module.computations, cache
        inputs = [i for i in self._computations[module.entry].values() if i.opcode == "parameter"]
        self._walk(module.entry, {i.name: (True,) * max(len(i.shapes), 1) for i in inputs}, 1, loop=False)

    def _walk(self, name: str, origins: dict[str, tuple[bool, ...]], times: int, *, loop: bool) -> None:
        """Counts one computation. `origins` says of names whether each of their arrays is an argument."""
        inside = self._computations[name]
        for i in inside.values():
            if i.opcode == "parameter":
                origins.setdefault(i.name, (False,) * max(len(i.shapes), 1))
            elif i.opcode in ("bitcast", "opt-barrier"):
                origins[i.name] = origins[i.operands[0]]
            elif i.opcode == "tuple":
                origins[i.name] = tuple(flag for o in i.operands for flag in origins[o])
            elif i.opcode == "get-tuple-element":
                origins[i.name] = origins[i.operands[0]][int(i.attribute("index")) :][:1]
            else:
                origins[i.name] = (False,) * max(len(i.shapes), 1)
            if i.opcode in _NO_KERNEL or i.opcode.endswith(("-done", "-update")):
                continue
            if i.opcode.removesuffix("-start") in _COLLECTIVES:
                self.collectives.append(_collective(i, inside, times))
            elif i.opcode == "while":
                self._loop(i, origins[i.operands[0]], times)
            elif i.opcode == "conditional":
                branches = re.search(r"branch_computations=\{([^}]*)\}", i.attributes)
                called = (
                    re.findall(r"[\w.\-]+", branches[1])[-1] if branches else i.attribute("true_computation")
                )
                self._walk(called, {}, times, loop=loop)
            elif i.opcode in ("call", "async-start"):
                called = i.attribute("to_apply") or i.attribute("calls")
                self._walk(called, self._passed(called, [origins[o] for o in i.operands]), times, loop=loop)
            else:
                self.kernels.append(self._kernel(i, inside, origins, times, loop))

    def _passed(self, name: str, given: Sequence[tuple[bool, ...]]) -> dict[str, tuple[bool, ...]]:
        parameters = [i for i in self._computations[name].values() if i.opcode == "parameter"]
        return {p.name: given[int(p.operands[0])] for p in parameters}

    def _loop(self, i: Instruction, given: tuple[bool, ...], times: int) -> None:
        found = re.search(r'known_trip_count":\{"n":"(\d+)"', i.attributes)
        trips = int(found[1]) if found else None
        self.loops.append(Loop(i.name, trips))
        body = self._computations[i.attribute("body")]
        root = next(x for x in body.values() if x.root)
        parameter = next(x for x in body.values() if x.opcode == "parameter")
        # An argument stays one where the body hands it on as it came.
        kept = tuple(
            flag
            and (e := body[o]).opcode == "get-tuple-element"
            and e.operands[0] == parameter.name
            and int(e.attribute("index")) == index
            for index, (flag, o) in enumerate(zip(given, root.operands, strict=True))
        )
        runs = times * (trips or 1)
        self._walk(i.attribute("body"), {parameter.name: kept}, runs, loop=True)
        if trips is None:
            self._walk(i.attribute("condition"), {}, runs, loop=True)

    def _kernel(
        self,
        i: Instruction,
        inside: Computation,
        origins: Mapping[str, tuple[bool, ...]],
        times: int,
        loop: bool,
    ) -> Kernel:
        given = [inside[o] for o in i.operands]
        whole = [g.bytes for g in given]
        read, written, kind, operations, itemsize = whole, i.bytes, i.opcode, 0.0, 0.0
        if i.opcode == "fusion":
            called = i.attribute("calls")
            read, written = self._fused(called, whole, written)
            operations, itemsize = self._products(called)
            library = re.search(r'"kind":"(__[\w$]+)"', i.attributes)
            kind = (
                f"fusion {library[1].strip('_')}" if library else f"fusion {i.attribute('kind')[1:].lower()}"
            )
        elif i.opcode == "custom-call":
            target = re.search(r'custom_call_target="([^"]+)"', i.attributes)
            kind = target[1] if target else kind
            # Of several results some are a library's scratch memory, flat bytes that may never be touched.
            scratch = [s for s in i.shapes if s.dtype in ("s8", "u8") and len(s.dimensions) == 1]
            written -= sum(s.bytes for s in scratch) if len(i.shapes) > 1 else 0
            operations = _library_operations(i, kind, given)
            itemsize = max((g.shapes[0].itemsize for g in given[:2]), default=0) if operations else 0
        elif i.opcode == "dynamic-update-slice":
            read, written = [0.0, whole[1], *[0.0] * (len(whole) - 2)], whole[1]
        elif i.opcode in ("dynamic-slice", "slice", "gather"):
            read = [written, *whole[1:]]
        elif i.opcode in ("dot", "convolution"):
            operations, itemsize = _operations(i, given), max(g.shapes[0].itemsize for g in given)
        arguments, near = 0.0, written if written <= self._cache else 0.0
        for o, part, all_of_it in zip(i.operands, read, whole, strict=True):
            if all(origins[o]) and inside[o].opcode != "constant":
                arguments += part
            elif all_of_it <= self._cache:
                near += part
        place = re.search(r'op_name="([^"]*)"', i.attributes)
        far = sum(read) + written - near
        named = place[1] if place else ""
        return Kernel(i.name, kind, named, loop, times, arguments, near, far, operations, itemsize)

    def _fused(self, name: str, whole: Sequence[float], written: float) -> tuple[list[float], float]:
        """Bytes that a fusion reads of each operand, as far as they are needed, and those that it writes."""
        inside = self._computations[name]
        root = next(i for i in inside.values() if i.root)
        in_place = set()
        for result in (inside[o] for o in root.operands) if root.opcode == "tuple" else [root]:
            while result.opcode == "bitcast":
                result = inside[result.operands[0]]
            if result.opcode == "dynamic-update-slice":
                in_place.add(result.name)
                written -= result.bytes - inside[result.operands[1]].bytes
        # The part of each value that is needed, followed from the results back.
        needed: dict[str, float] = defaultdict(float, {root.name: 1.0})
        for i in reversed(inside.values()):
            part = min(needed[i.name], 1.0)
            for position, o in enumerate(i.operands if i.opcode != "parameter" else ()):
                if position == 0 and i.opcode in ("dynamic-slice", "slice", "gather"):
                    needed[o] += part * i.bytes / max(inside[o].bytes, 1)
                elif position == 0 and i.name in in_place:
                    continue
                elif i.opcode == "fusion":
                    sizes = [inside[x].bytes for x in i.operands]
                    needed[o] += self._fused(i.attribute("calls"), sizes, 0.0)[0][position] / max(
                        sizes[position], 1
                    )
                else:
                    needed[o] += 1.0 if i.opcode == "broadcast" else part
        read = list(whole)
        for i in inside.values():
            if i.opcode == "parameter":
                read[int(i.operands[0])] *= min(needed[i.name], 1.0)
        return read, max(written, 0.0)

    def _products(self, name: str) -> tuple[float, float]:
        """Operations of the products in a fusion, and the bytes of their widest factor."""
        total, widest = 0.0, 0.0
        inside = self._computations[name]
        for i in inside.values():
            if i.opcode in ("dot", "convolution", "scaled-dot"):
                given = [inside[o] for o in i.operands]
                total += _operations(i, given)
                widest = max(widest, *(g.shapes[0].itemsize for g in given[:2]))
            elif i.opcode in ("fusion", "call"):
                more, wide = self._products(i.attribute("calls") or i.attribute("to_apply"))
                total, widest = total + more, max(widest, wide)
        return total, widest


def _collective(i: Instruction, inside: Computation, times: int) -> Collective:
    given = tuple(shape for o in i.operands for shape in inside[o].shapes)
    kind = i.opcode.removesuffix("-start")
    # What is begun to be gathered has its operands before its results.
    results = i.shapes[len(given) :] if kind != i.opcode else i.shapes
    place = re.search(r'op_name="([^"]*)"', i.attributes)
    shapes = results if kind == "all-gather" else given
    return Collective(kind, place[1] if place else "", times, shapes)


def _operations(i: Instruction, given: Sequence[Instruction]) -> float:
    if i.opcode == "convolution":
        return 2.0 * i.shapes[0].size * _taps(i, given[1].shapes[0])
    factor = given[0].shapes[0].dimensions
    return 2.0 * i.shapes[0].size * math.prod(factor[axis] for axis in i.axes("lhs_contracting_dims"))


def _taps(i: Instruction, kernel: Shape) -> int:
    """Multiplications for one output of a convolution."""
    labels = re.search(r"dim_labels=\w+_(\w+)->", i.attributes)
    assert labels is not None
    return math.prod(d for d, label in zip(kernel.dimensions, labels[1], strict=True) if label != "o")


def _library_operations(i: Instruction, target: str, given: Sequence[Instruction]) -> float:
    out = i.shapes[0]
    if target.startswith("__cublas"):
        factor = given[0].shapes[0].dimensions
        return 2.0 * out.size * math.prod(factor[axis] for axis in i.axes("lhs_contracting_dimensions"))
    if "conv" in target and "dim_labels" in i.attributes:
        return 2.0 * out.size * _taps(i, given[1].shapes[0])
    if "fmha" in target:  # Query [B, T, N, H] and key [B, S, K, H]; forward has two products, backward five.
        times = 10.0 if "Backward" in target else 4.0
        return times * given[0].shapes[0].size * given[1].shapes[0].dimensions[1]
    return 0.0


@dataclass(frozen=True)
class Gpu:
    """What a GPU reaches; `peak` is of bfloat16 products, `launch` seconds between two kernels."""

    bandwidth: float
    cache_bandwidth: float
    peak: float
    launch: float

    def seconds(self, kernel: Kernel, *, cached: bool) -> float:
        """One run, the launch left out. `cached` counts what may lie in the L2 cache at its speed."""
        near = kernel.near / (self.cache_bandwidth if cached else self.bandwidth)
        return max(kernel.far / self.bandwidth + near, self._multiplying(kernel))

    def least(self, kernel: Kernel) -> float:
        """One run that would touch nothing but arguments."""
        return max(kernel.arguments / self.bandwidth, self._multiplying(kernel))

    def _multiplying(self, kernel: Kernel) -> float:
        # float32 is multiplied as TF32, JAX's default on a GPU, at half the rate; 8 bits at twice.
        return kernel.operations * kernel.itemsize / 2 / self.peak


class Cost(NamedTuple):
    """Sums over kernels as often as they run; seconds of all kernels one after the other, launches included.

    `floor` counts arguments and operations alone, with no launch. `predicted` reads all from memory,
    `predicted_cached` small values from the L2 cache.
    """

    kernels: int
    bytes: float
    operations: float
    floor: float
    predicted: float
    predicted_cached: float


def cost(counted: Sequence[Kernel], gpu: Gpu) -> Cost:
    """Adds kernels up."""
    count = sum(k.times for k in counted)
    launches = count * gpu.launch
    return Cost(
        count,
        sum(k.times * (k.near + k.far) for k in counted),
        sum(k.times * k.operations for k in counted),
        sum(k.times * gpu.least(k) for k in counted),
        sum(k.times * gpu.seconds(k, cached=False) for k in counted) + launches,
        sum(k.times * gpu.seconds(k, cached=True) for k in counted) + launches,
    )


def by_place(counted: Sequence[Kernel]) -> Iterator[tuple[str, list[Kernel]]]:
    """Kernels that are the same but for the layer they are in, together."""
    groups: dict[str, list[Kernel]] = defaultdict(list)
    for k in counted:
        tail = "/".join(k.place.split("/")[-2:])
        groups[f"{'loop' if k.loop else 'once'}  {k.kind:28.28}  {tail[-60:]}"].append(k)
    yield from groups.items()
