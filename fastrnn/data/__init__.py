"""The series that the demos learn; where each comes from stands beside it, in a .md file."""

import csv
from importlib import resources

import numpy as np


def laser():
    """Intensity of a far-infrared laser in a chaotic state, as measured (see laser.md).

    Returns
    -------
    intensity : (10093,) float64 array
        Whole numbers from 0 to 255, at equal distances in time.

    Examples
    --------
    >>> laser()[:4]
    array([ 86., 141.,  95.,  41.])
    """
    with resources.files(__name__).joinpath("laser.csv").open(encoding="ascii") as file:
        return np.loadtxt(file, skiprows=1)


def co2(fill=True):
    """Weekly atmospheric CO2 at Mauna Loa, 1958 to 2001 (public domain; see co2.md).

    Parameters
    ----------
    fill : bool
        Put the 59 weeks without a measurement on the straight line between the measured weeks on
        either side (`fill_gaps`). False leaves NaN there.

    Returns
    -------
    dates : (2284,) array of datetime64[D]
        Saturdays, seven days apart.
    ppm : (2284,) float64 array
        Parts per million by volume.
    """
    with resources.files(__name__).joinpath("co2.csv").open(encoding="ascii", newline="") as file:
        rows = list(csv.DictReader(file))
    days = [f"{day[:4]}-{day[4:6]}-{day[6:]}" for day in (row["date"] for row in rows)]
    ppm = np.array([float(row["co2"] or "nan") for row in rows])
    return np.array(days, "datetime64[D]"), fill_gaps(ppm) if fill else ppm


def fill_gaps(series):
    """A copy of a 1-D array with each NaN on the straight line between its known neighbours.

    A filled value knows the first known value after its gap, so a forecast must not be issued in a
    gap. Up to a week that was measured, no filled value knows what comes after that week.
    """
    known = ~np.isnan(series)
    weeks = np.arange(series.size)
    return np.interp(weeks, weeks[known], series[known])
