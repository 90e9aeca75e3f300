"""`Node`: a serialized object of Keras, a dict with class_name and config, with checks.

It must not know: which classes there are, files.
"""

from fastrnn.checks import shown

# The modules of Keras' own layers: in files, and those of live objects.
_MODULES = ("keras.layers", "keras.src.layers", "tf_keras.layers", "tf_keras.src.layers")


class Node:
    """A serialized object of Keras, with checks of what it has."""

    def __init__(self, entry, owner=""):
        config = entry.get("config") if isinstance(entry, dict) else None
        kind = entry.get("class_name") if isinstance(entry, dict) else None
        if not isinstance(config, dict) or not isinstance(kind, str):
            raise ValueError(f"{owner or 'a layer'} must have a class_name and a config")
        self.entry, self.kind, self.config = entry, kind, config
        name = config.get("name", "")
        self.name = name if isinstance(name, str) else ""
        self.where = f"{owner}{shown(kind)} {shown(repr(self.name))}"

    def refused(self, reason):
        return ValueError(f"{self.where}: {reason}")

    def is_keras(self):
        """Return whether its class is a layer of Keras' own."""
        module, registered = self.entry.get("module"), self.entry.get("registered_name")
        own = module is None or (
            isinstance(module, str)
            and any(module == m or module.startswith(m + ".") for m in _MODULES)
        )
        return own and registered in (None, self.kind)

    def must_be_keras(self):
        """ValueError for a class of the same name that is not Keras' own."""
        if not self.is_keras():
            raise self.refused(
                f"must be Keras' own {self.kind}, got the one of "
                f"{shown(self.entry.get('module'))} that is registered as "
                f"{shown(self.entry.get('registered_name'))}: custom classes are never loaded"
            )

    def layers(self, owner=""):
        """A model's layers, a list of nodes."""
        entries = self.needed("layers")
        if not isinstance(entries, list):
            raise self.refused("layers must be a list")
        return [Node(entry, owner) for entry in entries]

    def child(self, key):
        return Node(self.needed(key), f"{key} of {self.where}, ")

    def needed(self, key):
        if key not in self.config:
            raise self.refused(f"its configuration must have {key}")
        return self.config[key]

    def flag(self, key, default=None):
        value = self.needed(key) if default is None else self.config.get(key, default)
        if not isinstance(value, bool):
            raise self.refused(f"{key} must be true or false, got {shown(repr(value))}")
        return value

    def rate(self, key):
        value = self.config.get(key, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise self.refused(f"{key} must be a number from 0 to 1, got {shown(repr(value))}")
        return float(value)

    def activation(self, key, known):
        """fastrnn's name of an activation; known : Keras' name -> fastrnn's."""
        value = self.needed(key)
        if not isinstance(value, str) or value not in known:
            names = " or ".join(map(repr, known))
            raise self.refused(
                f"{key} must be {names}, got {shown(repr(value))}: fastrnn has no other here"
            )
        return known[value]

    def only(self, key, value, why):
        """ValueError unless the configuration lacks a key or has this value."""
        got = self.config.get(key, value)
        if got != value:
            raise self.refused(f"{key} must be {value!r}, got {shown(repr(got))}: {why}")
