"""accelerate and restore: swap the recurrent modules of a model for fastrnn's, and back.

A swapped module has the very parameters of the one before it, so optimizers go on.

It must not know: how modules compute.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.nn.utils import parametrize

from fastrnn import checks
from fastrnn._layer.frozen_weights import PRECISIONS
from fastrnn.torch._cells import GRUCell, LSTMCell, RNNCell
from fastrnn.torch._freezing import Freezing
from fastrnn.torch._modules import GRU, LSTM, RNN

if TYPE_CHECKING:
    from fastrnn._typing import Precision

_OURS = {
    nn.RNN: RNN, nn.LSTM: LSTM, nn.GRU: GRU,
    nn.RNNCell: RNNCell, nn.LSTMCell: LSTMCell, nn.GRUCell: GRUCell,
}  # fmt: skip
_THEIRS = {ours: theirs for theirs, ours in _OURS.items()}
_NAMES = {cls.__name__ for cls in _OURS}

_ARGUMENTS = (  # of constructors, where a module has them
    "input_size", "hidden_size", "num_layers", "nonlinearity", "bias", "batch_first", "dropout",
    "bidirectional", "proj_size",
)  # fmt: skip
_HOOKS = (
    "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called",
    "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_backward_hooks",
    "_backward_pre_hooks", "_is_full_backward_hook",
)  # fmt: skip
_OF_ONE_MODULE = (  # hooks that refer to the module itself
    "_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)  # fmt: skip


class Report(NamedTuple):
    """The modules that `accelerate` or `restore` swapped, and those that it left.

    Attributes
    ----------
    swapped : list of str
        Their names in the model.
    left : dict
        The name of each recurrent module that was left, or not frozen, and the reason.

    Examples
    --------
    >>> import torch
    >>> from fastrnn.torch import accelerate
    >>> accelerate(torch.nn.Sequential(torch.nn.GRU(3, 5).double(), torch.nn.GRU(3, 5).half()))
    Report(swapped=['0'], left={'1': 'weight_ih_l0 is torch.float16'})
    """

    swapped: list[str]
    left: dict[str, str]


def accelerate(
    model: nn.Module, *, inference_only: bool = False, precision: Precision | None = None
) -> Report:
    """Swap each recurrent module of torch.nn in a model for fastrnn's, in place.

    The new modules have the same parameters, the very tensors: optimizers, `state_dict` and tied
    weights go on as before. Hooks on calls are kept. A model that refers to the old module from
    elsewhere, such as a list of its own, still has it there.

    Parameters
    ----------
    model : torch.nn.Module
    inference_only : bool
        Freeze all modules of fastrnn's in the model, subclasses too: their weights are packed once,
        and they compute no gradients until ``model.train()``. The model must be in ``eval()`` mode.
        A module that cannot be frozen, such as one of float16, is left.
    precision : None, "bfloat16-weights", "bfloat16" or "int8"
        With inference_only, as for ``fastrnn.torch.LSTM.freeze``. With None a module that is frozen
        keeps its precision.

    Returns
    -------
    Report

    Raises
    ------
    TypeError
        For a model that is no torch.nn.Module.
    ValueError
        For inference_only of a model in training mode, for a precision without inference_only, and
        for an unknown one.

    Warns
    -----
    UserWarning
        If the model has no module that could be swapped, and none of fastrnn's.

    See Also
    --------
    restore : the way back, which `torch.onnx.export` and other devices need.

    Examples
    --------
    >>> import torch
    >>> from fastrnn.torch import accelerate
    >>> model = torch.nn.ModuleDict({"encoder": torch.nn.GRU(3, 5), "head": torch.nn.Linear(5, 2)})
    >>> accelerate(model).swapped
    ['encoder']
    >>> type(model["encoder"])
    <class 'fastrnn.torch._modules.GRU'>
    """
    _check_model(model)
    checks.flag("inference_only", inference_only)
    if precision is not None:
        checks.choice("precision", precision, PRECISIONS)
    if precision is not None and not inference_only:
        raise ValueError(f"precision must be None without inference_only, got {precision!r}")
    if inference_only and model.training:
        raise ValueError(
            "model must be in eval mode for inference_only: call model.eval() before. "
            "model.train() ends it"
        )
    report = _swap(model, (nn.RNNBase, nn.RNNCellBase), _reason_against_ours, _OURS)
    if not any(isinstance(module, Freezing) for module in model.modules()):
        reasons = "".join(f"; {name or 'model'}: {why}" for name, why in report.left.items())
        warnings.warn(
            f"accelerate found no recurrent module of torch.nn that it could swap{reasons}",
            UserWarning, stacklevel=2,
        )  # fmt: skip
    if inference_only:
        _freeze_all(model, precision, report.left)
    return report


def restore(model: nn.Module) -> Report:
    """Swap fastrnn's modules in a model for those of torch.nn, in place: undo `accelerate`.

    Parameters
    ----------
    model : torch.nn.Module

    Returns
    -------
    Report

    Raises
    ------
    TypeError
        For a model that is no torch.nn.Module.

    Examples
    --------
    >>> import torch
    >>> from fastrnn.torch import GRU, restore
    >>> model = torch.nn.Sequential(GRU(3, 5))
    >>> restore(model).swapped
    ['0']
    >>> type(model[0])
    <class 'torch.nn.modules.rnn.GRU'>
    """
    _check_model(model)
    return _swap(model, tuple(_THEIRS), _reason_against_theirs, _THEIRS)


def _check_model(model):
    if not isinstance(model, nn.Module):
        got = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise TypeError(f"model must be a torch.nn.Module, got {got}")


def _freeze_all(model, precision, left):
    """Freeze fastrnn's modules; `left` gets those that cannot be frozen, and the reasons."""
    for name, module in model.named_modules():
        if isinstance(module, Freezing):
            kept = module._precision if module._is_frozen else None
            try:
                module.freeze(precision or kept)
            except (RuntimeError, TypeError, ValueError) as error:
                left[name] = str(error)


