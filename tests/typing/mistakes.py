"""Mistakes that a type checker must find: each in a line that ends so, and none elsewhere."""

import numpy as np
from numpy.typing import NDArray

import fastrnn
from fastrnn import GRU, LSTM, RNN, convert, distributed, estimators

x: NDArray[np.float32] = np.zeros((5, 2, 40), np.float32)
lstm, gru = LSTM(40, 128), GRU(40, 128)
y, pair = lstm(x)
y, h = gru(x)

LSTM("40", 128)  # mistake
LSTM(40, 128, bidirectional="yes")  # mistake
LSTM(40, 128, bidrectional=True)  # mistake
LSTM(40, 128, dropout_mask="steps")  # mistake
LSTM(40, 128, merge="add")  # mistake
LSTM(40, 128, dtype="float16")  # mistake
LSTM(40, 128, reset_after=False)  # mistake
RNN(3, 4, nonlinearity="tahn")  # mistake
GRU(3, 4, init="xavier")  # mistake
GRU(3, 4, zoneout=(0.1, 0.1))  # mistake
fastrnn.LTSM(40, 128)  # mistake

lstm(lstm(x))  # mistake
lstm(x, h)  # mistake
gru(x, pair)  # mistake
gru(x, reset_to="begin")  # mistake
gru(x, return_gate=True)  # mistake
y, h, gates = gru(x)  # mistake
print(gru(x)[2])  # mistake
h_of_pair: tuple[object, object] = gru(x)[1]  # mistake
print(lstm(x)[1].shape)  # mistake
lstm.hidden_size = 64  # mistake
lstm.flat = "weights"  # mistake
lstm.load(lstm)  # mistake

y, h, tape = gru.forward(x)
tape.backward(y, pair)  # mistake
tape.backward(last="zeros")  # mistake
print(tape.backward(y).weights)  # mistake
gru.freeze("int4")  # mistake
gru.freeze().step(x, pair)  # mistake
gru.stream("8")  # mistake
gru.stream().state = pair  # mistake
gru.stream().step("x")  # mistake
next(fastrnn.tbptt(gru, x, k=20))  # mistake

fastrnn.lstm(x, h, y, y)  # mistake
fastrnn.gru(x, None, y, y, return_gates=True)  # mistake
y, h = fastrnn.gru(x, None, y, y, return_tape=True)  # mistake
fastrnn.rnn(x, None, y, y, peephole=True)  # mistake
y, pair, tape_of_bytes = fastrnn.lstm(x, None, y, y, return_tape=True)
fastrnn.gru_backward(tape_of_bytes, x, y, pair, (y, y), y)  # mistake
fastrnn.lstm_backward(tape_of_bytes.tobytes(), x, y, None, (y, y), y)  # mistake
print(fastrnn.lstm_backward(tape_of_bytes, x, y, None, (y, y), y)[2].weight_ih)  # mistake
fastrnn.tape_size("LSTM", 1, 2, 3)  # mistake
fastrnn.threads("1")  # mistake
fastrnn.backend("numpy")  # mistake

estimators.RNNRegressor(hidden=8)  # mistake
estimators.RNNRegressor().fit(x)  # mistake
estimators.RNNRegressor().predict_proba(x)  # mistake
estimators.Forecaster(24)  # mistake
print(estimators.Forecaster(24, 12).fit(x[0, 0]).predict(level=0.9))  # mistake

distributed.together([lstm], 3)  # mistake

fastrnn.save("model.npz", [lstm])  # mistake
fastrnn.load("model.npz", cell="LSTM")  # mistake
fastrnn.load("model.npz", dtype="float16")  # mistake
gates = convert.to_gates(gru, update="z")  # mistake
print(convert.from_gates("lstm", gates).reset_after)  # mistake
convert.from_gates("gru", gates, order="x")  # mistake
convert.to_thinc(gru)  # mistake
