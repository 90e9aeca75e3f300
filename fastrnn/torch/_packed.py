"""PackedSequence: as a padded batch with lengths, and back.

It must not know: modules, kernels.
"""

import torch
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence


def unpacked(packed, batch_first):
    """The padded batch of a PackedSequence, its rows in the user's order, and their lengths."""
    return pad_packed_sequence(packed, batch_first)


def packed_like(packed, y, lengths, batch_first):
    """y as a PackedSequence in the order of `packed`."""
    order = packed.sorted_indices
    if order is not None:
        y, lengths = y.index_select(0 if batch_first else 1, order), lengths[order]
    data, sizes = torch._VF._pack_padded_sequence(y, lengths, batch_first)
    return PackedSequence(data, sizes, order, packed.unsorted_indices)
