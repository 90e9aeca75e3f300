"""The parts of fastrnn.functional.

calls.py checks the arguments and calls the engine. minimal.py has the public functions min_gru and
min_lstm, with their backward functions.
"""
