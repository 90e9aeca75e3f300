"""The running examples: `python -m fastrnn demo NAME`.

A demo is a module with `add_arguments(parser)` and `run(args)`, which returns an exit code. The
first line of its docstring is its description. To add a demo, write it and add its name here.
"""

from fastrnn.demos import classify, forecast, generate, gradients, memory, tagging, translate

DEMOS = {
    "forecast": forecast,
    "memory": memory,
    "gradients": gradients,
    "generate": generate,
    "tagging": tagging,
    "classify": classify,
    "translate": translate,
}
DEFAULT = "forecast"
# Other names of demos: most people know text classification from the sentiment of film reviews.
ALIASES = {"sentiment": "classify"}
