"""Freezing: modules whose weights are packed once, for inference, until they change.

It must not know: sequences, gradients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn

from fastrnn._layer.frozen import Frozen
from fastrnn.torch._net import DTYPES, array_of, places

if TYPE_CHECKING:
    from typing import Self

    from fastrnn._typing import Precision


class _Packed(NamedTuple):
    """A `Frozen`, and the parameters that it was packed from: where they are, and the tensors."""

    frozen: Frozen
    where: list[Any]
    tensors: list[Any]

    def __deepcopy__(self, memo):
        """None, as of a `Net`: a copied module, parametrized ones too, packs anew."""
        return None


class Freezing(nn.Module):
    """A module that can be frozen.

    A subclass has `_names`, `_structure`, `_tensors` and `_check_parameters`: see `Bound`.
    """

    def __init__(self):
        super().__init__()
        self._is_frozen, self._precision = False, None
        self._frozen = {}  # by precision: a `_Packed`, or None

    def freeze(self, precision: Precision | None = None) -> Self:
        """Pack the weights once, for inference, rather than at each call.

        It lasts until `thaw`, ``train()`` or ``load_state_dict``. Calls compute no gradients then.
        A parameter that is another tensor, or was changed by an operation of torch's, is packed
        anew. Changes that torch does not count are not seen: through ``.data``, a NumPy view,
        another process' shared memory, or an optimizer with ``fused=True``. `freeze` itself
        always packs anew.

        Parameters
        ----------
        precision : None, "bfloat16-weights", "bfloat16" or "int8"
            As for ``fastrnn.LSTM.freeze``. With None, autocast to bfloat16 means "bfloat16".

        Returns
        -------
        the module itself, in ``eval()`` mode

        Raises
        ------
        ValueError, TypeError
            For an unknown precision, and for one other than None if parameters are not float32.
        RuntimeError
            For parameters that are neither float32 nor float64, or not on the CPU.

        Examples
        --------
        >>> import torch
        >>> from fastrnn.torch import LSTM
        >>> lstm, x = LSTM(3, 5), torch.ones(7, 2, 3)
        >>> y, _ = lstm.freeze()(x)
        >>> bool((y == lstm.thaw()(x)[0]).all())
        True
        """
        tensors, self._frozen = self._tensors(), {}
        self._check_parameters(tensors)
        self._packed(tensors, precision)
        self._is_frozen, self._precision = True, precision
        return self.eval()

    def thaw(self) -> Self:
        """Undo `freeze`: calls pack the weights anew, and compute gradients.

        Returns
        -------
        the module itself

        Examples
        --------
        >>> import torch
        >>> from fastrnn.torch import LSTM
        >>> y, _ = LSTM(3, 5).freeze().thaw()(torch.ones(7, 2, 3))
        >>> y.requires_grad
        True
        """
        self._is_frozen, self._frozen = False, {}
        return self

    def train(self, mode: bool = True) -> Self:
        """Set the mode, as every module does; training mode thaws.

        Parameters
        ----------
        mode : bool
            True is training mode.

        Returns
        -------
        the module itself

        Examples
        --------
        >>> import torch
        >>> from fastrnn.torch import LSTM
        >>> y, _ = LSTM(3, 5).freeze().train()(torch.ones(7, 2, 3))
        >>> y.requires_grad
        True
        """
        if mode:
            self.thaw()
        return super().train(mode)

    def _shown(self):
        """The words of `repr` about freezing, in a list."""
        if not self._is_frozen:
            return []
        return ["frozen" if self._precision is None else f"frozen to {self._precision}"]

    def _load_from_state_dict(self, *arguments):
        self.thaw()
        super()._load_from_state_dict(*arguments)

    def _packed(self, tensors, precision):
        """The `Frozen` of the parameters as they are now."""
        where = places(tensors), [_version(t) for t in tensors]
        held = self._frozen.get(precision)
        if held is not None and held.where == where:
            if all([a is b for a, b in zip(held.tensors, tensors, strict=True)]):
                return held.frozen
        structure = self._structure(DTYPES[tensors[0].dtype])
        named = dict(zip(self._names, map(array_of, tensors), strict=True))
        arrays = {name: np.ascontiguousarray(array) for name, array in named.items()}
        frozen = Frozen(
            structure, [structure.parameters(k, arrays) for k in range(structure.slots)], precision
        )
        self._frozen[precision] = _Packed(frozen, where, tensors)
        return frozen

    def _frozen_for(self, tensors, input, state):
        """The `Frozen` of a call, or None if the module is not frozen."""
        if not self._is_frozen:
            return None
        precision = self._precision
        wanting = [t is not None and t.requires_grad for t in (input, *state)]
        if torch.is_grad_enabled() and any(wanting):
            raise RuntimeError(
                "a frozen module computes no gradients, but input or hx wants one: call thaw(), or "
                "use torch.no_grad()"
            )
        low = torch.is_autocast_enabled("cpu") and precision is None
        if low and torch.get_autocast_dtype("cpu") is torch.bfloat16:
            precision = "bfloat16" if tensors[0].dtype is torch.float32 else None
        return self._packed(tensors, precision)


def _version(tensor):
    """Torch's count of a tensor's changes. It has none for inference tensors: a new object, which
    equals nothing, makes `_packed` pack anew."""
    return object() if tensor.is_inference() else tensor._version
