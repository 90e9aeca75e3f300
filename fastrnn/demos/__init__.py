"""The running examples: `python -m fastrnn demo NAME`.

A demo is a module whose docstring's first line says what it is, with `add_arguments(parser)` and
`run(args)`, which returns an exit code. To add one, write it and give it a row here.
"""

from fastrnn.demos import classify, forecast, generate, gradients, tagging, translate

DEMOS = {
    "forecast": forecast,
    "gradients": gradients,
    "generate": generate,
    "tagging": tagging,
    "classify": classify,
    "translate": translate,
}
DEFAULT = "forecast"
# What a demo may be called too: of texts to classify by their sense, films' reviews are the usual.
ALIASES = {"sentiment": "classify"}
