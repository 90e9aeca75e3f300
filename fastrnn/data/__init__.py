"""The series that the demos learn. Each has an .md file that names its source."""

from __future__ import annotations

import csv
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from numpy.typing import NDArray

    Times: TypeAlias = NDArray[np.datetime64]
    Counts: TypeAlias = NDArray[np.int64]
    Numbers: TypeAlias = NDArray[np.float64]

# The factor of each column of the weather: the file has the rounded products, which are integers.
WEATHER = {
    "temperature": 10, "dew point": 10, "humidity": 10, "wind to the east": 10,
    "wind to the north": 10, "wind": 10, "rain": 1000, "pressure": 10, "visibility": 100,
}  # fmt: skip


def departures() -> tuple[Times, Counts, Counts, Numbers]:
    """Flights that left New York's three airports late in 2013, hour by hour (departures.md).

    Returns
    -------
    hours : (8730,) array of datetime64[h]
        Local time. Summer time skips an hour and repeats one, so the steps are not all equal.
    scheduled, late : (8730, 3) int64 arrays
        The flights that were to leave in that hour from Newark, Kennedy and LaGuardia, and those of
        them that left more than 15 minutes late or not at all.
    weather : (8730, 9) float64 array
        The columns of `WEATHER`: the mean of the three airports, NaN if no airport measured.

    Examples
    --------
    >>> from fastrnn import data
    >>> hours, scheduled, late, weather = data.departures()
    >>> print(hours[0], (late.sum(axis=0) / scheduled.sum(axis=0)).round(2))
    2013-01-01T01 [0.27 0.22 0.21]
    """
    with resources.files(__name__).joinpath("departures.npz").open("rb") as file:
        arrays = dict(np.load(file))
    clock = np.cumsum(arrays["clock"], dtype=np.int64)
    hours = np.datetime64("2013-01-01T00") + clock.astype("timedelta64[h]")
    low, high = arrays["weather"]
    integers = (low | high.astype(np.uint16) << 8).astype(np.int16)
    whole = integers.T.astype(float, order="C")
    whole[whole == np.iinfo(np.int16).min] = np.nan
    weather = whole / np.array(list(WEATHER.values()))
    scheduled, late = (arrays[name].T.astype(int, order="C") for name in ("scheduled", "late"))
    return hours, scheduled, late, weather


def co2(fill: bool = True) -> tuple[Times, Numbers]:
    """Weekly atmospheric CO2 at Mauna Loa, 1958 to 2001 (public domain; see co2.md).

    Parameters
    ----------
    fill : bool
        Fill the 59 weeks without a measurement by straight lines between measured weeks
        (`fill_gaps`). False leaves NaN there.

    Returns
    -------
    dates : (2284,) array of datetime64[D]
        Saturdays, seven days apart.
    ppm : (2284,) float64 array
        Parts per million by volume.

    Examples
    --------
    >>> from fastrnn import data
    >>> dates, ppm = data.co2()
    >>> print(dates[0], ppm[0])
    1958-03-29 316.1
    """
    with resources.files(__name__).joinpath("co2.csv").open(encoding="ascii", newline="") as file:
        rows = list(csv.DictReader(file))
    days = [f"{day[:4]}-{day[4:6]}-{day[6:]}" for day in (row["date"] for row in rows)]
    ppm = np.array([float(row["co2"] or "nan") for row in rows])
    return np.array(days, "datetime64[D]"), fill_gaps(ppm) if fill else ppm


def fill_gaps(series: NDArray[np.floating[Any]]) -> Numbers:
    """A copy of a 1-D array with each gap of NaN filled by a line between its known neighbours.

    A filled value depends on the first known value after its gap, so a forecast must not be issued
    in a gap. The values up to a measured week do not depend on later weeks.

    Parameters
    ----------
    series : 1-D array of floats

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import data
    >>> data.fill_gaps(np.array([1.0, np.nan, np.nan, 4.0]))
    array([1., 2., 3., 4.])
    """
    known = ~np.isnan(series)
    weeks = np.arange(series.size)
    return np.interp(weeks, weeks[known], series[known])
