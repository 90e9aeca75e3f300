"""Running: a run over the layers of a stack and their directions, which layers and `Frozen` share.

A pass is one direction of one layer of the stack. structure.py has a layer's sizes and converts its
arrays.

It must not know: where weights come from, which cells there are.
"""

from functools import partial

import numpy as np

from fastrnn import checks
from fastrnn._engine import runtime
from fastrnn._engine.passes import call_of, run_passes, run_with_masks
from fastrnn._layer.tape import ForwardRecord


class Running:
    """The run of a layer. A class with it has these attributes.

    Attributes
    ----------
    _structure : Structure
    _parameters, _kernel_weights : list
        For each pass its parameters, and the same as the kernels take them.
    _runner : what `_new_runner` returns
    _zeros : the zero state of calls without a state, or None; it is never written to
    _dropout, _recurrent_dropout, _rng : the settings of training, if the class has training
    """

    def _new_runner(self):
        """The compiled short way of ordinary calls; None where there is none."""
        structure = self._structure
        if runtime.core is None or structure.merge != "concat":
            return None
        return runtime.core.Runner(
            self._kernel_weights, structure.num_directions, structure.reverse,
            structure.batch_first, runtime.workspaces,
        )  # fmt: skip

    def _run_shortly(self, x, state, out=None):
        """The y and the final state of an ordinary call, without rows, ids and training.

        It returns None where `_run` must take the call, as where an argument has to be converted.
        """
        runner = self._runner
        return runner.run(x, state, out) if runner is not None and runtime.uses_core() else None

    def _run(
        self, x, state, rows, zero_masked, one_hot, embedding, keep=False, checkpoint=0,
        train=False, out=None,
    ):  # fmt: skip
        """Run the layer -> y, the final state, and with `keep` a `ForwardRecord`, else None.

        rows : lengths, mask, reset and reset_to, or None.
        zero_masked : zero_output_for_mask.
        train : True draws dropout and zoneout.
        out : an array that becomes y, or None.
        """
        structure = self._structure
        x, unbatched, rows = structure.checked_input(x, rows, one_hot, embedding)
        shown = None
        if zero_masked is not False and checks.flag("zero_output_for_mask", zero_masked):
            shown = None if rows is None else rows.shown
        batch = x.shape[1]
        first = self._first_state(state, x.shape[:2], unbatched, keep)
        last = structure.new_state(batch)
        target = None
        if out is not None:
            target = structure.checked_out(out, x, unbatched, first, shown)
        y, layers = self._run_layers(
            x, unbatched, first, last, rows, keep, checkpoint, train, target
        )  # fmt: skip
        y = structure.output(y, unbatched, shown, keep and target is None)
        if out is not None:
            if target is None:
                out[...] = y
            y = out
        outputs = (None,) * structure.num_directions
        if structure.merge == "mul" and keep:
            outputs = tuple(last[0][-2:].copy())  # the user may write to the final state
        last = structure.state_to_user(last, unbatched)
        if not keep:
            return y, last, None
        return y, last, ForwardRecord(layers, unbatched, rows, shown, checkpoint, outputs)

    def _first_state(self, state, sizes, unbatched, keep):
        """The state before the first step, as passes read it; with `keep` a copy, for the tape.

        sizes : T and B
        """
        steps, batch = sizes
        if state is None:
            zeros = self._zeros  # another thread may assign it meanwhile
            if zeros is None or zeros[0].shape[1] != batch:
                self._zeros = zeros = self._structure.new_state(batch, np.zeros)
            return zeros
        first = self._structure.checked_state(state, batch, unbatched, steps)
        return tuple([s.copy() for s in first]) if keep else first

    def _run_layers(self, x, unbatched, first, last, rows, keep, checkpoint, train, target=None):
        """Run all layers of the stack -> the top layer's y (T, B, D*H), `ForwardRecord.layers`.

        last : the arrays of the state after the last step; they are written.
        target : an array for the top layer's y, or None.
        """
        structure, (steps, batch, _) = self._structure, x.shape
        run, dropout = run_passes, 0
        if train:
            dropout = self._dropout
            if self._recurrent_dropout or self.options.zoneout:
                run = partial(run_with_masks, self._rng, self._recurrent_dropout)
        by_batch = structure.batch_first and not unbatched  # the layout of y that the user gets
        shape = (batch, steps, structure.width) if by_batch else (steps, batch, structure.width)
        layers, parameters, kernel_weights = [], self._parameters, self._kernel_weights
        for passes_of_layer in structure.passes_of_layers:
            factors = None
            if dropout and layers:
                x, factors = self._with_dropout(x)
            if target is not None and len(layers) == structure.num_layers - 1:
                y = target
            else:
                y = np.empty(shape, structure.dtype)
                y = y.swapaxes(0, 1) if by_batch else y
            passes = ()
            for slot, reverse, half in passes_of_layer:
                part = y if half is None else y[:, :, half]
                own, weights = parameters[slot], kernel_weights[slot]
                passes += (call_of((reverse, slot, first, own, weights, part, last, None, None)),)
            passes = run(structure.cell, x, passes, keep, rows, checkpoint)
            layers.append((x, factors, passes))
            x = y  # the input of the layer above
        return y, layers
