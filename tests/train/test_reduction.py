import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from shoal.train.group.stretches import stretch
from shoal.train.layout import Contribution, Layout
from shoal.train.reduction import _CHUNK_BYTES, Reduction
from shoal.train.tree import Node, reduce_leaves

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def make_layout(dtypes, width):
    module = nn.Module()
    for index, dtype in enumerate(dtypes):
        module.register_parameter(f"p{index}", nn.Parameter(torch.zeros(width + index, dtype=dtype)))
    module.register_buffer("mean", torch.zeros(3))
    module.register_buffer("calls", torch.zeros(2, dtype=torch.int32))
    return Layout(module)


def make_leaf(layout, part):
    generator = torch.Generator().manual_seed(part)
    made = layout.new()
    for flat in made.flats:
        flat.copy_(torch.randn(flat.shape, generator=generator) * 10)
    return made


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(DTYPES), min_size=1, max_size=4),
    st.sampled_from([1, 17, 300, _CHUNK_BYTES // 4 + 5]),
    st.integers(1, 12),
    st.data(),
)
def test_any_number_of_members_gets_the_bits_of_one(dtypes, width, num_leaves, data):
    layout = make_layout(dtypes, width)
    num_members = data.draw(st.integers(1, num_leaves))
    size = layout.size_bytes
    alone = reduce_leaves(Node(0, num_leaves), lambda part: make_leaf(layout, part), Contribution.add)

    reduction = Reduction(layout, num_leaves, num_members)
    memories = [torch.zeros(reduction.memory_bytes, dtype=torch.uint8) for _ in range(num_members)]
    for memory, roots in zip(memories, reduction.roots, strict=True):
        for index, root in enumerate(roots):
            whole = reduce_leaves(root, lambda part: make_leaf(layout, part), Contribution.add)
            memory[index * size : (index + 1) * size] = whole.data
    result = torch.zeros(size, dtype=torch.uint8)
    for rank in data.draw(st.permutations(range(num_members))):
        reduction(memories, result, *stretch(size, rank, num_members))

    assert torch.equal(result, alone.data)
