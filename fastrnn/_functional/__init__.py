"""The parts of fastrnn.functional: checks of the arguments, and calls of the engine."""
