"""The reader behind `benches/h100.py` counts kernels, bytes and operations of a program that XLA compiled."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benches"))

from hlo import Counter, Gpu, cost, parse

# x = gelu(x @ w[i]), written to cache[i], four times, and then x @ head: as XLA compiles it for an H100, less
# the attributes that nobody reads here and most of the gelu.
STEPS = """
%product (p0: bf16[64,8,32], p1: bf16[8,32,256]) -> f32[8,64,256] {
  %p0 = bf16[64,8,32]{2,1,0} parameter(0)
  %p1 = bf16[8,32,256]{2,1,0} parameter(1)
  ROOT %dot.2 = f32[8,64,256]{2,1,0} dot(%p0, %p1), lhs_batch_dims={1}, lhs_contracting_dims={2}, rhs_batch_dims={0}, rhs_contracting_dims={1}, metadata={op_name="jit(f)/while/body/dot_general"}
}

%fused_dynamic_update_slice (p0.1: bf16[4,64,256], p1.1: bf16[64,256], p2.1: s32[]) -> bf16[4,64,256] {
  %p0.1 = bf16[4,64,256]{2,1,0} parameter(0)
  %p1.1 = bf16[64,256]{1,0} parameter(1)
  %bitcast.1.1 = bf16[1,64,256]{2,1,0} bitcast(%p1.1)
  %p2.1 = s32[] parameter(2)
  %zero = s32[] constant(0)
  ROOT %dynamic_update_slice.5.1 = bf16[4,64,256]{2,1,0} dynamic-update-slice(%p0.1, %bitcast.1.1, %p2.1, %zero, %zero)
}

%fused_multiply (p0.2: f32[8,64,256]) -> bf16[64,256] {
  %p0.2 = f32[8,64,256]{2,1,0} parameter(0)
  %zero.1 = f32[] constant(0)
  %reduce.5 = f32[64,256]{1,0} reduce(%p0.2, %zero.1), dimensions={0}, to_apply=%add
  ROOT %convert.7 = bf16[64,256]{1,0} convert(%reduce.5)
}

%fused_dynamic_slice (p0.3: bf16[4,256,256], p1.3: s32[]) -> bf16[1,256,256] {
  %p0.3 = bf16[4,256,256]{2,1,0} parameter(0)
  %p1.3 = s32[] parameter(1)
  %zero.2 = s32[] constant(0)
  %dynamic_slice.5.1 = bf16[1,256,256]{2,1,0} dynamic-slice(%p0.3, %p1.3, %zero.2, %zero.2), dynamic_slice_sizes={1,256,256}
  ROOT %copy.17 = bf16[1,256,256]{2,1,0} copy(%dynamic_slice.5.1)
}

%fused_add (p0.4: s32[]) -> s32[] {
  %p0.4 = s32[] parameter(0)
  %one = s32[] constant(1)
  ROOT %add.37.1 = s32[] add(%p0.4, %one)
}

%body (arg: (s32[], bf16[64,256], bf16[4,64,256], bf16[4,256,256])) -> (s32[], bf16[64,256], bf16[4,64,256], bf16[4,256,256]) {
  %arg = (s32[], bf16[64,256]{1,0}, bf16[4,64,256]{2,1,0}, bf16[4,256,256]{2,1,0}) parameter(0)
  %index = s32[] get-tuple-element(%arg), index=0
  %weights = bf16[4,256,256]{2,1,0} get-tuple-element(%arg), index=3
  %x = bf16[64,256]{1,0} get-tuple-element(%arg), index=1
  %bitcast.4.0 = bf16[64,8,32]{2,1,0} bitcast(%x)
  %cache = bf16[4,64,256]{2,1,0} get-tuple-element(%arg), index=2
  %sliced = bf16[1,256,256]{2,1,0} fusion(%weights, %index), kind=kCustom, calls=%fused_dynamic_slice, metadata={op_name="jit(f)/while/body/dynamic_slice"}, backend_config={"fusion_backend_config":{"kind":"__custom_fusion"}}
  %bitcast.3.0 = bf16[8,32,256]{2,1,0} bitcast(%sliced)
  %gemm = f32[8,64,256]{2,1,0} fusion(%bitcast.4.0, %bitcast.3.0), kind=kCustom, calls=%product, metadata={op_name="jit(f)/while/body/dot_general"}, backend_config={"fusion_backend_config":{"kind":"__triton_nested_gemm_fusion"}}
  %gelu = bf16[64,256]{1,0} fusion(%gemm), kind=kLoop, calls=%fused_multiply
  %written = bf16[4,64,256]{2,1,0} fusion(%cache, %gelu, %index), kind=kCustom, calls=%fused_dynamic_update_slice
  %next = s32[] fusion(%index), kind=kLoop, calls=%fused_add
  ROOT %tuple.16 = (s32[], bf16[64,256]{1,0}, bf16[4,64,256]{2,1,0}, bf16[4,256,256]{2,1,0}) tuple(%next, %gelu, %written, %weights)
}

%condition (arg.1: (s32[], bf16[64,256], bf16[4,64,256], bf16[4,256,256])) -> pred[] {
  %arg.1 = (s32[], bf16[64,256]{1,0}, bf16[4,64,256]{2,1,0}, bf16[4,256,256]{2,1,0}) parameter(0)
  %index.1 = s32[] get-tuple-element(%arg.1), index=0
  %four = s32[] constant(4)
  ROOT %lt = pred[] compare(%index.1, %four), direction=LT
}

