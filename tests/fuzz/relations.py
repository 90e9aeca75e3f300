"""Relations: other ways to compute the answer of a case, compared with it.

machines.py, repeats.py, forms.py, parts.py, streams.py and frozen.py put them into the table here.
Each is a function of a `Run`. Answers of the kernels must be equal to the bit, as their contract
says. Those
of the reference must be near, because the order of NumPy's sums varies.
"""

from dataclasses import dataclass

from . import answers, rounding

RELATIONS = {}  # name -> (whether it has a meaning for a case, its weight, the function)


def relation(name, has_meaning=lambda case: True, weight=2):
    def put(function):
        RELATIONS[name] = has_meaning, weight, function
        return function

    return put


@dataclass
class Run:
    """A case that is being run.

    answer : the results of a call and a training pass, its gradients, and those that `looks` names.
    rng : the generator for a relation's draws.
    """

    case: object
    answer: dict
    looks: tuple
    rng: object

    @property
    def layer(self):
        return self.case.layer

    @property
    def batch(self):
        return self.case.batch

    def recompute(self, layer=None, batch=None, **options):
        """All that `answer` has, computed again."""
        layer, batch = layer or self.layer, batch or self.batch
        options = {"checkpoint": self.case.settings["checkpoint"], "looks": self.looks} | options
        return answers.call(layer, batch) | answers.train(layer, batch, **options)

    def same(self, got, wanted):
        if self.case.settings["backend"] == "core":
            answers.same(got, wanted)
        else:
            self.near(got, wanted)

    def near(self, got, wanted):
        """Assert equality up to a few roundings, or up to their effect in this case."""
        try:
            answers.near(got, wanted, self.case)
        except answers.Differs:
            answers.near(got, wanted, self.case, rounding.moved(self))


def compute(case, rng):
    """The `Run` of a case, with its answer."""
    looks = tuple(n for n in ("gates", "norms") if rng.random() < 0.25)
    if case.settings["checkpoint"] is not None:
        looks = tuple(n for n in looks if n != "gates")
    run = Run(case, {}, looks, rng)
    run.answer = run.recompute()
    return run


def on_core(case):
    return case.settings["backend"] == "core"