def _swap(model, classes, reason_against, new_classes):
    swapped, left, made = [], {}, {}
    if isinstance(model, classes):
        new = new_classes.get(type(model))
        library = "torch.nn" if new in _OURS else "fastrnn.torch"
        hint = "" if new is None else f": use a {library}.{new.__name__}"
        left[""] = f"it is the model itself, which cannot be swapped in place{hint}"
    for path, parent in list(model.named_modules()):
        for key, module in list(parent._modules.items()):
            name = f"{path}.{key}" if path else key
            if _is_scripted(module):
                left[name] = "it is scripted: swap before torch.jit.script or torch.jit.trace"
                continue
            if not isinstance(module, classes) and not _is_quantised(module):
                continue
            reason = reason_against(module)
            if reason:
                left[name] = reason
                continue
            if module not in made:
                made[module] = _like(module, new_classes[type(module)])
            parent._modules[key] = made[module]
            swapped.append(name)
    return Report(swapped, left)


def _is_quantised(module):
    of_torch = type(module).__module__.startswith("torch.ao.nn.quant")
    return of_torch and type(module).__name__ in _NAMES


def _is_scripted(module):
    return isinstance(module, torch.jit.ScriptModule) and module.original_name in _NAMES


def _reason_against_ours(module):
    """The reason to leave a module of torch.nn, or None."""
    if _is_quantised(module):
        return "it is quantised"
    if parametrize.is_parametrized(module):
        return "it has parametrizations: call accelerate before they are registered"
    if type(module) not in _OURS:
        return f"it is a {type(module).__name__}, which may compute something else"
    reason = _reason_of_its_own(module)
    if reason:
        return reason
    for name, parameter in module.named_parameters():
        if parameter.device.type != "cpu":
            return f"{name} is on {parameter.device}"
        if parameter.dtype not in (torch.float32, torch.float64):
            return f"{name} is {parameter.dtype}"
    return None


def _reason_of_its_own(module):
    """The reason to leave a module that has something its class has not, or None."""
    if "forward" in vars(module):
        return "its forward was replaced"
    plain = _new(module, type(module))
    if module._parameters.keys() != plain._parameters.keys():
        return "its parameters are not those of its class"
    if module._buffers:
        return f"it has buffers: {', '.join(module._buffers)}"
    if module._modules:
        return f"it has modules of its own: {', '.join(module._modules)}"
    others = sorted(vars(module).keys() - vars(plain).keys())
    if others:
        return f"it has attributes of its own: {', '.join(others)}"
    if any(vars(module).get(hooks) for hooks in _OF_ONE_MODULE):
        return "it has hooks on its state_dict"
    return None


def _reason_against_theirs(module):
    """The reason to leave a module of fastrnn's, or None."""
    if type(module) not in _THEIRS:
        return f"it is a {type(module).__name__}, which may compute something else"
    if parametrize.is_parametrized(module):
        return "it has parametrizations"
    reason = _reason_of_its_own(module)
    if reason:
        return reason
    options = module.options() if hasattr(module, "options") else {}
    if options:
        return f"torch.nn has no {', '.join(options)}"
    return None


def _new(module, cls):
    """A module of a class with another one's arguments, its parameters without memory."""
    given = {name: getattr(module, name) for name in _ARGUMENTS if hasattr(module, name)}
    if cls in (nn.GRU, nn.RNN, GRU, RNN):
        given.pop("proj_size", None)
    if cls in (nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell, LSTM, GRU, LSTMCell, GRUCell):
        given.pop("nonlinearity", None)
    if given.get("num_layers") == 1:
        given["dropout"] = 0.0  # it does nothing there, and the constructors warn
    return cls(**given, device="meta")


def _like(module, cls):
    """A module of a class with another one's parameters and hooks."""
    new = _new(module, cls)
    for name, parameter in module._parameters.items():
        setattr(new, name, parameter)  # so that torch.nn's modules find it in their lists, too
    new.train(module.training)
    if hasattr(module, "dropout"):
        new.dropout = module.dropout
    for name in _HOOKS:
        if name in vars(module):
            vars(new)[name] = vars(module)[name]
    return new
