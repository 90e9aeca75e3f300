"""Whether torch follows a call's operations: to compile, to export, to transform, to script.

These questions, and what transforms wrap tensors in, are private parts of torch, because it has no
public ones. Tests hold them to torch 2.13.

It must not know: modules, kernels.
"""

import torch

NO_SCRIPT = (
    "fastrnn's modules cannot become TorchScript or ONNX, as by torch.jit.trace, torch.jit.script "
    "and torch.onnx.export: call fastrnn.torch.restore(model) before"
)


def is_traced():
    """Return whether torch compiles, exports or transforms the call."""
    return torch.compiler.is_compiling() or is_transformed()


def is_transformed():
    """Return whether a transform of torch.func, such as vmap or grad, is at work."""
    return torch._C._are_functorch_transforms_active()


def are_batched(gradients):
    """Return whether is_grads_batched=True maps over gradients, which have no memory then."""
    return any(
        [d is not None and torch._C._functorch.is_legacy_batchedtensor(d) for d in gradients]
    )


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
