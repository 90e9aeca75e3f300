"""Questions about torch: does it follow a call, to compile, export, transform, record or script?

These questions, and what transforms wrap tensors in, are private parts of torch, because it has no
public ones. Tests hold them to torch 2.13.

It must not know: modules, kernels.
"""

import torch
from torch.autograd import forward_ad

NO_SCRIPT = (
    "fastrnn's modules cannot become TorchScript or ONNX, as by torch.jit.trace, torch.jit.script "
    "and torch.onnx.export: call fastrnn.torch.restore(model) before"
)
_RECORDING = torch._C._TorchDispatchModeKey.PROXY, torch._C._TorchDispatchModeKey.FAKE


is_jit_traced = torch._C._is_tracing  # what torch.jit.is_tracing asks, which takes twice as long
_watch = torch._C._dynamo.eval_frame.get_eval_frame_callback
_transforms_are_active = torch._C._are_functorch_transforms_active
_modes = torch._C._len_torch_dispatch_stack


def is_alone():
    """Return whether neither `is_traced` nor `is_watched` is true of a call, quickly; it may return
    False where both are false."""
    return not (
        torch.compiler.is_compiling()
        or _watch() is not None
        or _transforms_are_active()
        or _modes() > 0
        or forward_ad._current_level >= 0
    )


def is_traced():
    """Return whether torch compiles, exports, transforms or records the call."""
    return torch.compiler.is_compiling() or is_transformed() or is_recorded()


def is_transformed():
    """Return whether a transform of torch.func, such as vmap or grad, or forward-mode
    differentiation is at work."""
    return _transforms_are_active() or forward_ad._current_level >= 0


def is_recorded():
    """Return whether make_fx records operations, or fake tensors stand for their results."""
    return _modes() > 0 and any(
        [torch._C._get_dispatch_mode(mode) is not None for mode in _RECORDING]
    )


def is_watched():
    """Return whether torch.compile watches a call that it does not follow, as one within a call
    that it has given up. It would compile functions of the call one by one."""
    return not torch.compiler.is_compiling() and _watch() is not None


def must_be_alone():
    """NotImplementedError if torch follows a call that has no operations to follow."""
    if is_transformed() or is_recorded():
        raise NotImplementedError(
            "torch.func's transforms, forward-mode differentiation, make_fx and fake tensors "
            "cannot follow a frozen module, a PackedSequence, or training with recurrent_dropout "
            "or zoneout: call thaw() or eval(), or give lengths"
        )


def is_followed(gradients):
    """Return whether torch follows a backward pass: by a transform or a record, or because
    is_grads_batched=True maps over the gradients, which have no memory then."""
    batched = torch._C._functorch.is_legacy_batchedtensor
    mapped = any([d is not None and batched(d) for d in gradients])
    return mapped or is_transformed() or is_recorded()


def unwrapped(tensor):
    """The tensor that transforms have wrapped: each of them wraps all that is made within it.

    Raises
    ------
    NotImplementedError
        If a transform maps over the tensor.
    """
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        if functorch.is_batchedtensor(tensor):
            raise NotImplementedError(
                "lengths, mask and reset cannot be mapped over by torch.func's transforms: give "
                "one for all"
            )
        tensor = functorch.get_unwrapped(tensor)
    return tensor


def untransformed():
    """A context in which operations are not transformed."""
    return torch._C._DisableFuncTorch()