ENTRY %main.4 (w.1: bf16[4,256,256], head.1: bf16[256,512], x.1: bf16[64,256], cache.1: bf16[4,64,256]) -> (bf16[64,512], bf16[4,64,256]) {
  %zero.3 = s32[] constant(0)
  %copy.15 = s32[] copy(%zero.3)
  %cache.1 = bf16[4,64,256]{2,1,0} parameter(3), metadata={op_name="cache"}
  %copy.14 = bf16[4,64,256]{2,1,0} copy(%cache.1)
  %x.1 = bf16[64,256]{1,0} parameter(2)
  %copy.13 = bf16[64,256]{1,0} copy(%x.1)
  %head.1 = bf16[256,512]{1,0} parameter(1)
  %w.1 = bf16[4,256,256]{2,1,0} parameter(0)
  %tuple.14 = (s32[], bf16[64,256]{1,0}, bf16[4,64,256]{2,1,0}, bf16[4,256,256]{2,1,0}) tuple(%copy.15, %copy.13, %copy.14, %w.1)
  %while.1 = (s32[], bf16[64,256]{1,0}, bf16[4,64,256]{2,1,0}, bf16[4,256,256]{2,1,0}) while(%tuple.14), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"4"}}
  %while.10.0 = bf16[64,256]{1,0} get-tuple-element(%while.1), index=1
  %while.11.0 = bf16[4,64,256]{2,1,0} get-tuple-element(%while.1), index=2
  %cublas = (bf16[64,512]{1,0}, s8[4194304]{0}) custom-call(%while.10.0, %head.1), custom_call_target="__cublas$gemm", metadata={op_name="jit(f)/dot_general"}, backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]}}}
  %out = bf16[64,512]{1,0} get-tuple-element(%cublas), index=0
  ROOT %tuple.5.0 = (bf16[64,512]{1,0}, bf16[4,64,256]{2,1,0}) tuple(%out, %while.11.0)
}
"""  # noqa: E501

ROWS, MATRIX, HEAD, PARTIAL = 64 * 256 * 2, 256 * 256 * 2, 256 * 512 * 2, 8 * 64 * 256 * 4


@pytest.fixture(scope="module")
def counted():
    counter = Counter(parse(STEPS))
    return counter, {kernel.name: kernel for kernel in counter.kernels}


def touched(kernel):
    return kernel.near + kernel.far


def test_kernels_in_a_loop_count_as_often_as_it_runs(counted):
    counter, by_name = counted
    assert [(loop.name, loop.trips) for loop in counter.loops] == [("while.1", 4)]
    looped = {"sliced", "gemm", "gelu", "written", "next"}
    assert {name for name, kernel in by_name.items() if kernel.loop} == looped
    # Three copies, five kernels four times, one product.
    assert cost(counter.kernels, Gpu(1.0, 1.0, 1.0, 1.0)).kernels == 3 + 5 * 4 + 1


def test_a_slice_reads_its_part_and_an_update_in_place_writes_its_part(counted):
    by_name = counted[1]
    assert touched(by_name["sliced"]) == MATRIX + 4 + MATRIX
    assert touched(by_name["written"]) == ROWS + 4 + ROWS


def test_what_a_loop_hands_on_unchanged_is_still_an_argument(counted):
    by_name = counted[1]
    assert by_name["sliced"].arguments == MATRIX
    assert by_name["written"].arguments == 0
    assert by_name["cublas"].arguments == HEAD


def test_operations_of_fused_and_of_library_products(counted):
    by_name = counted[1]
    assert by_name["gemm"].operations == 2 * 64 * 256 * 256
    assert touched(by_name["gemm"]) == ROWS + MATRIX + PARTIAL
    assert by_name["cublas"].operations == 2 * 64 * 256 * 512
    assert by_name["gelu"].operations == 0
    # The library's scratch memory is not counted.
    assert touched(by_name["cublas"]) == ROWS + HEAD + 64 * 512 * 2


def test_costs_are_the_slower_of_reading_and_multiplying_and_a_launch(counted):
    gemm = counted[1]["gemm"]
    slow_memory = Gpu(bandwidth=1e3, cache_bandwidth=2e3, peak=1e30, launch=0.25)
    total = cost([gemm], slow_memory)
    assert total.predicted == pytest.approx(4 * (touched(gemm) / 1e3 + 0.25))
    assert total.predicted_cached == pytest.approx(4 * (touched(gemm) / 2e3 + 0.25))
    assert total.floor == 4 * gemm.operations / 1e30  # Its factors are not arguments.
    slow_products = Gpu(bandwidth=1e30, cache_bandwidth=1e30, peak=1e3, launch=0.0)
    assert cost([gemm], slow_products).floor == pytest.approx(4 * gemm.operations / 1e3)


def test_a_value_too_large_for_the_cache_is_read_from_memory():
    small = {kernel.name: kernel for kernel in Counter(parse(STEPS), cache=ROWS).kernels}
    assert small["gemm"].near == ROWS
    assert small["gemm"].far == MATRIX + PARTIAL


def test_a_loop_that_ends_by_its_data_counts_once_and_says_so():
    unknown = STEPS.replace(', backend_config={"known_trip_count":{"n":"4"}}', "")
    counter = Counter(parse(unknown))
    assert counter.loops[0].trips is None
    assert {kernel.times for kernel in counter.kernels} == {1}
    assert "lt" in {kernel.name for kernel in counter.kernels}  # The condition, which the host reads.


def test_what_is_no_module_is_refused():
    with pytest.raises(ValueError, match="ENTRY"):
        parse("nothing")
